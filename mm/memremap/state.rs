// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! The states of a pgmap, one type each.
//!
//! A transition consumes the old state and returns the new one, so the compiler rules out what C
//! leaves to convention: that a pgmap is mapped twice, or that its bulk references are put twice or
//! before the kill. One function, [`Idle::unmap`], frees the count, after every entry has left the
//! registry and a grace period has passed.
//!
//! ```text
//!  Unmapped --start--> Mapping --finish--> Live --kill--> Dying --drain--> Drained
//!      ^ ^                +--------abort-----------------^                  |  | wait_idle
//!      | +--------------------------detach----------------------------------+  |
//!      +--------------------------------unmap------------------------------- Idle
//! ```
//!
//! | state | count | registry | memmap |
//! |---|---|---|---|
//! | [`Unmapped`] | not initialised | no entry | none |
//! | [`Mapping`] | live | the ranges mapped so far | the ranges mapped so far |
//! | [`Live`] | live, plus the bulk references | all ranges | all ranges |
//! | [`Dying`] | dead: no new reference | all ranges | all ranges |
//! | [`Drained`] | dead and 0 | all ranges | all ranges, no walker reads them |
//! | [`Idle`] | dead and 0 | all ranges | all ranges, no page is in use |
//!
//! Between [`Drained`] and [`Idle`], teardown waits until the last page is put ([`wait_idle`]):
//! once the walkers are gone no pin can be added, and until the first range is removed every
//! `struct page` is still there to be read. C does not wait in 6.12: a holder that puts its page
//! afterwards writes to memory that is no longer there.
//!
//! C keeps the pgmap in a structure of its own between the calls, so [`Live`] goes to C as a bare
//! pointer, by [`Live::into_raw`], and comes back by [`Live::from_raw`].
//!
//! The `unsafe` code in this file encapsulates the fields `ref`, `done` and `nr_range` of `struct
//! dev_pagemap`, and the static key `devmap_managed_key`.

use crate::{
    range::{self, MappedRange, RangeOf},
    wait_idle,
};
use core::{
    ffi::c_void,
    mem::ManuallyDrop,
    ptr::{addr_of_mut, from_ref, NonNull},
};
use kernel::{
    bindings,
    device::Device,
    error::{to_result, Result},
    init::PinInit,
    mm::{
        memremap::{DevPagemap, MemoryType},
        pfn::PhysRange,
    },
    sync::{completion::Completion, percpu_ref::PercpuRef},
};

/// A pgmap that is not mapped: not yet, or not any more.
///
/// # Invariants
///
/// The pointer is to a pgmap as [`DevPagemap`]'s invariants describe it. Only this value may change
/// the state of that pgmap. Its count is not initialised and none of its ranges is mapped.
pub(crate) struct Unmapped(NonNull<bindings::dev_pagemap>);

impl Unmapped {
    /// Takes over a pgmap that a driver has set up.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a `struct dev_pagemap` that its owner set up as the C header asks for,
    /// that is not mapped, that no other code maps or unmaps meanwhile, and that stays valid and in
    /// place until it is unmapped.
    pub(crate) unsafe fn from_raw(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The caller promises a pgmap that was set up and is not mapped, and leaves its
        // state to this value.
        Self(ptr)
    }

    /// Creates the state that follows a detached teardown.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a pgmap that no reader can reach any more, and its count and ranges must
    /// now belong to a copy of it.
    pub(crate) unsafe fn after_detach(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The count and the ranges are the copy's, so this pgmap has neither.
        Self(ptr)
    }

    /// Returns the pgmap.
    pub(crate) fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the pointer is to a valid pgmap.
        unsafe { DevPagemap::from_raw(self.0.as_ptr()) }
    }

    /// Returns the number of ranges that the owner asks to have mapped.
    pub(crate) fn nr_ranges(&self) -> usize {
        self.pgmap().nr_ranges()
    }

    /// Initialises the count, which makes the pgmap live, without a range yet. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the pgmap is unchanged then.
    pub(crate) fn start(self) -> Result<Mapping> {
        let ptr = self.0.as_ptr();
        let wanted = self.nr_ranges();

        // SAFETY: By the type invariants the pgmap is valid, in place, and not in use, so the field
        // may be overwritten, and it stays pinned.
        unsafe { init_completion(addr_of_mut!((*ptr).done)) };
        // SAFETY: For the same reason this field may be initialised. `release` expects a count that
        // is the field `ref` of a pgmap, and this is one.
        unsafe { PercpuRef::init(addr_of_mut!((*ptr).ref_), release)? };
        devmap_managed_enable_get(self.pgmap());

        // The memmap code reads the index of the range in progress from here, and teardown the
        // number of ranges to undo.
        // SAFETY: The field lies in a valid pgmap, and only this value changes its state.
        unsafe { addr_of_mut!((*ptr).nr_range).write_volatile(0) };

        // INVARIANT: The count was just initialised; no range is mapped; the owner set up `wanted`
        // ranges.
        Ok(Mapping {
            ptr: self.0,
            wanted,
        })
    }
}

