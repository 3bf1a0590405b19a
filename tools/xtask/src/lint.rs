// SPDX-License-Identifier: GPL-2.0

//! Formatting and lints: `cargo fmt`, clippy and tests for the host's crates;
//! rustfmt and the kernel's own clippy for the overlay; and for both the scripts
//! of `tools/lint` (floors of modules, `unsafe`, language) and codespell.
//!
//! Each check prints one line and all checks run, so that one call shows all
//! problems. A check whose input did not change since it last passed is not
//! repeated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::command::{clean, run_logged};
use crate::diagnostics::{ours, Collector};
use crate::files::{self, Fingerprint};
use crate::kbuild::kernel_make;
use crate::kconfig;
use crate::lock::cache_lock;
use crate::paths::Paths;
use crate::progress::Step;
use crate::seed;
use crate::source::{self, Source};
use crate::toolchain::Toolchain;
use crate::variant::Variant;

/// A check with its name and its result.
#[derive(Debug)]
pub struct Check {
    pub name: &'static str,
    pub result: Result<()>,
}

/// Runs every check; the caller prints and counts the results.
pub fn checks(paths: &Paths, mut report: impl FnMut(&Check)) -> Result<Vec<Check>> {
    let tc = Toolchain::find(paths)?;
    let mut all = Vec::new();
    let mut add = |name, result| {
        let check = Check { name, result };
        report(&check);
        all.push(check);
    };
    add("host.rustfmt", cargo_fmt(paths, &tc));
    add(
        "host.clippy",
        cargo(
            paths,
            &tc,
            "clippy",
            &["--all-targets", "--", "-D", "warnings"],
        ),
    );
    add(
        "host.rustdoc",
        cargo(
            paths,
            &tc,
            "doc",
            &["--no-deps", "--document-private-items"],
        ),
    );
    add("host.tests", cargo(paths, &tc, "test", &[]));
    add("kernel.modules", script(paths, "modules", &["--graph"]));
    add("kernel.language", script(paths, "language", &[]));
    add("spelling", spelling(paths));
    let _lock = cache_lock(paths, "checking the kernel's Rust")?;
    let source = source::prepare(paths)?;
    add("kernel.rustfmt", kernel_fmt(paths, &source, &tc));
    add("kernel.clippy", kernel_clippy(paths, &source, &tc));
    Ok(all)
}

