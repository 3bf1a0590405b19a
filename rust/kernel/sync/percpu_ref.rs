// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2012 Google, Inc.
// Derived from the inlines in `include/linux/percpu-refcount.h`.
// Author: Kent Overstreet <koverstreet@google.com>

//! Per-CPU reference counts.
//!
//! Getting and putting a reference changes a counter of the current CPU, and no cache line that
//! other CPUs write. In return, the sum is not known while the count is *live*. To free the object,
//! its owner *kills* the count: it becomes an ordinary atomic counter, no new references of the
//! live kind are given out, and the release function runs when the last reference is put.
//!
//! ```text
//!   live (per CPU)  --kill-->  dying (atomic)  --last put-->  released
//!       |  ^                        |
//!   try_get_live                   put
//! ```
//!
//! The mode is in the low bits of the pointer to the counters, so one load returns both. The switch
//! from live to dying waits for an RCU grace period before it sums up the counters. So each access
//! to a counter must be inside a read-side critical section.
//!
//! The unsafe code here encapsulates that pointer, and access to the counter of the current CPU.
//!
//! C header: [`include/linux/percpu-refcount.h`](srctree/include/linux/percpu-refcount.h)

use super::rcu;
use crate::{
    bindings,
    error::{to_result, Result},
    percpu,
    types::Opaque,
};
use core::ptr::addr_of;

/// The bits of which at least one is set if the count is not per CPU. C:
/// `__PERCPU_REF_ATOMIC_DEAD`.
const ATOMIC_DEAD: usize = 0b11;
/// The bit that is set if the count was killed. C: `__PERCPU_REF_DEAD`.
const DEAD: usize = 0b10;

/// A per-CPU reference count. C: `struct percpu_ref`.
///
/// It only counts. A type that owns a reference, such as
/// [`LiveRef`](crate::mm::memremap::LiveRef), puts it in its `Drop`.
///
/// # Invariants
///
/// The count is initialised, and was not exited.
///
/// # Examples
///
/// ```
/// use kernel::sync::{percpu_ref::PercpuRef, rcu};
///
/// /// Returns whether the object of this count is alive at the moment.
/// fn is_alive(count: &PercpuRef) -> bool {
///     // SAFETY: Nothing sleeps until the guard is dropped.
///     let guard = unsafe { rcu::read_lock() };
///     if !count.try_get_live(&guard) {
///         return false;
///     }
///     // SAFETY: The reference was taken above.
///     unsafe { count.put() };
///     true
/// }
/// ```
#[doc(alias = "percpu_ref")]
#[repr(transparent)]
pub struct PercpuRef(Opaque<bindings::percpu_ref>);

// SAFETY: A count has no ties to a CPU or thread: references may be put by others than took them.
unsafe impl Send for PercpuRef {}
// SAFETY: All methods that take `&self` are made for concurrent calls: they change per-CPU counters
// by one instruction each, or an atomic.
unsafe impl Sync for PercpuRef {}

impl PercpuRef {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a `struct percpu_ref` that is initialised, and is neither exited nor
    /// freed during `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::percpu_ref) -> &'a Self {
        // INVARIANT: The caller promises an initialised count.
        // SAFETY: The type is transparent over `struct percpu_ref`, and the caller promises that
        // `ptr` is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Initialises a count in place, live and with one reference. Sleeps. C: `percpu_ref_init()`.
    ///
    /// # Errors
    ///
    /// Returns `ENOMEM`. The count need not be exited then.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writes, and must not hold a count that was initialised and not
    /// exited. `release` must be safe to call, from any context, with that pointer once the count
    /// was killed and its last reference was put.
    #[doc(alias = "percpu_ref_init")]
    pub unsafe fn init(
        ptr: *mut bindings::percpu_ref,
        release: unsafe extern "C" fn(*mut bindings::percpu_ref),
    ) -> Result {
        // SAFETY: The caller promises that `ptr` is valid for writes, and that `release` may be
        // called when C calls it.
        to_result(unsafe { bindings::percpu_ref_init(ptr, Some(release), 0, bindings::GFP_KERNEL) })
    }

    /// Frees the counters. Sleeps. C: `percpu_ref_exit()`.
    ///
    /// # Safety
    ///
    /// The count must have been killed, all references must have been put, and no code may access
    /// the count any more: a grace period must have passed since it could last be found.
    #[doc(alias = "percpu_ref_exit")]
    pub unsafe fn exit(&self) {
        // SAFETY: By the type invariants the count is initialised, and the caller promises that
        // this is the last access to it.
        unsafe { bindings::percpu_ref_exit(self.0.get()) };
    }

