// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/memory.c`, Copyright (C) 1991, 1992, 1993, 1994 Linus Torvalds, and
// `mm/huge_memory.c`, Copyright (C) 2009 Red Hat, Inc.

//! Installation of an entry, or making an existing one writable.
//!
//! ```text
//!                  vacant               same PFN            another PFN
//!   a load         installed            unchanged           unchanged
//!   a store        installed, dirty     dirty, writable     unchanged
//! ```
//!
//! An entry that stays unchanged is no error: the task faults again, and the fault is handled anew.
//! It happens when two threads fault at once, or when the PFN has changed in the meantime. In a
//! private mapping the entry may map the private copy. In a hole to which blocks were just
//! allocated it still maps the zero page. A store that finds an entry for any PFN that is neither
//! the one to be mapped nor a zero page is a bug of the caller, and reported.
//!
//! C: `insert_pfn()`, `insert_pfn_pmd()`, `insert_pfn_pud()`

use crate::{
    entry::{Entry, Leaf, Level, MappablePfn},
    slot::{LockedSlot, Occupied, Slot, Table, UpperTable},
    vma,
};
use kernel::mm::{
    fault::VmFaultResult,
    pfn_t::PfnT,
    prot::PageProt,
    virt::{VmFlags, VmaRef},
};

/// Maps a page, for a store if `STORE`. May sleep. C: `__vm_insert_mixed()`.
#[doc(alias = "__vm_insert_mixed")]
#[inline(always)]
pub(crate) fn page<const STORE: bool>(
    vma: VmaRef<'_>,
    address: usize,
    first: MappablePfn,
) -> VmFaultResult {
    let pfn = first.first();
    if !vma::may_map_page(vma, pfn, STORE) {
        return VmFaultResult::SIGBUS;
    }
    let prot = vma.prot_for(pfn);
    if !prot.may_map(pfn.pfn()) {
        return VmFaultResult::SIGBUS;
    }
    match Slot::lock_pte(vma, address) {
        Err(error) => return VmFaultResult::from_error(error),
        Ok(LockedSlot::Vacant(vacant)) => vacant.install(new_leaf(vma, first, prot, STORE)),
        Ok(LockedSlot::Occupied(occupied)) => update(vma, occupied, pfn, STORE),
    }
    VmFaultResult::NOPAGE
}

/// Maps the memory of a pmd or pud, for a store if `store`. Spins. C: `insert_pfn_pmd()`,
/// `insert_pfn_pud()`.
#[doc(alias = "insert_pfn_pmd")]
#[doc(alias = "insert_pfn_pud")]
#[inline(always)]
pub(crate) fn large<L: UpperTable>(
    slot: Slot<'_, L>,
    first: MappablePfn,
    store: bool,
) -> VmFaultResult {
    let (vma, pfn) = (slot.vma(), first.first());
    if !vma::may_map_large(vma, pfn) || !vma.contains(slot.address()) {
        return VmFaultResult::SIGBUS;
    }
    // The lookup of the cache mode is slow, and takes a lock that all processes share. An existing
    // entry has its cache mode already.
    if !slot.peek().is_none() {
        if let LockedSlot::Occupied(occupied) = slot.lock() {
            update(vma, occupied, pfn, store);
            return VmFaultResult::NOPAGE;
        }
        // The entry was removed before the lock was taken.
    }
    let prot = vma.prot_for(pfn);
    match slot.lock() {
        LockedSlot::Vacant(vacant) => vacant.install(new_leaf(vma, first, prot, store)),
        LockedSlot::Occupied(occupied) => update(vma, occupied, pfn, store),
    }
    VmFaultResult::NOPAGE
}

/// Creates the leaf for a vacant slot.
#[inline(always)]
fn new_leaf<L: Level>(vma: VmaRef<'_>, first: MappablePfn, prot: PageProt, store: bool) -> Leaf<L> {
    let leaf = Leaf::new(first, prot);
    match store {
        true => leaf.with_store(vma.flags().contains(VmFlags::WRITE)),
        false => leaf,
    }
}

/// Makes an existing entry writable for a store to the PFN that it maps; otherwise leaves it
/// unchanged.
#[inline(always)]
fn update<L: Table>(vma: VmaRef<'_>, occupied: Occupied<'_, L>, pfn: PfnT, store: bool) {
    if !store {
        return;
    }
    let writable = vma.flags().contains(VmFlags::WRITE);
    if let Err(other) = occupied.set_access_flags(pfn.pfn(), writable) {
        report(other.0, pfn);
    }
}

/// Warns about a store to a slot that maps another PFN, unless that is a zero page.
///
/// The hole of a file is still mapped after blocks were allocated for it, until the task that
/// allocated them has unmapped it.
#[cold]
fn report<L: Level>(entry: Entry<L>, pfn: PfnT) {
    if !L::is_zero_page(entry) {
        kernel::warn_once!("devmap: store to {pfn:?}, but the entry is {entry:?}");
    }
}
