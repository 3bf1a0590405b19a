// SPDX-License-Identifier: GPL-2.0

//! The contents of the guest image beside Debian's packages: the guest's init
//! and the sources of the test suites.
//!
//! The kernel's selftests are compiled inside the image from the prepared
//! source tree; ndctl's source is fetched there, by `build-suites`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use walkdir::WalkDir;

use host::command::{clean, run_logged};
use host::files;
use host::paths::Paths;

/// Folders that the selftests of the list in `build-suites` include.
const SELFTESTS: [&str; 6] = [
    "tools/testing/selftests/mm",
    "tools/testing/selftests/kselftest.h",
    "tools/testing/selftests/kselftest_harness.h",
    "tools/include",
    "mm/gup_test.h",
    "lib/test_hmm_uapi.h",
];

/// Programs of ours in the image's /usr/local/sbin.
const PROGRAMS: [&str; 2] = ["guest-init", "build-suites"];

/// Returns their folder in the checkout.
pub fn image_files(paths: &Paths) -> PathBuf {
    paths.checkout.join("tools/testing/guest-image")
}

/// Returns every file that goes into the image, with its path there.
pub fn inputs(paths: &Paths, source: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for program in PROGRAMS {
        let to = format!("usr/local/sbin/{program}");
        files.push((to, image_files(paths).join(program)));
    }
    for patch in ndctl_patches(paths)? {
        let name = patch.file_name().unwrap_or_default().to_string_lossy();
        files.push((format!("usr/src/ndctl-patches/{name}"), patch));
    }
    files.extend(selftests(source)?);
    Ok(files)
}

/// Returns the kernel's selftests and their includes.
pub fn selftests(source: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for part in SELFTESTS {
        for entry in WalkDir::new(source.join(part)).sort_by_file_name() {
            let entry = entry.context("the kernel's source lacks a selftest")?;
            if entry.file_type().is_file() {
                let rest = entry.path().strip_prefix(source)?;
                let to = format!("usr/src/selftests/{}", rest.display());
                files.push((to, entry.path().to_owned()));
            }
        }
    }
    Ok(files)
}

/// Returns the patches to ndctl's tests, in the order in which they apply.
fn ndctl_patches(paths: &Paths) -> Result<Vec<PathBuf>> {
    let dir = paths.checkout.join("tools/testing/ndctl");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry
            .with_context(|| format!("cannot list {}", dir.display()))?
            .path();
        if path.extension().is_some_and(|e| e == "patch") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Collects files in `overlay.tar` in the work folder, owned by root.
pub fn gather(inputs: &[(String, PathBuf)], work: &Path, log: &Path) -> Result<()> {
    let overlay = work.join("overlay");
    for (to, from) in inputs {
        copy(from, &overlay.join(to))?;
    }
    let mut tar = clean("tar");
    tar.args([
        "--owner=0",
        "--group=0",
        "--mode=u+rwX,go=rX",
        "--sort=name",
    ]);
    tar.args(["-cf", "overlay.tar", "-C", "overlay", "."]);
    run_logged(tar.current_dir(work), log, |_| ())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        files::make_dir(dir)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_apply_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            checkout: dir.path().into(),
            cache: dir.path().join("cache"),
        };
        assert_eq!(ndctl_patches(&paths).unwrap(), [""; 0].map(PathBuf::from));
        let patches = dir.path().join("tools/testing/ndctl");
        fs::create_dir_all(&patches).unwrap();
        for name in ["0002-b.patch", "0001-a.patch", "README"] {
            fs::write(patches.join(name), "").unwrap();
        }
        let names: Vec<_> = ndctl_patches(&paths).unwrap();
        assert!(names[0].ends_with("0001-a.patch") && names[1].ends_with("0002-b.patch"));
        assert_eq!(names.len(), 2);
    }
}