    /// Returns the pointer to the counters, with the mode in its low bits.
    #[inline(always)]
    fn mode(&self) -> usize {
        // SAFETY: By the type invariants the field is valid. The mode may be switched at any time,
        // so the word is read once, by a volatile load, which gets one of its values. The address
        // dependency on it pairs with the release store of a switch back to per-CPU mode.
        unsafe { addr_of!((*self.0.get()).percpu_count_ptr).read_volatile() }
    }

    /// Returns the per-CPU offset of the counter if the count is per CPU, which it then stays for
    /// the rest of the read-side critical section.
    #[inline(always)]
    fn percpu_counter(&self, _rcu: &rcu::Guard) -> Option<usize> {
        let counters = self.mode();
        (counters & ATOMIC_DEAD == 0).then_some(counters)
    }

    /// Gets a reference if the count is live, and returns whether it did. Any context, interrupts
    /// disabled included. C: `percpu_ref_tryget_live_rcu()`.
    #[doc(alias = "percpu_ref_tryget_live_rcu")]
    #[must_use = "a reference that was taken must be put"]
    #[inline]
    pub fn try_get_live(&self, rcu: &rcu::Guard) -> bool {
        let Some(counter) = self.percpu_counter(rcu) else {
            return self.try_get_live_slow();
        };
        // SAFETY: `counter` is the offset of the counter of this count. The count is per CPU until
        // the section ends, so the counter is not freed and the increment is not lost.
        unsafe { percpu::increment(counter) };
        true
    }

    /// Gets a reference if the count is live, for a count that was not per CPU a moment ago.
    #[cold]
    #[inline(never)]
    fn try_get_live_slow(&self) -> bool {
        // SAFETY: By the type invariants the count is initialised.
        unsafe { bindings::percpu_ref_tryget_live(self.0.get()) }
    }

    /// Gets `nr` references. Any context. C: `percpu_ref_get_many()`.
    ///
    /// # Safety
    ///
    /// The caller must own a reference, or the count must not have been killed. A count that was
    /// killed may have reached 0, after which its object is being freed.
    #[doc(alias = "percpu_ref_get_many")]
    #[inline]
    pub unsafe fn get_many(&self, nr: usize) {
        // SAFETY: By the type invariants the count is initialised, and the caller promises that it
        // is not 0.
        unsafe { bindings::percpu_ref_get_many(self.0.get(), nr as _) };
    }

    /// Puts a reference. Any context, interrupts disabled included. C: `percpu_ref_put()`.
    ///
    /// If it is the last reference of a killed count, this calls the release function.
    ///
    /// # Safety
    ///
    /// The caller must own a reference, which it loses.
    #[doc(alias = "percpu_ref_put")]
    #[inline]
    pub unsafe fn put(&self) {
        // SAFETY: Nothing sleeps until the guard is dropped.
        let guard = unsafe { rcu::read_lock() };
        match self.percpu_counter(&guard) {
            // SAFETY: `counter` is the offset of the counter of this count. The count is per CPU
            // until the section ends, so the counter is not freed and the decrement is not lost.
            Some(counter) => unsafe { percpu::decrement(counter) },
            // SAFETY: The caller promises that it owns a reference.
            None => unsafe { self.put_many(1) },
        }
    }

    /// Puts `nr` references. Any context. C: `percpu_ref_put_many()`.
    ///
    /// # Safety
    ///
    /// The caller must own `nr` references, which it loses.
    #[doc(alias = "percpu_ref_put_many")]
    #[cold]
    #[inline(never)]
    pub unsafe fn put_many(&self, nr: usize) {
        // SAFETY: By the type invariants the count is initialised, and the caller promises that it
        // owns the references.
        unsafe { bindings::percpu_ref_put_many(self.0.get(), nr as _) };
    }

    /// Kills the count, and puts the reference that it was initialised with. Any context. C:
    /// `percpu_ref_kill()`.
    ///
    /// Afterwards [`try_get_live`](Self::try_get_live) fails on the current CPU. It fails on all
    /// CPUs after a grace period.
    ///
    /// # Safety
    ///
    /// The count must be live, and the caller must own the reference that it was initialised with.
    #[doc(alias = "percpu_ref_kill")]
    pub unsafe fn kill(&self) {
        // SAFETY: By the type invariants the count is initialised, and the caller promises that it
        // was not killed before.
        unsafe { bindings::percpu_ref_kill_and_confirm(self.0.get(), None) };
    }

    /// Returns whether the count is per CPU: it was not killed, and does not reach 0 before a grace
    /// period has passed. Any context.
    #[inline]
    pub fn is_percpu(&self) -> bool {
        self.mode() & ATOMIC_DEAD == 0
    }

    /// Returns whether the count was killed. Any context. C: `percpu_ref_is_dying()`.
    #[doc(alias = "percpu_ref_is_dying")]
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.mode() & DEAD != 0
    }
}
