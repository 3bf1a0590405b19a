// SPDX-License-Identifier: GPL-2.0

//! References to a count that was killed and has reached 0 keep nothing: its object is being freed.

//@ crate: kernel
//@ error: E0133 call to unsafe function `PercpuRef::get_many`

use kernel::sync::{percpu_ref::PercpuRef, rcu};

fn get(count: &PercpuRef) -> bool {
    //@ wrong
    count.get_many(1);
    true
    //@ right
    // SAFETY: Nothing sleeps until the guard is dropped.
    let guard = unsafe { rcu::read_lock() };
    count.try_get_live(&guard)
    //@ end
}
