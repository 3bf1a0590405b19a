// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! Lookup in the registry: the way from a PFN to its pgmap.
//!
//! The registry is one XArray, indexed by pfn, with entries that span ranges.
//! `mm/memremap/registry.rs` changes it. A lookup runs in any context, interrupts off included, and
//! costs one walk of the array and one increment of a counter of this CPU:
//!
//! 1. enter an RCU read-side section;
//! 2. load the entry: the pgmap is valid memory from now on, until the section ends;
//! 3. take a live reference, or fail if the pgmap is dying;
//! 4. leave the section: the reference keeps the pgmap.
//!
//! A pgmap's entries are erased, and a grace period passes, before its count is freed. So no reader
//! is between steps 2 and 4 any more when that happens.
//!
//! This module is built with the registry in Rust only: C's array is private to `mm/memremap.c`.
//!
//! The `unsafe` code in this file encapsulates `pgmap_array` and the counts of the pgmaps in it.

use super::{DevPagemap, LiveRef};
use crate::{
    bindings,
    interrupt::LocalInterruptDisabled,
    mm::pfn::{Pfn, PfnRange, PhysRange},
    sync::rcu,
    xarray::XArray,
};
use core::ptr::{addr_of_mut, NonNull};

/// Returns the array, which a C macro initialises.
#[inline(always)]
fn pgmap_array() -> &'static XArray<DevPagemap> {
    // SAFETY: The array is a static that C initialises at compile time. Only the registry in
    // `mm/memremap` changes it, and all entries that it stores are pgmaps.
    unsafe { XArray::from_raw(addr_of_mut!(bindings::pgmap_array)) }
}

/// A pgmap in the registry, live or dying.
///
/// # Invariants
///
/// The pgmap was found in the registry within the section `'rcu`, so its count is initialised until
/// that section ends.
#[derive(Clone, Copy)]
pub struct Found<'rcu>(&'rcu DevPagemap);

impl<'rcu> Found<'rcu> {
    /// Finds the first of these PFNs that has an entry, and returns it with its pgmap. Any context.
    pub fn first_in(pfns: PfnRange, guard: &'rcu rcu::Guard) -> Option<(Pfn, Self)> {
        let (nr, pgmap) = pgmap_array().find(pfns.first().nr(), pfns.last().nr(), guard)?;
        // INVARIANT: The pgmap was found within the section.
        Some((Pfn::new(nr), Self(pgmap)))
    }

    /// Takes a live reference, unless the pgmap is dying. Any context. C:
    /// `percpu_ref_tryget_live_rcu()`.
    #[doc(alias = "percpu_ref_tryget_live_rcu")]
    #[inline]
    pub fn try_live(self, guard: &'rcu rcu::Guard) -> Option<LiveRef> {
        // SAFETY: By the type invariants the count is initialised for `'rcu`.
        if unsafe { self.0.percpu_ref() }.try_get_live(guard) {
            // SAFETY: The reference was just taken and is passed on.
            NonNull::new(self.0.as_raw()).map(|ptr| unsafe { LiveRef::from_raw(ptr) })
        } else {
            None
        }
    }

    /// Returns whether a live reference could be taken.
    #[inline]
    fn is_live(self) -> bool {
        // SAFETY: By the type invariants the count is initialised for `'rcu`.
        unsafe { self.0.percpu_ref() }.is_percpu()
    }

    /// Returns whether the pgmap is being torn down. Any context. C: `percpu_ref_is_dying()`.
    #[doc(alias = "percpu_ref_is_dying")]
    pub fn is_dying(self) -> bool {
        // SAFETY: By the type invariants the count is initialised for `'rcu`.
        unsafe { self.0.percpu_ref() }.is_dying()
    }

    /// Returns the pgmap.
    pub fn pgmap(self) -> &'rcu DevPagemap {
        self.0
    }

    /// Returns the range of the pgmap that contains `pfn`.
    ///
    /// # Safety
    ///
    /// The registry must have returned this pgmap for `pfn`.
    unsafe fn range_at(self, pfn: Pfn) -> Option<PhysRange> {
        let mapped = self.0.nr_ranges();
        (0..mapped)
            .filter_map(|index| self.0.range(index))
            .find(|range| range.pfns().contains(pfn))
            .or_else(|| {
                // The range is not among those that are mapped, so it is the one being mapped.
                // SAFETY: By the caller's promise the PFN has an entry, so a range contains it;
                // none of the first `mapped` ranges does, so the owner set up at least one more.
                unsafe { self.0.range_unchecked(mapped) }.filter(|range| range.pfns().contains(pfn))
            })
    }
}

/// Looks up the pgmap of `pfn` and takes a live reference. C: `get_dev_pagemap()`. Any context.
///
/// `cached` is returned if it covers `pfn`, and dropped if it does not. Callers outside the
/// registry use [`DevPagemap::lookup`].
#[doc(alias = "get_dev_pagemap")]
#[inline]
pub fn lookup(pfn: Pfn, cached: Option<LiveRef>) -> Option<LiveRef> {
    match cached {
        // This runs once per page table entry of a mapping, so it is nothing but a comparison.
        Some(live) if live.first_range_covers(pfn) => Some(live),
        cached => lookup_slow(pfn, cached),
    }
}

