// SPDX-License-Identifier: GPL-2.0-only

//! Revoking device memory from all files, because the device is removed.
//!
//! A filesystem may be mounted when the driver of its device is unbound, and it stays mounted until
//! it is unmounted. Its files have entries whose pages are about to lose their `struct page`, and
//! processes may have these pages mapped. So every such entry is removed here. Later accesses
//! fault, and fail with SIGBUS because the device is dead.
//!
//! A page names its file, and so its filesystem, whose files are searched. A page that files share
//! names none; then the files of all filesystems are searched.
//!
//! # Lock order
//!
//! 1. `invalidate_lock` of the file: a truncation that has seen an entry expects to find it until
//!    it removes the entry itself.
//! 2. The locks of a truncation: see [`entry_lock`].
//!
//! The wait for `invalidate_lock` ends if the task is killed. The filesystem is kept by an active
//! reference, which waits for nothing; and an inode whose last reference is put here, with pages
//! that are still pinned, is left to [`delayed_iput`](crate::delayed_iput).

use crate::{
    entry::{Entry, Size},
    entry_array::{Cursor, Slot, CHECK_SCHED},
    entry_lock::{self, Scanned},
    invalidate::write_back_and_remove,
    mapping::DaxMapping,
    owner::OwnerFilesystems,
};
use core::ops::ControlFlow;
use kernel::{
    fs::{inode::Inode, super_block},
    mm::{
        memremap::{DevPagemap, ZoneDevicePage},
        pfn::Pfn,
    },
};

/// Revokes the pages of the pgmap that `page` belongs to from the files of the filesystem that owns
/// `page`. Returns whether there were any. Sleeps.
///
/// This is the [`RevokeHook`](kernel::mm::memremap::RevokeHook): the registry calls it before it
/// waits for pages. The caller must hold no lock of a filesystem.
pub(crate) fn revoke_pages(page: ZoneDevicePage<'_>) -> bool {
    revoke_from_files(page.pgmap(), OwnerFilesystems::of(*page)) != 0
}

/// Revokes the pages of a pgmap from page tables and from the files of these filesystems. Returns
/// how many entries were removed. Sleeps; ends early if the task is killed.
///
/// The device is dead, so no new memory of it is faulted in. An inode that is being freed is
/// skipped: it removes its entries itself a moment later.
fn revoke_from_files(pgmap: &DevPagemap, owners: OwnerFilesystems) -> usize {
    let is_lost = |pfn| pgmap.covers(pfn);
    let mut removed = 0usize;
    let visit = |inode: &Inode| {
        // Mappings without pages of this pgmap are skipped, so an unrelated busy inode does not
        // delay teardown.
        if let Some(mapping) = DaxMapping::of(inode).filter(|m| has_lost_entry(m, is_lost)) {
            let Some(entries) = remove_lost_entries(mapping, is_lost) else {
                return ControlFlow::Break(());
            };
            removed = removed.wrapping_add(entries);
        }
        ControlFlow::Continue(())
    };
    match owners {
        OwnerFilesystems::None => {}
        OwnerFilesystems::One(device) => {
            super_block::for_each_inode(Some(device), is_candidate, visit);
        }
        OwnerFilesystems::Any => super_block::for_each_inode(None, is_candidate, visit),
    }
    removed
}

/// Returns whether a file may have memory of a device.
fn is_candidate(inode: &Inode) -> bool {
    inode.is_dax() && !inode.is_char_device() && !inode.mapping().is_empty()
}

/// Returns whether a file has an entry with such memory, locked or not. Sleeps.
fn has_lost_entry(mapping: &DaxMapping, is_lost: impl Fn(Pfn) -> bool) -> bool {
    let mut cursor = Cursor::new(mapping, 0, Size::Pte);
    let mut array = cursor.lock();
    let mut scanned = 0usize;
    loop {
        match array.find(usize::MAX) {
            Slot::Empty => return false,
            Slot::Entry(entry) if entry.pfn().is_some_and(&is_lost) => return true,
            Slot::Entry(_) | Slot::Foreign => {}
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK_SCHED == 0 {
            array.pause();
        }
    }
}

/// Removes the entries of a file that have such memory. Returns how many there were, or `None` if
/// the task is killed before. Sleeps.
fn remove_lost_entries(mapping: &DaxMapping, is_lost: impl Fn(Pfn) -> bool) -> Option<usize> {
    let _invalidate_lock = mapping.lock_invalidate_killable()?;
    let mut cursor = Cursor::new(mapping, 0, Size::Pte);
    let mut array = cursor.lock();
    let (mut scanned, mut removed) = (0usize, 0usize);
    loop {
        // A locked entry without such memory cannot get any: faults are excluded.
        let has_lost = |entry: Entry| entry.pfn().is_some_and(&is_lost);
        match entry_lock::scan(&mut array, usize::MAX, None, has_lost) {
            Scanned::End => return Some(removed),
            Scanned::Skipped | Scanned::Foreign => {}
            Scanned::Entry(found) => {
                let next = write_back_and_remove(found);
                array.set(next);
                removed = removed.wrapping_add(1);
            }
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK_SCHED == 0 {
            array.pause();
        }
    }
}
