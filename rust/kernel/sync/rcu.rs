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

/// A section of a kernel that is not preemptible: the absence of a context switch.
///
/// Calling an out-of-line helper for the compiler barrier would be most of the cost of a lookup.
#[cfg(not(any(CONFIG_PREEMPT_RCU, CONFIG_PREEMPT_COUNT, CONFIG_DEBUG_LOCK_ALLOC)))]
mod section {
    use super::barrier;

    /// Opens a section.
    #[inline(always)]
    pub(super) fn enter() {
        barrier();
    }

    /// Closes a section.
    ///
    /// # Safety
    ///
    /// This task must be in a section.
    #[inline(always)]
    pub(super) unsafe fn exit() {
        barrier();
    }
}

/// A section of a preemptible kernel: a count in the task, which the scheduler looks at when it
/// preempts the task. C: `__rcu_read_lock()`, `__rcu_read_unlock()`.
///
/// C has functions for that, which change a field of the task; a call of a helper that calls them
/// would cost more than what they do.
#[cfg(all(
    CONFIG_PREEMPT_RCU,
    all(CONFIG_X86_64, not(CONFIG_UML)),
    not(any(
        CONFIG_DEBUG_LOCK_ALLOC,
        CONFIG_PROVE_LOCKING,
        CONFIG_RCU_STRICT_GRACE_PERIOD
    ))
))]
mod section {
    use super::barrier;
    use crate::{bindings, percpu};
    use core::ptr::addr_of_mut;

    /// Opens a section.
    #[doc(alias = "__rcu_read_lock")]
    #[inline(always)]
    pub(super) fn enter() {
        let task = percpu::current_task().cast_mut();
        // SAFETY: The running task is valid. Only this task, and interrupts during which it does not
        // run, change its count, and an interrupt leaves it as it was.
        unsafe {
            let nesting = addr_of_mut!((*task).rcu_read_lock_nesting);
            nesting.write_volatile(nesting.read_volatile().wrapping_add(1));
        }
        barrier();
    }

    /// Closes a section.
    ///
    /// # Safety
    ///
    /// This task must be in a section.
    #[doc(alias = "__rcu_read_unlock")]
    #[inline(always)]
    pub(super) unsafe fn exit() {
        let task = percpu::current_task().cast_mut();
        barrier();
        // SAFETY: The running task is valid. Only this task, and interrupts during which it does not
        // run, change its count, and an interrupt leaves it as it was.
        let left = unsafe {
            let nesting = addr_of_mut!((*task).rcu_read_lock_nesting);
            let left = nesting.read_volatile().wrapping_sub(1);
            nesting.write_volatile(left);
            left
        };
        if left != 0 {
            return;
        }
        // As in C the count is 0 before the mark is read: a mark that comes later finds no section,
        // and what sets it ends the grace period itself.
        barrier();
        // SAFETY: The running task is valid. Interrupts set the mark; it is read once, as a word.
        let special = unsafe { addr_of_mut!((*task).rcu_read_unlock_special.s).read_volatile() };
        if special != 0 {
            report();
        }
    }

    /// Reports the end of a section to a grace period that waits for it. C:
    /// `rcu_read_unlock_special()`, which is static.
    ///
    /// C's function reports at the end of any section, also of one that was opened after the one to
    /// be reported. C itself defers the report in the same way if interrupts are disabled.
    #[cold]
    #[inline(never)]
    fn report() {
        // SAFETY: The functions have no preconditions but that they are paired.
        unsafe {
            bindings::__rcu_read_lock();
            bindings::__rcu_read_unlock();
        }
    }
}

/// A section in C's terms: other architectures, and kernels that check the use of RCU.
#[cfg(not(any(
    not(any(CONFIG_PREEMPT_RCU, CONFIG_PREEMPT_COUNT, CONFIG_DEBUG_LOCK_ALLOC)),
    all(
        CONFIG_PREEMPT_RCU,
        all(CONFIG_X86_64, not(CONFIG_UML)),
        not(any(
            CONFIG_DEBUG_LOCK_ALLOC,
            CONFIG_PROVE_LOCKING,
            CONFIG_RCU_STRICT_GRACE_PERIOD
        ))
    )
)))]
mod section {
    use crate::bindings;

