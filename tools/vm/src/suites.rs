// SPDX-License-Identifier: GPL-2.0

//! The contents of the guest image beside Debian's packages: the guest's init
//! and the sources of the test suites.
//!
//! The kernel's selftests are compiled inside the image from the prepared
//! source tree; ndctl's source is fetched there, by `build-suites`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
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
    let mut list = Vec::new();
    for program in PROGRAMS {
        let to = format!("usr/local/sbin/{program}");
        list.push((to, image_files(paths).join(program)));
    }
    for patch in files::with_extension(&paths.checkout.join("tools/testing/ndctl"), "patch")? {
        let name = patch.file_name().unwrap_or_default().to_string_lossy();
        list.push((format!("usr/src/ndctl-patches/{name}"), patch));
    }
    list.extend(selftests(source)?);
    Ok(list)
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
    fs::copy(from, to)?;
    Ok(())
}
