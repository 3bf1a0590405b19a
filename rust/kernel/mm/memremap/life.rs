// SPDX-License-Identifier: GPL-2.0

//! The states of a pgmap, one type each.
//!
//! A transition consumes the old state and returns the new one, so that what C asks for by
//! convention cannot be got wrong: nothing is mapped twice, the bulk references are put once and
//! after the kill, and the counter is freed after the last entry has left the registry and a grace
//! period has passed.
//!
//! ```text
//!  Unmapped --start--> Mapping --finish--> Live --kill--> Dying --drain--> Drained
//!      ^ ^                +--------abort-----------------^                  |  | wait_idle
//!      | +-------------------------abandon----------------------------------+  |
//!      +--------------------------------unmap------------------------------- Idle
//! ```
//!
//! | state | count | registry | memmap |
//! |---|---|---|---|
//! | [`Unmapped`] | not initialised | nothing | none |
//! | [`Mapping`] | live | the ranges so far | the ranges so far |
//! | [`Live`] | live, plus the bulk references | all ranges | all ranges |
//! | [`Dying`] | dead: no new reference | all ranges | all ranges |
//! | [`Drained`] | dead and 0 | all ranges | all ranges, no walker looks at it |
//! | [`Idle`] | dead and 0 | all ranges | all ranges, nobody has a page |
//!
//! Between [`Drained`] and [`Idle`] teardown waits until the last page was given back (`idle.rs`):
//! after the walkers are gone no pin can be added, and before the first range goes every
//! `struct page` is still there to be looked at. 6.12 does not wait in C, and who puts a page later
//! writes to memory that is not there any more.
//!
//! C has the pgmap in a structure of its own between the calls, so [`Live`] goes to C as a bare
//! pointer, [`Live::into_raw`], and comes back as [`Live::from_raw`].

mod abandon;
mod managed_key;

use super::{
    idle,
    range::{MappedRange, RangeOf},
    DevPagemap, MemoryType,
};
use crate::{
    bindings,
    device::Device,
    error::Result,
    init::PinInit,
    mm::pfn::PhysRange,
    sync::{completion::Completion, percpu_ref::PercpuRef},
};
use core::{
    ffi::c_void,
    mem::ManuallyDrop,
    ptr::{addr_of_mut, NonNull},
};

/// A pgmap that nothing was done to yet, or everything was undone.
///
/// # Invariants
///
/// The pointer is to a pgmap as [`DevPagemap`]'s invariant says, of which this value alone may
/// change the state; its count is not initialised and no range of it is mapped.
pub struct Unmapped(NonNull<bindings::dev_pagemap>);

impl Unmapped {
    /// The pgmap that a driver has set up at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says, and stays valid while it is mapped.
    pub unsafe fn from_raw(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr)
    }

    /// The pgmap.
    pub fn pgmap(&self) -> &DevPagemap {
        // SAFETY: Valid, by the invariant.
        unsafe { DevPagemap::from_raw(self.0.as_ptr()) }
    }

    /// The number of ranges that are to be mapped.
    pub fn nr_ranges(&self) -> usize {
        self.pgmap().nr_ranges()
    }

    /// Brings the count to life. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then the pgmap is as it was.
    pub fn start(self) -> Result<Mapping> {
        let ptr = self.0.as_ptr();
        let wanted = self.nr_ranges();

        // SAFETY: The field lies in the pgmap, nobody uses it yet, and it does not move.
        let Ok(()) = unsafe {
            PinInit::<Completion, core::convert::Infallible>::__pinned_init(
                Completion::new(),
                addr_of_mut!((*ptr).done).cast(),
            )
        };
        // SAFETY: As above; `release` fits a count that lies in a pgmap.
        unsafe { PercpuRef::init(addr_of_mut!((*ptr).ref_), release)? };
        managed_key::get(self.pgmap());

        // The memmap code looks here for the range that is in progress, and teardown for the
        // number of ranges that there are to undo.
        // SAFETY: The field lies in the pgmap.
        unsafe { addr_of_mut!((*ptr).nr_range).write_volatile(0) };

        // INVARIANT: The count is live; no range is mapped; there are `wanted` ranges.
        Ok(Mapping {
            ptr: self.0,
            wanted,
        })
    }
}

