// SPDX-License-Identifier: GPL-2.0

//! The files of the checkout that are laid over the kernel's source.
//!
//! The path of a file in the checkout is its path in the kernel, so the
//! overlay is a plain copy of a few folders. The rest of the checkout (the
//! harness, the guest's programs, fragments, patches) never reaches the
//! kernel's tree.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use walkdir::{DirEntry, WalkDir};

use host::files::is_exec;

/// Folders of the checkout that are copied with all their contents.
const FOLDERS: &[&str] = &[
    "Documentation",
    "arch",
    "block",
    "drivers",
    "fs",
    "include",
    "kernel",
    "lib",
    "mm",
    "rust",
    "samples",
    "scripts",
    "tools/testing/nvdimm",
    "tools/testing/selftests",
];

/// Single files with another path in the kernel: (in the checkout, in the
/// kernel).
const FILES: &[(&str, &str)] = &[("Kconfig", "rust/Kconfig.dax")];

/// One file to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    pub bytes: Vec<u8>,
    pub exec: bool,
}

impl File {
    /// Reads the file at this path.
    pub fn read(path: &Path) -> Result<File> {
        let bytes = fs::read(path)?;
        let exec = is_exec(path);
        Ok(File { bytes, exec })
    }
}

/// Files by their path in the kernel's tree, always with `/`.
pub type Files = BTreeMap<String, File>;

/// Reads the overlay of a checkout.
pub fn read(checkout: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut add = |from: &Path, to: String| -> Result<()> {
        files.insert(to, File::read(from)?);
        Ok(())
    };
    for folder in FOLDERS {
        let root = checkout.join(folder);
        if !root.is_dir() {
            continue;
        }
        for entry in WalkDir::new(&root).into_iter().filter_entry(wanted) {
            let entry = entry?;
            if entry.file_type().is_file() {
                let rel = entry.path().strip_prefix(checkout)?;
                add(entry.path(), rel.to_string_lossy().into_owned())?;
            }
        }
    }
    for (from, to) in FILES {
        let from = checkout.join(from);
        if from.is_file() {
            add(&from, (*to).to_owned())?;
        }
    }
    Ok(files)
}

/// Returns the path of an overlay file in the checkout, for messages.
pub fn origin(path: &str) -> &str {
    FILES
        .iter()
        .find(|(_, to)| *to == path)
        .map_or(path, |(from, _)| from)
}

/// Returns whether an entry belongs to the overlay; backup files of editors and
/// of patch do not.
fn wanted(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let litter = name.ends_with('~') || name.ends_with(".orig") || name.ends_with(".rej");
    entry.depth() == 0 || !(name.starts_with('.') || litter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_s_folders() {
        let dir = tempfile::tempdir().unwrap();
        for f in [
            "mm/a.rs",
            "mm/a.rs~",
            "mm/.a.rs.swp",
            "rust/kernel/mm/pfn_t.rs",
            "tools/xtask/src/main.rs",
            "tools/testing/guest/src/main.rs",
            "tools/testing/nvdimm/x.c",
            "patches/0001-x.patch",
            "config/base.config",
            "README.md",
            "Kconfig",
        ] {
            let path = dir.path().join(f);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, f).unwrap();
        }
        let files = read(dir.path()).unwrap();
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "mm/a.rs",
                "rust/Kconfig.dax",
                "rust/kernel/mm/pfn_t.rs",
                "tools/testing/nvdimm/x.c"
            ]
        );
        assert_eq!(files["rust/Kconfig.dax"].bytes, b"Kconfig");
        assert_eq!(origin("rust/Kconfig.dax"), "Kconfig");
        assert_eq!(origin("mm/a.rs"), "mm/a.rs");
    }
}
