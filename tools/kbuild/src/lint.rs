// SPDX-License-Identifier: GPL-2.0

//! Formatting and lints: `cargo fmt`, clippy and tests for the host's crates;
//! rustfmt and the kernel's own clippy for the overlay; and for both the scripts
//! of `tools/lint` (floors of modules, `unsafe`, language) and codespell; and the
//! cases of `tools/testing/compile-fail`, safe code that must not compile.
//!
//! Each check prints one line and all checks run, so that one call shows all
//! problems. A check whose input did not change since it last passed is not
//! repeated.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{anyhow, bail, Result};
use walkdir::WalkDir;

use crate::diagnostics::{ours, run_collected, texts};
use crate::kconfig;
use crate::make::kernel_make;
use crate::program::cargo_command;
use crate::seed;
use crate::source::{self, Source};
use crate::toolchain::Toolchain;
use host::command::{clean, run_logged};
use host::files::{self, Fingerprint, Stamp};
use host::lock::cache_lock;
use host::paths::Paths;
use host::progress::Step;
use host::variant::Variant;

/// The script, and the last part but one of the names of its checks.
const COMPILE_FAIL: &str = "compile-fail";

/// A check with its name and its result.
#[derive(Debug)]
pub struct Check {
    pub name: Cow<'static, str>,
    pub result: Result<()>,
}

/// Runs every check; the caller prints and counts the results.
pub fn checks(paths: &Paths, mut report: impl FnMut(&Check)) -> Result<Vec<Check>> {
    let tc = Toolchain::find(paths)?;
    let mut all = Vec::new();
    let mut add = |name: Cow<'static, str>, result| {
        let check = Check { name, result };
        report(&check);
        all.push(check);
    };
    let cargo = |verb, args| cargo(paths, &tc, verb, args);
    let script = |name, args| script(paths, name, args);
    add("host.rustfmt".into(), cargo_fmt(paths, &tc));
    add(
        "host.clippy".into(),
        cargo("clippy", "--all-targets -- -D warnings"),
    );
    add(
        "host.rustdoc".into(),
        cargo("doc", "--no-deps --document-private-items"),
    );
    add("host.tests".into(), cargo("test", ""));
    add("host.crates".into(), script("crates", ""));
    add("kernel.modules".into(), script("modules", "--graph"));
    add("kernel.language".into(), script("language", ""));
    add("spelling".into(), spelling(paths));
    let _lock = cache_lock(paths, "checking the kernel's Rust")?;
    let source = source::prepare(paths)?;
    add("kernel.rustfmt".into(), kernel_fmt(paths, &source, &tc));
    add("kernel.clippy".into(), kernel_clippy(paths, &source, &tc));
    for (case, result) in compile_fail(paths)? {
        add(format!("{COMPILE_FAIL}.{case}").into(), result);
    }
    Ok(all)
}

/// Runs the verb `lint`: prints each check and its failures, and returns the
/// number of failures. The graph of modules and the share of verbs are printed too.
pub fn run(paths: &Paths) -> Result<usize> {
    let all = checks(paths, |check| match &check.result {
        Ok(()) => {
            println!("ok      {}", check.name);
            if let Some(name) = check.name.strip_prefix("kernel.") {
                let log = fs_err::read_to_string(script_log(paths, name)).unwrap_or_default();
                log.lines().skip(1).for_each(|l| println!("        {l}"));
            }
        }
        Err(err) => println!("FAILED  {}\n{err:#}", check.name),
    })?;
    Ok(all.iter().filter(|c| c.result.is_err()).count())
}

fn script_log(paths: &Paths, name: &str) -> PathBuf {
    paths.log(&format!("lint-{name}"))
}

/// Runs a script of `tools/lint`; each line that it prints before it fails is a finding.
fn script(paths: &Paths, name: &str, args: &str) -> Result<()> {
    let mut cmd = clean("python3");
    cmd.arg(paths.checkout.join("tools/lint").join(name))
        .args(args.split_whitespace());
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
        if let Some(more) = lines.len().checked_sub(SHOWN + 1) {
            lines.truncate(SHOWN);
            lines.push(format!("and {} more", more + 1));
        }
        lines.push(format!("all of it: {}", log.display()));
        bail!("{}", lines.join("\n    "));
    }
    result
}

