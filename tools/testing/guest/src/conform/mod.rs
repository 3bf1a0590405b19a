// SPDX-License-Identifier: GPL-2.0

//! The guest's side of `make conform`: the public suites, test by test.
//!
//! The host boots a guest per suite, passes the tests that already have results,
//! and reads the progress from this program's output, line by line:
//!
//! ```text
//! plan: {"left": 1, "tests": ["cow", "gup_test-dump"]}
//! begin: {"name": "cow", "limit": 600}
//! | a line that the test printed
//! kernel: a line that the kernel logged meanwhile
//! end: {"name": "cow", "verdict": "ok", "why": "", "seconds": 3.1, "parse": "tap"}
//! alive:
//! ```
//!
//! So every line is on the host before anything worse can happen. A test that was
//! begun and not ended has crashed the guest, and the host continues after it in a
//! new boot. This program requests a new boot itself, by its exit status, when the
//! kernel can no longer be trusted.

mod item;
mod kernel_log;
mod ndctl;
mod pmdk;
mod selftests;
mod setup;
mod stress;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use serde::Serialize;

use crate::command::TimedOut;
use crate::skip::Skip;
use crate::system;

use item::{Environment, Item, Parse};
use kernel_log::KernelLog;
use setup::Setup;

/// Exit status: there is more to run, but not on this boot.
const NEW_BOOT: u8 = 75;
/// Interval of the guest's sign of life.
const PULSE: Duration = Duration::from_secs(10);
/// Prefix of each line that a test prints.
pub const OUTPUT: &str = "| ";
/// Prefix of each line of the kernel log.
const KERNEL: &str = "kernel: ";
/// The bit of /proc/sys/kernel/tainted that an oops sets.
const OOPS: u64 = 1 << 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Fail,
    Skip,
    Timeout,
}

#[derive(Serialize)]
struct Plan<'a> {
    left: usize,
    tests: Vec<&'a str>,
}

#[derive(Serialize)]
struct Begin<'a> {
    name: &'a str,
    limit: u64,
}

#[derive(Serialize)]
struct End<'a> {
    name: &'a str,
    verdict: Verdict,
    why: String,
    seconds: f64,
    parse: Parse,
}

/// A suite by name and how its tests are listed.
type Suite = (&'static str, fn() -> Result<Vec<Item>>);

const SUITES: &[Suite] = &[
    ("ndctl", ndctl::on_real_pmem),
    ("nfit", ndctl::on_the_mock),
    ("mm", selftests::items),
    ("pmdk", pmdk::items),
    ("stress", stress::items),
];

/// Returns the tests of a suite, in the order in which they run.
fn items(suite: &str) -> Result<Vec<Item>> {
    let Some((_, list)) = SUITES.iter().find(|(name, _)| *name == suite) else {
        let names: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        bail!("there is no suite {suite}; there are {}", names.join(", "));
    };
    list()
}

/// Runs the remaining tests of a suite: of all its tests, or of those in the file
/// `only`, the ones that are not in the file `done`.
pub fn run(suite: &str, done: Option<&Path>, only: Option<&Path>) -> Result<ExitCode> {
    system::load_modules()?;
    setup::mount_suites()?;
    let mut all = items(suite)?;
    if let Some(only) = only {
        let only = names(only)?;
        all.retain(|i| only.contains(&i.name));
    }
    let done = done.map(names).transpose()?.unwrap_or_default();
    let left: Vec<&Item> = all.iter().filter(|i| !done.contains(&i.name)).collect();
    say(
        "plan",
        &Plan {
            left: left.len(),
            tests: all.iter().map(|i| i.name.as_str()).collect(),
        },
    )?;
    thread::spawn(|| loop {
        thread::sleep(PULSE);
        println!("alive:");
    });

    let mut setup = Setup::new()?;
    for (n, item) in left.iter().enumerate() {
        let trusted = one(&mut setup, item)?;
        if !trusted && n + 1 < left.len() {
            return Ok(ExitCode::from(NEW_BOOT));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the lines of a file.
fn names(path: &Path) -> Result<HashSet<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Runs one test; returns false if no other should run on this boot.
fn one(setup: &mut Setup, item: &Item) -> Result<bool> {
    say(
        "begin",
        &Begin {
            name: &item.name,
            limit: item.limit_secs,
        },
    )?;
    kernel_log::mark(&format!("begin {}", item.name));
    let log = KernelLog::follow(KERNEL)?;
    let start = Instant::now();
    let mut trusted = true;
    let result = setup.run(item).and_then(|out| item.judge(&out));
    let (verdict, mut why) = match result {
        Ok(detail) => (Verdict::Ok, detail),
        Err(e) => {
            let verdict = match e.downcast_ref::<TimedOut>() {
                Some(late) => {
                    trusted &= !late.stuck;
                    Verdict::Timeout
                }
                None if e.is::<Skip>() => Verdict::Skip,
                None => Verdict::Fail,
            };
            (verdict, format!("{e:#}"))
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    if let Err(e) = setup.tidy(item, verdict == Verdict::Ok) {
        trusted = false;
        why = format!("{why}; the cleanup failed: {e:#}");
    }
    // The state that such a test leaves when it fails is unknown: the next one gets
    // a new machine.
    let failed = matches!(verdict, Verdict::Fail | Verdict::Timeout);
    trusted &= !(failed
        && matches!(
            item.environment,
            Environment::RealPmem | Environment::MockBus
        ));
    // The first oops already ends the boot, so the bit was clear before.
    trusted &= system::read_u64("/proc/sys/kernel/tainted")? & OOPS == 0;
    log.finish();
    kernel_log::mark(&format!("end {}", item.name));
    say(
        "end",
        &End {
            name: &item.name,
            verdict,
            why,
            seconds: (seconds * 10.0).round() / 10.0,
            parse: item.parse,
        },
    )?;
    Ok(trusted)
}

fn say(what: &str, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string(value).context("cannot write JSON")?;
    println!("{what}: {json}");
    Ok(())
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_file_name() {
        for (suite, list) in SUITES.iter().filter(|(name, _)| *name != "pmdk") {
            let all = list().unwrap_or_default();
            let names: HashSet<&str> = all.iter().map(|i| i.name.as_str()).collect();
            assert_eq!(names.len(), all.len(), "{suite}");
            assert!(!all.is_empty(), "{suite}");
            for item in &all {
                assert!(item.limit_secs > 0);
                assert!(!item.name.contains(['/', '\n']), "{}", item.name);
            }
        }
        assert!(items("nothing").is_err());
    }
}