/// Initialises a `struct completion` in place. C: `init_completion()`.
///
/// # Safety
///
/// `done` must be valid for writes, not in use, and must not move while it is used.
pub(crate) unsafe fn init_completion(done: *mut bindings::completion) {
    // SAFETY: The caller vouches for the memory, and `Completion` is transparent over the C type.
    let Ok(()) = unsafe {
        PinInit::<Completion, core::convert::Infallible>::__pinned_init(
            Completion::new(),
            done.cast(),
        )
    };
}

/// Completes `pgmap->done` when the last reference of a killed count is put. C:
/// `dev_pagemap_percpu_release()`. Any context.
///
/// # Safety
///
/// `count` must be the field `ref` of a pgmap that [`Unmapped::start`] initialised.
#[doc(alias = "dev_pagemap_percpu_release")]
unsafe extern "C" fn release(count: *mut bindings::percpu_ref) {
    // SAFETY: The caller promises that the count is this field of a pgmap.
    let pgmap = unsafe { kernel::container_of!(count, bindings::dev_pagemap, ref_) }.cast_mut();
    // SAFETY: `Unmapped::start` initialises the completion before the count, so it is valid here.
    unsafe { Completion::from_raw(addr_of_mut!((*pgmap).done)) }.complete();
}

/// A pgmap that is being mapped, range by range.
///
/// # Invariants
///
/// Only this value may change the state of the pgmap. Its count is live. Its owner set up `wanted`
/// ranges, of which the first `nr_range` are mapped and have their bulk references.
#[must_use = "a state that is dropped leaks the pgmap"]
pub(crate) struct Mapping {
    ptr: NonNull<bindings::dev_pagemap>,
    wanted: usize,
}

impl Mapping {
    /// Returns the pgmap.
    pub(crate) fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the pointer is to a valid pgmap.
        unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) }
    }

    /// Returns the range to map next, or `None` if all ranges are mapped.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that ends before it starts, or has no countable pages.
    pub(crate) fn next_range(&self) -> Option<Result<RangeOf<'_>>> {
        let index = self.pgmap().nr_ranges();
        (index < self.wanted).then(|| {
            // SAFETY: By the type invariants the owner set up `wanted` ranges, and the index is
            // below that.
            unsafe { RangeOf::new(self.pgmap(), index) }
        })
    }

    /// Keeps a range that was mapped, and takes its bulk references.
    ///
    /// # Safety
    ///
    /// `mapped` must be the range that [`Self::next_range`] returns at this moment.
    pub(crate) unsafe fn commit(&self, mapped: MappedRange<'_>) {
        let units = mapped.units();
        // From here on `Idle::unmap` undoes it.
        let _ = ManuallyDrop::new(mapped);
        let pgmap = self.pgmap();
        if !counts_pages(pgmap) {
            // SAFETY: By the type invariants the count is initialised, and nothing kills it while
            // the pgmap is being mapped.
            unsafe { pgmap.percpu_ref().get_many(units) };
        }
        // INVARIANT: One more range is mapped and has its references, and by the caller's promise
        // its index is the old value of `nr_range`.
        // SAFETY: The field lies in a valid pgmap, and only this value changes it.
        unsafe {
            let nr_range = addr_of_mut!((*self.ptr.as_ptr()).nr_range);
            nr_range.write_volatile(nr_range.read().wrapping_add(1));
        }
    }

    /// Ends the mapping with the ranges that are mapped by now.
    pub(crate) fn finish(self) -> Live {
        // INVARIANT: `nr_range` ranges are mapped and have their references, and from here on the
        // pgmap has only those.
        Live(self.ptr)
    }

    /// Begins to undo the mapping after an error; the way back is that of teardown.
    pub(crate) fn abort(self) -> Dying {
        let wanted = self.wanted;
        Dying {
            restore: Some(wanted),
            ..self.finish().kill()
        }
    }
}

