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
//! A pte may be a marker of userfaultfd: nothing is mapped, but stores to the page are to be
//! noticed. The `PAGEMAP_SCAN` ioctl makes one of an empty pte, and truncation and the like of a
//! pte that is write-protected for userfaultfd. It is replaced: a load leaves the page
//! write-protected, a store was noticed. In C the entry stays unchanged, and so the task faults
//! again, for ever.
//!
//! C: `insert_pfn()`, `insert_pfn_pmd()`, `insert_pfn_pud()`

use crate::{
    entry::{Entry, Level, MappablePfn, Pte},
    slot::{LockedSlot, Occupied, Slot, UpperTable},
    vma::VmaPfn,
};
use kernel::mm::{fault::VmFaultResult, pfn_t::PfnT, virt::VmaRef};

/// Maps a page, for a store if `STORE`. May sleep. C: `__vm_insert_mixed()`.
#[doc(alias = "__vm_insert_mixed")]
#[inline(always)]
pub(crate) fn page<const STORE: bool>(
    vma: VmaRef<'_>,
    address: usize,
    first: MappablePfn,
) -> VmFaultResult {
    let new = VmaPfn::page(vma, first, STORE).and_then(VmaPfn::with_prot);
    let Some(new) = new else {
        return VmFaultResult::SIGBUS;
    };
    match Slot::lock_pte(new, address) {
        Err(error) => return VmFaultResult::from_error(error),
        Ok(LockedSlot::Vacant(vacant)) => vacant.install(),
        Ok(LockedSlot::Occupied(occupied)) => {
            if let Err(entry) = occupied.set_access_flags() {
                return other_pte(vma, address, first, STORE, entry);
            }
        }
    }
    VmFaultResult::NOPAGE
}

/// Handles a fault at a pte that does not map the PFN, or that a load has found: replaces a marker
/// of userfaultfd, and leaves any other entry unchanged. May sleep.
#[cold]
#[inline(never)]
fn other_pte(
    vma: VmaRef<'_>,
    address: usize,
    first: MappablePfn,
    store: bool,
    entry: Entry<Pte>,
) -> VmFaultResult {
    if !entry.is_uffd_wp_marker() {
        if store {
            report(entry, first.first());
        }
        return VmFaultResult::NOPAGE;
    }
    let new = VmaPfn::page(vma, first, store).and_then(VmaPfn::with_prot);
    match new.map(|new| Slot::lock_marker(new, address)) {
        None => return VmFaultResult::SIGBUS,
        Some(Err(error)) => return VmFaultResult::from_error(error),
        Some(Ok(Some(marker))) => marker.install(),
        // The entry has changed meanwhile, and the task faults again.
        Some(Ok(None)) => (),
    }
    VmFaultResult::NOPAGE
}

/// Maps the memory of a pmd or pud. Spins. C: `insert_pfn_pmd()`, `insert_pfn_pud()`.
#[doc(alias = "insert_pfn_pmd")]
#[doc(alias = "insert_pfn_pud")]
#[inline(always)]
pub(crate) fn large<L: UpperTable>(slot: Slot<'_, L>) -> VmFaultResult {
    let first = slot.pfn().first();
    // The lookup of the cache mode is slow, and takes a lock that all processes share. An existing
    // entry has its cache mode already.
    if !slot.peek().is_none() {
        if let Some(occupied) = slot.lock_occupied() {
            return update_large(occupied, first);
        }
        // The entry was removed before the lock was taken.
    }
    match slot.lock() {
        LockedSlot::Vacant(vacant) => {
            vacant.install();
            VmFaultResult::NOPAGE
        }
        LockedSlot::Occupied(occupied) => update_large(occupied, first),
    }
}

/// Makes an existing large entry writable for a store to the PFNs that it maps; otherwise leaves it
/// unchanged.
#[inline(always)]
fn update_large<L: UpperTable>(occupied: Occupied<'_, L>, first: PfnT) -> VmFaultResult {
    let store = occupied.pfn().is_store();
    if let Err(entry) = occupied.set_access_flags() {
        if store {
            report(entry, first);
        }
    }
    VmFaultResult::NOPAGE
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
