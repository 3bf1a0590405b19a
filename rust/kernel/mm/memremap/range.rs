// SPDX-License-Identifier: GPL-2.0

//! One range of a pgmap, and what mapping it has made.
//!
//! The fields of [`MappedRange`] are in the order of teardown: each undoes, when dropped, one step
//! of mapping. The same order serves an error half way, a failed sibling range, and the end of the
//! device.

use super::{registry::Entry, DevPagemap};
use crate::{
    error::{code::EINVAL, Result},
    mm::{
        memory_hotplug::{Memory, TrackedPfns},
        pfn::PhysRange,
    },
};

/// A range of a pgmap that is being mapped or unmapped.
///
/// # Invariants
///
/// `pgmap` has a range with this index, it is `range`, and it has `units` pages (or compound
/// pages) of its own.
#[derive(Clone, Copy)]
pub struct RangeOf<'m> {
    pgmap: &'m DevPagemap,
    index: usize,
    range: PhysRange,
    units: usize,
}

impl<'m> RangeOf<'m> {
    /// The range with this index.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that ends before it starts, or whose pages cannot be counted.
    ///
    /// # Safety
    ///
    /// The owner of the pgmap set up more than `index` ranges.
    pub(super) unsafe fn new(pgmap: &'m DevPagemap, index: usize) -> Result<Self> {
        // SAFETY: The caller's promise.
        let range = unsafe { pgmap.range_unchecked(index) }.ok_or(EINVAL)?;
        let units = pgmap.nr_units(index, range).ok_or(EINVAL)?;
        // INVARIANT: Just looked up.
        Ok(Self {
            pgmap,
            index,
            range,
            units,
        })
    }

    /// The pgmap.
    pub fn pgmap(&self) -> &'m DevPagemap {
        self.pgmap
    }

    /// Which of its ranges it is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The range.
    pub fn range(&self) -> PhysRange {
        self.range
    }
}

/// A range that is mapped. Dropping it undoes that, in the order of the fields (sleeps).
///
/// # Invariants
///
/// The fields are of one range.
pub struct MappedRange<'m> {
    _memory: Memory<'m>,
    _tracking: TrackedPfns,
    entry: Entry<'m>,
}

impl<'m> MappedRange<'m> {
    /// What all the steps for a range have made.
    ///
    /// # Safety
    ///
    /// `tracking` and `memory` were made for the range of `entry`.
    pub unsafe fn new(entry: Entry<'m>, tracking: TrackedPfns, memory: Memory<'m>) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            _memory: memory,
            _tracking: tracking,
            entry,
        }
    }

    /// How many pages (or compound pages) the range hands out.
    pub(super) fn units(&self) -> usize {
        self.entry.of().units
    }

    /// The undoing of a range that was committed.
    ///
    /// # Safety
    ///
    /// The range was committed, and this is called once for it.
    pub(super) unsafe fn reclaim(of: RangeOf<'m>) -> Self {
        // INVARIANT: All of them are of this range.
        Self {
            // SAFETY: A committed range went through all the steps, and each value was forgotten.
            _memory: unsafe { Memory::reclaim(of) },
            // SAFETY: As above.
            _tracking: unsafe { TrackedPfns::reclaim(of.range) },
            // SAFETY: As above.
            entry: unsafe { Entry::reclaim(of) },
        }
    }
}
