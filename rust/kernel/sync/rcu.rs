// SPDX-License-Identifier: GPL-2.0

//! RCU read-side critical sections.
//!
//! A [`Guard`] is the evidence that one is open. What may only be used inside it borrows from the
//! guard, so the borrow checker ends the use before the section ends.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use crate::bindings;
use core::marker::PhantomData;

/// Evidence that this thread is inside an RCU read-side critical section.
///
/// Sections nest. A task must not sleep while it holds one (nor does the type let it be sent to
/// another thread).
///
/// # Invariants
///
/// The read-side critical section that the value opened is open for as long as the value exists.
///
/// # Examples
///
/// ```
/// let outer = kernel::sync::rcu::read_lock();
/// let inner = kernel::sync::rcu::read_lock();
/// drop(inner);
/// drop(outer);
/// kernel::sync::rcu::synchronize();
/// ```
#[must_use = "the section closes at once when the guard is dropped"]
pub struct Guard(PhantomData<*mut ()>);

/// Whether `rcu_read_lock()` is more than a compiler barrier in this configuration.
///
/// Where the kernel is not preemptible, a section is just the absence of a context switch, and a
/// call to an out-of-line helper would be most of the cost of a lookup.
const IS_BARRIER: bool = !cfg!(any(
    CONFIG_PREEMPT_RCU,
    CONFIG_PREEMPT_COUNT,
    CONFIG_DEBUG_LOCK_ALLOC
));

impl Guard {
    /// Opens a section. C: `rcu_read_lock()`. Any context.
    #[doc(alias = "rcu_read_lock")]
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        if IS_BARRIER {
            barrier();
        } else {
            // SAFETY: No preconditions; the matching unlock is in `drop`.
            unsafe { bindings::rcu_read_lock() };
        }
        // INVARIANT: a section was just opened, and only `drop` closes it.
        Self(PhantomData)
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if IS_BARRIER {
            barrier();
        } else {
            // SAFETY: By the invariant the section that `new` opened is still open, on this
            // thread, because a guard is not `Send`.
            unsafe { bindings::rcu_read_unlock() };
        }
    }
}

/// C: `barrier()`: the compiler moves no memory access across it.
#[inline(always)]
fn barrier() {
    // SAFETY: An empty instruction sequence.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}

/// Opens a read-side critical section. C: `rcu_read_lock()`.
#[inline]
pub fn read_lock() -> Guard {
    Guard::new()
}

/// Waits until every section that is open now has been closed. C: `synchronize_rcu()`.
///
/// Sleeps. Must not be called inside a section: it would wait for itself.
#[doc(alias = "synchronize_rcu")]
#[inline]
pub fn synchronize() {
    // SAFETY: No preconditions. (Calling it inside a section hangs, which is safe, and lockdep
    // reports it.)
    unsafe { bindings::synchronize_rcu() };
}

/// Waits until every section that is open now has been closed, and until every task that the kernel
/// has preempted outside of one has gone on and slept, or left the kernel. C:
/// `synchronize_rcu_tasks()`.
///
/// After it nobody looks any more at what he has found before without a section, but not slept
/// since. Sleeps. Must not be called inside a section.
#[doc(alias = "synchronize_rcu_tasks")]
#[inline]
pub fn synchronize_tasks() {
    synchronize();
    // SAFETY: No preconditions. Nothing more than the above where tasks are not preempted.
    unsafe { bindings::synchronize_rcu_tasks() };
}
