// SPDX-License-Identifier: GPL-2.0

//! Building a kernel: the kernel's own Makefile does the work, out of tree,
//! with clang, ccache and one output directory per variant.
//!
//! A stamp in the output directory says what the last successful build was
//! made of. While it still holds, make is not even called.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::command::{clean, indent, output, run_logged};
use crate::files::{self, Fingerprint};
use crate::guest;
use crate::host;
use crate::kconfig;
use crate::lock::{cache_lock, CacheLock};
use crate::nfit;
use crate::paths::Paths;
use crate::progress::Step;
use crate::seed;
use crate::source::{self, Source};
use crate::toolchain::{Toolchain, LLVM};
use crate::variant::Variant;

/// Counted up when this program changes how it builds.
const REVISION: &str = "1";

/// How many lines a first build prints, until one was counted here.
const LINES: u64 = 2900;

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Built {
    pub variant: Variant,
    pub bzimage: PathBuf,
    /// The folder to mount at /lib/modules: it holds one folder per release.
    pub modules: PathBuf,
    /// The same with nfit_test and the modules that it replaces in `updates/`,
    /// where modprobe prefers them.
    pub nfit_modules: PathBuf,
    /// What `uname -r` says in the guest.
    pub release_string: String,
    /// The source tree.
    pub source: PathBuf,
    /// Keeps what the three paths name, if they are copies.
    pub _copies: Option<Arc<TempDir>>,
}

/// Builds a variant. make looks at everything even if our stamp holds, for those
/// who edit the unpacked source by hand.
pub fn build(paths: &Paths, variant: Variant) -> Result<Built> {
    let _lock = lock(paths, variant)?;
    build_locked(paths, variant, true)
}

/// The kernel of a variant for guests, built if anything changed since the last
/// time. What they boot and load stays as it is, whoever builds it anew meanwhile.
pub fn build_to_boot(paths: &Paths, variant: Variant) -> Result<Built> {
    let _lock = lock(paths, variant)?;
    copies(paths, build_locked(paths, variant, false)?)
}

fn lock(paths: &Paths, variant: Variant) -> Result<CacheLock> {
    host::require_host()?;
    cache_lock(paths, &format!("building the {variant} kernel"))
}

fn build_locked(paths: &Paths, variant: Variant, force: bool) -> Result<Built> {
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    let dir = paths.build(variant);
    let stamp = dir.join(".rust-dax-built");
    let digest = digest(paths, &source, variant, &tc)?;
    if !force && fs::read_to_string(&stamp).ok().as_deref() == Some(&digest) {
        if let Ok(built) = built(&source.dir, variant, &dir) {
            return Ok(built);
        }
    }
    files::remove_file(&stamp)?;
    let log = paths.build_log(variant);
    files::remove_file(&log)?;
    let siblings: Vec<_> = variant.siblings().iter().map(|s| paths.build(*s)).collect();
    seed::seed(&dir, &siblings, &log)?;
    if !dir.join("vmlinux").is_file() {
        let gib = if variant.is_debug() { 6 } else { 4 };
        host::require_disk(&dir, gib, &format!("building the {variant} kernel"))?;
    }
    kconfig::configure(paths, &source, variant.fragments(), &dir, &tc, &log)?;

    let label = format!("Building the {variant} kernel (Linux {})", source.release);
    let mut cmd = kernel_make(paths, &source, &dir, &tc);
    cmd.args(["bzImage", "modules"]);
    run_make(paths, &source, &dir, &mut cmd, &label, &log)?;
    install_modules(paths, &source, &dir, &tc, &log)?;
    nfit::build(paths, &source, &dir, &tc, &log)?;

    let built = built(&source.dir, variant, &dir)?;
    files::write_atomic(&stamp, digest.as_bytes(), false)?;
    Ok(built)
}

