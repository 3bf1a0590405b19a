// SPDX-License-Identifier: GPL-2.0

//! A pgmap would be read after its live reference was put, when teardown may have freed it.

//@ crate: kernel
//@ error: E0505 cannot move out of `live` because it is borrowed

use kernel::mm::{memremap::DevPagemap, pfn::Pfn};

fn nr_ranges(pfn: Pfn) -> Option<usize> {
    let live = DevPagemap::lookup(pfn, None)?;
    let pgmap: &DevPagemap = &live;
    //@ wrong
    drop(live);
    Some(pgmap.nr_ranges())
    //@ right
    let nr = pgmap.nr_ranges();
    drop(live);
    Some(nr)
    //@ end
}
