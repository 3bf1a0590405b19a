// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Removing entries, and finding pinned pages before blocks are freed.
//!
//! A task that does I/O to a mapping holds references to its pages, possibly longer than the
//! mapping exists. So a filesystem that takes blocks away from a file first asks for a busy page
//! and waits for it ([`wait_idle`](crate::wait_idle)).
//!
//! ```text
//!   GUP                                       truncation
//!   1. takes a reference to the page          1. unmaps the page from all page tables
//!   2. checks that it is still mapped         2. reads the reference count
//! ```
//!
//! So at least one of the two sees the other. The lock of the filesystem excludes new faults.

use crate::{
    entry::{page_of, Size},
    entry_array::{Cursor, EntryArray, Gfp, CHECK_SCHED},
    entry_lock::{self, LockedEntry, Scanned, UnlockedEntry, UnlockedSlot, WakeMode},
    mapping::DaxMapping,
    owner::{EntryRef, FilePage, PinnedPage},
};
use core::ptr::NonNull;
use kernel::{bindings, error::Result, fs::address_space::AddressSpace, mm::pfn::Pfn};

/// The condition for removing an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The file is truncated: the entry is always removed.
    Truncate,
    /// The memory is to be read again: the entry is removed if it is clean.
    InvalidateClean,
}

/// Removes the entry that contains the page `index`, once it is unlocked. Returns whether it was
/// removed. Sleeps. C: `__dax_invalidate_entry()`.
#[doc(alias = "__dax_invalidate_entry")]
pub(crate) fn remove(mapping: &DaxMapping, index: usize, removal: Removal) -> bool {
    let mut cursor = Cursor::new(mapping, index, Size::Pte);
    let mut array = cursor.lock();
    let UnlockedSlot::Entry(entry) = entry_lock::get_unlocked(&mut array, Size::Pte) else {
        return false;
    };
    let kept = removal == Removal::InvalidateClean && entry.is_dirty();
    if kept {
        entry.put(WakeMode::All);
    } else {
        entry.remove(removal == Removal::Truncate);
    }
    !kept
}

/// Removes the entries of the bytes from `first` to `end`, exclusive, of which some or all are about
/// to get other blocks. Sleeps.
///
/// The caller may fail, or may replace fewer blocks than the filesystem has announced: the rest of
/// the file keeps its blocks and what was stored to them. So a dirty entry is written back before it
/// is removed: nothing is lost, whatever the caller does next. C only clears the dirty mark.
///
/// # Errors
///
/// Returns `ENOMEM` if there is no memory for splitting an entry. The entries that are still there
/// have kept their marks.
pub(crate) fn before_copy(mapping: &AddressSpace, first: i64, end: i64) -> Result {
    let (first, last) = (page_of(first), page_of(end.wrapping_sub(1)));
    if let Some(mapping) = DaxMapping::new(mapping) {
        remove_dirty(mapping, first, last)?;
    }
    mapping.invalidate(first, last);
    Ok(())
}

/// Writes the dirty entries of the pages from `first` to `last`, inclusive, back, and removes them.
/// The pages around them keep their entries and marks: a PMD entry with memory on both sides of a
/// bound is split. Sleeps. In C this place has `__dax_clear_dirty_range()`.
///
/// # Errors
///
/// Returns `ENOMEM` if there is no memory for splitting an entry.
#[doc(alias = "__dax_clear_dirty_range")]
fn remove_dirty(mapping: &DaxMapping, first: usize, last: usize) -> Result {
    let mut cursor = Cursor::new(mapping, first, Size::Pte);
    loop {
        let mut array = cursor.lock();
        if !remove_until_bound(&mut array, first, last) {
            return Ok(());
        }
        if let Some(mut locked) = LockedEntry::lock(array) {
            locked.split(Gfp::Kernel)?;
        }
    }
}

