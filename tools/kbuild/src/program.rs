// SPDX-License-Identifier: GPL-2.0

//! The programs that run inside the guest, `tools/testing/guest` and
//! `tools/daxstat`, built here and copied in. Debian 12's C library is the older
//! of the two, and the guest is Debian 13, so programs that were built on either
//! run there. And the plugin that runs inside QEMU, `tools/testing/tcg-plugin`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::toolchain::Toolchain;
use host::command::{clean, run_logged};
use host::paths::Paths;

/// Name of the test program in the guest's /root.
pub const NAME: &str = "guest-test";

/// Builds the test program and returns its path.
pub fn build(paths: &Paths) -> Result<PathBuf> {
    build_package(paths, NAME, NAME)
}

/// Builds daxstat, which is in the same folder in the guest, and returns its
/// path.
pub fn build_daxstat(paths: &Paths) -> Result<PathBuf> {
    build_package(paths, "daxstat", "daxstat")
}

/// Writes the manual pages and the completions of daxstat into `share`, as they lie in `/usr/share`.
/// Returns the folder of the pages.
pub fn write_daxstat_share(paths: &Paths, share: &Path) -> Result<PathBuf> {
    let tc = Toolchain::find(paths)?;
    let log = paths.new_log("daxstat-share")?;
    let mut cmd = cargo_command(paths, &tc, "run");
    cmd.args(["--release", "--locked", "--package", "daxstat"])
        .args(["--example", "share", "--"])
        .arg(share);
    run_logged(&mut cmd, &log, |_| ())?;
    Ok(share.join("man/man8"))
}

/// Builds the plugin for QEMU and returns its path.
fn build_plugin(paths: &Paths) -> Result<PathBuf> {
    build_package(paths, "tcg-plugin", "libtcg_plugin.so")
}

/// Builds the plugin for QEMU, and returns the arguments that load it with this option of its own.
pub fn plugin_arguments(paths: &Paths, option: &str) -> Result<[OsString; 2]> {
    let plugin = build_plugin(paths)?;
    let path = plugin
        .to_str()
        .filter(|p| !p.contains(','))
        .with_context(|| format!("QEMU cannot load {}", plugin.display()))?;
    Ok(["-plugin".into(), format!("{path},{option}").into()])
}

fn build_package(paths: &Paths, package: &str, file: &str) -> Result<PathBuf> {
    let tc = Toolchain::find(paths)?;
    let log = paths.new_log(package)?;
    let mut cmd = cargo_command(paths, &tc, "build");
    cmd.args(["--release", "--locked", "--package", package]);
    run_logged(&mut cmd, &log, |_| ())?;
    Ok(paths.cache.join("target/release").join(file))
}

/// Creates a cargo command that uses the cargo which built the harness. Cargo
/// would read a user's settings from the folders above its working directory.
pub fn cargo_command(paths: &Paths, tc: &Toolchain, verb: &str) -> Command {
    let mut cmd = clean(&tc.cargo);
    cmd.current_dir("/")
        .arg(verb)
        .arg("--manifest-path")
        .arg(paths.checkout.join("Cargo.toml"))
        .env("CARGO_HOME", paths.cache.join("cargo"))
        .env("CARGO_TARGET_DIR", paths.cache.join("target"))
        .env("RUST_DAX_CACHE", &paths.cache);
    cmd
}
