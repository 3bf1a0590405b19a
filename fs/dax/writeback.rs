// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Writeback: `fsync()` of stores that were made through mappings.
//!
//! The kernel does not see a store, but it sees the write fault before it, which marks the entry
//! dirty. To write an entry back, this makes its page table entries clean and read-only and then
//! flushes the CPU caches. The next store faults again, and that fault waits until the flush is
//! done, because the entry is locked.

use crate::{
    direct_access::DaxDeviceRef,
    entry::{page_of, Size},
    entry_array::{Cursor, EntryArray, Mark, CHECK_SCHED},
    entry_lock::{self, Scanned, UnlockedEntry, WakeMode},
    mapping::DaxMapping,
    trace,
};
use kernel::{
    error::{code::EIO, Result},
    page::PAGE_SHIFT,
};

/// Writes back the entries of the bytes from `first` to `last` (inclusive). Does nothing unless
/// `all` of it is to be durable on return (`WB_SYNC_ALL`). Sleeps. C:
/// `dax_writeback_mapping_range()`.
///
/// # Errors
///
/// Returns `EIO` if the mapping is corrupted or the block size is not the page size.
pub(crate) fn range(
    mapping: &DaxMapping,
    device: DaxDeviceRef<'_>,
    first: i64,
    last: i64,
    all: bool,
) -> Result {
    let inode = mapping.inode();
    if inode.block_bits() as usize != PAGE_SHIFT {
        kernel::warn_once!("fs_dax: writeback: block size is not the page size");
        return Err(EIO);
    }
    if mapping.is_empty() || !all {
        return Ok(());
    }
    let (first, last) = (page_of(first), page_of(last));
    trace::writeback_range(inode, first, last);
    // Entries that become dirty from now on are left to the next fsync; otherwise this might never
    // end.
    mapping.tag_for_writeback(first, last);

    let mut cursor = Cursor::new(mapping, first, Size::Pte);
    let result = write_tagged(mapping, &mut cursor.lock(), device, last);
    if let Err(error) = result {
        mapping.set_error(error);
    }
    trace::writeback_range_done(inode, cursor.index(), last);
    result
}

/// Writes back the entries tagged for writeback, from the cursor to page `last` (inclusive).
fn write_tagged(
    mapping: &DaxMapping,
    array: &mut EntryArray<'_, '_>,
    device: DaxDeviceRef<'_>,
    last: usize,
) -> Result {
    let mut scanned = 0usize;
    loop {
        match entry_lock::scan(array, last, Some(Mark::ToWrite), |_| true) {
            Scanned::End => return Ok(()),
            // The entry has been removed.
            Scanned::Skipped => {}
            Scanned::Foreign => return Err(EIO),
            Scanned::Entry(found) => write_entry(mapping, found, device)?,
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK_SCHED == 0 {
            array.pause();
        }
    }
}

/// Writes back an entry. Sleeps; the array is unlocked meanwhile, and the cursor does not move. C:
/// `dax_writeback_one()`.
#[doc(alias = "dax_writeback_one")]
fn write_entry(
    mapping: &DaxMapping,
    found: UnlockedEntry<'_, '_, '_>,
    device: DaxDeviceRef<'_>,
) -> Result {
    let entry = found.entry();
    // If the scan had to wait for the entry, another fsync may have been faster. The entry that is
    // here now need not be the one that was found: if a fault has split it, this page of it still
    // has to be written.
    if !found.has_mark(Mark::ToWrite) {
        found.put(WakeMode::Next);
        return Ok(());
    }
    if !entry.has_memory() {
        kernel::warn_once!("fs_dax: writeback: dirty hole");
        found.put(WakeMode::Next);
        return Err(EIO);
    }

    // Another fsync looks at the entry under the lock that is held here. So it finds either that
    // the entry is not tagged any more, or that it is locked, and waits. It does not return before
    // the flush.
    let (first, pages) = (entry.size().align(found.index()), entry.size().pages());
    let mut held = found.lock();
    held.clear_mark(Mark::ToWrite);
    held.while_unlocked(|mapping, entry| mapping.clean(device, entry, first));

    // There has been no store since: a write fault waits for the entry.
    held.clear_mark(Mark::Dirty);
    drop(held);
    trace::writeback_one(mapping.inode(), first, pages);
    Ok(())
}
