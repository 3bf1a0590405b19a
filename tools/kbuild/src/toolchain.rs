// SPDX-License-Identifier: GPL-2.0

//! The compilers, by path.
//!
//! The `rustc` or `clang` in a user's PATH is not used: a kernel is only as
//! reproducible as the tools that built it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use fs_err as fs;

use host::command::{clean, output};
use host::files::Fingerprint;
use host::paths::Paths;

/// The release of LLVM that both Debian 12 and 13 have.
pub const LLVM: &str = "19";
const RUST: &str = "1.85.";
const BINDGEN: &str = "0.71.";

/// The tools that build a kernel.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    pub rustdoc: PathBuf,
    pub rustfmt: PathBuf,
    pub clippy: PathBuf,
    pub bindgen: PathBuf,
    /// The source of the standard library, for `core`.
    pub lib_src: PathBuf,
    pub jobs: usize,
    /// Changes when one of the programs is replaced.
    pub id: String,
}

impl Toolchain {
    pub fn find(paths: &Paths) -> Result<Toolchain> {
        let ours = paths.cache.join("bindgen/bin/bindgen");
        let tc = Toolchain {
            rustc: debian("rustc")?,
            cargo: debian("cargo")?,
            rustdoc: debian("rustdoc")?,
            rustfmt: debian("rustfmt")?,
            clippy: debian("clippy-driver")?,
            bindgen: if ours.is_file() {
                ours
            } else {
                debian("bindgen")?
            },
            lib_src: find_lib_src()?,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            id: String::new(),
        };
        let clang = debian(&format!("clang-{LLVM}"))?;
        debian(&format!("ld.lld-{LLVM}"))?;
        debian("ccache")?;
        expect(&tc.rustc, "rustc ", RUST)?;
        expect(&tc.bindgen, "bindgen ", BINDGEN)?;

        let mut id = Fingerprint::default();
        for tool in [&tc.rustc, &tc.clippy, &tc.bindgen, &clang] {
            let meta = fs::metadata(tool)?;
            let text = format!("{} {}.{}", meta.size(), meta.mtime(), meta.mtime_nsec());
            id.add(&tool.display().to_string(), text.as_bytes());
        }
        let id = id.finish();
        Ok(Toolchain { id, ..tc })
    }
}

fn debian(name: &str) -> Result<PathBuf> {
    let path = Path::new("/usr/bin").join(name);
    if !path.is_file() {
        bail!("{} is missing; run `make setup`", path.display());
    }
    Ok(path)
}

/// Finds the standard library's source, whose path differs between Debian 12
/// and 13.
fn find_lib_src() -> Result<PathBuf> {
    let mut places = vec![PathBuf::from("/usr/lib/rustlib/src/rust/library")];
    if let Ok(entries) = fs::read_dir("/usr/src") {
        let ours = |p: &PathBuf| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("rustc-{RUST}"))
        };
        let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(ours).collect();
        found.sort();
        for dir in found {
            places.insert(0, dir.join("library"));
        }
    }
    places
        .into_iter()
        .find(|p| p.join("core/src/lib.rs").is_file())
        .context("the source of Rust's standard library is missing; run `make setup`")
}

fn expect(tool: &Path, prefix: &str, version: &str) -> Result<()> {
    let text = output(clean(tool).arg("--version"))?;
    let first = text.lines().next().unwrap_or("");
    let right = first
        .strip_prefix(prefix)
        .is_some_and(|v| v.starts_with(version));
    if !right {
        bail!(
            "{} is \"{first}\", not {prefix}{version}*; run `make setup`",
            tool.display()
        );
    }
    Ok(())
}