fn cargo_fmt(paths: &Paths, tc: &Toolchain) -> Result<()> {
    let log = paths.new_log("fmt")?;
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

fn cargo(paths: &Paths, tc: &Toolchain, verb: &str, args: &str) -> Result<()> {
    let log = paths.new_log(&format!("cargo-{verb}"))?;
    let step = Step::start(&format!("cargo {verb}"), None, &log);
    let mut cmd = cargo_command(paths, tc, verb);
    cmd.args(["--workspace", "--locked"])
        .args(args.split_whitespace())
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
    let log = paths.new_log("kernel-fmt")?;
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

/// Name of the file that holds the digest of what clippy last accepted.
const CLIPPY_STAMP: &str = ".rust-dax-clippy";

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
    kconfig::configure(paths, source, &Variant::Rust.recipe(), &dir, tc, &log)?;

    let mut digest = Fingerprint::default();
    digest.add("source", source.digest.as_bytes());
    digest.add("toolchain", tc.id.as_bytes());
    digest.add("config", &fs_err::read(dir.join(".config"))?);
    let stamp = Stamp::new(dir.join(CLIPPY_STAMP), digest);
    if stamp.holds() {
        return Ok(());
    }
    stamp.lift()?;
    // A warning is only printed when the crate is compiled.
    files::remove_file(&dir.join("rust/kernel.o"))?;
    let folders = crate_folders(&source.dir, &overlay);
    for file in overlay.iter().filter(|f| !f.starts_with("rust/")) {
        files::remove_file(&dir.join(file).with_extension("o"))?;
    }

    let mut cmd = kernel_make(paths, source, &dir, tc);
    cmd.args(["CLIPPY=1", "prepare"]).args(&folders);
    let mut step = Step::start("Clippy on the kernel's Rust", None, &log);
    let (found, result) = run_collected(&mut cmd, &log, &mut step);
    let found = ours(&found, &overlay);
    if !found.is_empty() {
        bail!(
            "{} in our files:\n{}\nthe whole log: {}",
            match found.len() {
                1 => "one warning".to_owned(),
                n => format!("{n} warnings"),
            },
            texts(&found),
            log.display()
        );
    }
    result?;
    step.done();
    stamp.set()
}

/// Compiles the cases of `tools/testing/compile-fail` against the crates that clippy
/// has accepted, and returns the result of each.
fn compile_fail(paths: &Paths) -> Result<Vec<(String, Result<()>)>> {
    let dir = paths.build_named("clippy");
    let Some(accepted) = files::read_if_exists(&dir.join(CLIPPY_STAMP))? else {
        let why = anyhow!("not run: the crates have not passed kernel.clippy");
        return Ok(vec![("all".into(), Err(why))]);
    };
    let script = paths.checkout.join("tools/lint").join(COMPILE_FAIL);
    let log = script_log(paths, COMPILE_FAIL);
    let mut digest = Fingerprint::default();
    digest.add("crates", &accepted);
    let cases = paths.checkout.join("tools/testing").join(COMPILE_FAIL);
    for file in WalkDir::new(&cases).sort_by_file_name() {
        let file = file?;
        if file.file_type().is_file() {
            let name = file.file_name().to_string_lossy();
            digest.add(&name, &fs_err::read(file.path())?);
        }
    }
    digest.add("script", &fs_err::read(&script)?);
    let digest = digest.finish();
    let stamp = dir.join(".rust-dax-compile-fail");
    // The stamp holds the digest and then the script's output, in which all passed.
    let passed = fs_err::read_to_string(&stamp).unwrap_or_default();
    if let Some(lines) = passed.strip_prefix(&digest) {
        return Ok(case_results(lines.lines()));
    }
    files::remove_file(&log)?;
    let mut cmd = clean("python3");
    cmd.arg(&script).arg(&dir);
    let step = Step::start("Code that must not compile", None, &log);
    let mut lines = Vec::new();
    let result = run_logged(&mut cmd, &log, |line| lines.push(line.to_owned()));
    step.done();
    let cases = case_results(lines.iter().map(String::as_str));
    match result {
        Ok(()) => {
            let text = format!("{digest}\n{}\n", lines.join("\n"));
            files::write_atomic(&stamp, text.as_bytes(), false)?;
        }
        // A failed case has been found; without one, the script failed.
        Err(_) if cases.iter().any(|(_, result)| result.is_err()) => (),
        Err(err) => return Ok(vec![("all".into(), Err(err))]),
    }
    Ok(cases)
}

/// Parses the script's lines: `ok CASE`, or `FAILED CASE: reason` with more lines.
fn case_results<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, Result<()>)> {
    let mut cases: Vec<(String, Option<String>)> = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix("ok ") {
            cases.push((name.to_owned(), None));
        } else if let Some((name, why)) = line
            .strip_prefix("FAILED ")
            .and_then(|rest| rest.split_once(": "))
        {
            cases.push((name.to_owned(), Some(why.to_owned())));
        } else if let Some((_, Some(why))) = cases.last_mut() {
            why.push('\n');
            why.push_str(line);
        }
    }
    let result = |why: Option<String>| why.map_or(Ok(()), |why| Err(anyhow!(why)));
    cases
        .into_iter()
        .map(|(name, why)| (name, result(why)))
        .collect()
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
    fn results_of_cases() {
        let text = "\nok a-b\nFAILED c: no error says \"x\":\n    c.rs:1:2: error[E0505]: y\nok d";
        let cases = case_results(text.lines());
        let names: Vec<_> = cases.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a-b", "c", "d"]);
        let failed = cases[1].1.as_ref().unwrap_err().to_string();
        assert!(failed.ends_with("error[E0505]: y"), "{failed}");
        assert!(cases[0].1.is_ok() && cases[2].1.is_ok());
    }

    #[test]
    fn folders_of_crates() {
        let dir = tempfile::tempdir().unwrap();
        for d in ["mm", "fs/dax", "drivers/nvdimm/sub"] {
            fs_err::create_dir_all(dir.path().join(d)).unwrap();
        }
        for f in [
            "mm/Makefile",
            "fs/Makefile",
            "drivers/nvdimm/Kbuild",
            "Makefile",
        ] {
            fs_err::write(dir.path().join(f), "").unwrap();
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
