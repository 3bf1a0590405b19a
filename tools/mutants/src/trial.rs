// SPDX-License-Identifier: GPL-2.0

//! A trial: a kernel with one fault, or without any, and the tests that watch it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use clap::Args;
use host::command::{clean, output, run_logged};
use host::files;
use host::paths::Paths;
use host::variant::Variant;
use kbuild::build::build_to_boot;
use kbuild::program;
use kbuild::toolchain::Toolchain;
use report::guest_result;
use report::ktap::{self, TestResult, Verdict};
use vm::guest;
use vm::job::Modules;
use vm::options::GuestOptions;
use vm::outcome::End;

use crate::rows::{Row, Watcher};

/// Time limit of the tests of one trial: a fault may make each of them wait.
const TESTS: Duration = Duration::from_secs(15 * 60);

/// The module with KUnit suites; the others are built in.
const KUNIT_MODULE: &str = "memremap_kunit";

/// Folders of a checkout that no kernel is built from.
const LEFT_OUT: &[&str] = &[".git", "target"];

/// What the tests said.
#[derive(Debug, PartialEq, Eq)]
pub enum Noticed {
    /// A test failed, the kernel reported something, or the guest did not end.
    By(String),
    /// All tests passed.
    Nothing,
}

/// Options of the guests.
#[derive(Args, Clone, Debug)]
pub struct TrialArgs {
    /// Seconds until the guest of a trial is stopped.
    #[arg(long, env = "TIMEOUT", value_parser = vm::options::seconds)]
    pub timeout: Option<Duration>,
}

/// What all trials share.
pub struct Trials<'a> {
    pub paths: &'a Paths,
    pub args: TrialArgs,
    pub tc: Toolchain,
    /// Programs for the guest.
    pub programs: Vec<PathBuf>,
}

impl Trials<'_> {
    /// Returns a copy of the checkout with the fault, in `dir`.
    pub fn copy(&self, row: &Row, dir: &Path) -> Result<Paths> {
        let checkout = dir.join("checkout");
        files::make_dir(&checkout)?;
        for entry in fs::read_dir(&self.paths.checkout).context("cannot read the checkout")? {
            let entry = entry?;
            if !LEFT_OUT
                .iter()
                .any(|name| entry.file_name() == OsStr::new(name))
            {
                output(clean("cp").arg("-a").arg(entry.path()).arg(&checkout))?;
            }
        }
        let text = row.apply(&checkout)?;
        let path = checkout.join(&row.file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Paths {
            checkout,
            cache: self.paths.cache.clone(),
        })
    }

    /// Runs the tests of a crate on the host.
    pub fn on_host(&self, paths: &Paths, package: &str) -> Result<Noticed> {
        let log = self.paths.log("mutants-host");
        files::remove_file(&log)?;
        let mut failed = None;
        let mut passed = 0;
        let mut cmd = program::cargo_command(paths, &self.tc, "test");
        cmd.args(["--release", "--locked", "--package", package]);
        // The copy of each mutant has a path of its own.
        cmd.env("CARGO_TARGET_DIR", self.paths.cache.join("mutants"));
        let result = run_logged(&mut cmd, &log, |line| {
            match line
                .strip_prefix("test ")
                .and_then(|l| l.rsplit_once(" ... "))
            {
                Some((name, "FAILED")) if failed.is_none() => failed = Some(name.to_owned()),
                Some((_, "ok")) => passed += 1,
                _ => (),
            }
        });
        match (result, failed) {
            (Err(_), Some(name)) => Ok(Noticed::By(name)),
            (Err(err), None) => Err(err),
            (Ok(()), _) => {
                ensure!(passed > 0, "{package} has no tests");
                Ok(Noticed::Nothing)
            }
        }
    }

    /// Builds a kernel from the checkout of `paths` and runs the tests in a guest.
    pub fn in_guest(
        &self,
        paths: &Paths,
        variant: Variant,
        watcher: Watcher<'_>,
        all: bool,
    ) -> Result<Noticed> {
        let (built, image) = guest::prepare(paths, || build_to_boot(paths, variant))?;
        let mut options = GuestOptions {
            timeout: self.args.timeout.unwrap_or(variant.limit(TESTS)),
            ..GuestOptions::default()
        };
        let command = match watcher {
            Watcher::Kunit(glob) => {
                options.modules = Modules::None;
                options.extra_cmdline =
                    vec!["kunit.enable=1".into(), format!("kunit.filter_glob={glob}")];
                format!("modprobe {KUNIT_MODULE}")
            }
            Watcher::Guest(tests) | Watcher::Host(tests) => {
                options.copy.clone_from(&self.programs);
                let all = if all { " --all" } else { "" };
                format!(
                    "./{} run{all} --expect rust --filter '{tests}'",
                    program::NAME
                )
            }
        };
        let mut out = Vec::new();
        let outcome = guest::run_with(paths, &built, &image, &options, &command, &mut |bytes| {
            out.extend_from_slice(bytes);
        })?;
        let results: Vec<TestResult> = match watcher {
            Watcher::Kunit(_) => ktap::parse(outcome.lines.iter().map(String::as_str)),
            _ => String::from_utf8_lossy(&out)
                .lines()
                .filter_map(guest_result::parse)
                .collect::<Result<_>>()?,
        };
        if let Some(failed) = results.iter().find(|r| r.verdict == Verdict::Fail) {
            return Ok(Noticed::By(format!("{} ({})", failed.name, failed.reason)));
        }
        if let Some(splat) = outcome.splats.first() {
            return Ok(Noticed::By(format!("the console ({})", splat.title)));
        }
        match outcome.end {
            End::Exited(0) => (),
            End::Exited(status) => return Ok(Noticed::By(format!("status {status}"))),
            End::TimedOut => return Ok(Noticed::By("a time limit".to_owned())),
            End::Died => return Ok(Noticed::By("the end of the guest".to_owned())),
            End::Interrupted | End::PowerFailed => anyhow::bail!("interrupted"),
        }
        let passed = results
            .iter()
            .filter(|r| r.verdict == Verdict::Pass)
            .count();
        ensure!(
            passed > 0,
            "no test ran; the console: {}",
            outcome.console.display()
        );
        Ok(Noticed::Nothing)
    }
}
