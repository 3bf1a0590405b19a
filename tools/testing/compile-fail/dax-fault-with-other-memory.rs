// SPDX-License-Identifier: GPL-2.0

//! A page table entry for memory that no entry of the file names would not be found by the teardown
//! of its pgmap.

//@ within: fs/dax/dax.rs
//@ error: E0133 call to unsafe function `DaxFault::<'a>::insert`

use crate::{direct_access::EntryMemory, entry_lock::LockedEntry, vm_fault::DaxFault};

fn map(fault: &mut DaxFault<'_>, locked: &LockedEntry<'_, '_>, memory: &EntryMemory<'_>) {
    //@ wrong
    let _ = locked;
    fault.insert(memory, true);
    //@ right
    let _ = memory;
    fault.insert_locked(locked, true);
    //@ end
}
