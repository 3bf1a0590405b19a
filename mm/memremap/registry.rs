// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! Changes of the registry: inserting the range of a pgmap, replacing a pgmap, erasing a range.
//!
//! The registry is one XArray, indexed by pfn, with entries that span ranges. Lookup, which GUP
//! inlines, is in `rust/kernel/mm/memremap/registry.rs`.
//!
//! # Insertion
//!
//! A driver that maps a range owns it by `request_mem_region()`. So two pgmaps overlap only if a
//! driver did not reserve its range, or computed it wrong. Then the registry is the last line of
//! defence: [`Entry::insert`] checks *every* PFN of the range, under a lock that makes the check
//! and the insertion one step, and refuses the range if any PFN has an entry, also one of a dying
//! pgmap. (C checks the two ends. A range around another one passes there, and its error path
//! erases the inner one.)
//!
//! An entry is inserted before its range has a memmap. That is intended: as soon as the memmap is
//! linked in, `pfn_to_online_page()` relies on a lookup to tell device memory from RAM in a section
//! that contains both. At that time no code can have got a PFN of the range elsewhere, because no
//! page table maps it yet.
//!
//! # Lookups of dying pgmaps
//!
//! `get_dev_pagemap()` finds live pgmaps only, and a pgmap may be dying for hours. Its PFNs are
//! still no RAM ([`contains`], which `pfn_to_online_page()` asks), and its memory is still in use
//! ([`is_dying_in`], which `request_mem_region()` asks). So no driver can claim the range of a
//! [detached](crate::detach) teardown, in whichever mode, although the driver that mapped it has
//! released its own claim.
//!
//! # Removal
//!
//! [`erase`] erases exactly what the insertion stored and waits for a grace period. After that no
//! reader can hold a pgmap that it found by the entry without a live reference, and the count may
//! be freed.
//!
//! The `unsafe` code in this file encapsulates `pgmap_array` and `pgmap_lock`.

use crate::range::RangeOf;
use core::{marker::PhantomData, ptr::addr_of_mut};
use kernel::{
    alloc::flags::GFP_KERNEL,
    bindings,
    error::{Error, Result},
    mm::{
        memremap::{
            registry::{find_from, Found},
            DevPagemap,
        },
        pfn::{Pfn, PfnRange, PhysRange},
    },
    sync::rcu,
    xarray::XArray,
};

/// The right to change the registry.
///
/// # Invariants
///
/// The current task holds `pgmap_lock`.
struct Writer(PhantomData<*mut ()>);

impl Writer {
    /// Takes `pgmap_lock`. Sleeps.
    fn lock() -> Self {
        // SAFETY: The lock is a static mutex that C initialises at compile time.
        unsafe { bindings::mutex_lock(addr_of_mut!(bindings::pgmap_lock)) };
        // INVARIANT: The lock was just taken.
        Self(PhantomData)
    }

    /// Returns the array.
    fn array(&self) -> &XArray<DevPagemap> {
        // SAFETY: The array is a static that C initialises at compile time, and all its entries are
        // pgmaps: only the functions of this file store any.
        unsafe { XArray::from_raw(addr_of_mut!(bindings::pgmap_array)) }
    }

    /// Stores `pgmap` for each of these PFNs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; some of the PFNs may have the entry then.
    ///
    /// # Safety
    ///
    /// `pgmap` must stay valid, and its count initialised, until these entries are erased or
    /// replaced and a grace period has passed.
    unsafe fn store(&self, pfns: PfnRange, pgmap: &DevPagemap) -> Result {
        let (first, last) = (pfns.first().nr(), pfns.last().nr());
        // SAFETY: The caller promises that the entry stays valid as long as a reader can find it.
        unsafe {
            self.array()
                .store_range(first, last, pgmap.into(), GFP_KERNEL)
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held, and by this task, since the value is not
        // `Send`.
        unsafe { bindings::mutex_unlock(addr_of_mut!(bindings::pgmap_lock)) };
    }
}

/// The reason why a range was not inserted.
pub(crate) enum InsertError {
    /// This PFN of the range belongs to a live pgmap.
    Conflict(Pfn),
    /// This PFN of the range belongs to a pgmap that is being torn down.
    Dying(Pfn),
    /// The array could not be extended.
    Store(Error),
}

/// The entry of a range in the registry. Dropping it erases the entry and waits for a grace period
/// (sleeps).
///
/// # Invariants
///
/// Every PFN of the range has an entry for its pgmap, only this value may erase these entries, and
/// the count of the pgmap is initialised.
pub(crate) struct Entry<'m>(RangeOf<'m>);

