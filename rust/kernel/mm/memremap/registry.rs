// SPDX-License-Identifier: GPL-2.0

//! The registry: which pgmap has this page frame?
//!
//! One XArray, indexed by pfn, whose entries span ranges. A lookup runs in any context, interrupts
//! off included, and costs one walk of the array and one increment of a counter of this CPU:
//!
//! 1. open an RCU read-side section;
//! 2. load the entry: the pgmap is valid memory now, until the section closes;
//! 3. take a live reference, or fail if the pgmap is dying;
//! 4. close the section: the reference keeps what was found.
//!
//! # Insertion
//!
//! Whoever maps a range owns it by `request_mem_region()`. So two pgmaps cannot overlap, unless
//! a driver forgot that or got its sums wrong. Then the registry is the last line of defence:
//! [`Entry::insert`] looks at *every* frame of the range, under a lock that makes the check and the
//! insertion one step, and refuses if any has an entry, of a dying pgmap too. (C looks at the two
//! ends. A range around another passes there, and its error path erases the inner one.)
//!
//! An entry appears before its range has a memmap. That is on purpose: from the moment that the
//! memmap is linked in, `pfn_to_online_page()` relies on a lookup to tell device memory from RAM
//! in a section that has both. Nobody can have a pfn of the range from elsewhere so early: no page
//! table maps it yet.
//!
//! # Removal
//!
//! Dropping an [`Entry`] erases exactly what its insertion stored and waits for a grace period.
//! Then no reader can be at step 2 or 3 any more, and the counter may go.

use super::{range::RangeOf, DevPagemap, LiveRef};
use crate::{
    alloc::flags::GFP_KERNEL,
    bindings,
    error::{Error, Result},
    irq::LocalInterruptDisabled,
    mm::pfn::{Pfn, PhysRange},
    pr_err,
    sync::rcu,
    xarray::XArray,
};
use core::ptr::{addr_of_mut, NonNull};

/// The array itself; C defines it because its lock is initialised by a C macro.
#[inline(always)]
fn pgmaps() -> &'static XArray<DevPagemap> {
    // SAFETY: The array is a static that C initialised. Only `Entry` changes it, and keeps what
    // the type's invariant asks of its entries.
    unsafe { XArray::from_raw(addr_of_mut!(bindings::pgmap_array)) }
}

/// Held while the registry is changed.
///
/// # Invariants
///
/// `pgmap_lock` is held.
struct Lock(core::marker::PhantomData<*mut ()>);

impl Lock {
    fn new() -> Self {
        // SAFETY: A static mutex that C initialised.
        unsafe { bindings::mutex_lock(addr_of_mut!(bindings::pgmap_lock)) };
        // INVARIANT: Just taken.
        Self(core::marker::PhantomData)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is held, and by this task: the value is not `Send`.
        unsafe { bindings::mutex_unlock(addr_of_mut!(bindings::pgmap_lock)) };
    }
}

/// A pgmap as the registry shows it, dead or alive.
///
/// # Invariants
///
/// The pgmap was found in the registry inside the section `'rcu`, so its count is initialised
/// until that section closes.
#[derive(Clone, Copy)]
pub struct Found<'rcu>(&'rcu DevPagemap);

impl<'rcu> Found<'rcu> {
    /// Takes a live reference, unless the pgmap is dying.
    #[inline]
    pub fn try_live(self, guard: &'rcu rcu::Guard) -> Option<LiveRef> {
        // SAFETY: By the invariant the count is initialised for `'rcu`.
        if unsafe { self.0.percpu_ref() }.try_get_live(guard) {
            // SAFETY: The reference was just taken.
            NonNull::new(self.0.as_raw()).map(|ptr| unsafe { LiveRef::from_raw(ptr) })
        } else {
            None
        }
    }

    /// Whether a live reference could be taken.
    #[inline]
    fn is_live(self) -> bool {
        // SAFETY: By the invariant the count is initialised.
        unsafe { self.0.percpu_ref() }.is_percpu()
    }

    /// Whether it is being torn down.
    pub fn is_dying(self) -> bool {
        // SAFETY: By the invariant the count is initialised.
        unsafe { self.0.percpu_ref() }.is_dying()
    }