/// Called when the last reference of a killed count is put. Any context.
///
/// # Safety
///
/// `count` lies in a pgmap that is mapped.
unsafe extern "C" fn release(count: *mut bindings::percpu_ref) {
    // SAFETY: The count is the field of a pgmap.
    let pgmap = unsafe { crate::container_of!(count, bindings::dev_pagemap, ref_) }.cast_mut();
    // SAFETY: The completion was initialised before the count.
    unsafe { Completion::from_raw(addr_of_mut!((*pgmap).done)) }.complete();
}

/// A pgmap that is being mapped, range by range.
///
/// # Invariants
///
/// This value alone may change the state of the pgmap. Its count is live. It has `wanted`
/// ranges, of which the first `nr_range` are mapped, with their bulk references taken.
#[must_use = "a state that is dropped leaks the pgmap"]
pub struct Mapping {
    ptr: NonNull<bindings::dev_pagemap>,
    wanted: usize,
}

impl Mapping {
    /// The pgmap.
    pub fn pgmap(&self) -> &DevPagemap {
        // SAFETY: Valid, by the invariant.
        unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) }
    }

    /// The range that comes next, if one is left.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that ends before it starts, or whose pages cannot be counted.
    pub fn next_range(&self) -> Option<Result<RangeOf<'_>>> {
        let index = self.pgmap().nr_ranges();
        (index < self.wanted).then(|| {
            // SAFETY: By the invariant there are `wanted` ranges.
            unsafe { RangeOf::new(self.pgmap(), index) }
        })
    }

    /// Keeps a range that was mapped, and takes its bulk references.
    ///
    /// # Safety
    ///
    /// It is the range that [`Self::next_range`] has now.
    pub unsafe fn commit(&self, mapped: MappedRange<'_>) {
        let units = mapped.units();
        // The undoing is `Drained::unmap`'s from now on.
        let _ = ManuallyDrop::new(mapped);
        let pgmap = self.pgmap();
        if !counts_pages(pgmap) {
            // SAFETY: The count is live, by the invariant.
            unsafe { pgmap.percpu_ref() }.get_many(units);
        }
        // INVARIANT: One more range is mapped and has its references: the next, by the caller's
        // promise.
        // SAFETY: The field lies in the pgmap; only this value changes it.
        unsafe {
            let nr_range = addr_of_mut!((*self.ptr.as_ptr()).nr_range);
            nr_range.write_volatile(nr_range.read().wrapping_add(1));
        }
    }

    /// All ranges are mapped; those that are not, if there are any, do not become part of it.
    pub fn finish(self) -> Live {
        // INVARIANT: As many ranges as `nr_range` says are mapped and have their references, and
        // those are all that there are from here on; the rest carries over.
        Live(self.ptr)
    }

    /// A range could not be mapped: the way back goes through the same states as teardown.
    pub fn abort(self) -> Dying {
        let wanted = self.wanted;
        Dying {
            restore: Some(wanted),
            ..self.finish().kill()
        }
    }
}

/// Whether every allocated page takes a reference for itself, so that there are no bulk ones.
pub(super) fn counts_pages(pgmap: &DevPagemap) -> bool {
    pgmap
        .memory_type()
        .is_some_and(MemoryType::pages_are_allocated)
}

/// A pgmap that is mapped and can be looked up.
///
/// # Invariants
///
/// This value alone may change the state of the pgmap. Its count is live, all ranges are mapped
/// and have their bulk references.
#[must_use = "a state that is dropped leaks the pgmap"]
pub struct Live(NonNull<bindings::dev_pagemap>);

