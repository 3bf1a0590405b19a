// SPDX-License-Identifier: GPL-2.0

//! Pgmaps to test with.

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

/// 2 MiB: the smallest range that can be mapped.
pub(crate) const UNIT: u64 = 2 << 20;

/// Counts the pages that came back.
pub(crate) struct Freed(AtomicUsize);

impl Freed {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self(AtomicUsize::new(0)), GFP_KERNEL)?)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Counting;

impl Operations for Counting {
    type Data = Arc<Freed>;

    fn page_free(freed: ArcBorrow<'_, Freed>, _page: ZoneDevicePage<'_>) {
        freed.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) type TestMap = Registration<Counting>;

/// A stretch of physical addresses with nothing behind it, 128 MiB long.
pub(crate) fn region() -> Result<Region> {
    Region::request_free(1, c_str!("memremap_kunit"))
}

/// A range of `units` times 2 MiB, `offset` times 2 MiB into the region.
pub(crate) fn part(region: &Region, offset: u64, units: u64) -> Result<PhysRange> {
    region.part(offset * UNIT, units * UNIT).ok_or(EINVAL)
}

pub(crate) fn register(kind: MemoryType, region: Region, ranges: &[PhysRange]) -> Result<TestMap> {
    try_register(kind, region, ranges).map_err(Error::from)
}

pub(crate) fn try_register(
    kind: MemoryType,
    region: Region,
    ranges: &[PhysRange],
) -> Result<TestMap, RegisterError<Arc<Freed>>> {
    try_register_with(kind, region, ranges, Options::default())
}

pub(crate) fn try_register_with(
    kind: MemoryType,
    region: Region,
    ranges: &[PhysRange],
    options: Options,
) -> Result<TestMap, RegisterError<Arc<Freed>>> {
    let mut regions = KVec::new();
    // A test without memory fails at the next step, with an empty list.
    let _ = regions.push(region, GFP_KERNEL);
    match Freed::new() {
        Ok(data) => TestMap::new(kind, regions, ranges, options, data),
        Err(_) => unreachable_without_memory(),
    }
}

fn unreachable_without_memory() -> ! {
    panic!("no memory for a test")
}

/// A second claim to a range that somebody has, which only a test may make.
pub(crate) fn claim_again(range: PhysRange) -> Region {
    // SAFETY: There is no memory behind the range, and the registry is expected to refuse it.
    unsafe { Region::assume_owned(range) }
}

/// The frame behind the last one of a range.
pub(crate) fn pfn_after(range: PhysRange) -> Pfn {
    Pfn::new(range.pfns().last().nr().wrapping_add(1))
}

/// The frame in front of the first one of a range.
pub(crate) fn pfn_before(range: PhysRange) -> Pfn {
    Pfn::new(range.pfns().first().nr().wrapping_sub(1))
}
