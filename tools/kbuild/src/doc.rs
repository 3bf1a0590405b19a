// SPDX-License-Identifier: GPL-2.0

//! The documentation: the kernel crate's, by the kernel's own `make rustdoc`, the `.rst` pages
//! of the overlay, by Sphinx with the kernel's configuration and extensions, and the manual pages of
//! daxstat.
//!
//! Sphinx gets a source tree that holds the overlay's pages only, which takes two seconds instead
//! of the minutes of `make htmldocs`.

use std::path::{Path, PathBuf};

use anyhow::{bail, Result};

use crate::diagnostics::{ours, run_collected, texts};
use crate::kconfig;
use crate::make::kernel_make;
use crate::program;
use crate::source::{self, Source};
use crate::toolchain::Toolchain;
use host::command::{clean, run_logged};
use host::files::{self, Fingerprint, Stamp};
use host::lock::cache_lock;
use host::paths::Paths;
use host::progress::Step;
use host::variant::Variant;

/// The first pages of the documentation.
pub struct Documentation {
    /// Of the kernel crate.
    pub rustdoc: PathBuf,
    /// Of the overlay's `.rst` files.
    pub pages: PathBuf,
    /// Of daxstat's manual.
    pub manual: PathBuf,
}

/// Builds the documentation. A warning in a file of the overlay is an error.
pub fn run(paths: &Paths) -> Result<Documentation> {
    let _lock = cache_lock(paths, "making the documentation")?;
    let tc = Toolchain::find(paths)?;
    let source = source::prepare(paths)?;
    let dir = paths.build(Variant::Rust);
    let share = dir.join("Documentation/output/share");
    Ok(Documentation {
        rustdoc: rustdoc(paths, &source, &dir, &tc)?,
        pages: pages(paths, &source, &dir)?,
        manual: program::write_daxstat_share(paths, &share)?.join("daxstat.8"),
    })
}

/// Builds the kernel crate's documentation and returns its first page; returns at once while
/// the last result still holds.
fn rustdoc(paths: &Paths, source: &Source, dir: &Path, tc: &Toolchain) -> Result<PathBuf> {
    let log = paths.new_log("rustdoc")?;
    // `make rustdoc` needs what `make prepare` makes and touches no object.
    kconfig::configure(paths, source, &Variant::Rust.recipe(), dir, tc, &log)?;

    let index = dir.join("Documentation/output/rust/rustdoc/kernel/index.html");
    let mut digest = Fingerprint::default();
    digest.add("source", source.digest.as_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    let stamp = Stamp::new(dir.join(".rust-dax-rustdoc"), digest);
    if index.is_file() && stamp.holds() {
        return Ok(index);
    }
    stamp.lift()?;

    let mut step = Step::start("Documentation of the kernel crate", None, &log);
    let mut cmd = kernel_make(paths, source, dir, tc);
    cmd.arg("rustdoc");
    let (found, result) = run_collected(&mut cmd, &log, &mut step);
    let found = ours(&found, &source.overlay);
    if !found.is_empty() {
        bail!(
            "rustdoc warns of our files:\n{}\nthe whole log: {}",
            texts(&found),
            log.display()
        );
    }
    result?;
    if !index.is_file() {
        bail!("rustdoc made no {}", index.display());
    }
    step.done();
    stamp.set()?;
    Ok(index)
}

/// Builds the overlay's `.rst` pages as HTML and returns the first page.
fn pages(paths: &Paths, source: &Source, dir: &Path) -> Result<PathBuf> {
    let log = paths.new_log("sphinx")?;
    let step = Step::start("Documentation pages", None, &log);
    let kernel = source.dir.join("Documentation");
    let tree = dir.join("Documentation/rust-dax");
    let output = dir.join("Documentation/output/rust-dax");
    files::remove_tree(&tree)?;
    files::remove_tree(&output)?;

    let pages = lay_out(source, &tree)?;
    let astray: Vec<_> = pages.iter().filter(|p| !in_toctree(&kernel, p)).collect();
    if !astray.is_empty() {
        bail!("no toctree of the kernel's Documentation has {astray:?}; patches/0008 adds them");
    }
    let index = format!(
        "rust-dax\n========\n\n.. toctree::\n   :maxdepth: 2\n\n   {}\n",
        pages.join("\n   ")
    );
    files::write_atomic(&tree.join("index.rst"), index.as_bytes(), false)?;

    let mut cmd = clean("/usr/bin/sphinx-build");
    cmd.env("srctree", &source.dir)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-q", "-b", "html", "-c"])
        .arg(&kernel)
        .arg("-d")
        .arg(output.join(".doctrees"));
    let (release, tree_of) = (&source.release, source.dir.display());
    for setting in [
        format!("version={release}"),
        format!("release={release}"),
        format!("kerneldoc_srctree={tree_of}"),
        format!("kerneldoc_bin={tree_of}/scripts/kernel-doc"),
    ] {
        cmd.arg("-D").arg(setting);
    }
    cmd.arg(&tree).arg(&output);
    let mut warnings = Vec::new();
    run_logged(&mut cmd, &log, |line| {
        if let Some(warning) = about_page(line, &tree) {
            warnings.push(warning.to_owned());
        }
    })?;
    if !warnings.is_empty() {
        bail!(
            "Sphinx warns of our pages:\n{}\nthe whole log: {}",
            warnings.join("\n"),
            log.display()
        );
    }
    step.done();
    Ok(output.join("index.html"))
}

/// Copies the overlay's part of Documentation to `tree`; returns its pages, as a toctree names them.
fn lay_out(source: &Source, tree: &Path) -> Result<Vec<String>> {
    let mut pages = Vec::new();
    for file in &source.overlay {
        let Some(name) = file.strip_prefix("Documentation/") else {
            continue;
        };
        let to = tree.join(name);
        files::make_dir(to.parent().unwrap_or(tree))?;
        fs_err::copy(source.dir.join(file), &to)?;
        pages.extend(name.strip_suffix(".rst").map(str::to_owned));
    }
    Ok(pages)
}

/// Returns whether the index of the page's folder, as the patches leave it, lists the page.
fn in_toctree(kernel: &Path, page: &str) -> bool {
    let (folder, name) = page.rsplit_once('/').unwrap_or(("", page));
    fs_err::read_to_string(kernel.join(folder).join("index.rst"))
        .is_ok_and(|text| text.lines().any(|l| l.starts_with(' ') && l.trim() == name))
}

/// Returns a line of Sphinx without the tree's path if it is a warning or an error in a page there.
fn about_page<'a>(line: &'a str, tree: &Path) -> Option<&'a str> {
    let line = line.strip_prefix(tree.to_str()?)?.trim_start_matches('/');
    let (_, text) = line.split_once(": ")?;
    ["WARNING: ", "ERROR: ", "SEVERE: ", "CRITICAL: "]
        .iter()
        .any(|level| text.starts_with(level))
        .then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sphinx() {
        fn about(line: &str) -> Option<&str> {
            about_page(line, Path::new("/c/rst"))
        }
        let bad = "mm/a.rst:12: ERROR: Malformed table.";
        assert_eq!(about(&format!("/c/rst/{bad}")), Some(bad));
        let bad = "mm/a.rst: WARNING: document isn't included in any toctree";
        assert_eq!(about(&format!("/c/rst/{bad}")), Some(bad));
        assert_eq!(about("WARNING: dot(1) not found"), None);
        assert_eq!(about("/src/Documentation/mm/b.rst:1: ERROR: x"), None);
        assert_eq!(about("/c/rst/mm/a.rst:12: a WARNING: quoted"), None);
    }
}
