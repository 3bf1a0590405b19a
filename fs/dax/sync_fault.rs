// SPDX-License-Identifier: GPL-2.0-only

//! The second half of a synchronous fault: metadata is durable, and the page table entry may be
//! there.

use crate::lock::{self, LockedEntry, Unlocked};
use crate::vm_fault::DaxFault;
use crate::{
    entry::Size,
    trace,
    tree::{Mark, Walk},
    wait::Wake,
};
use kernel::mm::{fault::VmFaultResult, pfn_t::PfnT};

/// Makes the file's metadata durable, and maps the frame for writing. Sleeps.
pub(crate) fn finish(fault: &mut DaxFault<'_>, size: Size, pfn: PfnT) -> VmFaultResult {
    if fault.fsync(size).is_err() {
        return VmFaultResult::SIGBUS;
    }
    let mapping = fault.mapping();
    let mut walk = Walk::new(mapping, fault.index(), size);
    let mut tree = walk.lock();
    let entry = match lock::find_unlocked(&mut tree, size) {
        Unlocked::Entry(entry) if entry.size() == size && entry.pfn() == Some(pfn.pfn()) => entry,
        // Somebody has split it meanwhile, or taken it out, or it has another frame. The program
        // comes again.
        other => {
            if let Unlocked::Entry(entry) = other {
                lock::put(&tree, entry, Wake::Next);
            }
            drop(tree);
            trace::insert_pfn_mkwrite_no_entry(mapping.inode(), fault, VmFaultResult::NOPAGE);
            return VmFaultResult::NOPAGE;
        }
    };
    tree.mark(Mark::Dirty);
    tree.replace(entry.locked());
    drop(tree);

    let locked = LockedEntry::new(&mut walk, entry);
    // The device may have been unbound since the first half, which had a `DaxReadGuard` of it.
    let answer = fault.insert_entry(entry, true);
    drop(locked);
    trace::insert_pfn_mkwrite(mapping.inode(), fault, answer);
    answer
}
