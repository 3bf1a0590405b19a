// SPDX-License-Identifier: GPL-2.0

//! An entry for any PFN would let a process access all of the memory.

//@ within: mm/devmap/devmap.rs
//@ error: E0308 mismatched types

use crate::{
    entry::{Leaf, Pte},
    vma::NewPte,
};
use kernel::mm::pfn_t::PfnT;

fn leaf(new: NewPte<'_>, pfn: PfnT) -> Leaf<Pte> {
    //@ wrong
    Leaf::new(pfn, new.prot())
    //@ right
    let _ = pfn;
    Leaf::new(new.pfn(), new.prot())
    //@ end
}
