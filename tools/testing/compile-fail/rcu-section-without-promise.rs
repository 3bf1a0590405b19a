// SPDX-License-Identifier: GPL-2.0

//! A section that was opened without the promise not to sleep may have ended long before its guard
//! is dropped: here the wait returns in a kernel without preemptible RCU, and teardown may have
//! freed the pgmap.

//@ crate: kernel
//@ error: E0133 call to unsafe function `read_lock`

use kernel::{
    mm::{memremap::registry, pfn::Pfn},
    sync::rcu,
};

fn owner() -> Option<usize> {
    //@ wrong
    let guard = rcu::read_lock();
    let (_, found) = registry::find_from(Pfn::new(0), &guard)?;
    rcu::synchronize_rcu();
    //@ right
    rcu::synchronize_rcu();
    // SAFETY: Nothing sleeps until the guard is dropped.
    let guard = unsafe { rcu::read_lock() };
    let (_, found) = registry::find_from(Pfn::new(0), &guard)?;
    //@ end
    Some(found.pgmap().owner() as usize)
}
