// SPDX-License-Identifier: GPL-2.0

//! A PFN need not have a `struct page`, so what lies at its place in the memmap may be unmapped.

//@ crate: kernel
//@ error: E0133 call to unsafe function `PageRef

use kernel::mm::{
    memremap::{Operations, Registration},
    page::PageRef,
    pfn::Pfn,
};

fn count<T: Operations>(memory: &Registration<T>, pfn: Pfn) -> i32 {
    //@ wrong
    let _ = memory;
    PageRef::from_pfn(pfn).ref_count()
    //@ right
    memory.page(pfn).map_or(0, |page| page.ref_count())
    //@ end
}
