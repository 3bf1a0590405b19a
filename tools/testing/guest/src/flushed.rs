// SPDX-License-Identifier: GPL-2.0

//! Which memory the kernel has flushed from the CPU caches.
//!
//! An emulated CPU has no caches that lose anything, so bytes that were never flushed are on the
//! device all the same. This looks at the flushes themselves: an event at the kernel's only function
//! that flushes persistent memory, `arch_wb_cache_pmem()`, records the address and length of each.
//! `/proc/self/pagemap` says at which physical address a mapping has its bytes.
//!
//! ```text
//!  let flushes = Flushes::start()?;
//!  map.write(at, bytes);
//!  let stored = flushes.stored(&map, at, len)?;     // at which physical addresses, and when
//!  file.sync_all()?;
//!  flushes.require(&stored, "fsync")?;              // each byte was flushed after that
//! ```

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{bail, ensure, Context, Result};

use crate::kprobe::Kprobe;
use crate::mapping::{Mapping, PAGE};
use crate::system;

/// The function that the event is at.
const FUNCTION: &str = "arch_wb_cache_pmem";
/// Where the kernel maps memory linearly, unless it chooses the address at boot.
const LINEAR: u64 = 0xffff_8880_0000_0000;

/// A running record; it ends when dropped.
pub struct Flushes {
    probe: Kprobe,
    /// Physical addresses, in the order of the flushes.
    seen: RefCell<Vec<Range<u64>>>,
}

/// Bytes that were stored through a mapping.
pub struct Stored {
    /// Offsets in the mapping, with the physical address of each part.
    parts: Vec<(usize, Range<u64>)>,
    /// The number of flushes before the stores.
    before: usize,
}

/// A point in the record: the number of flushes.
#[derive(Debug, Clone, Copy)]
pub struct Now(usize);

impl Flushes {
    pub fn start() -> Result<Self> {
        let probe = |base: &str| format!("{FUNCTION} at=%di:x64 len=%si:x64 linear={base}:x64");
        // The symbol exists if the address is chosen at boot.
        let probes = [probe("@page_offset_base"), probe(&format!("\\{LINEAR}"))];
        Ok(Self {
            probe: Kprobe::start("flush", &probes).context("an event for flushes")?,
            seen: RefCell::default(),
        })
    }

    /// Moves what was flushed since the last call from the kernel's buffer to `seen`.
    fn read(&self) -> Result<()> {
        let mut seen = self.seen.borrow_mut();
        for line in self.probe.take_text()?.lines() {
            seen.extend(parse(line)?);
        }
        Ok(())
    }

    /// Returns the places of bytes that the caller has just stored, of which all pages are mapped.
    pub fn stored(&self, map: &Mapping, at: usize, len: usize) -> Result<Stored> {
        self.stored_in(&[(map, at..at + len)])
    }

    /// Returns a point in the record: now.
    pub fn now(&self) -> Result<Now> {
        self.read()?;
        Ok(Now(self.seen.borrow().len()))
    }

    /// The same as [`stored`](Self::stored) for bytes that were never stored to before `now`. The
    /// kernel may have flushed them since of its own accord.
    pub fn stored_since(&self, now: Now, map: &Mapping, at: usize, len: usize) -> Result<Stored> {
        let mut stored = self.stored(map, at, len)?;
        stored.before = now.0;
        Ok(stored)
    }

    /// The same for bytes in several places. Reading the record is slow, so this does it once.
    pub fn stored_in(&self, places: &[(&Mapping, Range<usize>)]) -> Result<Stored> {
        self.read()?;
        let pages = File::open("/proc/self/pagemap").context("cannot open the pagemap")?;
        let mut parts = Vec::new();
        for (map, place) in places {
            let mut from = place.start;
            while from < place.end {
                let end = (from / PAGE * PAGE + PAGE).min(place.end);
                let phys = physical(&pages, map.addr() + from)?;
                parts.push((from, phys..phys + (end - from) as u64));
                from = end;
            }
        }
        let before = self.seen.borrow().len();
        Ok(Stored { parts, before })
    }