/// The same build with files of its own. The kernel's image is written in place
/// by make; modules are replaced by new ones, so that a second name for them does.
fn copies(paths: &Paths, built: Built) -> Result<Built> {
    let dir = guest::run_dir(paths)?;
    let copy = |from: &Path, name: &str| -> Result<PathBuf> {
        let to = dir.path().join(name);
        let cp = |how: &[&str]| output(clean("cp").args(how).arg(from).arg(&to));
        if !from.is_dir() || cp(&["-al"]).is_err() {
            files::remove_tree(&to)?;
            cp(&["-a", "--reflink=auto"])
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(to)
    };
    Ok(Built {
        bzimage: copy(&built.bzimage, "bzImage")?,
        modules: copy(&built.modules, "modules")?,
        nfit_modules: copy(&built.nfit_modules, "nfit-modules")?,
        _copies: Some(Arc::new(dir)),
        ..built
    })
}

/// The last build of a variant, whatever changed since.
pub fn as_built(paths: &Paths, variant: Variant) -> Result<Built> {
    let dir = paths.build(variant);
    let link = dir.join("source");
    let source = fs::read_link(&link)
        .with_context(|| format!("there is no finished build in {}", dir.display()))?;
    built(&source, variant, &dir)
}

/// Only configures a variant, as its build would; returns its `.config`.
pub fn config(paths: &Paths, variant: Variant) -> Result<PathBuf> {
    host::require_host()?;
    let _lock = cache_lock(paths, &format!("configuring the {variant} kernel"))?;
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    let dir = paths.build(variant);
    let log = paths.log("config");
    files::remove_file(&log)?;
    kconfig::configure(paths, &source, variant.fragments(), &dir, &tc, &log)?;
    Ok(dir.join(".config"))
}

/// The kernel's make with everything but the target.
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

/// Runs make under a progress bar; an error shows what the compiler said.
fn run_make(
    paths: &Paths,
    source: &Source,
    dir: &Path,
    cmd: &mut Command,
    label: &str,
    log: &Path,
) -> Result<()> {
    // A first build has a known length, and an interrupted one goes on from
    // where it was; nobody can tell beforehand how much a change rebuilds.
    let counted = paths.cache.join("build/lines");
    let first = !dir.join("vmlinux").is_file();
    let done = if first { objects(dir) } else { 0 };
    let total = first.then(|| {
        let known = fs::read_to_string(&counted).ok();
        known.and_then(|t| t.trim().parse().ok()).unwrap_or(LINES)
    });
    let mut step = Step::start(label, total, log);
    let mut lines = done;
    let mut spoken: VecDeque<String> = VecDeque::new();
    let mut warned = false;
    let result = run_logged(cmd, log, |line| match progress_line(line) {
        Some(what) => {
            lines += 1;
            step.set(lines, &what);
        }
        None => {
            // "mm/x.c:1:2: warning: …" of clang, "  --> mm/x.rs:1:2" of rustc.
            warned |= (line.contains(": warning: ") || line.contains("--> "))
                && source.overlay.iter().any(|f| line.contains(f.as_str()));
            if spoken.len() == 40 {
                spoken.pop_front();
            }
            if !line.starts_with("make[") && !line.trim().is_empty() {
                spoken.push_back(line.to_owned());
            }
        }
    });
    if let Err(err) = result {
        drop(step);
        let text = indent(&spoken);
        if text.is_empty() {
            return Err(err);
        }
        bail!("{label} failed:\n{text}the whole log: {}", log.display());
    }
    step.done();
    if first {
        files::write_atomic(&counted, lines.to_string().as_bytes(), false)?;
    }
    if warned {
        eprintln!("The build gave warnings in our files: {}", log.display());
    }
    Ok(())
}

/// `  CC [M]  fs/xfs/xfs.o` as `CC [M] fs/xfs/xfs.o`; else it is a message.
pub fn progress_line(line: &str) -> Option<String> {
    let rest = line.strip_prefix("  ")?;
    let verb = rest.split(' ').next()?;
    let is_verb = verb.len() >= 2
        && verb
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_+".contains(c));
    is_verb.then(|| rest.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// How many files were made so far: each leaves a `.name.cmd`.
fn objects(dir: &Path) -> u64 {
    WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with(".cmd"))
        .count() as u64
}

/// Installs the modules into a new tree and puts it in the old one's place.
fn install_modules(
    paths: &Paths,
    source: &Source,
    dir: &Path,
    tc: &Toolchain,
    log: &Path,
) -> Result<()> {
    let new = dir.join("modules_install.new");
    files::remove_tree(&new)?;
    let mut arg = OsString::from("INSTALL_MOD_PATH=");
    arg.push(&new);
    let mut cmd = kernel_make(paths, source, dir, tc);
    cmd.arg("modules_install")
        .arg(arg)
        .arg("INSTALL_MOD_STRIP=1");
    run_logged(&mut cmd, log, |_| ()).context("cannot install the kernel's modules")?;
    // A link to the host's build directory means nothing in the guest.
    files::remove_file(&new.join("lib/modules").join(release(dir)?).join("build"))?;
    files::replace_tree(&new, &dir.join("modules_install"))
}

/// What the build was made of.
fn digest(paths: &Paths, source: &Source, variant: Variant, tc: &Toolchain) -> Result<String> {
    let mut digest = Fingerprint::default();
    digest.add("revision", REVISION.as_bytes());
    digest.add("source", source.digest.as_bytes());
    digest.add("directory", source.dir.as_os_str().as_encoded_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    for name in variant.fragments() {
        let path = paths.checkout.join("config").join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        digest.add(name, &bytes);
    }
    Ok(digest.finish())
}

/// The kernel's release as it calls itself.
pub fn release(dir: &Path) -> Result<String> {
    let path = dir.join("include/config/kernel.release");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Describes a finished build; fails when a part is missing.
fn built(source: &Path, variant: Variant, dir: &Path) -> Result<Built> {
    let built = Built {
        variant,
        bzimage: dir.join("arch/x86/boot/bzImage"),
        modules: dir.join("modules_install/lib/modules"),
        nfit_modules: dir.join("modules_nfit/lib/modules"),
        release_string: release(dir)?,
        source: source.to_owned(),
        _copies: None,
    };
    let parts = [
        built.bzimage.clone(),
        built
            .modules
            .join(&built.release_string)
            .join("modules.dep"),
        built
            .nfit_modules
            .join(&built.release_string)
            .join("modules.dep"),
    ];
    if let Some(part) = parts.iter().find(|p| !p.is_file()) {
        bail!("the build did not make {}", part.display());
    }
    Ok(built)
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
