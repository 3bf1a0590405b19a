// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! One range of a pgmap: the values that mapping it creates, and the way back.
//!
//! The fields of [`MappedRange`] are in the order of teardown: dropping each undoes one step of
//! mapping. [`unmap`] runs the same steps in the same order for a range that was committed: its
//! values are gone. So an error half way, a failed sibling range and the end of the device undo a
//! range alike.

use crate::{
    hotplug::{self, Memory, TrackedPfns},
    registry::{self, Entry},
};
use kernel::{
    error::{code::EINVAL, Result},
    mm::{memremap::DevPagemap, pfn::PhysRange},
};

/// A range of a pgmap that is being mapped or unmapped.
///
/// # Invariants
///
/// `range` is the range of `pgmap` with this index, and it has `units` pages (or compound pages) of
/// its own.
#[derive(Clone, Copy)]
pub(crate) struct RangeOf<'m> {
    pgmap: &'m DevPagemap,
    index: usize,
    range: PhysRange,
    units: usize,
}

impl<'m> RangeOf<'m> {
    /// Reads the range of a pgmap with this index.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that ends before it starts, or has no countable pages.
    ///
    /// # Safety
    ///
    /// The owner of the pgmap must have set up more than `index` ranges.
    pub(crate) unsafe fn new(pgmap: &'m DevPagemap, index: usize) -> Result<Self> {
        // SAFETY: The caller promises that there are more than `index` ranges.
        let range = unsafe { pgmap.range_unchecked(index) }.ok_or(EINVAL)?;
        let units = pgmap.nr_units(index, range).ok_or(EINVAL)?;
        // INVARIANT: The range and the number of its pages were just read from the pgmap.
        Ok(Self {
            pgmap,
            index,
            range,
            units,
        })
    }

    /// Returns the pgmap.
    pub(crate) fn pgmap(&self) -> &'m DevPagemap {
        self.pgmap
    }

    /// Returns the index of the range in its pgmap.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Returns the physical range.
    pub(crate) fn range(&self) -> PhysRange {
        self.range
    }
}

/// A range that is mapped. Dropping it unmaps the range, in the order of the fields (sleeps).
///
/// # Invariants
///
/// The fields belong to the same range.
pub(crate) struct MappedRange<'m> {
    _memory: Memory<'m>,
    _tracking: TrackedPfns,
    entry: Entry<'m>,
}

impl<'m> MappedRange<'m> {
    /// Combines the results of all steps for a range.
    ///
    /// # Safety
    ///
    /// `tracking` and `memory` must have been created for the range of `entry`.
    pub(crate) unsafe fn new(entry: Entry<'m>, tracking: TrackedPfns, memory: Memory<'m>) -> Self {
        // INVARIANT: The caller promises that the three belong to the same range.
        Self {
            _memory: memory,
            _tracking: tracking,
            entry,
        }
    }

    /// Returns the number of pages (or compound pages) of the range that can be handed out.
    pub(crate) fn units(&self) -> usize {
        self.entry.of().units
    }
}

/// Unmaps a range that was committed. C: `pageunmap_range()`. Sleeps.
///
/// # Safety
///
/// `of` must have been mapped by all steps and committed, not unmapped since, and none of its pages
/// may be in use.
#[doc(alias = "pageunmap_range")]
pub(crate) unsafe fn unmap(of: RangeOf<'_>) {
    // SAFETY: A committed range went through all three steps, and their values were forgotten, so
    // each step still has to be undone; by the caller's promise that happens only here.
    unsafe {
        hotplug::remove_memory(&of);
        hotplug::untrack_pfns(of.range);
        registry::erase(&of);
    }
}
