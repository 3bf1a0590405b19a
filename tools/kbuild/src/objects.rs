// SPDX-License-Identifier: GPL-2.0

//! The objects of a build that come from Rust, and the sources of each.
//!
//! Kbuild records both in the build directory: `vmlinux.a` lists built-in
//! objects, `NAME.mod` the parts of a module, and `.NAME.o.cmd` the sources of
//! an object. A build directory also holds objects of earlier builds, so only
//! listed ones count.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;
use object::read::archive::ArchiveFile;
use object::read::elf::{ElfFile64, FileHeader};
use object::LittleEndian;

/// An object that rustc produced.
#[derive(Clone, Debug)]
pub struct RustObject {
    /// Path in the build directory: `mm/memremap/memremap.o`.
    pub name: String,
    /// Its Rust files.
    pub sources: Vec<PathBuf>,
}

/// Returns all Rust objects of vmlinux and of the modules, with their sources
/// except for files that bindgen and Kbuild generated in the build directory.
pub fn rust_objects(build: &Path) -> Result<Vec<RustObject>> {
    let mut list = Vec::new();
    let made = fs::canonicalize(build)?;
    for name in listed(build)? {
        let path = build.join(&name);
        let cmd = command_file(&path);
        // An object that the linker produced, for example, has a different
        // form.
        let Ok(text) = fs::read_to_string(&cmd) else {
            continue;
        };
        let sources = sources(&text, build);
        if sources.first().is_some_and(|s| is_rust(s)) {
            list.push(RustObject {
                name,
                sources: sources
                    .into_iter()
                    .filter(|s| is_rust(s) && s.exists())
                    .filter(|s| !s.starts_with(build) && !s.starts_with(&made))
                    .collect(),
            });
        }
    }
    Ok(list)
}

/// Returns the names of all objects that are linked into something.
fn listed(build: &Path) -> Result<Vec<String>> {
    let path = build.join("vmlinux.a");
    let bytes = fs::read(&path)?;
    let cannot = || format!("{} is not an archive", path.display());
    let archive = ArchiveFile::parse(&*bytes).with_context(cannot)?;
    let mut names = Vec::new();
    for member in archive.members() {
        let member = member.with_context(cannot)?;
        names.push(String::from_utf8_lossy(member.name()).into_owned());
    }
    for module in fs::read_to_string(build.join("modules.order"))?.lines() {
        let objects = fs::read_to_string(build.join(module).with_extension("mod"))?;
        names.extend(objects.lines().map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the command file: `mm/memremap/.memremap.o.cmd` for
/// `mm/memremap/memremap.o`.
fn command_file(object: &Path) -> PathBuf {
    let name = object.file_name().unwrap_or_default().to_string_lossy();
    object.with_file_name(format!(".{name}.cmd"))
}

/// Returns the file that was compiled, then its includes.
fn sources(cmd: &str, build: &Path) -> Vec<PathBuf> {
    let path = |text: &str| build.join(text.trim().trim_end_matches('\\').trim());
    let source = cmd
        .lines()
        .find_map(|l| l.strip_prefix("source_")?.split_once(":= "))
        .map(|(_, file)| path(file));
    let dependencies = cmd
        .lines()
        .skip_while(|l| !l.starts_with("deps_"))
        .skip(1)
        .take_while(|l| !l.trim().is_empty())
        .filter(|l| !l.contains("$("))
        .map(path);
    source.into_iter().chain(dependencies).collect()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "rs")
}

/// Parses the bytes as an ELF file for x86-64.
pub fn elf(bytes: &[u8]) -> Result<ElfFile64<'_, LittleEndian>> {
    let file = ElfFile64::<LittleEndian>::parse(bytes).context("not a 64-bit ELF file")?;
    if file.elf_header().e_machine(LittleEndian) != object::elf::EM_X86_64 {
        bail!("not an ELF file for x86-64");
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CMD: &str = "savedcmd_mm/memremap/memremap.o := rustc x\n\n\
source_mm/memremap/memremap.o := /src/mm/memremap/memremap.rs\n\n\
deps_mm/memremap/memremap.o := \\\n\
    $(wildcard include/config/FS_DAX) \\\n\
  /src/mm/memremap/debugfs.rs \\\n\
  rust/doctests.rs \\\n\
  /build/rust/libcore.rmeta \\\n\n\
mm/memremap/memremap.o: $(deps_mm/memremap/memremap.o)\n";

    #[test]
    fn the_source_comes_first() {
        let list = sources(CMD, Path::new("/build"));
        let list: Vec<_> = list.iter().filter(|p| is_rust(p)).collect();
        let expected = [
            "/src/mm/memremap/memremap.rs",
            "/src/mm/memremap/debugfs.rs",
            "/build/rust/doctests.rs",
        ];
        assert_eq!(list, expected.map(Path::new));
    }

    #[test]
    fn names_of_command_files() {
        let path = command_file(Path::new("/b/mm/memremap/memremap.o"));
        assert_eq!(path, Path::new("/b/mm/memremap/.memremap.o.cmd"));
    }
}
