// SPDX-License-Identifier: GPL-2.0

//! Power failures: data that a program knows to be durable survives one.
//!
//! Workers in the guest write to DAX files on its NVDIMMs; each worker makes
//! its records durable in another way. When every worker has made some records
//! durable, the guest is killed, at a random moment within a few seconds. The
//! files of the NVDIMMs hold what the CPUs had stored by then, as after a power
//! failure, and the next boot gets them: it checks the filesystems and the
//! records, then writes, and is killed. The last boot only checks.
//!
//! The guest knows what was durable from a log in the same NVDIMMs; see
//! `tools/testing/guest/src/tests/fsdax/crash.rs`. The host passes on the counts
//! that the workers have reported, and the log must not be behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use vm::options::GuestArgs;

use crate::boot::Check;
use crate::guest_protocol::GuestProtocol;
use host::paths::Paths;
use host::variant::Variant;
use kbuild::build::build_to_boot;
use report::summary::Summary;
use vm::guest;
use vm::options::{PowerSwitch, TIMEOUT};
use vm::outcome::End;

/// Prefix of a line of the guest for the host.
const WORD: &str = "crash: ";
/// Number of records that each worker makes durable before the power may fail.
const WARM: u64 = 12;
/// Latest moment of the failure, counted from then on.
const LATEST: Duration = Duration::from_secs(4);

/// Number and timing of the power failures.
pub struct Failures {
    count: u32,
    seed: u64,
}

impl Failures {
    /// Returns the failures that `make check` has time for.
    pub fn few(variant: Variant) -> Failures {
        Failures {
            count: if variant.is_debug() { 2 } else { 4 },
            seed: 1,
        }
    }
}

/// Options of the power failure test.
#[derive(Args, Clone, Debug)]
pub struct CrashArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Number of power failures.
    #[arg(long, env = "FAILURES", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub failures: u32,
    /// Seed of the data and of the moments.
    #[arg(long, env = "SEED", default_value = "1")]
    pub seed: u64,
}

/// Runs `make crash` and returns the exit status.
pub fn verb(paths: &Paths, args: &CrashArgs) -> Result<i32> {
    let (built, image) = guest::prepare(paths, || build_to_boot(paths, args.guest.variant))?;
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

/// Boots and fails the power until the count is reached or data is lost.
pub fn run(check: &Check<'_>, failures: &Failures, summary: &mut Summary) -> Result<()> {
    let nvdimms = check.paths.run_dir()?;
    let mut moments = Moments(failures.seed);
    let mut heard = String::new();
    for boot in 0..=failures.count {
        let last = boot == failures.count;
        let power = PowerSwitch::default();
        let mut options = check.options(TIMEOUT)?;
        options.nvdimms = Some(nvdimms.path().to_owned());
        options.power = power.clone();
        // A guest that is killed does not report leaks.
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
        let mut lines = GuestProtocol::new(&check.skips);
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
        // Boots after a failure would only report the same failure.
        if summary.failed > failed || (!last && outcome.end != End::PowerFailed) {
            break;
        }
        heard = workers.heard();
    }
    Ok(())
}

/// A generator of the moments at which the power fails.
struct Moments(u64);

impl Moments {
    /// Returns the delay from the time at which every worker was warm.
    fn next(&mut self) -> Duration {
        // Knuth's constants; the upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        LATEST.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// The counts that the workers have reported.
#[derive(Default)]
struct Workers {
    /// Number of workers, once they have started.
    count: Option<usize>,
    durable: BTreeMap<String, u64>,
}

impl Workers {
    /// Processes a line; returns whether it was for the host.
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

    /// Formats the counts as the next boot takes them.
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