/// Runs the verb `lint`: prints each check and its failures, and returns the
/// number of failures. The graph of modules and the share of verbs are printed too.
pub fn run(paths: &Paths) -> Result<usize> {
    let all = checks(paths, |check| match &check.result {
        Ok(()) => {
            println!("ok      {}", check.name);
            if let Some(name) = check.name.strip_prefix("kernel.") {
                let log = std::fs::read_to_string(script_log(paths, name)).unwrap_or_default();
                log.lines().skip(1).for_each(|l| println!("        {l}"));
            }
        }
        Err(err) => println!("FAILED  {}\n{err:#}", check.name),
    })?;
    Ok(all.iter().filter(|c| c.result.is_err()).count())
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

fn script_log(paths: &Paths, name: &str) -> PathBuf {
    paths.log(&format!("lint-{name}"))
}

/// Runs a script of `tools/lint`; each line that it prints before it fails is a finding.
fn script(paths: &Paths, name: &str, args: &[&str]) -> Result<()> {
    let mut cmd = clean("python3");
    cmd.arg(paths.checkout.join("tools/lint").join(name))
        .args(args);
    findings(paths, name, &mut cmd)
}

/// Runs codespell on every file of the checkout that has prose of ours.
fn spelling(paths: &Paths) -> Result<()> {
    let list = paths.checkout.join("tools/lint/codespell.ignore");
    let mut cmd = clean("codespell");
    cmd.current_dir(&paths.checkout)
        .arg("--ignore-words")
        .arg(list)
        .args(["--skip", ".git,target,LICENSES,Cargo.lock,*.svg"]);
    findings(paths, "spelling", &mut cmd)
}

/// Runs a check that prints its findings; the first of them are the error's text.
fn findings(paths: &Paths, name: &str, cmd: &mut Command) -> Result<()> {
    const SHOWN: usize = 40;
    let log = script_log(paths, name);
    files::remove_file(&log)?;
    let mut lines = Vec::new();
    let result = run_logged(cmd, &log, |line| lines.push(line.to_owned()));
    if result.is_err() && !lines.is_empty() {
        let more = lines.len().saturating_sub(SHOWN);
        lines.truncate(SHOWN);
        let rest = if more > 0 {
            format!("\n    and {more} more")
        } else {
            String::new()
        };
        bail!(
            "{}{rest}\n    all of it: {}",
            lines.join("\n    "),
            log.display()
        );
    }
    result
}

fn cargo_fmt(paths: &Paths, tc: &Toolchain) -> Result<()> {
    let log = paths.log("fmt");
    files::remove_file(&log)?;
    let mut cmd = cargo_command(paths, tc, "fmt");
    cmd.args(["--all", "--", "--check", "--files-with-diff"]);
    let mut bad = Vec::new();
    let result = run_logged(&mut cmd, &log, |line| {
        if line.ends_with(".rs") {
            let path = Path::new(line);
            let short = path.strip_prefix(&paths.checkout).unwrap_or(path);
            bad.push(short.display().to_string());
        }
    });
    unformatted(bad, "cargo fmt --all", result)
}

fn unformatted(mut bad: Vec<String>, remedy: &str, result: Result<()>) -> Result<()> {
    bad.sort();
    bad.dedup();
    if bad.is_empty() {
        return result;
    }
    bail!(
        "not formatted (`{remedy}` does it):\n    {}",
        bad.join("\n    ")
    )
}

fn cargo(paths: &Paths, tc: &Toolchain, verb: &str, args: &[&str]) -> Result<()> {
    let log = paths.log(&format!("cargo-{verb}"));
    files::remove_file(&log)?;
    let step = Step::start(&format!("cargo {verb}"), None, &log);
    let mut cmd = cargo_command(paths, tc, verb);
    cmd.args(["--workspace", "--locked"])
        .args(args)
        .env("RUSTDOCFLAGS", "-D warnings");
    // The release profile's dependencies are already built.
    if verb == "test" {
        cmd.arg("--release");
    }
    run_logged(&mut cmd, &log, |_| ())?;
    step.done();
    Ok(())
}

/// Checks the formatting of the overlay's files by the kernel's own rules. The
/// files are checked in the tree, which also holds the modules that they name.
fn kernel_fmt(paths: &Paths, source: &Source, tc: &Toolchain) -> Result<()> {
    let overlay: Vec<&str> = source.overlay_files(".rs").collect();
    if overlay.is_empty() {
        return Ok(());
    }
    let log = paths.log("kernel-fmt");
    files::remove_file(&log)?;
    let mut cmd = clean(&tc.rustfmt);
    cmd.current_dir(&source.dir)
        .args(["--edition", "2021", "--check", "--files-with-diff"])
        .args(&overlay);
    let mut bad = Vec::new();
    let mut other = false;
    let result = run_logged(&mut cmd, &log, |line| {
        let path = Path::new(line);
        let short = path.strip_prefix(&source.dir).unwrap_or(path);
        match short.to_str() {
            Some(s) if overlay.contains(&s) => bad.push(s.to_owned()),
            // A module of the stock kernel that one of ours names.
            Some(s) if s.ends_with(".rs") => (),
            _ => other = true,
        }
    });
    let remedy = "/usr/bin/rustfmt --edition 2021 FILE";
    if bad.is_empty() && !other {
        return Ok(());
    }
    unformatted(bad, remedy, result)
}

/// Compiles every Rust crate that holds a file of ours with the kernel's
/// clippy, in a separate output directory. Our files must have no warnings.
fn kernel_clippy(paths: &Paths, source: &Source, tc: &Toolchain) -> Result<()> {
    let overlay: Vec<String> = source.overlay_files(".rs").map(str::to_owned).collect();
    if overlay.is_empty() {
        return Ok(());
    }
    let dir = paths.build_named("clippy");
    let log = paths.cache.join("build/clippy.log");
    files::remove_file(&log)?;
    seed::seed(&dir, &[paths.build(Variant::Rust)], &log)?;
    kconfig::configure(paths, source, Variant::Rust.fragments(), &dir, tc, &log)?;

    let mut digest = Fingerprint::default();
    digest.add("source", source.digest.as_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    let config = dir.join(".config");
    let text = files::read_if_exists(&config)?.context("there is no configuration")?;
    digest.add("config", &text);
    let digest = digest.finish();
    let stamp = dir.join(".rust-dax-clippy");
    if std::fs::read_to_string(&stamp).ok().as_deref() == Some(&digest) {
        return Ok(());
    }
    files::remove_file(&stamp)?;
    // A warning is only printed when the crate is compiled.
    files::remove_file(&dir.join("rust/kernel.o"))?;
    let folders = crate_folders(&source.dir, &overlay);
    for file in overlay.iter().filter(|f| !f.starts_with("rust/")) {
        files::remove_file(&dir.join(file).with_extension("o"))?;
    }

    let mut cmd = kernel_make(paths, source, &dir, tc);
    cmd.args(["CLIPPY=1", "prepare"]).args(&folders);
    let mut step = Step::start("Clippy on the kernel's Rust", None, &log);
    let mut collector = Collector::default();
    let mut lines = 0;
    let result = run_logged(&mut cmd, &log, |line| {
        lines += 1;
        if line.starts_with("  ") && !line.starts_with("   ") {
            step.set(lines, line.trim());
        }
        collector.line(line);
    });
    let found = collector.finish();
    let found = ours(&found, &overlay);
    if !found.is_empty() {
        let text: Vec<_> = found.iter().map(|d| d.text.as_str()).collect();
        bail!(
            "{} in our files:\n{}\nthe whole log: {}",
            match found.len() {
                1 => "one warning".to_owned(),
                n => format!("{n} warnings"),
            },
            text.join("\n\n"),
            log.display()
        );
    }
    result?;
    step.done();
    files::write_atomic(&stamp, digest.as_bytes(), false)
}

/// Returns the folders outside `rust/` whose objects Kbuild makes from files of
/// ours: for each file the nearest folder with a Makefile. Make expects them
/// with `/`.
fn crate_folders(tree: &Path, overlay: &[String]) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for file in overlay {
        // `rust/` is compiled by `make prepare`; a folder without an object of
        // ours costs little, since its other objects are copies.
        if file.starts_with("rust/") {
            continue;
        }
        let near = Path::new(file).ancestors().skip(1).find(|d| {
            !d.as_os_str().is_empty()
                && ["Makefile", "Kbuild"]
                    .iter()
                    .any(|m| tree.join(d).join(m).is_file())
        });
        if let Some(dir) = near {
            folders.insert(format!("{}/", dir.display()));
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_crates() {
        let dir = tempfile::tempdir().unwrap();
        for d in ["mm", "fs/dax", "drivers/nvdimm/sub"] {
            std::fs::create_dir_all(dir.path().join(d)).unwrap();
        }
        for f in [
            "mm/Makefile",
            "fs/Makefile",
            "drivers/nvdimm/Kbuild",
            "Makefile",
        ] {
            std::fs::write(dir.path().join(f), "").unwrap();
        }
        let files = [
            "mm/memremap_rs.rs",
            "mm/b.rs",
            "fs/dax/entry.rs",
            "drivers/nvdimm/sub/x.rs",
            "rust/kernel/x.rs",
        ];
        let found = crate_folders(dir.path(), &files.map(str::to_owned));
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["drivers/nvdimm/", "fs/", "mm/"]
        );
    }
}