    /// The pgmap.
    pub fn pgmap(self) -> &'rcu DevPagemap {
        self.0
    }

    /// The range in which the registry has the frame `pfn`.
    ///
    /// # Safety
    ///
    /// This pgmap was found at that frame.
    unsafe fn range_at(self, pfn: Pfn) -> Option<PhysRange> {
        let mapped = self.0.nr_ranges();
        (0..mapped)
            .filter_map(|index| self.0.range(index))
            .find(|range| range.pfns().contains(pfn))
            .or_else(|| {
                // Not among those that are mapped, so the one that is being mapped.
                // SAFETY: By the caller's promise the frame has an entry, so a range has it; none
                // of the first `mapped` does, so there is one more.
                unsafe { self.0.range_unchecked(mapped) }.filter(|range| range.pfns().contains(pfn))
            })
    }
}

/// Looks up the pgmap of the frame `pfn`. What `get_dev_pagemap()` does; see
/// [`DevPagemap::lookup`].
#[inline]
pub fn lookup(pfn: Pfn, cached: Option<LiveRef>) -> Option<LiveRef> {
    match cached {
        // Once per page table entry of a mapping: nothing but a comparison.
        Some(live) if live.first_range_covers(pfn) => Some(live),
        cached => lookup_again(pfn, cached),
    }
}

/// The cached reference, if there is one, is not for the pgmap's first range.
#[inline(never)]
fn lookup_again(pfn: Pfn, cached: Option<LiveRef>) -> Option<LiveRef> {
    if let Some(live) = cached {
        if live.covers(pfn) {
            return Some(live);
        }
        drop(live);
    }
    let guard = rcu::read_lock();
    find_exact(pfn, &guard)?.try_live(&guard)
}

/// Looks up the live pgmap of the frame `pfn` for as long as interrupts are off.
///
/// No reference is taken: interrupts off are an RCU read-side section, and teardown waits for a
/// grace period between the kill, which [`Found::is_dying`] would show, and the completion that
/// lets it go on. (The count of a pgmap runs per CPU until it is killed; the release function
/// cannot be called before the switch to one counter, and that waits for every reader of the mode.)
/// So what was not dying when it was read stays mapped until interrupts are on again.
#[inline]
pub fn lookup_irqs_off<'irq>(
    pfn: Pfn,
    _irq: LocalInterruptDisabled<'irq>,
) -> Option<&'irq DevPagemap> {
    let guard = rcu::read_lock();
    let found = find_exact(pfn, &guard)?;
    if !found.is_live() {
        return None;
    }
    // SAFETY: It stays valid until interrupts are on, as said above: longer than the section.
    Some(unsafe { DevPagemap::from_raw(found.pgmap().as_raw()) })
}

#[inline(always)]
fn find_exact<'rcu>(pfn: Pfn, guard: &'rcu rcu::Guard) -> Option<Found<'rcu>> {
    // INVARIANT: Found inside the section; the entry goes before the count does.
    pgmaps().load(pfn.nr(), guard).map(Found)
}

/// The first range that has a frame at or after `from`, with its pgmap.
pub fn find_from<'rcu>(from: Pfn, guard: &'rcu rcu::Guard) -> Option<(PhysRange, Found<'rcu>)> {
    let (nr, pgmap) = pgmaps().find(from.nr(), usize::MAX, guard)?;
    // INVARIANT: As in `find_exact`.
    let found = Found(pgmap);
    // SAFETY: Just found there.
    let range = unsafe { found.range_at(Pfn::new(nr)) }?;
    Some((range, found))
}

/// Whether a frame of this range belongs to a pgmap that is being torn down. Any context.
pub fn is_dying_in(range: PhysRange) -> bool {
    let last = range.pfns().last();
    let mut next = Some(range.pfns().first());
    while let Some(from) = next {
        let guard = rcu::read_lock();
        match find_from(from, &guard) {
            Some((other, _)) if other.pfns().first() > last => return false,
            Some((_, found)) if found.is_dying() => return true,
            Some((other, _)) => next = other.pfns().last().checked_add(1),
            None => return false,
        }
    }
    false
}