/// Removes entries as [`remove_dirty`] does, until it finds one that has to be split. Returns whether
/// it has found one; the cursor is at a page of it then that is not before `first`.
fn remove_until_bound(array: &mut EntryArray<'_, '_>, first: usize, last: usize) -> bool {
    let mut scanned = 0usize;
    loop {
        match entry_lock::scan(array, last, None, |_| true) {
            Scanned::End => return false,
            Scanned::Skipped | Scanned::Foreign => {}
            Scanned::Entry(found) => {
                let (entry, index) = (found.entry(), found.index());
                let start = entry.size().align(index);
                let end = start | entry.size().colour();
                if entry.has_memory() && (start < first || end > last) {
                    array.set(index.max(first));
                    return true;
                }
                if found.is_dirty() {
                    let next = write_back_and_remove(found);
                    array.set(next);
                } else {
                    found.put(WakeMode::Next);
                }
            }
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK_SCHED == 0 {
            array.pause();
        }
    }
}

/// Unmaps an entry, writes it back if it is dirty, and removes it. Returns the index behind it.
/// Sleeps; the array is unlocked meanwhile.
pub(crate) fn write_back_and_remove(found: UnlockedEntry<'_, '_, '_>) -> usize {
    let (entry, dirty) = (found.entry(), found.is_dirty());
    let (first, pages) = (entry.size().align(found.index()), entry.size().pages());
    // The entry is locked so that it is not mapped again before it is removed.
    let mut held = found.lock();
    held.while_unlocked(|mapping, entry| {
        // No store is made after this without a fault, which waits for the entry.
        mapping.unmap(first, pages);
        if dirty {
            // A later fsync does not find the entry.
            entry.write_back();
        }
    });
    held.remove();
    // A truncation that waits for one of the pages goes on.
    entry.wake_waiters();
    // OVERFLOW: Entries end within the file.
    first.wrapping_add(pages)
}

/// Splits PMD entries with memory on both sides of a bound of the pages from `first` to `end`,
/// exclusive, which are about to be truncated. Sleeps.
///
/// The pages that stay may be dirty, mapped and pinned. C removes the whole entry and loses that
/// information: a later fsync does not write these pages back.
///
/// This has to happen before truncation, because `truncate_inode_pages_range()` continues behind a
/// large entry that it has found: if only the page that it asked for were removed, the rest of the
/// range would keep entries of blocks that the file does not have any more.
pub(crate) fn split_bounds(mapping: &DaxMapping, first: usize, end: usize) {
    for bound in [first, end] {
        // `usize::MAX` is the end of any file.
        if bound & Size::Pmd.colour() != 0 && bound != usize::MAX {
            split_at(mapping, bound);
        }
    }
}

/// Splits the entry that contains the page `index` if it is a PMD entry with memory. Sleeps.
fn split_at(mapping: &DaxMapping, index: usize) {
    let mut cursor = Cursor::new(mapping, index, Size::Pte);
    let mut array = cursor.lock();
    let UnlockedSlot::Entry(found) = entry_lock::get_unlocked(&mut array, Size::Pte) else {
        return;
    };
    if found.entry().size() == Size::Pte || !found.entry().has_memory() {
        found.put(WakeMode::Next);
        return;
    }
    // Truncation cannot fail, so the allocation must not.
    let split = LockedEntry::lock(array).map(|mut locked| locked.split(Gfp::NoFail));
    if split.is_some_and(|split| split.is_err()) {
        kernel::warn_once!("fs_dax: PMD entry at the bound of a truncation cannot be split");
    }
}

/// Unmaps the pages from `first` to `last`, inclusive, and returns the first one that is pinned, or the
/// first page of its folio, which has the count. Sleeps. C: `dax_layout_busy_page_range()`.
///
/// A page may be pinned although no process has it mapped any more, or while its entry is locked. C
/// misses both.
///
/// The page may be gone when the array is unlocked, unless the caller excludes that its entry is
/// removed. So what is returned is its address.
pub(crate) fn busy_page(
    mapping: &AddressSpace,
    first: usize,
    last: usize,
) -> Option<NonNull<bindings::page>> {
    let mapping = DaxMapping::new(mapping)?;
    if mapping.is_empty() {
        return None;
    }
    // For a whole file, which has no end, this is 0, which means "to the end".
    let count = last.wrapping_sub(first).wrapping_add(1);
    mapping.unmap(first, count);

    let mut cursor = Cursor::new(mapping, first, Size::Pte);
    let mut array = cursor.lock();
    let mut scanned = 0usize;
    loop {
        match entry_lock::scan(&mut array, last, None, |_| true) {
            Scanned::End => return None,
            Scanned::Skipped | Scanned::Foreign => {}
            Scanned::Entry(found) => {
                let busy = found.entry_ref().busy_page().map(FilePage::as_raw);
                found.put(WakeMode::Next);
                if busy.is_some() {
                    return busy;
                }
            }
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK_SCHED == 0 {
            array.pause();
        }
    }
}

/// Returns the index of the first page from `first` on whose entry has a pinned page; `None` if there
/// is none. Sleeps.
///
/// Does not unmap the pages: the caller excludes that a process has them mapped.
pub(crate) fn next_pinned(mapping: &DaxMapping, first: usize) -> Option<usize> {
    let mut found = None;
    for_each_entry(mapping, first, |index, entry| {
        found = entry.busy_page().map(|_| index);
        found.is_some()
    });
    found
}

/// Returns the index of the first pinned page from `first` on, and the page; `None` if there is none.
/// Sleeps.
///
/// Does not unmap the pages, as [`next_pinned`].
pub(crate) fn next_pinned_page(mapping: &DaxMapping, first: usize) -> Option<(usize, PinnedPage)> {
    let mut found = None;
    for_each_entry(mapping, first, |index, entry| {
        let start = entry.size().align(index);
        found = entry
            .pinned_page_from(first.saturating_sub(start))
            // OVERFLOW: Entries end within the file.
            .map(|pinned| (start.wrapping_add(pinned.n), pinned));
        found.is_some()
    });
    found
}

/// The pinned pages of a file.
pub(crate) struct PinnedPages {
    /// Their number.
    pub(crate) count: usize,
    /// The physical address of the first one.
    pub(crate) first: Option<u64>,
}

/// Counts the pinned pages of a file. Sleeps.
pub(crate) fn count_pinned(mapping: &DaxMapping) -> PinnedPages {
    let mut pinned = PinnedPages {
        count: 0,
        first: None,
    };
    for_each_entry(mapping, 0, |_, entry| {
        let (count, first) = entry.pinned_pages();
        pinned.count = pinned.count.saturating_add(count);
        pinned.first = pinned.first.or(first.and_then(Pfn::phys));
        false
    });
    pinned
}

/// Calls `visit` with the index and the entry for each entry from the page `first` on, locked or
/// not, until it returns `true`. Sleeps between two entries; `visit` must not.
fn for_each_entry(
    mapping: &DaxMapping,
    first: usize,
    mut visit: impl FnMut(usize, EntryRef<'_>) -> bool,
) {
    let mut cursor = Cursor::new(mapping, first, Size::Pte);
    let mut array = cursor.lock();
    let mut scanned = 0usize;
    loop {
        if array.visit_next(usize::MAX, &mut visit).unwrap_or(true) {
            return;
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK_SCHED == 0 {
            array.pause();
        }
    }
}
