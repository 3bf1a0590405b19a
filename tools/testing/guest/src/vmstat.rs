// SPDX-License-Identifier: GPL-2.0

//! The kernel's vmstat counters: pins and memmap pages in `/proc/vmstat`.
//!
//! The counters are kept per CPU and folded from time to time, so a
//! difference is exact only after a fold; [`settled`] requests one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{bail, Context, Result};

/// One reading of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages that pin_user_pages() has taken since boot.
    pub acquired: u64,
    /// Pages that unpin_user_page() and related functions have released since
    /// boot.
    pub released: u64,
    /// Pages that hold memmap outside the boot allocation.
    pub memmap: u64,
}

impl Counters {
    /// Returns the number of pinned pages. Transiently negative while the
    /// counters are not folded.
    pub fn pinned(&self) -> i64 {
        self.acquired as i64 - self.released as i64
    }

    fn parse(text: &str) -> Result<Self> {
        let all: HashMap<&str, u64> = text
            .lines()
            .filter_map(|l| l.split_once(' '))
            .filter_map(|(k, v)| Some((k, v.trim().parse().ok()?)))
            .collect();
        let need = |name: &str| {
            all.get(name)
                .copied()
                .with_context(|| format!("/proc/vmstat has no {name}"))
        };
        Ok(Self {
            acquired: need("nr_foll_pin_acquired")?,
            released: need("nr_foll_pin_released")?,
            memmap: need("nr_memmap_pages")?,
        })
    }

    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
        Self::parse(&text)
    }
}

/// Reads the counters after every CPU has folded its share.
pub fn settled() -> Result<Counters> {
    std::fs::read("/proc/sys/vm/stat_refresh").context("cannot read /proc/sys/vm/stat_refresh")?;
    Counters::read()
}

/// Waits until no page is pinned: acquired equals released. Fails after a few
/// seconds, because a pin that outlives its user is a leak.
pub fn require_unpinned(what: &str) -> Result<Counters> {
    let mut last = settled()?;
    for _ in 0..50 {
        if last.pinned() == 0 {
            return Ok(last);
        }
        thread::sleep(Duration::from_millis(100));
        last = settled()?;
    }
    bail!(
        "{} pages are still pinned after {what}: nr_foll_pin_acquired {} nr_foll_pin_released {}",
        last.pinned(),
        last.acquired,
        last.released
    )
}

/// A thread that samples the number of pinned pages.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts to count from the current number of pins.
    pub fn start() -> Result<Self> {
        let base = settled()?.pinned();
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let (s, p) = (stop.clone(), peak.clone());
        let thread = thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                if let Ok(now) = Counters::read() {
                    let pinned = (now.pinned() - base).max(0) as u64;
                    p.fetch_max(pinned, Ordering::Relaxed);
                }
                thread::yield_now();
            }
        });
        Ok(Self {
            stop,
            peak,
            thread: Some(thread),
        })
    }

    /// Stops and returns the peak.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.peak.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread returns nothing and does not panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_needs() -> Result<()> {
        let c = Counters::parse(
            "nr_free_pages 12\nnr_foll_pin_acquired 700\nnr_foll_pin_released 188\nnr_memmap_pages 3\n",
        )?;
        assert_eq!((c.pinned(), c.memmap), (512, 3));
        Ok(())
    }

    #[test]
    fn a_missing_counter_is_named() {
        let text = match Counters::parse("nr_foll_pin_acquired 1\n") {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        };
        assert!(text.contains("nr_foll_pin_released"), "{text}");
    }
}
