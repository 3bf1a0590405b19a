// SPDX-License-Identifier: GPL-2.0

//! Per-CPU reference counts.
//!
//! Taking and dropping a reference touches one counter of this CPU and no cache line of another.
//! The price is that the sum is not known while the count is *live*. Whoever wants the object gone
//! *kills* the count first: it becomes an ordinary atomic, no new live reference can be had, and
//! when the last one is put the release function runs.
//!
//! ```text
//!   live (per CPU)  --kill-->  dying (atomic)  --last put-->  released
//!       |  ^                        |
//!   try_get_live                   put
//! ```
//!
//! The mode is a flag in the low bits of the pointer to the counters, so that one load tells both.
//! A switch from live to dying waits for an RCU grace period before it adds up the counters, which
//! is why every access happens inside a read-side section.
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

/// The count no longer runs per CPU, or is being killed. C: `__PERCPU_REF_ATOMIC_DEAD`.
const ATOMIC_DEAD: usize = 0b11;
/// The count is being killed. C: `__PERCPU_REF_DEAD`.
const DEAD: usize = 0b10;

/// A per-CPU reference count inside a structure that C code knows. C: `struct percpu_ref`.
///
/// This is the bare count. Types that own a reference, such as
/// [`LiveRef`](crate::mm::memremap::LiveRef), are built from it and put in their `Drop`.
#[repr(transparent)]
pub struct PercpuRef(Opaque<bindings::percpu_ref>);

// SAFETY: `struct percpu_ref` is made for use from any CPU and context.
unsafe impl Send for PercpuRef {}
// SAFETY: As for `Send`.
unsafe impl Sync for PercpuRef {}

impl PercpuRef {
    /// A count that C code has in one of its structures.
    ///
    /// # Safety
    ///
    /// `ptr` points to a `struct percpu_ref` that is initialised and stays so for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::percpu_ref) -> &'a Self {
        // SAFETY: The type is transparent over `struct percpu_ref`, and the caller vouches for
        // the rest.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Initialises a count in place with one live reference. C: `percpu_ref_init()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; nothing is to be undone then.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for writes, and does not hold a count that was not exited. `release` may be
    /// called from any context, with that pointer, once the count was killed and its last
    /// reference put.
    #[doc(alias = "percpu_ref_init")]
    pub unsafe fn init(
        ptr: *mut bindings::percpu_ref,
        release: unsafe extern "C" fn(*mut bindings::percpu_ref),
    ) -> Result {
        // SAFETY: The caller vouches for the pointer.
        to_result(unsafe { bindings::percpu_ref_init(ptr, Some(release), 0, bindings::GFP_KERNEL) })
    }

    /// Frees the counters. C: `percpu_ref_exit()`.
    ///
    /// # Safety
    ///
    /// No one can reach the count any more: it was killed, every reference was put, and a grace
    /// period has passed since it could last be found.
    #[doc(alias = "percpu_ref_exit")]
    pub unsafe fn exit(&self) {
        // SAFETY: The caller's promise.
        unsafe { bindings::percpu_ref_exit(self.0.get()) };
    }

    /// The pointer to the counters with the mode in its low bits. C: `READ_ONCE()` of the field.
    #[inline(always)]
    fn mode(&self) -> usize {
        // SAFETY: The field lies in an initialised count. A volatile load, because a switch of
        // mode may come at any time and the value must be read once. It carries the dependency
        // that pairs with the release store of a switch back to per-CPU mode.
        unsafe { addr_of!((*self.0.get()).percpu_count_ptr).read_volatile() }
    }

    /// The per-CPU offset of the counter, if the count runs per CPU, for as long as the section.
    #[inline(always)]
    fn percpu_counter(&self, _rcu: &rcu::Guard) -> Option<usize> {
        let counters = self.mode();
        (counters & ATOMIC_DEAD == 0).then_some(counters)
    }

    /// Takes a reference if the count is live. C: `percpu_ref_tryget_live_rcu()`.
    ///
    /// The caller is in a read-side section already because it found the count there. Any
    /// context, interrupts off included.
    #[doc(alias = "percpu_ref_tryget_live_rcu")]
    #[must_use = "a reference that was taken must be put"]
    #[inline]
    pub fn try_get_live(&self, rcu: &rcu::Guard) -> bool {
        let Some(counter) = self.percpu_counter(rcu) else {
            return self.try_get_live_slow();
        };
        // SAFETY: The offset of this count's counter, which the read-side section keeps that.
        unsafe { percpu::increment(counter) };
        true
    }

    /// The count is atomic: killed, or not switched to per-CPU mode yet.
    #[cold]
    #[inline(never)]
    fn try_get_live_slow(&self) -> bool {
        // SAFETY: `self` is initialised.
        unsafe { bindings::percpu_ref_tryget_live(self.0.get()) }
    }

    /// Takes `nr` references. C: `percpu_ref_get_many()`. Any context.
    ///
    /// The caller holds a reference already, or the count was initialised and not killed.
    #[doc(alias = "percpu_ref_get_many")]
    #[inline]
    pub fn get_many(&self, nr: usize) {
        // SAFETY: `self` is initialised.
        unsafe { bindings::percpu_ref_get_many(self.0.get(), nr as _) };
    }

    /// Puts one reference. C: `percpu_ref_put()`. Any context, interrupts off included; the last
    /// put of a killed count calls the release function.
    ///
    /// # Safety
    ///
    /// The caller owns a reference and gives it up.
    #[doc(alias = "percpu_ref_put")]
    #[inline]
    pub unsafe fn put(&self) {
        let guard = rcu::read_lock();
        match self.percpu_counter(&guard) {
            // SAFETY: The offset of this count's counter, which the read-side section keeps that.
            Some(counter) => unsafe { percpu::decrement(counter) },
            // SAFETY: As the caller says.
            None => unsafe { self.put_many_slow(1) },
        }
    }

    /// Puts `nr` references. C: `percpu_ref_put_many()`.
    ///
    /// # Safety
    ///
    /// The caller owns `nr` references and gives them up.
    #[doc(alias = "percpu_ref_put_many")]
    #[cold]
    #[inline(never)]
    pub unsafe fn put_many_slow(&self, nr: usize) {
        // SAFETY: `self` is initialised, and the caller owns what it puts.
        unsafe { bindings::percpu_ref_put_many(self.0.get(), nr as _) };
    }

    /// Ends the live phase and puts the initial reference. C: `percpu_ref_kill()`. Any context.
    ///
    /// From now on [`try_get_live`](Self::try_get_live) fails, on this CPU at once and on others
    /// after a grace period.
    ///
    /// # Safety
    ///
    /// The count is live and the caller owns its initial reference.
    #[doc(alias = "percpu_ref_kill")]
    pub unsafe fn kill(&self) {
        // SAFETY: `self` is initialised and, as the caller says, not killed yet.
        unsafe { bindings::percpu_ref_kill_and_confirm(self.0.get(), None) };
    }

    /// Whether the count runs per CPU: it was not killed, and will not reach zero before a grace
    /// period has passed.
    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    #[inline]
    pub(crate) fn is_percpu(&self) -> bool {
        self.mode() & ATOMIC_DEAD == 0
    }

    /// Whether the count was killed. C: `percpu_ref_is_dying()`.
    #[doc(alias = "percpu_ref_is_dying")]
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.mode() & DEAD != 0
    }
}
