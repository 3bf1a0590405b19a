// SPDX-License-Identifier: GPL-2.0

//! RCU read-side critical sections and grace periods.
//!
//! A [`Guard`] shows that a read-side critical section is open. References that are valid only
//! inside a section borrow from the guard, so they cannot be used after the section ends.
//!
//! In a kernel without preemptible RCU, a section is nothing but the absence of a context switch: a
//! task that sleeps inside a section has ended it, without any sign of that, and what was found in
//! it may be freed while the guard is still there. Nearly every function that sleeps is safe to
//! call: that taking a mutex, allocating memory or waiting for a grace period sleeps is no part of
//! its type. So it is the opening of a section that is `unsafe`, and the caller promises not to
//! sleep. (C opens sections too. A function that C calls inside one is part of an `unsafe` trait if a
//! driver implements it.) With `CONFIG_DEBUG_ATOMIC_SLEEP` a task that sleeps in a section is reported, and with
//! `CONFIG_PROVE_RCU` a wait for a grace period in it.
//!
//! The unsafe code here encapsulates the pairing of `rcu_read_lock()` and `rcu_read_unlock()`.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use crate::bindings;
use core::marker::PhantomData;

/// A guard for an RCU read-side critical section.
///
/// Sections nest. A guard cannot be sent to another thread.
///
/// # Invariants
///
/// The read-side critical section that this guard opened is open in the current task, which does
/// not sleep before the guard is dropped.
///
/// # Examples
///
/// ```
/// use kernel::sync::rcu;
///
/// // SAFETY: Nothing sleeps until both guards are dropped.
/// let (outer, inner) = unsafe { (rcu::read_lock(), rcu::read_lock()) };
/// drop(inner);
/// drop(outer);
/// ```
#[must_use = "the section ends at once when the guard is dropped"]
pub struct Guard(PhantomData<*mut ()>);

/// Whether `rcu_read_lock()` is only a compiler barrier in this configuration.
///
/// In a kernel that is not preemptible, a section is the absence of a context switch. Calling an
/// out-of-line helper for the barrier would be most of the cost of a lookup.
const IS_BARRIER: bool = !cfg!(any(
    CONFIG_PREEMPT_RCU,
    CONFIG_PREEMPT_COUNT,
    CONFIG_DEBUG_LOCK_ALLOC
));

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if IS_BARRIER {
            barrier();
        } else {
            // SAFETY: By the type invariants the section that `read_lock` opened is still open, and
            // a guard is not `Send`, so this is the task that opened it.
            unsafe { bindings::rcu_read_unlock() };
        }
    }
}

/// Keeps the compiler from moving memory accesses across this point. C: `barrier()`.
#[inline(always)]
fn barrier() {
    // SAFETY: The assembly is empty, so it has no effect but that on the compiler.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}

/// Opens a read-side critical section. Any context. C: `rcu_read_lock()`.
///
/// # Safety
///
/// The task must not sleep until the guard is dropped.
#[doc(alias = "rcu_read_lock")]
#[inline]
pub unsafe fn read_lock() -> Guard {
    if IS_BARRIER {
        barrier();
    } else {
        // SAFETY: The function has no preconditions; `Guard::drop` calls the matching unlock.
        unsafe { bindings::rcu_read_lock() };
    }
    // INVARIANT: The section was just opened, only `drop` closes it, and the caller promises that
    // the task does not sleep before that.
    Guard(PhantomData)
}

/// Waits until every read-side critical section that is open now has ended. C: `synchronize_rcu()`.
///
/// Sleeps, so it cannot be called inside a section: see [`read_lock`].
///
/// # Examples
///
/// ```
/// use core::sync::atomic::{AtomicBool, Ordering};
/// use kernel::sync::rcu;
///
/// static ENABLED: AtomicBool = AtomicBool::new(true);
///
/// // Readers load `ENABLED` inside a section. After this, none of them acts on `true` any more.
/// ENABLED.store(false, Ordering::Relaxed);
/// rcu::synchronize_rcu();
/// ```
#[inline]
pub fn synchronize_rcu() {
    // SAFETY: The function has no preconditions but that the task may sleep. Inside a section it
    // may not, as the code that opened the section has promised.
    unsafe { bindings::synchronize_rcu() };
}

/// Waits as [`synchronize_rcu`] does, and then until every task that was preempted in the kernel
/// outside of a section has slept voluntarily or returned to user space. C:
/// `synchronize_rcu_tasks()`.
///
/// Afterwards no task uses a pointer that it loaded, without a section, before this call, unless it
/// has slept since it loaded the pointer. Sleeps, so it cannot be called inside a section: see
/// [`read_lock`].
#[inline]
pub fn synchronize_rcu_tasks() {
    synchronize_rcu();
    // SAFETY: As for `synchronize_rcu()`, the only precondition is that the caller may sleep. In a
    // kernel that is not preemptible C defines it as `synchronize_rcu()`.
    unsafe { bindings::synchronize_rcu_tasks() };
}