/// Looks up a PFN that the first range of the cached pgmap, if there is one, does not cover.
#[inline(never)]
fn lookup_slow(pfn: Pfn, cached: Option<LiveRef>) -> Option<LiveRef> {
    if let Some(live) = cached {
        if live.covers(pfn) {
            return Some(live);
        }
        drop(live);
    }
    // SAFETY: A lookup does not sleep.
    let guard = unsafe { rcu::read_lock() };
    find_exact(pfn, &guard)?.try_live(&guard)
}

/// Looks up the live pgmap of `pfn`, which stays mapped as long as interrupts are off.
///
/// No reference is taken: while interrupts are off this CPU is in an RCU read-side section, and
/// teardown waits for a grace period between the kill, after which `Found::is_live` is false, and
/// the completion after which it goes on. (The count of a pgmap is per CPU until it is killed. The
/// release callback cannot run before the switch to a single counter, which waits for every task
/// that may still use the per-CPU counters.) So a pgmap whose count was per CPU when it was read
/// stays mapped until interrupts are on again. Interrupts off do not delay the kill; they delay the
/// drain.
///
/// # Examples
///
/// ```
/// use kernel::{
///     c_str, interrupt,
///     mm::{
///         memremap::{
///             registry::lookup_irqs_off, MemoryType, Operations, Options, Region, Registration,
///             ZoneDevicePage,
///         },
///         pfn::Pfn,
///     },
/// };
///
/// struct Unused;
///
/// // SAFETY: `page_free` does nothing.
/// unsafe impl Operations for Unused {
///     type Data = ();
///
///     fn page_free(_data: (), _page: ZoneDevicePage<'_>) {}
/// }
///
/// let is_live = |pfn: Pfn| {
///     // SAFETY: A lookup does not sleep.
///     unsafe { interrupt::with_disabled(|irq| lookup_irqs_off(pfn, irq).is_some()) }
/// };
///
/// let region = Region::request_free(128 << 20, c_str!("doctest"))?;
/// let range = region.part(0, 2 << 20).ok_or(EINVAL)?;
/// let (first, last) = (range.pfns().first(), range.pfns().last());
/// let behind = last.checked_add(1).ok_or(EINVAL)?;
/// let mut regions = KVec::new();
/// regions.push(region, GFP_KERNEL)?;
/// assert!(!is_live(first));
///
/// let kind = MemoryType::Private;
/// let map = Registration::<Unused>::new(kind, regions, &[range], Options::default(), ())
///     .map_err(Error::from)?;
/// assert!(is_live(first) && is_live(last) && !is_live(behind));
///
/// drop(map);
/// assert!(!is_live(first) && !is_live(last));
/// # Ok::<(), Error>(())
/// ```
#[inline]
pub fn lookup_irqs_off<'irq>(
    pfn: Pfn,
    _irq: LocalInterruptDisabled<'irq>,
) -> Option<&'irq DevPagemap> {
    // SAFETY: A lookup does not sleep.
    let guard = unsafe { rcu::read_lock() };
    let found = find_exact(pfn, &guard)?;
    if !found.is_live() {
        return None;
    }
    // SAFETY: The pgmap was live, so it stays mapped, and with that valid, until interrupts are on
    // again, which is after the section ends.
    Some(unsafe { DevPagemap::from_raw(found.pgmap().as_raw()) })
}

/// Loads the entry of `pfn`.
#[inline(always)]
fn find_exact<'rcu>(pfn: Pfn, guard: &'rcu rcu::Guard) -> Option<Found<'rcu>> {
    // INVARIANT: The pgmap is found within the section, and its entry is erased before its count is
    // freed.
    pgmap_array().load(pfn.nr(), guard).map(Found)
}

/// Finds the first range with a PFN at or after `from`, and returns it with its pgmap. Any context.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::{memremap::registry::find_from, pfn::Pfn},
///     sync::rcu,
/// };
///
/// let mut ranges = 0;
/// let mut next = Some(Pfn::new(0));
/// while let Some(from) = next {
///     // SAFETY: Nothing sleeps until the guard is dropped.
///     let guard = unsafe { rcu::read_lock() };
///     let Some((range, _found)) = find_from(from, &guard) else {
///         break;
///     };
///     ranges += 1;
///     assert!(range.pfns().last() >= from);
///     next = range.pfns().last().checked_add(1);
/// }
/// pr_info!("{ranges} ranges of device memory\n");
/// ```
pub fn find_from<'rcu>(from: Pfn, guard: &'rcu rcu::Guard) -> Option<(PhysRange, Found<'rcu>)> {
    let pfns = PfnRange::new(from, Pfn::new(usize::MAX))?;
    let (pfn, found) = Found::first_in(pfns, guard)?;
    // SAFETY: The registry just returned the pgmap for this PFN.
    let range = unsafe { found.range_at(pfn) }?;
    Some((range, found))
}
