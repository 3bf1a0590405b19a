// SPDX-License-Identifier: GPL-2.0

//! Runs the tests, each in a process of its own.
//!
//! A test that hangs, dies of SIGBUS or leaves a mount must not affect the
//! others: the runner kills it after its limit, unmounts its filesystems,
//! restores the namespaces, and checks the kernel's taint flags to find the test
//! that caused a kernel complaint.
//!
//! `libtest-mimic` has none of that: its tests are threads of one process, without a time limit, and
//! cannot say while they run that they are skipped, nor why.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::command::Cmd;
use crate::filesystem::unmount_devices;
use crate::ndctl::{self, Info};
use crate::share::Share;
use crate::skip::Skip;
use crate::system;
use crate::tests::teardown::soak;
use crate::tests::{self, Test};

/// Environment variable of tests that may run in full.
const ALL: &str = "GUEST_TEST_ALL";

/// Returns whether all tests were requested (`run --all`): then repetitions and
/// samples run in full.
pub fn thorough() -> bool {
    std::env::var_os(ALL).is_some()
}

/// Returns how long threads race: a minute if all tests were requested, otherwise
/// `short`.
pub fn race_time(short: Duration) -> Duration {
    match thorough() {
        true => Duration::from_secs(60),
        false => short,
    }
}

/// Prefix of the last line for the host.
const CLOSING: &str = "guest tests: ";
/// Prefix of a line with a result for the host.
pub const RESULT: &str = "result: ";
/// Prefix of the last line of a test's own process.
const VERDICT: &str = "verdict: ";

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Fail,
    Skip,
}

#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    status: Status,
    why: String,
}

/// The line for the host.
#[derive(Serialize)]
struct Outcome<'a> {
    name: &'a str,
    status: Status,
    why: &'a str,
    seconds: f64,
}

pub fn list(filter: &Regex) {
    for test in tests::all().iter().filter(|t| filter.is_match(&t.name)) {
        println!("{}\n    {}", test.name, test.doc);
    }
}

/// Runs the tests that match and are in this share of this part; returns whether none failed. No
/// test starts later than `limit` after the first.
pub fn run(
    filter: &Regex,
    part: Option<Share>,
    share: Share,
    all: bool,
    limit: Option<Duration>,
) -> Result<bool> {
    system::load_modules()?;
    let matching = tests::all()
        .into_iter()
        .filter(|t| filter.is_match(&t.name));
    let slow = system::is_slow()?;
    let left_out = |test: &Test| slow && !all && !test.essential;
    let (rest, work): (Vec<Test>, Vec<Test>) = matching.partition(left_out);
    if rest.is_empty() && work.is_empty() {
        bail!("no test matches {filter}; `guest-test run --list` shows them");
    }
    let (rest, work) = match part {
        None => (rest, work),
        Some(part) => {
            let all = work.len();
            let work = part.of(work);
            println!("part {part}: {} of {all} tests", work.len());
            (Vec::new(), work)
        }
    };
    // Tests that are only skipped are dealt out separately, so that each share
    // has the same amount of work.
    let mut chosen = share.of(rest);
    chosen.extend(share.of(work));
    let before = ndctl::namespaces("")?;
    if all {
        // Set for the tests' own processes.
        std::env::set_var(ALL, "1");
    }
    let start = Instant::now();
    let skip = |why: &str| Verdict {
        status: Status::Skip,
        why: why.into(),
    };
    each(&chosen, |test| {
        if left_out(test) {
            skip("a debug kernel runs one of each kind; --all runs this too")
        } else if limit.is_some_and(|limit| start.elapsed() >= limit) {
            skip("no time was left for it")
        } else {
            guarded(test, &before)
        }
    })
}

/// Runs tests that depend on each other, in this process, without cleaning up
/// after them.
pub fn in_order(chosen: &[Test]) -> Result<bool> {
    system::load_modules()?;
    each(chosen, inside)
}

/// Removes memory under random users for some time; returns whether nothing was wrong. Each round is a
/// result of its own.
pub fn soak(seed: u64, time: Duration) -> Result<bool> {
    system::load_modules()?;
    system::log("rust-dax-test: soak")?;
    let (taint, start) = (complaints()?, Instant::now());
    let verdict = soak::run(seed, time, true).and_then(|rounds| {
        ensure!(
            complaints()? == taint,
            "the kernel complained; see the console"
        );
        Ok(format!("{rounds} rounds"))
    });
    let Verdict { status, why } = verdict.into();
    print_result("soak", status, &why, start.elapsed())?;
    println!("{CLOSING}{status:?}");
    Ok(status != Status::Fail)
}