/// Returns whether each allocated page takes a reference for itself, so that the pgmap has no bulk
/// references.
pub(crate) fn counts_pages(pgmap: &DevPagemap) -> bool {
    pgmap
        .memory_type()
        .is_some_and(MemoryType::pages_are_allocated)
}

/// A pgmap that is mapped and can be looked up.
///
/// # Invariants
///
/// Only this value may change the state of the pgmap. Its count is live, all ranges are mapped and
/// have their bulk references.
#[must_use = "a state that is dropped leaks the pgmap"]
pub(crate) struct Live(NonNull<bindings::dev_pagemap>);

impl Live {
    /// Takes a mapped pgmap over from C code.
    ///
    /// # Safety
    ///
    /// `ptr` must come from [`into_raw`](Self::into_raw), and each such pointer may be passed here
    /// only once.
    pub(crate) unsafe fn from_raw(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The pointer was a `Live` until `into_raw`, and the caller passes it only once,
        // so no other value may change the state.
        Self(ptr)
    }

    /// Passes the pgmap to C code, which has to pass its address back for teardown.
    pub(crate) fn into_raw(self) -> NonNull<bindings::dev_pagemap> {
        self.0
    }

    /// Returns the pgmap.
    pub(crate) fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the pointer is to a valid pgmap.
        unsafe { DevPagemap::from_raw(self.0.as_ptr()) }
    }

    /// Returns the address of the first range in the linear mapping. C: `__va()`.
    #[doc(alias = "__va")]
    pub(crate) fn address(&self) -> *mut c_void {
        let start = self.pgmap().range(0).map_or(0, PhysRange::start);
        // SAFETY: `__va()` only computes an address from the number.
        unsafe { bindings::__va(start) }
    }

    /// Binds the pgmap to a device, so that it is unmapped when the device's driver is unbound. C:
    /// `devm_add_action_or_reset()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the pgmap is unmapped then.
    #[doc(alias = "devm_add_action_or_reset")]
    pub(crate) fn bind_to(self, dev: &Device) -> Result {
        let ptr = self.into_raw();
        // SAFETY: The device is valid by its type's invariants. `devm_memremap_pages_release`
        // expects a pointer from `into_raw` and consumes it, and devres calls it once.
        let added = unsafe {
            bindings::__devm_add_action(
                raw_device(dev),
                Some(devm_memremap_pages_release),
                ptr.as_ptr().cast(),
                c"devm_memremap_pages_release".as_ptr().cast(),
            )
        };
        to_result(added).inspect_err(|_| {
            // SAFETY: The pointer just came from `into_raw`, and devres did not take it. The
            // address was not returned yet, so no file has a page, and no lock of a filesystem is
            // taken to remove one.
            unsafe { Self::from_raw(ptr).unmap() };
        })
    }

    /// Unmaps a pgmap that is [bound](Self::bind_to) to a device, before the driver is unbound. C:
    /// `devm_release_action()`. Sleeps.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a pgmap that was bound to `dev` and not released since. The caller must
    /// not hold a lock of a filesystem.
    #[doc(alias = "devm_release_action")]
    pub(crate) unsafe fn release_from(dev: &Device, ptr: NonNull<bindings::dev_pagemap>) {
        // SAFETY: The device is valid, and by the caller's promise it has this action with this
        // data, so devres finds it and calls it once, without a lock of a filesystem.
        unsafe {
            bindings::devm_release_action(
                raw_device(dev),
                Some(devm_memremap_pages_release),
                ptr.as_ptr().cast(),
            )
        };
    }

    /// Unmaps the pgmap, through all states to the end. Sleeps for as long as one of its pages is
    /// in use. If the task is killed, a worker does the rest, unless the pgmap cannot be
    /// [detached](Drained::detach).
    ///
    /// # Safety
    ///
    /// The caller must not hold a lock of a filesystem, because fs/dax takes such locks to remove
    /// the pages from files.
    pub(crate) unsafe fn unmap(self) -> Unmapped {
        match self.kill().drain().wait_killable() {
            Ok(idle) => idle.unmap(),
            Err(drained) => drained.detach(),
        }
    }

    /// Kills the count. A lookup fails from here on, on every CPU after the grace period that
    /// [`Dying::drain`] waits for. C: `percpu_ref_kill()`.
    #[doc(alias = "percpu_ref_kill")]
    pub(crate) fn kill(self) -> Dying {
        // SAFETY: By the type invariants the count is live, and only this value kills it.
        unsafe { self.pgmap().percpu_ref().kill() };
        // INVARIANT: The count is dead, and its bulk references are still there.
        Dying {
            ptr: self.0,
            restore: None,
        }
    }
}

