// SPDX-License-Identifier: GPL-2.0

//! A live reference that is cached would be put twice.

//@ crate: kernel
//@ error: E0382 use of moved value: `live`

use kernel::mm::{
    memremap::{DevPagemap, LiveRef},
    pfn::Pfn,
};

fn look_up(live: LiveRef, first: Pfn, then: Pfn) -> (Option<LiveRef>, Option<LiveRef>) {
    let found = DevPagemap::lookup(first, Some(live));
    //@ wrong
    (found, DevPagemap::lookup(then, Some(live)))
    //@ right
    (found, DevPagemap::lookup(then, None))
    //@ end
}