    /// Returns all that was flushed since the start, in the order of the physical addresses.
    pub fn all(&self) -> Result<Vec<Range<u64>>> {
        self.read()?;
        Ok(merged(&self.seen.borrow()))
    }

    /// Returns an error unless all stored bytes were flushed since.
    pub fn require(&self, stored: &Stored, what: &str) -> Result<()> {
        self.read()?;
        let seen = self.seen.borrow();
        let flushed = merged(&seen[stored.before..]);
        for (at, part) in &stored.parts {
            let len = (part.end - part.start) as usize;
            let got = covered(&flushed, part);
            ensure!(
                got == len,
                "{what}: {got} of {len} stored bytes at {at:#x} ({:#x}) were flushed",
                part.start
            );
        }
        Ok(())
    }
}

/// Returns the physical address of a byte of a mapping, whose page is mapped.
pub fn address(map: &Mapping, at: usize) -> Result<u64> {
    map.check(at, 1);
    let pages = File::open("/proc/self/pagemap").context("cannot open the pagemap")?;
    physical(&pages, map.addr() + at)
}

/// Returns the physical address of a byte that is mapped.
fn physical(pages: &File, addr: usize) -> Result<u64> {
    const PRESENT: u64 = 1 << 63;
    const PFN: u64 = (1 << 55) - 1;
    let mut word = [0; 8];
    pages
        .read_exact_at(&mut word, (addr / PAGE * 8) as u64)
        .context("reading the pagemap")?;
    let word = u64::from_ne_bytes(word);
    ensure!(word & PRESENT != 0, "{addr:#x} is not mapped");
    ensure!(word & PFN != 0, "the pagemap hides PFNs");
    Ok((word & PFN) * PAGE as u64 + (addr % PAGE) as u64)
}

/// Parses an event: `… flush_1: (arch_wb_cache_pmem+0x4/0x10) at=0x… len=0x… linear=0x…`.
fn parse(line: &str) -> Result<Option<Range<u64>>> {
    let Some((_, text)) = line.split_once(&format!(": ({FUNCTION}")) else {
        return Ok(None);
    };
    let value = |name: &str| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .and_then(system::parse_u64)
            .with_context(|| format!("no {name} in {line:?}"))
    };
    let (at, len, linear) = (value("at")?, value("len")?, value("linear")?);
    let Some(start) = at.checked_sub(linear) else {
        bail!("{at:#x} is not in the linear mapping, which begins at {linear:#x}");
    };
    Ok(Some(start..start + len))
}

/// Returns the ranges in order, without overlaps.
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all = ranges.to_vec();
    all.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Returns how many bytes of `part` are in one of the ranges, which are in order.
fn covered(ranges: &[Range<u64>], part: &Range<u64>) -> usize {
    let first = ranges.partition_point(|range| range.end <= part.start);
    ranges[first..]
        .iter()
        .take_while(|range| range.start < part.end)
        .map(|range| (range.end.min(part.end) - range.start.max(part.start)) as usize)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_events() {
        let line = " x-1 [000] ...1. 1.5: flush_1: (arch_wb_cache_pmem+0x4/0x10) \
                    at=0xffff888100001000 len=0x200000 linear=0xffff888000000000";
        assert_eq!(parse(line).unwrap(), Some(0x1_0000_1000..0x1_0020_1000));
        assert_eq!(parse("# tracer: nop").unwrap(), None);
    }

    #[test]
    fn counts_bytes() {
        let flushed = merged(&[8..10, 0..4, 2..6]);
        assert_eq!(flushed, [0..6, 8..10]);
        assert_eq!(covered(&flushed, &(1..9)), 6);
        assert_eq!(covered(&flushed, &(6..8)), 0);
        // One page of 512 is not all of them.
        let page = 0..4096;
        assert_eq!(covered(std::slice::from_ref(&page), &(0..512 * 4096)), 4096);
    }
}
