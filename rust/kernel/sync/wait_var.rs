// SPDX-License-Identifier: GPL-2.0

//! Waking tasks that wait for a variable to change (`wait_var_event()`).
//!
//! C hashes the address of the variable into `bit_wait_table`, a table of wait queues that all
//! waiters share. Almost always the queue is empty, and this runs for every page that is unpinned
//! or put, so [`wake_up_var`] looks into the queue without a call and leaves only the wake-up to C.
//!
//! The hash is that of `kernel/sched/wait_bit.c`; patch 0001 makes the table visible to this file,
//! and exports it, because these functions are inlined into modules.
//! A KUnit test compares the two: see [`queue_of`].
//!
//! The unsafe code here encapsulates access to the table.
//!
//! C header: [`include/linux/wait_bit.h`](srctree/include/linux/wait_bit.h)

use crate::bindings;
use core::{ffi::c_void, ptr::addr_of};

/// The number of queues in the table, as a power of two. C: `WAIT_TABLE_BITS`.
const TABLE_BITS: u32 = bindings::WAIT_TABLE_BITS;

/// Returns the wait queue that waiters for the variable at this address share. Any context. C:
/// `__var_waitqueue()`.
///
/// # Examples
///
/// ```
/// use core::ffi::c_void;
/// use kernel::{bindings, sync::wait_var::queue_of};
///
/// // The table has 256 queues: this gets to each of them several times.
/// for n in 0..4096usize {
///     let variable = n.wrapping_mul(0x0001_0004_0011_0044).rotate_left(n as u32 % 64);
///     // SAFETY: The function only computes with the address.
///     let expected = unsafe { bindings::__var_waitqueue(variable as *mut c_void) };
///     assert!(core::ptr::eq(queue_of(variable as *const c_void), expected));
/// }
/// ```
#[doc(alias = "__var_waitqueue")]
#[doc(alias = "hash_ptr")]
#[inline(always)]
pub fn queue_of(variable: *const c_void) -> *const bindings::wait_queue_head {
    const GOLDEN_RATIO: usize = bindings::GOLDEN_RATIO_64 as usize;
    const { assert!(usize::BITS == 64) };
    let index = (variable as usize).wrapping_mul(GOLDEN_RATIO) >> (usize::BITS - TABLE_BITS);
    addr_of!(bindings::bit_wait_table)
        .cast::<bindings::wait_queue_head>()
        .wrapping_add(index)
}

/// Wakes all tasks that wait for the variable at this address. Any context. C: `wake_up_var()`.
///
/// The caller must have changed the variable before, with a full memory barrier between the change
/// and this call: a waiter first enters the queue and then tests the variable, so either this
/// function finds the waiter in the queue, or the waiter sees the new value and does not sleep.
///
/// # Examples
///
/// ```
/// use core::sync::atomic::{AtomicI32, Ordering};
/// use kernel::sync::wait_var::wake_up_var;
///
/// let users = AtomicI32::new(2);
/// // On x86 an atomic subtraction is a full barrier.
/// if users.fetch_sub(1, Ordering::SeqCst) == 2 {
///     wake_up_var(core::ptr::from_ref(&users).cast());
/// }
/// ```
#[inline(always)]
pub fn wake_up_var(variable: *const c_void) {
    let queue = queue_of(variable);
    // SAFETY: `queue_of` returns a queue of the table, which was initialised at boot and is never
    // freed. Other CPUs change the list under a lock that is not held here, so the read is
    // volatile: it gets one of the values of that word, and the barrier above makes an old value
    // harmless.
    let first = unsafe { addr_of!((*queue).head.next).read_volatile() };
    // SAFETY: Only the address of a field is computed.
    if !core::ptr::eq(first, unsafe { addr_of!((*queue).head) }) {
        wake_up(variable);
    }
}

/// Wakes the waiters among the tasks in a queue that is not empty.
#[cold]
#[inline(never)]
fn wake_up(variable: *const c_void) {
    // SAFETY: The address is a key; C compares it and does not dereference it.
    unsafe { bindings::wake_up_var(variable.cast_mut()) };
}
