// SPDX-License-Identifier: GPL-2.0

//! The kernel's own make, and what its output and its output directory say.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use fs_err as fs;
use host::command::clean;
use host::paths::Paths;

use crate::source::Source;
use crate::toolchain::{Toolchain, LLVM};

/// Creates the command for the kernel's make, without the target.
pub fn kernel_make(paths: &Paths, source: &Source, build: &Path, tc: &Toolchain) -> Command {
    let mut cmd = clean("/usr/bin/make");
    let set = |key: &str, value: &Path| {
        let mut arg = OsString::from(format!("{key}="));
        arg.push(value);
        arg
    };
    cmd.arg("-C")
        .arg(&source.dir)
        .arg(format!("-j{}", tc.jobs))
        .arg(set("O", build))
        .arg(format!("LLVM=-{LLVM}"))
        .arg(format!("CC=ccache clang-{LLVM}"))
        .arg(format!("HOSTCC=clang-{LLVM}"))
        .arg(set("RUSTC", &tc.rustc))
        .arg(set("RUSTDOC", &tc.rustdoc))
        .arg(set("RUSTFMT", &tc.rustfmt))
        .arg(set("CLIPPY_DRIVER", &tc.clippy))
        .arg(set("BINDGEN", &tc.bindgen))
        .arg(set("RUST_LIB_SRC", &tc.lib_src))
        .env("LIBCLANG_PATH", format!("/usr/lib/llvm-{LLVM}/lib"))
        .env("CCACHE_DIR", paths.ccache())
        .env("CCACHE_MAXSIZE", "10G")
        .env("CCACHE_NOHASHDIR", "1")
        .env("CCACHE_SLOPPINESS", "time_macros")
        .env("KBUILD_BUILD_TIMESTAMP", "2026-01-01")
        .env("KBUILD_BUILD_USER", "rust-dax")
        .env("KBUILD_BUILD_HOST", "rust-dax");
    cmd
}

/// Parses `  CC [M]  fs/xfs/xfs.o` into `CC [M] fs/xfs/xfs.o`; any other line is a
/// message.
pub fn progress_line(line: &str) -> Option<String> {
    let rest = line.strip_prefix("  ")?;
    let verb = rest.split(' ').next()?;
    let is_verb = verb.len() >= 2
        && verb
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_+".contains(c));
    is_verb.then(|| rest.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns the kernel's release string.
pub fn release(dir: &Path) -> Result<String> {
    let path = dir.join("include/config/kernel.release");
    let text = fs::read_to_string(&path)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_kbuild() {
        let what = |l| progress_line(l);
        assert_eq!(what("  CC      mm/gup.o").unwrap(), "CC mm/gup.o");
        assert_eq!(what("  CC [M]  fs/xfs/a.o").unwrap(), "CC [M] fs/xfs/a.o");
        assert_eq!(
            what("  RUSTC L rust/kernel.o").unwrap(),
            "RUSTC L rust/kernel.o"
        );
        assert_eq!(what("  LD [M]  x.ko").unwrap(), "LD [M] x.ko");
        assert_eq!(what("mm/gup.c:1:2: warning: x"), None);
        assert_eq!(what("  --> rust/kernel/lib.rs:1:1"), None);
        assert_eq!(what("   |"), None);
    }
}