/// Returns the C pointer to a device.
fn raw_device(dev: &Device) -> *mut bindings::device {
    // `Device` is transparent over `struct device`; C changes it, behind the `Opaque`.
    from_ref(dev).cast_mut().cast()
}

/// Unmaps a pgmap when the driver of its device is unbound.
///
/// # Safety
///
/// `data` must be a pointer from [`Live::into_raw`] that the caller passes on. The caller must not
/// hold a lock of a filesystem.
unsafe extern "C" fn devm_memremap_pages_release(data: *mut c_void) {
    if let Some(ptr) = NonNull::new(data.cast()) {
        // SAFETY: The caller promises a pointer from `into_raw` that only this call consumes, and
        // that it holds no lock of a filesystem.
        unsafe { Live::from_raw(ptr).unmap() };
    }
}

/// Returns the mapping's share of the count: one reference per page (per compound page, if the
/// memmap consists of these), unless the owner allocates the pages one by one.
///
/// The count of a pgmap starts with these bulk references, and its teardown puts them all at once.
/// In 6.12 they do not say whether a page is in use.
fn bulk_refs(pgmap: &DevPagemap) -> usize {
    if counts_pages(pgmap) {
        return 0;
    }
    (0..pgmap.nr_ranges())
        .filter_map(|index| pgmap.nr_units(index, pgmap.range(index)?))
        .fold(0, usize::wrapping_add)
}

/// A pgmap to which no new reference can be taken.
///
/// # Invariants
///
/// Only this value may change the state of the pgmap. Its count is dead, and consists of the bulk
/// references of the mapped ranges and of the references of walkers that were faster than the kill.
#[must_use = "a state that is dropped leaks the pgmap"]
pub(crate) struct Dying {
    ptr: NonNull<bindings::dev_pagemap>,
    /// The number of ranges that the owner asked for, to be restored where mapping them failed.
    restore: Option<usize>,
}

impl Dying {
    /// Returns the pgmap.
    fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the pointer is to a valid pgmap.
        unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) }
    }

    /// Puts the bulk references and waits until the walkers have put theirs and, if the pages
    /// are allocated ones, until the last page is freed. Sleeps. A walker holds its reference for
    /// about as long as a page fault takes; a wait of more than a second is logged.
    pub(crate) fn drain(self) -> Drained {
        let refs = bulk_refs(self.pgmap());
        if refs != 0 {
            // SAFETY: By the type invariants the count is initialised and these references belong
            // to the mapping, which puts them only here.
            unsafe { self.pgmap().percpu_ref().put_many(refs) };
        }
        // SAFETY: `Unmapped::start` initialised the completion, and the pgmap is still valid.
        let done = unsafe { Completion::from_raw(addr_of_mut!((*self.ptr.as_ptr()).done)) };
        wait_idle::wait_for_references(self.pgmap(), done);
        // INVARIANT: `release` has run, so the count is 0.
        Drained {
            ptr: self.ptr,
            restore: self.restore,
        }
    }
}

/// A pgmap without references.
///
/// # Invariants
///
/// Only this value may change the state of the pgmap. Its count is dead and 0. The ranges that
/// `nr_range` counts are mapped.
#[must_use = "a state that is dropped leaks the pgmap"]
pub(crate) struct Drained {
    ptr: NonNull<bindings::dev_pagemap>,
    restore: Option<usize>,
}

impl Drained {
    /// Creates the state of a copy that takes the place of a drained pgmap.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a copy of a drained pgmap to which that pgmap's count, registry entries
    /// and pages were transferred, and the copy must stay valid until it is unmapped.
    pub(crate) unsafe fn from_copy(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The count and the ranges of the original, which was drained, are the copy's.
        Self { ptr, restore: None }
    }

    /// Returns the pointer to the pgmap, which stays in this state.
    pub(crate) fn as_ptr(&self) -> NonNull<bindings::dev_pagemap> {
        self.ptr
    }

    /// Returns whether this is the end of a mapping that succeeded, not of one that failed half
    /// way.
    pub(crate) fn was_live(&self) -> bool {
        self.restore.is_none()
    }

