// SPDX-License-Identifier: GPL-2.0

//! Waking who waits for a variable.
//!
//! C has one table of wait queues for all variables that somebody waits for; a hash of the address
//! tells which queue is whose. Nobody waits, nearly always, so what counts is to find that out
//! without a call: this runs for every page of a file that is given back.
//!
//! Where the table is and how it is hashed is the private matter of `kernel/sched/wait_bit.c`. So
//! [`find_table`] asks C at boot, and compares: only if C's answers for many addresses are those of
//! the hash here is the table used directly. Until then, and if they are not, each look asks C.
//!
//! C header: [`include/linux/wait_bit.h`](srctree/include/linux/wait_bit.h)

use crate::bindings;
use core::{
    ffi::c_void,
    ptr::{addr_of, null_mut},
    sync::atomic::{AtomicPtr, Ordering},
};

/// The first queue of the table, or null: ask C.
///
/// # Invariants
///
/// If it is not null, there are [`QUEUES`] queues from there on, which are never freed, and that of
/// a variable is the one at [`hash`] of its address.
static TABLE: AtomicPtr<bindings::wait_queue_head> = AtomicPtr::new(null_mut());

/// The queues of the table.
const QUEUES: usize = 1 << BITS;
const BITS: u32 = 8;

/// The queue's number for a variable. C: `hash_ptr()`.
#[doc(alias = "hash_ptr")]
#[inline(always)]
fn hash(variable: *const c_void) -> usize {
    const GOLDEN_RATIO: usize = bindings::GOLDEN_RATIO_64 as usize;
    (variable as usize).wrapping_mul(GOLDEN_RATIO) >> (usize::BITS - BITS)
}

/// Who waits, for any variable.
///
/// A value is for one use, or for many in a row.
///
/// # Invariants
///
/// What `TABLE` is, or was before the table was found.
pub struct Waiters(*mut bindings::wait_queue_head);

impl Waiters {
    /// Any context.
    #[inline(always)]
    pub fn look() -> Self {
        // INVARIANT: So it is.
        Self(TABLE.load(Ordering::Relaxed))
    }

    /// Wakes who waits for the variable at this address. C: `wake_up_var()`. Any context.
    ///
    /// The variable was changed before, and a full memory barrier lies between: who waits puts
    /// himself into the queue first and looks at the variable then.
    #[doc(alias = "wake_up_var")]
    #[inline(always)]
    pub fn wake_up(&self, variable: *const c_void) {
        if self.0.is_null() {
            return ask(variable);
        }
        let queue = self.0.wrapping_add(hash(variable));
        // SAFETY: A queue of the table, by the invariants of both. A volatile read, for it changes
        // under a lock that we do not hold.
        let first = unsafe { addr_of!((*queue).head.next).read_volatile() };
        // SAFETY: Only the address is taken.
        if !core::ptr::eq(first, unsafe { addr_of!((*queue).head) }) {
            ask(variable);
        }
    }
}

/// Leaves it to C.
#[cold]
#[inline(never)]
fn ask(variable: *const c_void) {
    // SAFETY: The address is a key only and is not followed.
    unsafe { bindings::wake_up_var(variable.cast_mut()) };
}

/// Looks for the table, and whether it is used as expected. Returns whether it is.
///
/// To be called once at boot; nothing but time is lost if it is not.
///
/// # Examples
///
/// ```
/// assert!(kernel::sync::wait_var::find_table());
/// ```
pub fn find_table() -> bool {
    // SAFETY: The address is a key only and is not followed.
    let queue = |variable: usize| unsafe { bindings::__var_waitqueue(variable as *mut c_void) };
    // The hash of 0 is 0.
    let table = queue(0);
    // Addresses far apart and side by side, and each queue several times.
    let expected = (0..16 * QUEUES).all(|n| {
        let variable = n
            .wrapping_mul(0x0001_0004_0011_0044)
            .rotate_left(n as u32 % 64);
        queue(variable) == table.wrapping_add(hash(variable as *const c_void))
    });
    if expected {
        // INVARIANT: C's own answers.
        TABLE.store(table, Ordering::Relaxed);
    }
    expected
}
