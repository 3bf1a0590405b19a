// SPDX-License-Identifier: GPL-2.0

//! A pgmap that was found in a read-side critical section would be used after the section, when
//! teardown may have freed it.

//@ crate: kernel
//@ error: E0505 cannot move out of `guard` because it is borrowed

use kernel::{
    mm::{memremap::registry, pfn::Pfn},
    sync::rcu,
};

fn nr_ranges() -> Option<usize> {
    // SAFETY: Nothing sleeps until the guard is dropped.
    let guard = unsafe { rcu::read_lock() };
    let (_, found) = registry::find_from(Pfn::new(0), &guard)?;
    //@ wrong
    drop(guard);
    Some(found.pgmap().nr_ranges())
    //@ right
    let nr = found.pgmap().nr_ranges();
    drop(guard);
    Some(nr)
    //@ end
}