    /// Returns the pgmap.
    pub(crate) fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the pointer is to a valid pgmap.
        unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) }
    }

    /// Waits until no page of the pgmap is in use: files lose theirs, and pins are waited for,
    /// however long that takes, with a message in the log. Sleeps.
    pub(crate) fn wait_idle(self) -> Idle {
        let _ = self.wait(false);
        // INVARIANT: The wait ends only when no page is in use; the rest carries over.
        Idle {
            ptr: self.ptr,
            restore: self.restore,
        }
    }

    /// Waits likewise, until the task is killed if the teardown can be [detached](Self::detach).
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// The unchanged state, if the task was killed.
    pub(crate) fn wait_killable(self) -> Result<Idle, Self> {
        if self.wait(self.can_detach()) {
            // INVARIANT: No page is in use; the rest carries over.
            Ok(Idle {
                ptr: self.ptr,
                restore: self.restore,
            })
        } else {
            Err(self)
        }
    }

    /// Waits until no page is in use or, if `killable`, the task is killed. Returns whether no page
    /// is in use.
    fn wait(&self, killable: bool) -> bool {
        // SAFETY: By the type invariants the mapped ranges stay mapped meanwhile. No page can be
        // pinned any more: pinning needs a live reference, or interrupts off from before the count
        // was seen alive, and `release` ran after a grace period. The task holds no lock of a
        // filesystem: `Live::unmap` demands that, a worker holds none, and no file has a page of a
        // pgmap that could not be mapped.
        unsafe { wait_idle::wait(self.pgmap(), killable) }
    }
}

/// A pgmap without a page in use.
///
/// # Invariants
///
/// Only this value may change the state of the pgmap. Its count is dead and 0. None of its pages is
/// pinned or belongs to a file.
#[must_use = "a state that is dropped leaks the pgmap"]
pub(crate) struct Idle {
    ptr: NonNull<bindings::dev_pagemap>,
    restore: Option<usize>,
}

impl Idle {
    /// Removes the ranges, and then the count. Sleeps.
    pub(crate) fn unmap(self) -> Unmapped {
        // SAFETY: By the type invariants the pointer is to a valid pgmap.
        let pgmap = unsafe { DevPagemap::from_raw(self.ptr.as_ptr()) };
        for index in 0..pgmap.nr_ranges() {
            // SAFETY: `nr_range` is at most the number of ranges that the owner set up, and the
            // index is below it.
            match unsafe { RangeOf::new(pgmap, index) } {
                // SAFETY: `nr_range` counts the committed ranges, and this loop undoes each once.
                Ok(of) => unsafe { range::unmap(of) },
                Err(_) => kernel::warn!("memremap: range {} changed while it was mapped", index),
            }
        }

        // SAFETY: The count was killed and is 0. Erasing each entry waited for a grace period, so
        // no reader can still find the count.
        unsafe { pgmap.percpu_ref().exit() };
        if altmap_in_use(pgmap) != 0 {
            kernel::warn_once!("failed to free all reserved pages");
        }
        devmap_managed_enable_put(pgmap);

        if let Some(wanted) = self.restore {
            // SAFETY: The field lies in a valid pgmap, and only this value changes its state.
            // CAST: The number was read from this field.
            unsafe { addr_of_mut!((*self.ptr.as_ptr()).nr_range).write_volatile(wanted as i32) };
        }
        // INVARIANT: The count is freed and no range is mapped.
        Unmapped(self.ptr)
    }
}

/// Returns how many pages of the altmap hold a memmap, also if the pgmap does not declare an
/// altmap.
fn altmap_in_use(pgmap: &DevPagemap) -> usize {
    // SAFETY: The field lies in a valid pgmap that no code maps or unmaps at this point.
    unsafe { (*pgmap.as_raw()).altmap.alloc }
}

/// Enables the check for FS DAX pages in `put_page()` while such a pgmap is mapped. C:
/// `devmap_managed_enable_get()`. Sleeps.
fn devmap_managed_enable_get(pgmap: &DevPagemap) {
    if pgmap.memory_type() == Some(MemoryType::FsDax) {
        // SAFETY: Incrementing a static key has no precondition but that the caller may sleep.
        #[cfg(CONFIG_FS_DAX)]
        unsafe {
            bindings::static_key_slow_inc(addr_of_mut!(bindings::devmap_managed_key.key))
        };
    }
}

/// Balances [`devmap_managed_enable_get`]. C: `devmap_managed_enable_put()`. Sleeps.
fn devmap_managed_enable_put(pgmap: &DevPagemap) {
    if pgmap.memory_type() == Some(MemoryType::FsDax) {
        // SAFETY: Each pgmap that is unmapped was counted when its mapping was started, so the key
        // does not drop below 0.
        #[cfg(CONFIG_FS_DAX)]
        unsafe {
            bindings::static_key_slow_dec(addr_of_mut!(bindings::devmap_managed_key.key))
        };
    }
}
