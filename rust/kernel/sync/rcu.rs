// SPDX-License-Identifier: GPL-2.0

//! RCU read-side critical sections and grace periods.
//!
//! A [`Guard`] shows that a read-side critical section is open. References that are valid only
//! inside a section borrow from the guard, so they cannot be used after the section ends.
//!
//! The unsafe code here encapsulates the pairing of `rcu_read_lock()` and `rcu_read_unlock()`.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use crate::bindings;
use core::marker::PhantomData;

/// A guard for an RCU read-side critical section.
///
/// Sections nest. A task must not sleep while it holds a guard, and a guard cannot be sent to
/// another thread.
///
/// # Invariants
///
/// The read-side critical section that this guard opened is open in the current task.
///
/// # Examples
///
/// ```
/// use kernel::sync::rcu;
///
/// let outer = rcu::read_lock();
/// let inner = rcu::read_lock();
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

impl Guard {
    /// Opens a read-side critical section. Any context. C: `rcu_read_lock()`.
    #[doc(alias = "rcu_read_lock")]
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        if IS_BARRIER {
            barrier();
        } else {
            // SAFETY: The function has no preconditions; `drop` calls the matching unlock.
            unsafe { bindings::rcu_read_lock() };
        }
        // INVARIANT: The section was just opened, and only `drop` closes it.
        Self(PhantomData)
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if IS_BARRIER {
            barrier();
        } else {
            // SAFETY: By the type invariants the section that `new` opened is still open, and a
            // guard is not `Send`, so this is the task that opened it.
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
#[inline]
pub fn read_lock() -> Guard {
    Guard::new()
}

/// Waits until every read-side critical section that is open now has ended. C: `synchronize_rcu()`.
///
/// Sleeps. Must not be called inside a section.
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
    // SAFETY: The function has no preconditions but that the caller may sleep. As everywhere in the
    // kernel crate, that is not part of the type system; lockdep reports a call inside a section.
    unsafe { bindings::synchronize_rcu() };
}

/// Waits as [`synchronize_rcu`] does, and then until every task that was preempted in the kernel
/// outside of a section has slept voluntarily or returned to user space. C:
/// `synchronize_rcu_tasks()`.
///
/// Afterwards no task uses a pointer that it loaded, without a section, before this call, unless it
/// has slept since it loaded the pointer. Sleeps. Must not be called inside a section.
#[inline]
pub fn synchronize_rcu_tasks() {
    synchronize_rcu();
    // SAFETY: As for `synchronize_rcu()`, the only precondition is that the caller may sleep. In a
    // kernel that is not preemptible C defines it as `synchronize_rcu()`.
    unsafe { bindings::synchronize_rcu_tasks() };
}
