// SPDX-License-Identifier: GPL-2.0

//! The disk with programs that only `make conform` runs: more of the kernel's
//! selftests and PMDK's tests.
//!
//! It is built as the guest image is, in a separate, temporary Debian 13, by
//! `build-conform`. Only the finished programs are kept, so the disk is small
//! and the guest image does not grow for users that do not need them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use host::kernel::Built;
use host::paths::Paths;
use vm::rootfs::{self, Tree};
use vm::suites;

/// Packages that the programs are compiled with and linked to; their runtime
/// dependencies are in the guest image.
const PACKAGES: &[&str] = &[
    "gcc",
    "libc6-dev",
    "libcap-dev",
    "libdaxctl-dev",
    "libndctl-dev",
    "libnuma-dev",
    "liburing-dev",
    "linux-libc-dev",
    "make",
    "perl",
    "pkgconf",
    "xz-utils",
];
/// The disk's label, by which the guest finds it.
const LABEL: &str = "rust-dax-suites";
/// Approximate number of lines that the build prints.
const LINES: u64 = 900;
/// Free space in MiB for files that tests write beside themselves.
const FREE_MIB: u64 = 256;

/// Returns the disk, which is created again if the recipe changed.
pub fn prepare(paths: &Paths, built: &Built) -> Result<PathBuf> {
    let disk = paths.rootfs().join("suites.ext4");
    let script = suites::image_files(paths).join("build-conform");
    let mut inputs = suites::selftests(&built.source)?;
    inputs.push(("usr/local/sbin/build-conform".into(), script));
    let tree = Tree {
        label: "Making the disk with the suites",
        lines: LINES,
        work: paths.rootfs().join("new-suites"),
        log: paths.log("suites"),
        hooks: &["chroot \"$1\" /usr/local/sbin/build-conform"],
        part: "opt/suites",
        name: LABEL,
        free_mib: FREE_MIB,
    };
    let packages = PACKAGES.iter().map(|p| (*p).to_owned()).collect();
    rootfs::make_unless_made(paths, &disk, packages, &inputs, &tree)?;
    Ok(disk)
}

/// Returns the stamp of a disk or image, which describes its contents.
pub fn stamp(disk: &Path) -> Result<Vec<u8>> {
    Ok(fs::read(disk.with_extension(rootfs::STAMP))?)
}