/// Prints the verdict of `judge` for each test, and the totals; returns whether
/// none failed.
fn each(chosen: &[Test], judge: impl Fn(&Test) -> Verdict) -> Result<bool> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for test in chosen {
        let start = Instant::now();
        let verdict = judge(test);
        match verdict.status {
            Status::Ok => passed += 1,
            Status::Fail => failed += 1,
            Status::Skip => skipped += 1,
        }
        if verdict.status == Status::Fail {
            println!("{}: a failure means: {}", test.name, test.doc);
        }
        print_result(&test.name, verdict.status, &verdict.why, start.elapsed())?;
    }
    println!("{CLOSING}{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

/// Prints a result for the host.
pub fn print_result(name: &str, status: Status, why: &str, time: Duration) -> Result<()> {
    let outcome = Outcome {
        name,
        status,
        why,
        seconds: (time.as_secs_f64() * 10.0).round() / 10.0,
    };
    let json = serde_json::to_string(&outcome).context("cannot write JSON")?;
    println!("{RESULT}{json}");
    Ok(())
}

/// Runs one test and checks the state that it leaves.
fn guarded(test: &Test, before: &[Info]) -> Verdict {
    let taint = complaints();
    // Ends what the last test has announced.
    let announced = system::log(&format!("rust-dax-test: {}", test.name));
    let announced = announced.and_then(|()| match test.may_warn {
        Some(words) => system::log(&format!("rust-dax-expect: {words}")),
        None => Ok(()),
    });
    let mut verdict = announced
        .and_then(|()| spawn(test))
        .unwrap_or_else(|e| Verdict {
            status: Status::Fail,
            why: format!("{e:#}"),
        });
    let mut blame = |text: String| {
        verdict.status = Status::Fail;
        verdict.why = match verdict.why.is_empty() {
            true => text,
            false => format!("{}; {text}", verdict.why),
        };
    };
    if let Err(e) = unmount_devices(&["/dev/pmem"]) {
        blame(format!("{e:#}"));
    }
    match ndctl::restore(before) {
        Ok(done) if done.is_empty() => {}
        Ok(done) => blame(format!(
            "the test did not clean up; the runner {}",
            done.join(", ")
        )),
        Err(e) => blame(format!("the namespaces could not be restored: {e:#}")),
    }
    if let (Ok(old), Ok(new)) = (taint, complaints()) {
        // The host, which reads the console, distinguishes that warning from
        // others.
        let old = old | if test.may_warn.is_some() { WARNED } else { 0 };
        if new & !old != 0 {
            blame(format!(
                "the kernel complained (taint {new:#x}, before {old:#x}); see the console"
            ));
        }
    }
    verdict
}

/// Taint flag of a warning.
const WARNED: u64 = 1 << 9;

/// Returns the taint flags of a kernel complaint: bad page (5), oops (7),
/// warning, soft lockup (14).
fn complaints() -> Result<u64> {
    let flags = system::read_u64("/proc/sys/kernel/tainted")?;
    Ok(flags & ((1 << 5) | (1 << 7) | WARNED | (1 << 14)))
}

fn spawn(test: &Test) -> Result<Verdict> {
    let me = std::env::current_exe().context("cannot find this program")?;
    let out = Cmd::new(&me.to_string_lossy())
        .arg("one")
        .arg(&test.name)
        .limit_secs(test.limit_secs)
        .run()?;
    let mut verdict = None;
    for line in out.stdout.lines().chain(out.stderr.lines()) {
        match line.strip_prefix(VERDICT) {
            Some(json) => verdict = Some(serde_json::from_str(json).context("bad verdict line")?),
            None => println!("  {line}"),
        }
    }
    verdict.with_context(|| format!("the test's process died with exit status {}", out.code()))
}

/// Runs a test in its own process.
pub fn one(name: &str) -> Result<bool> {
    let test = tests::all()
        .into_iter()
        .find(|t| t.name == name)
        .with_context(|| format!("there is no test {name}"))?;
    let verdict = inside(&test);
    println!(
        "{VERDICT}{}",
        serde_json::to_string(&verdict).context("cannot write JSON")?
    );
    Ok(verdict.status != Status::Fail)
}

fn inside(test: &Test) -> Verdict {
    (test.run)().into()
}

impl From<Result<String>> for Verdict {
    fn from(result: Result<String>) -> Self {
        match result {
            Ok(why) => Verdict {
                status: Status::Ok,
                why,
            },
            Err(e) => Verdict {
                status: match e.downcast_ref::<Skip>() {
                    Some(_) => Status::Skip,
                    None => Status::Fail,
                },
                why: format!("{e:#}"),
            },
        }
    }
}
