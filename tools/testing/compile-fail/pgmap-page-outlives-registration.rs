// SPDX-License-Identifier: GPL-2.0

//! A page of a registration would be used after the registration, with its memmap, is gone.

//@ crate: kernel
//@ error: E0505 cannot move out of `memory` because it is borrowed

use kernel::mm::{
    memremap::{Operations, Registration},
    pfn::Pfn,
};

fn count<T: Operations>(memory: Registration<T>, pfn: Pfn) -> i32 {
    let page = memory.page(pfn);
    //@ wrong
    drop(memory);
    page.map_or(0, |page| page.ref_count())
    //@ right
    let count = page.map_or(0, |page| page.ref_count());
    drop(memory);
    count
    //@ end
}
