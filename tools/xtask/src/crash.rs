// SPDX-License-Identifier: GPL-2.0

//! Power failures: what a program was told is durable is there after one.
//!
//! The guest writes to DAX files on its NVDIMMs, in workers, each of which makes
//! its records durable in another way. When every worker has made some, the guest
//! is killed, at a moment that is random within a few seconds. The files of the
//! NVDIMMs have what its CPUs had stored by then, as after a power failure, and
//! the next boot gets them: it checks the filesystems and the records, writes in
//! its turn, and is killed. The last boot only checks.
//!
//! What was durable the guest knows from a log in the same NVDIMMs; see
//! `tools/testing/guest/src/tests/fsdax/crash.rs`. We pass on what we have heard
//! from the workers, which that log must not be behind.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::check::Check;
use crate::cli::CrashArgs;
use crate::guest;
use crate::guest_protocol::GuestProtocol;
use crate::options::{PowerSwitch, TIMEOUT};
use crate::outcome::End;
use crate::paths::Paths;
use crate::summary::Summary;
use crate::variant::Variant;

/// Begins what is said to us.
const WORD: &str = "crash: ";
/// How many records each worker has made durable before the power may fail.
const WARM: u64 = 12;
/// The latest moment at which it fails, from then on.
const LATEST: Duration = Duration::from_secs(4);

/// How often, and when.
pub struct Failures {
    count: u32,
    seed: u64,
}

impl Failures {
    /// What `make check` has time for.
    pub fn few(variant: Variant) -> Failures {
        Failures {
            count: if variant.is_debug() { 2 } else { 4 },
            seed: 1,
        }
    }
}

/// `make crash`; the exit status.
pub fn verb(paths: &Paths, args: &CrashArgs) -> Result<i32> {
    let (built, image) = guest::prepare(paths, args.guest.variant)?;
    let check = Check::new(paths, &args.guest, &built, &image)?;
    let failures = Failures {
        count: args.failures,
        seed: args.seed,
    };
    let mut summary = Summary::default();
    run(&check, &failures, &mut summary)?;
    println!("{}", summary.totals());
    Ok(i32::from(summary.failed > 0))
}

/// Boots, and lets the power fail, until it was often enough or something is lost.
pub fn run(check: &Check<'_>, failures: &Failures, summary: &mut Summary) -> Result<()> {
    let nvdimms = guest::run_dir(check.paths)?;
    let mut moments = Moments(failures.seed);
    let mut heard = String::new();
    for boot in 0..=failures.count {
        let last = boot == failures.count;
        let power = PowerSwitch::default();
        let mut options = check.options(TIMEOUT)?;
        options.nvdimms = Some(nvdimms.path().to_owned());
        options.power = power.clone();
        // A guest that is killed tells no leaks.
        options.kmemleak &= last;
        let mut verb = format!("crash --failures {boot} --seed {}", failures.seed);
        if !heard.is_empty() {
            verb.push_str(&format!(" --heard {heard}"));
        }
        if last {
            verb.push_str(" --last");
        }
        let command = check.command(&mut options, &verb);
        let mut workers = Workers::default();
        let mut lines = GuestProtocol::new(check.variant());
        let failed = summary.failed;
        let outcome = guest::run_with(
            check.paths,
            check.built,
            check.image,
            &options,
            &command,
            &mut |bytes| {
                lines.take_unless(bytes, summary, |line| workers.line(line));
                if workers.are_warm() && power.left().is_none() {
                    power.fail_in(moments.next());
                }
            },
        )?;
        if outcome.end != End::PowerFailed {
            lines.finish(summary);
        }
        check.close(&format!("crash {boot}"), &outcome, summary);
        if outcome.end == End::PowerFailed {
            let records: u64 = workers.durable.values().sum();
            println!(
                "     | the power failed when {records} records of {} workers were durable",
                workers.durable.len()
            );
        }
        // What comes after a failure would only tell of the same one.
        if summary.failed > failed || (!last && outcome.end != End::PowerFailed) {
            break;
        }
        heard = workers.heard();
    }
    Ok(())
}

/// The moments at which the power fails.
struct Moments(u64);

impl Moments {
    /// From the time on that every worker was warm.
    fn next(&mut self) -> Duration {
        // Knuth's constants; the upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        LATEST.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// What the workers have told.
#[derive(Default)]
struct Workers {
    /// How many there are, once they have begun.
    count: Option<usize>,
    durable: BTreeMap<String, u64>,
}

impl Workers {
    /// Whether it was for us.
    fn line(&mut self, line: &str) -> bool {
        let Some(words) = line.strip_prefix(WORD) else {
            return false;
        };
        match words.split(' ').collect::<Vec<_>>()[..] {
            [count, "workers"] => self.count = count.parse().ok(),
            ["durable", worker, count] => {
                let count = count.parse().unwrap_or_default();
                self.durable.insert(worker.to_owned(), count);
            }
            _ => return false,
        }
        true
    }

    fn are_warm(&self) -> bool {
        self.count
            .is_some_and(|count| self.durable.values().filter(|n| **n >= WARM).count() == count)
    }

    /// As the next boot takes it.
    fn heard(&self) -> String {
        let items = self
            .durable
            .iter()
            .map(|(worker, n)| format!("{worker}={n}"));
        items.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_fails_when_all_workers_are_warm() {
        let mut workers = Workers::default();
        assert!(workers.line("crash: durable ext4/msync 12"));
        assert!(!workers.are_warm());
        assert!(workers.line("crash: 2 workers"));
        assert!(workers.line("crash: durable xfs/direct 8"));
        assert!(!workers.are_warm());
        assert!(workers.line("crash: durable xfs/direct 12"));
        assert!(workers.are_warm());
        assert_eq!(workers.heard(), "ext4/msync=12,xfs/direct=12");
        assert!(!workers.line("result: {}"));
    }

    #[test]
    fn moments_differ_and_come_in_time() {
        let mut moments = Moments(1);
        let all: Vec<_> = (0..50).map(|_| moments.next()).collect();
        assert!(all.iter().all(|m| *m < LATEST));
        assert!(all.iter().any(|m| *m < LATEST / 4) && all.iter().any(|m| *m > LATEST * 3 / 4));
    }
}