impl<'m> Entry<'m> {
    /// Inserts a range of a pgmap that is being mapped. Sleeps.
    ///
    /// # Errors
    ///
    /// [`InsertError`]; the registry is unchanged then.
    ///
    /// # Safety
    ///
    /// The pgmap must stay valid and its count initialised until the entry is dropped or, if it is
    /// forgotten, [erased](erase).
    pub(crate) unsafe fn insert(of: RangeOf<'m>) -> Result<Self, InsertError> {
        let (pgmap, range) = (of.pgmap(), of.range());
        let pfns = range.pfns();

        let writer = Writer::lock();
        {
            // SAFETY: A lookup does not sleep.
            let guard = unsafe { rcu::read_lock() };
            let first = Found::first_in(pfns, &guard);
            if let Some((at, other)) = first {
                return Err(if other.is_dying() {
                    InsertError::Dying(at)
                } else {
                    InsertError::Conflict(at)
                });
            }
        }
        // SAFETY: The caller promises that the pgmap and its count stay until the entry is erased;
        // erasing waits for a grace period.
        let stored = unsafe { writer.store(pfns, pgmap) };
        drop(writer);

        // INVARIANT: All PFNs have an entry or, if that failed, some; none had one before. The
        // count was initialised when the mapping was started.
        let entry = Self(of);
        match stored {
            Ok(()) => Ok(entry),
            // Dropping `entry` erases the part that was stored.
            Err(error) => Err(InsertError::Store(error)),
        }
    }

    /// Returns the range that the entry is for.
    pub(crate) fn of(&self) -> RangeOf<'m> {
        self.0
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the entries are there and only this value may erase them.
        unsafe { erase(&self.0) };
    }
}

/// Erases the entry of a range and waits for a grace period. C: `pgmap_array_delete()`. Sleeps.
///
/// # Safety
///
/// The range must have an [`Entry`] in the registry that was forgotten or is being dropped, and
/// must not be erased again for it.
#[doc(alias = "pgmap_array_delete")]
pub(crate) unsafe fn erase(of: &RangeOf<'_>) {
    let range = of.range();
    let pfns = range.pfns();
    let erased = Writer::lock()
        .array()
        .erase_range(pfns.first().nr(), pfns.last().nr());
    if erased.is_err() {
        // Erasing needs no memory if the range is erased in the pieces in which it was stored.
        kernel::warn!("memremap: {:?} could not be erased", range);
    }
    // A reader that found the entry may be about to read the count.
    rcu::synchronize_rcu();
}

/// Replaces one pgmap by another with the same ranges. Sleeps. A reader that found the old one may
/// still use it until a grace period has passed.
///
/// # Errors
///
/// `ENOMEM`; the old pgmap is restored then. This does not happen, because what is stored has the
/// shape of what was there.
///
/// # Safety
///
/// All ranges of `old` must be committed. `new` must stay valid, with an initialised count, until
/// its ranges are erased, or this has failed, and a grace period has passed.
pub(crate) unsafe fn replace(old: &DevPagemap, new: &DevPagemap) -> Result {
    let writer = Writer::lock();
    let store = |pgmap: &DevPagemap| {
        old.ranges().try_for_each(|range| {
            // SAFETY: The caller promises that `new` stays valid, and `old` is valid as long as its
            // ranges are committed.
            unsafe { writer.store(range.pfns(), pgmap) }
        })
    };
    store(new).inspect_err(|_| {
        if store(old).is_err() {
            kernel::warn!("memremap: an entry could not be put back");
        }
    })
}

/// Returns whether `pfn` belongs to a pgmap, live or dying. Any context.
pub(crate) fn contains(pfn: Pfn) -> bool {
    // SAFETY: A lookup does not sleep.
    let guard = unsafe { rcu::read_lock() };
    PfnRange::new(pfn, pfn).is_some_and(|pfns| Found::first_in(pfns, &guard).is_some())
}

/// Returns whether a PFN of this range belongs to a pgmap that is being torn down. Any context.
pub(crate) fn is_dying_in(range: PhysRange) -> bool {
    let last = range.pfns().last();
    let mut next = Some(range.pfns().first());
    while let Some(from) = next {
        // SAFETY: A lookup does not sleep.
        let guard = unsafe { rcu::read_lock() };
        match find_from(from, &guard) {
            Some((other, _)) if other.pfns().first() > last => return false,
            Some((_, found)) if found.is_dying() => return true,
            Some((other, _)) => next = other.pfns().last().checked_add(1),
            None => return false,
        }
    }
    false
}