impl Live {
    /// Takes a pgmap back that C code had.
    ///
    /// # Safety
    ///
    /// It came from [`into_raw`](Self::into_raw), and this is called once for it.
    pub unsafe fn from_raw(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr)
    }

    /// Leaves the pgmap to C code, which has to bring it back by its address.
    pub fn into_raw(self) -> NonNull<bindings::dev_pagemap> {
        self.0
    }

    /// The pgmap.
    pub fn pgmap(&self) -> &DevPagemap {
        // SAFETY: Valid, by the invariant.
        unsafe { DevPagemap::from_raw(self.0.as_ptr()) }
    }

    /// Where the linear mapping has the first range. C: `__va()`.
    pub fn address(&self) -> *mut c_void {
        let start = self.pgmap().range(0).map_or(0, PhysRange::start);
        // SAFETY: Arithmetic only.
        unsafe { bindings::__va(start) }
    }

    /// Leaves the pgmap to a device: it is unmapped when the device's driver is unbound. C:
    /// `devm_add_action_or_reset()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then the pgmap was unmapped.
    #[doc(alias = "devm_add_action_or_reset")]
    pub fn leave_to(self, dev: &Device) -> Result {
        let ptr = self.into_raw();
        // SAFETY: A valid device; `unmap_action` takes what is handed to it here, once.
        let added = unsafe {
            bindings::__devm_add_action(
                dev.as_raw(),
                Some(unmap_action),
                ptr.as_ptr().cast(),
                c"devm_memremap_pages_release".as_ptr().cast(),
            )
        };
        crate::error::to_result(added).inspect_err(|_| {
            // SAFETY: The pgmap just came from `into_raw`, and was not taken over.
            unsafe { Self::from_raw(ptr) }.unmap();
        })
    }

    /// Unmaps, now, a pgmap that was left to a device. C: `devm_release_action()`. Sleeps.
    ///
    /// # Safety
    ///
    /// The pgmap at `ptr` was [left](Self::leave_to) to `dev` and not released since.
    #[doc(alias = "devm_release_action")]
    pub unsafe fn release_from(dev: &Device, ptr: NonNull<bindings::dev_pagemap>) {
        // SAFETY: A valid device, and by the caller's promise one that has this action.
        unsafe {
            bindings::devm_release_action(dev.as_raw(), Some(unmap_action), ptr.as_ptr().cast())
        };
    }

    /// Unmaps it: all the states to the end. Sleeps, for as long as somebody has a page; if the
    /// task is killed, the rest is done later.
    pub fn unmap(self) -> Unmapped {
        match self.kill().drain().wait_killable() {
            Ok(idle) => idle.unmap(),
            Err(drained) => drained.abandon(),
        }
    }

    /// Ends the time in which it can be looked up. From here on a lookup finds nothing, on every
    /// CPU, after a grace period that [`Dying::drain`] waits for.
    pub fn kill(self) -> Dying {
        // SAFETY: By the invariant the count is live and its initial reference ours.
        unsafe { self.pgmap().percpu_ref().kill() };
        // INVARIANT: The count is dead; the bulk references are still there.
        Dying {
            ptr: self.0,
            restore: None,
        }
    }
}

/// What a device calls when its driver is unbound.
///
/// # Safety
///
/// `data` is a pgmap that came from [`Live::into_raw`], and is handed over.
unsafe extern "C" fn unmap_action(data: *mut c_void) {
    if let Some(ptr) = NonNull::new(data.cast()) {
        // SAFETY: The caller's promise.
        unsafe { Live::from_raw(ptr) }.unmap();
    }
}

/// The share of the mapping in the count: one reference per page (per compound page, if the memmap
/// consists of these) of the types whose pages are not allocated one by one.
///
/// They are what the count of a pgmap starts with, and what its teardown gives up in one go. In
/// 6.12 they say nothing about whether a page is in use.
pub struct BulkRefs(usize);

impl BulkRefs {
    /// The share of all mapped ranges.
    fn of(pgmap: &DevPagemap) -> Self {
        if counts_pages(pgmap) {
            return Self(0);
        }
        Self(
            (0..pgmap.nr_ranges())
                .filter_map(|index| pgmap.nr_units(index, pgmap.range(index)?))
                .fold(0, usize::wrapping_add),
        )
    }
}

/// A pgmap of which no new reference can be had.
///
/// # Invariants
///
/// This value alone may change the state of the pgmap. Its count is dead, and has the bulk
/// references of the mapped ranges, besides those of the walkers that were faster.
#[must_use = "a state that is dropped leaks the pgmap"]
pub struct Dying {
    ptr: NonNull<bindings::dev_pagemap>,
    /// The number of ranges that the owner asked for, to be put back where mapping them failed.
    restore: Option<usize>,
}

