// SPDX-License-Identifier: GPL-2.0

//! Building a kernel: the kernel's own Makefile does the work, out of tree,
//! with clang, ccache and one output directory per variant.
//!
//! A stamp in the output directory records the inputs of the last successful
//! build. While it is valid, make is not called.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use walkdir::WalkDir;

use crate::kconfig;
use crate::make::{kernel_make, progress_line, release};
use crate::nfit;
use crate::seed;
use crate::source::{self, Source};
use crate::toolchain::Toolchain;
use host::command::{clean, indent, output, run_logged};
use host::files::{self, Fingerprint, Stamp};
use host::kernel::Built;
use host::lock::{cache_lock, CacheLock};
use host::paths::Paths;
use host::progress::Step;
use host::requirements::{require_disk, require_host};
use host::variant::Variant;

/// Incremented when the way in which the harness builds changes.
const REVISION: &str = "1";

/// Number of lines of a first build, until one has been counted on this machine.
const LINES: u64 = 2900;

/// Builds a variant. make checks every file even if the stamp is valid, for users
/// that edit the unpacked source by hand.
pub fn build(paths: &Paths, variant: Variant) -> Result<Built> {
    let _lock = lock(paths, variant)?;
    build_locked(paths, variant, true)
}

/// Returns whether a variant is built from what the checkout holds.
pub fn is_current(paths: &Paths, variant: Variant) -> Result<bool> {
    let _lock = lock(paths, variant)?;
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    Ok(stamp(paths, &source, variant, &tc)?.holds())
}

/// Returns the kernel of a variant for guests, built if anything changed since the
/// last time. The files that guests boot and load do not change, even if another
/// process rebuilds the kernel meanwhile.
pub fn build_to_boot(paths: &Paths, variant: Variant) -> Result<Built> {
    let _lock = lock(paths, variant)?;
    copies(paths, build_locked(paths, variant, false)?)
}

fn lock(paths: &Paths, variant: Variant) -> Result<CacheLock> {
    require_host()?;
    cache_lock(paths, &format!("building the {variant} kernel"))
}

fn build_locked(paths: &Paths, variant: Variant, force: bool) -> Result<Built> {
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    let dir = paths.build(variant);
    let stamp = stamp(paths, &source, variant, &tc)?;
    if !force && stamp.holds() {
        if let Ok(built) = built(&source.dir, variant, &dir) {
            return Ok(built);
        }
    }
    stamp.lift()?;
    let log = paths.build_log(variant);
    files::remove_file(&log)?;
    let siblings: Vec<_> = variant.siblings().iter().map(|s| paths.build(*s)).collect();
    seed::seed(&dir, &siblings, &log)?;
    if !dir.join("vmlinux").is_file() {
        require_disk(
            &dir,
            variant.disk(),
            &format!("building the {variant} kernel"),
        )?;
    }
    kconfig::configure(paths, &source, &variant.recipe(), &dir, &tc, &log)?;

    let label = format!("Building the {variant} kernel (Linux {})", source.release);
    let mut cmd = kernel_make(paths, &source, &dir, &tc);
    cmd.args(["bzImage", "modules"])
        .args(variant.make_arguments());
    run_make(paths, &source, &dir, &mut cmd, &label, &log)?;
    install_modules(paths, &source, &dir, &tc, &log)?;
    nfit::build(paths, &source, &dir, &tc, &log)?;

    let built = built(&source.dir, variant, &dir)?;
    stamp.set()?;
    Ok(built)
}

/// Returns the same build with private files. make writes the kernel's image in
/// place, so that is copied; modules are replaced by new files, so a hard link
/// suffices.
fn copies(paths: &Paths, built: Built) -> Result<Built> {
    let dir = paths.run_dir()?;
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

/// Returns the last build of a variant, even if its inputs changed since.
pub fn as_built(paths: &Paths, variant: Variant) -> Result<Built> {
    let dir = paths.build(variant);
    let link = dir.join("source");
    let source = fs::read_link(&link)
        .with_context(|| format!("there is no finished build in {}", dir.display()))?;
    built(&source, variant, &dir)
}

/// Configures a variant as its build would, without building it; returns its
/// `.config`.
pub fn config(paths: &Paths, variant: Variant) -> Result<PathBuf> {
    require_host()?;
    let _lock = cache_lock(paths, &format!("configuring the {variant} kernel"))?;
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    let dir = paths.build(variant);
    let log = paths.new_log("config")?;
    kconfig::configure(paths, &source, &variant.recipe(), &dir, &tc, &log)?;
    Ok(dir.join(".config"))
}

/// Runs make under a progress bar; an error shows the compiler's messages.
pub(crate) fn run_make(
    paths: &Paths,
    source: &Source,
    dir: &Path,
    cmd: &mut Command,
    label: &str,
    log: &Path,
) -> Result<()> {
    // The length of a first build is known, and an interrupted one resumes where
    // it stopped; the length of a rebuild is not known beforehand.
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
        eprintln!(
            "The build printed warnings about our files: {}",
            log.display()
        );
    }
    Ok(())
}

/// Returns the number of files built so far: each leaves a `.name.cmd`.
fn objects(dir: &Path) -> u64 {
    WalkDir::new(dir)
        .into_iter()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with(".cmd"))
        .count() as u64
}

/// Installs the modules into a new tree, which then replaces the old one.
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
    // A link to the host's build directory is of no use in the guest.
    files::remove_file(&new.join("lib/modules").join(release(dir)?).join("build"))?;
    files::replace_tree(&new, &dir.join("modules_install"))
}

/// Returns the stamp of a build with its inputs.
fn stamp(paths: &Paths, source: &Source, variant: Variant, tc: &Toolchain) -> Result<Stamp> {
    let mut digest = Fingerprint::default();
    digest.add("revision", REVISION.as_bytes());
    digest.add("source", source.digest.as_bytes());
    digest.add("directory", source.dir.as_os_str().as_encoded_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    for name in variant.fragments() {
        let path = paths.checkout.join("config").join(name);
        let bytes = fs::read(&path)?;
        digest.add(name, &bytes);
    }
    Ok(Stamp::new(paths.build(variant).join(seed::BUILT), digest))
}

/// Describes a finished build; fails if a part is missing.
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
    let list = |tree: &Path| tree.join(&built.release_string).join("modules.dep");
    let parts = [
        built.bzimage.clone(),
        list(&built.modules),
        list(&built.nfit_modules),
    ];
    if let Some(part) = parts.iter().find(|p| !p.is_file()) {
        bail!("the build did not make {}", part.display());
    }
    Ok(built)
}