    /// Opens a section.
    #[inline]
    pub(super) fn enter() {
        // SAFETY: The function has no preconditions.
        unsafe { bindings::rcu_read_lock() };
    }

    /// Closes a section.
    ///
    /// # Safety
    ///
    /// This task must be in a section.
    #[inline]
    pub(super) unsafe fn exit() {
        // SAFETY: By the caller's promise the task is in a section.
        unsafe { bindings::rcu_read_unlock() };
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the section that `read_lock` opened is still open, and a
        // guard is not `Send`, so this is the task that opened it.
        unsafe { section::exit() };
    }
}

/// Keeps the compiler from moving memory accesses across this point. Any context. C: `barrier()`.
#[inline(always)]
pub fn barrier() {
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
    section::enter();
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

/// Waits as [`synchronize_rcu`] does, and then until every task that was in the kernel, outside of a
/// section, has slept voluntarily or returned to user space, whether it was preempted there or
/// not. C: `synchronize_rcu_tasks()`.
///
/// Afterwards no task uses a pointer that it loaded, without a section, before this call, unless it
/// has slept since it loaded the pointer. Sleeps, so it cannot be called inside a section: see
/// [`read_lock`].
///
/// A preemptible kernel can only promise that with `CONFIG_TASKS_RCU`: callers select
/// `NEED_TASKS_RCU`.
#[inline]
pub fn synchronize_rcu_tasks() {
    synchronize_rcu();
    switch::wait();
}

/// The wait for context switches in a kernel that is preemptible.
#[cfg(CONFIG_TASKS_RCU)]
mod switch {
    use crate::bindings;

    /// Waits until each task has slept or returned to user space.
    #[inline]
    pub(super) fn wait() {
        // SAFETY: As for `synchronize_rcu()`, the only precondition is that the caller may sleep.
        unsafe { bindings::synchronize_rcu_tasks() };
    }
}

/// The wait for context switches in a kernel that is not preemptible, but counts as if it were, for
/// `CONFIG_DEBUG_ATOMIC_SLEEP`.
///
/// A grace period is no context switch there: a tick that finds the count at 0 is a quiescent state
/// of its CPU, so `synchronize_rcu()` ends although a task goes on executing. (C's
/// `synchronize_rcu_tasks()` is `synchronize_rcu()` in this kernel too.) But no task is preempted,
/// so one that was executing has slept once its CPU has switched to another task: to the stopper,
/// on each CPU.
#[cfg(all(not(CONFIG_TASKS_RCU), CONFIG_PREEMPT_COUNT, CONFIG_SMP))]
mod switch {
    use crate::{
        bindings,
        ffi::{c_int, c_void},
    };
    use core::ptr::{null, null_mut};

    /// Does nothing, on a CPU whose stopper is running.
    unsafe extern "C" fn nothing(_data: *mut c_void) -> c_int {
        0
    }

    /// Waits until each CPU has switched to another task.
    #[doc(alias = "stop_machine")]
    pub(super) fn wait() {
        // SAFETY: The only precondition is that the caller may sleep. The function ignores its
        // argument, and does not sleep.
        unsafe { bindings::stop_machine(Some(nothing), null_mut(), null()) };
    }
}

/// The wait for context switches in a kernel that is not preemptible: a grace period was enough, as
/// each CPU has switched to another task then, was idle or in user space. With one CPU the caller
/// itself runs on it, so no other task is executing.
#[cfg(not(any(CONFIG_TASKS_RCU, all(CONFIG_PREEMPT_COUNT, CONFIG_SMP))))]
mod switch {
    /// Returns at once.
    #[inline]
    pub(super) fn wait() {}
}
