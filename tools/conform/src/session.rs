// SPDX-License-Identifier: GPL-2.0

//! Runs a suite on one kernel, in as many boots as necessary.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Result};
use serde::{Deserialize, Serialize};

use super::record::Store;
use super::suite::Suite;
use super::watch::Watch;
use host::command::indent;
use host::files;
use host::kernel::Built;
use host::paths::Paths;
use host::variant::Variant;
use kbuild::program;
use vm::guest;
use vm::options::GuestOptions;
use vm::outcome::End;

/// Time without output after which a guest counts as hung. The guest prints a
/// sign of life every ten seconds, but not while it boots, which takes minutes
/// on a busy host.
const SILENCE: Duration = Duration::from_secs(600);
/// Time limit of a boot, which none reaches; each test has its own limit.
const BOOT: Duration = Duration::from_secs(4 * 3600);
/// Exit status by which the guest requests a new boot.
const NEW_BOOT: i32 = 75;
/// Maximum number of consecutive boots that end before any test began.
const BARREN: u32 = 2;

/// Written when no test of a suite is left to run.
#[derive(Serialize, Deserialize)]
struct Complete {
    program: String,
    tests: Vec<String>,
}

/// The inputs of every boot of a comparison.
pub struct Session<'a> {
    pub paths: &'a Paths,
    pub built: &'a Built,
    pub image: &'a Path,
    pub suites: &'a Path,
    pub program: &'a Path,
    /// Digest of the guest's program; when it changes, its list of tests may
    /// change.
    pub program_digest: String,
    pub cpus: u32,
    /// The folder of this kernel's results.
    pub dir: PathBuf,
}

impl Session<'_> {
    fn variant(&self) -> Variant {
        self.built.variant
    }

    /// Returns the recorded results of a suite.
    pub fn store(&self, suite: &Suite) -> Result<Store> {
        Store::open(&self.dir.join(format!("{}.jsonl", suite.name)))
    }

    /// Returns the tests of a suite that has run.
    pub fn tests(&self, suite: &Suite) -> Vec<String> {
        files::read_json::<Complete>(&self.marker(suite)).map_or(Vec::new(), |c| c.tests)
    }

    fn marker(&self, suite: &Suite) -> PathBuf {
        self.dir.join(format!("{}.complete", suite.name))
    }

    /// Runs the remaining tests of a suite: all that are left, or some of them
    /// again as another attempt.
    pub fn run(&self, suite: &Suite, attempt: u32, only: Option<&[String]>) -> Result<()> {
        let mut store = self.store(suite)?;
        let known = files::read_json::<Complete>(&self.marker(suite));
        if only.is_none() && known.is_some_and(|k| k.program == self.program_digest) {
            return Ok(());
        }
        let mut barren = 0;
        let tests = loop {
            let done: HashSet<String> =
                store.done(attempt).into_iter().map(str::to_owned).collect();
            if only.is_some_and(|only| only.iter().all(|t| done.contains(t))) {
                return Ok(());
            }
            let before = store.records.len();
            if let Some(tests) = self.boot(suite, attempt, only, &done, &mut store)? {
                break tests;
            }
            barren = match store.records.len() > before {
                true => 0,
                false => barren + 1,
            };
            if barren == BARREN {
                bail!(
                    "the {} guest for the suite {} ended {BARREN} times before a test began; \
                     the consoles are in {}",
                    self.variant(),
                    suite.name,
                    self.paths.cache.join("log/console").display()
                );
            }
        };
        if only.is_none() {
            let program = self.program_digest.clone();
            files::write_json(&self.marker(suite), &Complete { program, tests })?;
        }
        Ok(())
    }

    /// Boots once; returns the names of all tests if none is left to run.
    fn boot(
        &self,
        suite: &Suite,
        attempt: u32,
        only: Option<&[String]>,
        done: &HashSet<String>,
        store: &mut Store,
    ) -> Result<Option<Vec<String>>> {
        let mut label = format!("{} on the {} kernel", suite.name, self.variant());
        if attempt > 1 {
            label.push_str(", once more");
        }
        let mut command = format!(
            "./{} conform --expect {} --done /host/job/done",
            program::NAME,
            self.variant()
        );
        let mut job_files = vec![("done".to_owned(), lines(done))];
        if let Some(only) = only {
            command.push_str(" --only /host/job/only");
            job_files.push(("only".to_owned(), lines(only)));
        }
        command.push_str(&format!(" {}", suite.name));
        let options = GuestOptions {
            cpus: self.cpus,
            timeout: BOOT,
            silence: Some(SILENCE),
            allow_splat: true,
            copy: vec![self.program.to_owned()],
            suites: Some(self.suites.to_owned()),
            job_files,
            ..GuestOptions::default()
        };
        let mut watch = Watch::new(store, attempt, label, self.dir.join(suite.name));
        let outcome = guest::run_with(
            self.paths,
            self.built,
            self.image,
            &options,
            &command,
            &mut |bytes| watch.take(bytes),
        )?;
        let how = match outcome.end {
            End::Exited(_) | End::Interrupted => None,
            End::TimedOut => Some("the guest no longer responded"),
            End::Died | End::PowerFailed => Some("the guest stopped"),
        };
        if let Some(how) = how {
            let how = match outcome.splats.last() {
                Some(splat) => format!("{how}: {}", splat.title),
                None => how.to_owned(),
            };
            watch.crashed(&how, &outcome.lines)?;
        }
        let report = watch.finish()?;
        match outcome.end {
            End::Exited(0) => Ok(Some(report.tests)),
            End::Exited(NEW_BOOT) | End::Died | End::PowerFailed | End::TimedOut => Ok(None),
            End::Interrupted => {
                bail!("interrupted; the same command continues where it stopped")
            }
            End::Exited(status) => bail!(
                "the suite {} could not be run on the {} kernel (status {status}):\n{}",
                suite.name,
                self.variant(),
                indent(&report.stray)
            ),
        }
    }
}

fn lines<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<u8> {
    let lines = names.into_iter().flat_map(|name| [name.as_str(), "\n"]);
    lines.collect::<String>().into_bytes()
}
