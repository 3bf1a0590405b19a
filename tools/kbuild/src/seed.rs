// SPDX-License-Identifier: GPL-2.0

//! Starting an output directory from another one.
//!
//! Two variants that differ only in our Kconfig bools share nearly every
//! object. A copy of the sibling's directory, with the recorded commands
//! rewritten to the new path, leaves only the few files that depend on those
//! bools, and the link, for make.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use walkdir::WalkDir;

use host::command::{clean, run_logged};
use host::files;
use host::progress::Step;

/// Name of the file that marks a finished build.
pub const BUILT: &str = ".rust-dax-built";

/// Files that a copy must not inherit: the sibling's results, and the modules
/// outside the tree, whose lists (`modules.order`, `*.mod`) contain its path.
/// With those a build of nfit_test's modules would link the sibling's modules
/// again and install none here.
const NOT_COPIED: &[&str] = &[
    "abi",
    "nfit",
    BUILT,
    ".rust-dax-config",
    "modules_install",
    "modules_install.new",
    "modules_nfit",
    "modules_nfit.new",
];

/// Creates `dir` from the first of `siblings` that holds a finished build; does
/// nothing if `dir` exists or no sibling does.
pub fn seed(dir: &Path, siblings: &[PathBuf], log: &Path) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let Some(from) = siblings.iter().find(|s| s.join(BUILT).is_file()) else {
        return Ok(());
    };
    let tmp = files::with_suffix(dir, ".tmp");
    files::remove_tree(&tmp)?;
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let step = Step::start(&format!("Starting from the {name} build"), None, log);
    let mut cp = clean("cp");
    cp.args(["-a", "--reflink=auto"]).arg(from).arg(&tmp);
    run_logged(&mut cp, log, |_| ()).context("cannot copy a build directory")?;
    for name in NOT_COPIED {
        files::remove_tree_or_file(&tmp.join(name))?;
    }
    rewrite(
        &tmp,
        from.as_os_str().as_bytes(),
        dir.as_os_str().as_bytes(),
    )?;
    fs::rename(&tmp, dir)?;
    step.done();
    Ok(())
}

/// Replaces the old directory's path in the recorded commands, because Kbuild
/// rebuilds each file whose recorded command differs from the current one.
fn rewrite(tree: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    for entry in WalkDir::new(tree) {
        let entry = entry?;
        let name = entry.file_name().as_bytes();
        if !entry.file_type().is_file() || !name.ends_with(b".cmd") {
            continue;
        }
        let path = entry.path();
        let bytes = fs::read(path)?;
        if let Some(bytes) = replace(&bytes, old, new) {
            fs::write(path, bytes)?;
        }
    }
    Ok(())
}

/// Replaces every `old` that ends a path component; returns `None` if there is
/// none.
fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut found = false;
    let mut i = 0;
    while i < text.len() {
        let rest = &text[i..];
        let ends = |b: &u8| !(b.is_ascii_alphanumeric() || b"_.-".contains(b));
        if rest.starts_with(old) && rest.get(old.len()).is_none_or(ends) {
            out.extend_from_slice(new);
            i += old.len();
            found = true;
        } else {
            out.push(text[i]);
            i += 1;
        }
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_components_are_replaced() {
        let run = |t: &str| {
            replace(t.as_bytes(), b"/b/rust", b"/b/c").map(|v| String::from_utf8(v).unwrap())
        };
        assert_eq!(run("O=/b/rust/x /b/rust").unwrap(), "O=/b/c/x /b/c");
        assert_eq!(run("/b/rust2/x /b/rust.log"), None);
        assert_eq!(run(""), None);
    }

    #[test]
    fn a_copy_without_results() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("rust"), dir.path().join("c"));
        let log = dir.path().join("log");
        seed(&to, std::slice::from_ref(&from), &log).unwrap();
        assert!(!to.exists(), "there is nothing to copy");
        fs::create_dir_all(from.join("modules_install/lib")).unwrap();
        fs::create_dir_all(from.join("nfit/tools")).unwrap();
        fs::write(
            from.join(".a.o.cmd"),
            format!("cc -o {}/a.o", from.display()),
        )
        .unwrap();
        seed(&to, std::slice::from_ref(&from), &log).unwrap();
        assert!(!to.exists(), "an unfinished build is no seed");
        fs::write(from.join(BUILT), "x").unwrap();
        seed(&to, &[from], &log).unwrap();
        let text = fs::read_to_string(to.join(".a.o.cmd")).unwrap();
        assert_eq!(text, format!("cc -o {}/a.o", to.display()));
        for name in [BUILT, "modules_install", "nfit"] {
            assert!(!to.join(name).exists(), "{name}");
        }
    }
}
