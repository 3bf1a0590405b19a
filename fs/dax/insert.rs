// SPDX-License-Identifier: GPL-2.0-only

//! Putting into the locked entry what was found: memory, or a hole.
//!
//! Memory takes a [`EntryMemory`], which lives no longer than the guard that keeps the device from being
//! killed; and so does the page table entry that comes after. C drops that guard in between.

use crate::vm_fault::DaxFault;
use crate::{copy, lock::LockedEntry};
use crate::{
    direct_access::{DaxReadGuard, EntryMemory},
    entry::{byte_of, Entry, Size},
    tree::Mark,
};
use kernel::{error::Result, iomap::IomapIter, mm::pfn::Pfn};

/// Whether the page table entry has to wait until metadata is durable: a write fault of a
/// `MAP_SYNC` mapping, of blocks that were just allocated.
pub(crate) fn is_synchronous(fault: &DaxFault<'_>, extents: &IomapIter<'_>) -> bool {
    extents.is_write() && fault.is_sync() && extents.iomap().is_dirty()
}

/// Fills `fit` with what the file has there now, before the entry is to name it: who cannot read
/// that keeps the entry that he has. Sleeps.
///
/// # Errors
///
/// `EIO` for bad memory; those of the device.
pub(crate) fn copied(
    locked: &LockedEntry<'_, '_>,
    reader: &DaxReadGuard,
    extents: &IomapIter<'_>,
    fit: &EntryMemory<'_>,
) -> Result {
    let (old, index) = (locked.entry(), locked.index());
    // What is stored from now on would not be in the copy. The entry is locked, so that nobody
    // faults it in before it is another.
    let mapping = locked.mapping();
    mapping.unmap(old.size().align(index), old.size().pages());
    let (position, len) = (byte_of(fit.size().align(index)), fit.size().bytes());
    copy::around(reader, position, len, len, extents.srcmap(), fit.access())
}

/// The entry is memory now.
pub(crate) fn frames(
    locked: &mut LockedEntry<'_, '_>,
    fault: &DaxFault<'_>,
    extents: &IomapIter<'_>,
    fit: &EntryMemory<'_>,
) {
    insert(locked, fault, extents, Entry::frames(fit));
}

/// The entry is a hole now.
pub(crate) fn zero(
    locked: &mut LockedEntry<'_, '_>,
    fault: &DaxFault<'_>,
    extents: &IomapIter<'_>,
    pfn: Pfn,
    size: Size,
) {
    insert(locked, fault, extents, Entry::zero(pfn, size));
}

#[inline]
fn insert(
    locked: &mut LockedEntry<'_, '_>,
    fault: &DaxFault<'_>,
    extents: &IomapIter<'_>,
    new: Entry,
) {
    let (mapping, old, index) = (locked.mapping(), locked.entry(), locked.index());
    let write = extents.is_write();
    let dirty = write && !is_synchronous(fault, extents);
    let shared = extents.iomap().is_shared();

    if dirty {
        mapping.inode().mark_pages_dirty();
    }
    // Whoever has the hole, or what is shared, mapped must not go on reading it.
    if shared || (old.is_zero() && !new.is_zero()) {
        mapping.unmap(old.size().align(index), old.size().pages());
    }

    // Memory that is there already stays, also if it is a huge entry for a small fault. It has the
    // same blocks.
    let replace = shared || !old.has_frames();
    let mut tree = locked.tree();
    if replace {
        old.disassociate(mapping, false);
        new.associate(&tree, new.size().align(index), shared);
        let was = tree.replace(new.locked());
        if was.entry() != Some(old.locked()) {
            kernel::warn_once!("fs_dax: an entry has changed while it was locked");
        }
    } else {
        tree.load();
    }
    if dirty {
        tree.mark(Mark::Dirty);
    }
    if write && shared {
        tree.mark(Mark::ToWrite);
    }
    drop(tree);
    if replace {
        locked.replaced_by(new);
    }
}
