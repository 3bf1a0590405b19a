// SPDX-License-Identifier: GPL-2.0-only

//! Installing an entry, or opening the one that is there for stores.
//!
//! ```text
//!                          nothing there        same frame         another frame
//!   a load                 installed            stays              stays
//!   a store                installed, dirty     dirty, writable    stays
//! ```
//!
//! That something stays is no error: the program comes again, and the fault is dealt with anew. It
//! happens when two threads were at it, or when the frame has changed since: a fault of a private
//! mapping finds the copy there, one of a file that was written to a hole finds the zero page
//! until that is unmapped. A store that finds the frame of anything else is a bug of who asked.

use crate::vma;
use kernel::mm::{
    fault::VmFaultResult,
    page_table::{Entry, Found, Frames, Leaf, Level, Occupied, Pmd, Pte, Pud, Slot, Upper},
    pfn_t::PfnT,
    prot::PageProt,
    virt::{Flags, VmaRef},
};

/// Maps a page, for a store if `STORE`. May sleep.
#[inline(always)]
pub(crate) fn page<const STORE: bool>(
    vma: VmaRef<'_>,
    address: usize,
    frame: Frames,
) -> VmFaultResult {
    let pfn = frame.first();
    if !vma::takes_page(vma, pfn, STORE) {
        return VmFaultResult::SIGBUS;
    }
    let prot = vma.prot_for(pfn);
    if !prot.may_map(pfn.pfn()) {
        return VmFaultResult::SIGBUS;
    }
    match Slot::lock_page(vma, address) {
        Err(error) => return VmFaultResult::from_error(error),
        Ok(Found::Vacant(vacant)) => vacant.install(leaf(vma, frame, prot, STORE)),
        Ok(Found::Occupied(occupied)) => stay(vma, occupied, pfn, STORE),
    }
    VmFaultResult::NOPAGE
}

/// Maps what the entry is for, for a store if `store`. Spins.
#[inline(always)]
pub(crate) fn large<L: Upper + Hole>(
    slot: Slot<'_, L>,
    frames: Frames,
    store: bool,
) -> VmFaultResult {
    let (vma, pfn) = (slot.vma(), frames.first());
    if !vma::takes_large(vma, pfn) || !vma.contains(slot.address()) {
        return VmFaultResult::SIGBUS;
    }
    // The cache mode takes long to find out, with a lock that all processes share. What is there
    // already has one.
    if !slot.peek().is_none() {
        if let Found::Occupied(occupied) = slot.lock() {
            stay(vma, occupied, pfn, store);
            return VmFaultResult::NOPAGE;
        }
        // It went away before the lock was taken.
    }
    let prot = vma.prot_for(pfn);
    match slot.lock() {
        Found::Vacant(vacant) => vacant.install(leaf(vma, frames, prot, store)),
        Found::Occupied(occupied) => stay(vma, occupied, pfn, store),
    }
    VmFaultResult::NOPAGE
}

/// A new entry.
#[inline(always)]
fn leaf<L: Level>(vma: VmaRef<'_>, frames: Frames, prot: PageProt, store: bool) -> Leaf<L> {
    let leaf = Leaf::new(frames, prot);
    match store {
        true => leaf.stored_to(vma.flags().contains(Flags::WRITE)),
        false => leaf,
    }
}

/// What is there stays, and takes stores if this is one and the frame is the same.
#[inline(always)]
fn stay<L: Level + Hole>(vma: VmaRef<'_>, occupied: Occupied<'_, L>, pfn: PfnT, store: bool) {
    if !store {
        return;
    }
    let writable = vma.flags().contains(Flags::WRITE);
    if let Err(other) = occupied.allow_stores(pfn.pfn(), writable) {
        report(other.entry(), pfn);
    }
}

/// A hole that has been filled is still mapped until who fills it has unmapped it. Anything else
/// should not be there.
#[cold]
fn report<L: Hole>(entry: Entry<L>, pfn: PfnT) {
    if !L::is_hole(entry) {
        kernel::warn_once!("devmap: a store to {pfn:?} where there is {entry:?}");
    }
}

/// A level at which holes of files are mapped, or not.
pub(crate) trait Hole: Level {
    /// Whether the entry maps zeroes that stand for a hole.
    fn is_hole(entry: Entry<Self>) -> bool;
}

impl Hole for Pte {
    fn is_hole(entry: Entry<Self>) -> bool {
        vma::is_zero_page(entry.pfn())
    }
}

impl Hole for Pmd {
    fn is_hole(entry: Entry<Self>) -> bool {
        vma::is_huge_zero_page(entry.pfn())
    }
}

impl Hole for Pud {
    /// There is no zero page of that size.
    fn is_hole(_entry: Entry<Self>) -> bool {
        false
    }
}