/// Puts one pgmap in the place of another, whose ranges it has. Sleeps. Who has found the other
/// may still look at it.
///
/// # Errors
///
/// `ENOMEM`; then the other is there again. It cannot be: what is stored has the shape of what was
/// there.
///
/// # Safety
///
/// All ranges of `old` are committed. `new` stays valid until they are erased, or this has failed, and
/// a grace period has passed; its count is initialised.
pub(super) unsafe fn replace(old: &DevPagemap, new: &DevPagemap) -> Result {
    let store = |pgmap: &DevPagemap| {
        old.ranges().try_for_each(|range| {
            let pfns = range.pfns();
            let (first, last) = (pfns.first().nr(), pfns.last().nr());
            // SAFETY: The caller's promise; the pgmap that was there stays valid as well.
            unsafe { pgmaps().store_range(first, last, pgmap.into(), GFP_KERNEL) }
        })
    };
    let _lock = Lock::new();
    store(new).inspect_err(|_| {
        if store(old).is_err() {
            crate::warn!("memremap: an entry could not be put back");
        }
    })
}

/// Why a range was not inserted.
pub enum InsertError {
    /// A frame of the range belongs to a pgmap already.
    Conflict,
    /// A frame of the range belongs to a pgmap that is being torn down.
    Dying,
    /// The array could not be extended.
    Store(Error),
}

/// A range's entry in the registry. Dropping it erases the entry and waits for a grace period
/// (sleeps).
///
/// # Invariants
///
/// Every frame of the range has an entry for its pgmap, this value alone is responsible for them,
/// and the count of the pgmap is initialised.
pub struct Entry<'m>(RangeOf<'m>);

impl<'m> Entry<'m> {
    /// Inserts a range of a pgmap that is being mapped. Sleeps.
    ///
    /// # Safety
    ///
    /// The entry is dropped before the pgmap is unmapped, or is part of a range that is committed.
    ///
    /// # Errors
    ///
    /// [`InsertError`]; then the registry is as it was.
    pub unsafe fn insert(of: RangeOf<'m>) -> Result<Self, InsertError> {
        let (pgmap, range) = (of.pgmap(), of.range());
        let pfns = range.pfns();
        let (first, last) = (pfns.first().nr(), pfns.last().nr());

        let lock = Lock::new();
        {
            let guard = rcu::read_lock();
            if let Some((at, other)) = pgmaps().find(first, last, &guard) {
                // INVARIANT: As in `find_exact`.
                let is_dying = Found(other).is_dying();
                pr_err!(
                    "memremap: {:?} overlaps a {} range that {} pfn {:#x}\n",
                    range,
                    other.memory_type().map_or("foreign", |kind| kind.name()),
                    if is_dying {
                        "is unmapped and has"
                    } else {
                        "has"
                    },
                    at
                );
                return Err(if is_dying {
                    InsertError::Dying
                } else {
                    InsertError::Conflict
                });
            }
        }
        // SAFETY: A pgmap that is being mapped stays valid until it is unmapped. By the caller's
        // promise this entry is dropped before, which erases it and waits for a grace period.
        let stored = unsafe { pgmaps().store_range(first, last, pgmap.into(), GFP_KERNEL) };
        drop(lock);

        // INVARIANT: All frames have an entry, or, if that failed, some; none had one before. The
        // count was initialised when the mapping started.
        let entry = Self(of);
        match stored {
            Ok(()) => Ok(entry),
            // Dropping `entry` erases the part that was stored.
            Err(error) => Err(InsertError::Store(error)),
        }
    }

    /// The entry of a range that was committed.
    ///
    /// # Safety
    ///
    /// The entry of `of` was inserted, its value forgotten, and this is called once for it.
    pub(super) unsafe fn reclaim(of: RangeOf<'m>) -> Self {
        // INVARIANT: The caller's promise.
        Self(of)
    }

    /// What it is the entry of.
    pub fn of(&self) -> RangeOf<'m> {
        self.0
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let range = self.0.range();
        let pfns = range.pfns();
        let erased = {
            let _lock = Lock::new();
            pgmaps().erase_range(pfns.first().nr(), pfns.last().nr())
        };
        if erased.is_err() {
            // Cannot be: the range is erased in the pieces in which it was stored.
            crate::warn!("memremap: {:?} could not be erased", range);
        }
        // Whoever found the entry may be about to look at the count.
        rcu::synchronize();
    }
}
