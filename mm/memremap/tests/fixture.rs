// SPDX-License-Identifier: GPL-2.0

//! Pgmaps for the tests.
//!
//! The `unsafe` code in this file encapsulates the claim to a range that another pgmap has.

use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::{
    c_str,
    mm::{
        memremap::{
            MemoryType, Operations, Options, Region, RegisterError, Registration, ZoneDevicePage,
        },
        pfn::{Pfn, PhysRange},
    },
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// The size of the smallest range that can be mapped: 2 MiB.
pub(crate) const UNIT: u64 = 2 << 20;

/// The number of pages that were freed.
pub(crate) struct Freed(AtomicUsize);

impl Freed {
    /// Creates a count of 0.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self(AtomicUsize::new(0)), GFP_KERNEL)?)
    }

    /// Returns the number.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Operations that count freed pages.
pub(crate) struct Counting;

// SAFETY: `page_free` only adds to a counter.
unsafe impl Operations for Counting {
    type Data = Arc<Freed>;

    fn page_free(freed: ArcBorrow<'_, Freed>, _page: ZoneDevicePage<'_>) {
        freed.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A pgmap that counts its freed pages.
pub(crate) type TestMap = Registration<Counting>;

/// Reserves 128 MiB of physical addresses with nothing behind them. Sleeps.
pub(crate) fn region_without_memory() -> Result<Region> {
    Region::request_free(1, c_str!("memremap_kunit"))
}

/// Reserves 128 MiB of physical addresses, and takes them for memory of any type. Sleeps.
pub(crate) fn region() -> Result<Region> {
    let region = region_without_memory()?;
    // SAFETY: The tests never access what the pages describe, and map them for no task. The addresses
    // lie beyond all memory and devices of a virtual machine, where even a speculative read does
    // nothing.
    Ok(unsafe { region.assume_memory() })
}

/// Returns the range of `units` times 2 MiB that begins `offset` times 2 MiB into the region.
pub(crate) fn part(region: &Region, offset: u64, units: u64) -> Result<PhysRange> {
    region.part(offset * UNIT, units * UNIT).ok_or(EINVAL)
}

/// Maps ranges of a region. Sleeps.
pub(crate) fn register(kind: MemoryType, region: Region, ranges: &[PhysRange]) -> Result<TestMap> {
    try_register(kind, region, ranges).map_err(Error::from)
}

/// Maps ranges of a region, and returns the arguments if that fails. Sleeps.
pub(crate) fn try_register(
    kind: MemoryType,
    region: Region,
    ranges: &[PhysRange],
) -> Result<TestMap, RegisterError<Arc<Freed>>> {
    try_register_with(kind, region, ranges, Options::default())
}

/// Maps ranges of a region with options, and returns the arguments if that fails. Sleeps.
pub(crate) fn try_register_with(
    kind: MemoryType,
    region: Region,
    ranges: &[PhysRange],
    options: Options,
) -> Result<TestMap, RegisterError<Arc<Freed>>> {
    let mut regions = KVec::new();
    // Without memory the list is empty, and the registration fails.
    let _ = regions.push(region, GFP_KERNEL);
    match Freed::new() {
        Ok(data) => TestMap::new(kind, regions, ranges, options, data),
        Err(_) => unreachable_without_memory(),
    }
}

/// Panics, because a test has no memory.
fn unreachable_without_memory() -> ! {
    panic!("no memory for a test")
}

/// Creates a second claim to a range that another region has, which only a test may do.
pub(crate) fn claim_again(range: PhysRange) -> Region {
    // SAFETY: There is no memory behind the range, so no access conflicts, and the registry is
    // expected to refuse a second mapping.
    unsafe { Region::assume_owned(range) }
}

/// Returns the PFN behind the last one of a range.
pub(crate) fn pfn_after(range: PhysRange) -> Pfn {
    Pfn::new(range.pfns().last().nr().wrapping_add(1))
}

/// Returns the PFN before the first one of a range.
pub(crate) fn pfn_before(range: PhysRange) -> Pfn {
    Pfn::new(range.pfns().first().nr().wrapping_sub(1))
}
