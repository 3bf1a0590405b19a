// SPDX-License-Identifier: GPL-2.0

//! `make conform`: the public suites on the C and on the Rust kernel, compared
//! by the names of their results.
//!
//! ```text
//! suite     the suites
//! disk      programs that only this command needs in the guest
//! session   a suite on one kernel, in as many boots as necessary
//! watch     the guest's messages -> logs and records
//! outputs   the output of a test -> results by name
//! record    the results of a suite on one kernel, as JSON lines
//! compare   C against Rust
//! report    the result, for a person and as JSON
//! ```
//!
//! The results of a kernel are kept under its digest, so only what changed runs
//! again: a new Rust kernel is compared with the C results that are there.

mod compare;
mod disk;
mod outputs;
mod record;
mod report;
mod session;
mod suite;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::FalseyValueParser;
use clap::Args;
use fs_err as fs;
use walkdir::WalkDir;

use host::files::{self, Fingerprint};
use host::kernel::Built;
use host::lock::folder_lock;
use host::paths::Paths;
use host::variant::Variant;
use kbuild::build::build_to_boot;
use kbuild::program;
use vm::guest;

use crate::report::{Kernel, Report};
use compare::compare;
use session::Session;
use suite::Suite;

/// Number of digits of a digest in a folder's name.
const DIGITS: usize = 12;

#[derive(Args, Clone, Debug)]
pub struct ConformArgs {
    /// Suites to run; all of them if none is named.
    #[arg(long, env = "SUITES", default_value = "")]
    pub suites: String,
    /// Discard existing results.
    #[arg(long, env = "FRESH", value_parser = FalseyValueParser::new())]
    pub fresh: bool,
    /// Virtual CPUs.
    #[arg(long, env = "CPUS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cpus: u32,
}

/// Runs what is missing, compares and reports; returns the exit status.
pub fn run(paths: &Paths, args: &ConformArgs) -> Result<i32> {
    let suites = suite::chosen(&args.suites)?;
    files::make_dir(&root(paths))?;
    let _lock = folder_lock(&root(paths), "make conform")?;
    let (c_built, _) = guest::prepare(paths, || build_to_boot(paths, Variant::C))?;
    let (rust_built, image) = guest::prepare(paths, || build_to_boot(paths, Variant::Rust))?;
    let disk = disk::prepare(paths, &rust_built)?;
    let program = program::build(paths)?;
    let mut digest = Fingerprint::default();
    digest.add("program", &fs::read(&program)?);
    let program_digest = digest.finish();
    let session = |built| -> Result<Session> {
        Ok(Session {
            paths,
            built,
            image: &image,
            suites: &disk,
            program: &program,
            program_digest: program_digest.clone(),
            cpus: args.cpus,
            dir: results_dir(paths, built, &[&image, &disk])?,
        })
    };
    let (c, rust) = (session(&c_built)?, session(&rust_built)?);
    if args.fresh {
        for session in [&c, &rust] {
            suites.iter().try_for_each(|s| forget(&session.dir, s))?;
        }
    }
    println!("results and logs of C:    {}", c.dir.display());
    println!("results and logs of Rust: {}", rust.dir.display());
    let mut compared = Vec::new();
    for suite in suites {
        compared.push(both(&c, &rust, suite)?);
    }
    finish(paths, &c, &rust, compared)
}

/// Runs one suite on both kernels, and once more the tests that differ.
fn both(c: &Session, rust: &Session, suite: &Suite) -> Result<report::Suite> {
    c.run(suite, 1, None)?;
    rust.run(suite, 1, None)?;
    // Results of tests that no longer exist are ignored.
    let tests: BTreeSet<String> = [c, rust].iter().flat_map(|s| s.tests(suite)).collect();
    let results = compare(&tests, &c.store(suite)?, &rust.store(suite)?);
    let repeat = compare::to_repeat(&results);
    if !repeat.is_empty() {
        c.run(suite, 2, Some(&repeat))?;
        rust.run(suite, 2, Some(&repeat))?;
    }
    let (c, rust) = (c.store(suite)?, rust.store(suite)?);
    let seconds = |store: &record::Store| {
        let first = store.records.iter().filter(|r| r.attempt == 1);
        first.map(|r| r.seconds).sum()
    };
    Ok(report::Suite {
        name: suite.name.to_owned(),
        what: suite.what.to_owned(),
        tests: tests.len(),
        c_seconds: seconds(&c),
        rust_seconds: seconds(&rust),
        results: compare(&tests, &c, &rust),
    })
}

fn finish(paths: &Paths, c: &Session, rust: &Session, suites: Vec<report::Suite>) -> Result<i32> {
    let kernel = |session: &Session| Kernel {
        release: session.built.release_string.clone(),
        dir: session.dir.display().to_string(),
    };
    let report = Report::new(kernel(c), kernel(rust), suites);
    let text = report.text();
    let (json_file, text_file) = (
        root(paths).join("conform.json"),
        root(paths).join("conform.txt"),
    );
    files::write_json(&json_file, &report)?;
    files::write_atomic(&text_file, text.as_bytes(), false)?;
    print!("\n{text}");
    println!("report: {}", text_file.display());
    println!("as JSON, every name: {}", json_file.display());
    Ok(i32::from(!report.ok))
}

fn root(paths: &Paths) -> PathBuf {
    paths.cache.join("conform")
}

/// Returns the folder of a kernel's results. Its name is a digest of everything
/// that the guest runs: kernel, modules and disks.
fn results_dir(paths: &Paths, built: &Built, disks: &[&Path]) -> Result<PathBuf> {
    let mut digest = Fingerprint::default();
    digest.add("kernel", &fs::read(&built.bzimage)?);
    for tree in [&built.modules, &built.nfit_modules] {
        for entry in WalkDir::new(tree).sort_by_file_name() {
            let entry = entry?;
            if entry.path().extension().is_some_and(|e| e == "ko") {
                let name = entry.path().strip_prefix(tree)?.to_string_lossy();
                digest.add(&name, &fs::read(entry.path())?);
            }
        }
    }
    for path in disks {
        digest.add("disk", &disk::stamp(path)?);
    }
    let name = format!("{}-{}", built.variant, &digest.finish()[..DIGITS]);
    Ok(root(paths).join(name))
}

/// Removes the results of a suite.
fn forget(dir: &Path, suite: &Suite) -> Result<()> {
    files::remove_file(&dir.join(format!("{}.complete", suite.name)))?;
    files::remove_file(&dir.join(format!("{}.jsonl", suite.name)))?;
    files::remove_tree(&dir.join(suite.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_leaves_other_suites() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["mm.jsonl", "mm.complete", "nfit.jsonl"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("mm")).unwrap();
        let suite = suite::chosen("mm").unwrap()[0];
        forget(dir.path(), suite).unwrap();
        forget(dir.path(), suite).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
    }
}