impl Dying {
    fn pgmap(&self) -> &DevPagemap {
        // SAFETY: Valid, by the invariant.
        unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) }
    }

    /// Gives up the bulk references and waits until the walkers have put theirs, and, of the types
    /// whose pages are allocated, until the last page came back. Sleeps. The walkers take as long as
    /// a page fault; the log says so if it takes longer than a second.
    pub fn drain(self) -> Drained {
        let BulkRefs(refs) = BulkRefs::of(self.pgmap());
        if refs != 0 {
            // SAFETY: By the invariant they are ours, and the count is initialised.
            unsafe { self.pgmap().percpu_ref().put_many_slow(refs) };
        }
        // SAFETY: Initialised before the count was.
        let done = unsafe { Completion::from_raw(addr_of_mut!((*self.ptr.as_ptr()).done)) };
        idle::wait_for_references(self.pgmap(), done);
        // INVARIANT: `release` ran, so the count is 0.
        Drained {
            ptr: self.ptr,
            restore: self.restore,
        }
    }
}

/// A pgmap that nobody refers to any more.
///
/// # Invariants
///
/// This value alone may change the state of the pgmap. Its count is dead and 0.
#[must_use = "a state that is dropped leaks the pgmap"]
pub struct Drained {
    ptr: NonNull<bindings::dev_pagemap>,
    restore: Option<usize>,
}

impl Drained {
    fn pgmap(&self) -> &DevPagemap {
        // SAFETY: Valid, by the invariant.
        unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) }
    }

    /// Waits until nobody has a page of it: files lose theirs, and whoever has one pinned is waited
    /// for, however long that takes; the log says so. Sleeps.
    pub fn wait_idle(self) -> Idle {
        let _ = self.wait(false);
        // INVARIANT: Just waited for that; the rest carries over.
        Idle {
            ptr: self.ptr,
            restore: self.restore,
        }
    }

    /// The same, unless the task is killed: then it is as it was, if it can be
    /// [left to itself](Self::abandon).
    pub fn wait_killable(self) -> Result<Idle, Self> {
        if self.wait(self.can_be_abandoned()) {
            // INVARIANT: As above.
            Ok(Idle {
                ptr: self.ptr,
                restore: self.restore,
            })
        } else {
            Err(self)
        }
    }

    fn wait(&self, killable: bool) -> bool {
        // SAFETY: By the invariant the ranges that are mapped stay so meanwhile, and nobody can pin a
        // page any more: who does has a live reference, or has seen with interrupts off that the
        // count was alive, and `release` ran after a grace period. Who unmaps a pgmap holds no
        // lock of a filesystem.
        unsafe { idle::wait(self.pgmap(), killable) }
    }
}

/// A pgmap of which nobody has a page.
///
/// # Invariants
///
/// This value alone may change the state of the pgmap. Its count is dead and 0; no page of it is
/// pinned, and none belongs to a file.
#[must_use = "a state that is dropped leaks the pgmap"]
pub struct Idle {
    ptr: NonNull<bindings::dev_pagemap>,
    restore: Option<usize>,
}

impl Idle {
    /// Takes the ranges away, and then the count. Sleeps.
    pub fn unmap(self) -> Unmapped {
        // SAFETY: Valid, by the invariant.
        let pgmap = unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) };
        for index in 0..pgmap.nr_ranges() {
            // SAFETY: There are more than `index` ranges.
            match unsafe { RangeOf::new(pgmap, index) } {
                // Dropped at once: memory, tracking, registry entry, grace period.
                // SAFETY: `nr_range` counts the committed ranges, and this comes once.
                Ok(of) => drop(unsafe { MappedRange::reclaim(of) }),
                Err(_) => crate::warn!("memremap: range {} changed while it was mapped", index),
            }
        }

        // SAFETY: Killed, drained, and, since every entry's drop has waited for a grace period, not
        // to be found by anyone.
        unsafe { pgmap.percpu_ref().exit() };
        if pgmap.altmap_in_use() != 0 {
            crate::warn_once!("failed to free all reserved pages");
        }
        managed_key::put(pgmap);

        if let Some(wanted) = self.restore {
            // SAFETY: The field lies in the pgmap.
            // CAST: It was read from there.
            unsafe { addr_of_mut!((*self.ptr.as_ptr()).nr_range).write_volatile(wanted as i32) };
        }
        // INVARIANT: The count is gone and no range is mapped.
        Unmapped(self.ptr)
    }
}

impl DevPagemap {
    /// How many frames of the altmap hold a memmap, also where the pgmap does not say that it
    /// has an altmap.
    fn altmap_in_use(&self) -> usize {
        // SAFETY: A field of a valid pgmap; nothing maps or unmaps it any more.
        unsafe { (*self.as_raw()).altmap.alloc }
    }
}
