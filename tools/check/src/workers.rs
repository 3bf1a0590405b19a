// SPDX-License-Identifier: GPL-2.0

//! Several boots at a time.
//!
//! A guest whose tests run one after another keeps one of the host's CPUs busy
//! and leaves the others idle. So the boots of a check wait in a queue, and each
//! worker takes the next one when its last boot has ended. There are as many
//! workers as the host has CPUs and memory for, and no more than the number of
//! boots justifies.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{anyhow, bail, Result};
use fs_err as fs;

use report::summary::Summary;
use vm::running::is_interrupted;

/// Maximum number of workers; more would wait for the last boot, which cannot be
/// divided.
const MOST: usize = 4;

/// A boot that adds its results to the summary.
pub type Boot<'a> = Box<dyn FnOnce(&mut Summary) -> Result<()> + Send + 'a>;

/// Returns the number of workers that this host has room for, with guests of
/// `mib` MiB each.
pub fn available(mib: u64) -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    workers(cpus, available_mib(&meminfo), mib)
}

fn workers(cpus: usize, available_mib: u64, mib: u64) -> usize {
    let fit = usize::try_from(available_mib / mib.max(1)).unwrap_or(MOST);
    cpus.min(fit).clamp(1, MOST)
}

/// Returns the memory in MiB that is available without swapping; 0 if that is
/// unknown.
fn available_mib(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .filter_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))
        .find_map(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib / 1024)
}

/// Runs all boots, in this order, with this number of workers. After an error, or
/// when the user interrupts, waiting boots are left out, which is an error.
pub fn run(workers: usize, boots: Vec<Boot<'_>>, summary: &mut Summary) -> Result<()> {
    let queue = Mutex::new(VecDeque::from(boots));
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        match is_interrupted() {
            true => None,
            false => queue.pop_front(),
        }
    };
    let worker = || {
        let mut own = Summary::default();
        while let Some(boot) = next() {
            if let Err(e) = boot(&mut own) {
                queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return (own, Err(e));
            }
        }
        (own, Ok(()))
    };
    let ended: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|t| t.join()).collect()
    });
    let mut result = Ok(());
    for end in ended {
        match end {
            Ok((own, how)) => {
                *summary += own;
                result = result.and(how);
            }
            // The panic message is on the terminal.
            Err(_) => result = Err(anyhow!("a worker of the check panicked")),
        }
    }
    let left = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    if result.is_ok() && !left.is_empty() {
        bail!("interrupted before {} boots", left.len());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn as_many_workers_as_fit() {
        assert_eq!(workers(2, 22 * 1024, 9 * 1024), 2);
        assert_eq!(workers(2, 14 * 1024, 9 * 1024), 1);
        assert_eq!(workers(8, 1024, 9 * 1024), 1);
        assert_eq!(workers(64, 1 << 20, 9 * 1024), MOST);
        assert_eq!(
            available_mib("MemFree: 1 kB\nMemAvailable:  2097152 kB\n"),
            2048
        );
        assert_eq!(available_mib("nonsense"), 0);
    }

    #[test]
    fn every_boot_runs_once_and_is_counted() {
        let ran = AtomicUsize::new(0);
        let boots = (0..7)
            .map(|_| -> Boot<'_> {
                Box::new(|summary| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    summary.require("s", "a", None);
                    Ok(())
                })
            })
            .collect();
        let mut summary = Summary::default();
        run(3, boots, &mut summary).unwrap();
        assert_eq!(ran.into_inner(), 7);
        assert_eq!(summary.totals(), "7 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn an_error_skips_waiting_boots() {
        let boots: Vec<Boot<'_>> = vec![
            Box::new(|summary| {
                summary.require("s", "a", Some("why".into()));
                bail!("no disk")
            }),
            Box::new(|_| unreachable!()),
        ];
        let mut summary = Summary::default();
        let error = run(1, boots, &mut summary).unwrap_err();
        assert_eq!(error.to_string(), "no disk");
        assert_eq!(summary.failed, 1);
    }
}
