// SPDX-License-Identifier: GPL-2.0-only

//! Entries that are locked while memory failure looks at their pages.
//!
//! A cookie stands for what was locked: 0 for nothing that could be, all ones for what needs no
//! lock, or the entry.

use crate::lock::LockedEntry;
use kernel::dax::{
    entry::{Entry, Size},
    folio::{Folio, Locking},
    mapping::Mapping,
    pages::Page,
    tree::{Found, Walk},
};

/// Nothing was locked.
const FAILED: usize = 0;
/// There is nothing to lock.
pub(crate) const NOT_NEEDED: usize = usize::MAX;

/// Locks the entry of a folio. Sleeps.
pub(crate) fn lock_folio(folio: Folio<'_>) -> usize {
    loop {
        match folio.try_lock() {
            Locking::Nothing => return FAILED,
            Locking::NotNeeded => return NOT_NEEDED,
            Locking::Locked(entry) => return entry.into_word(),
            Locking::Again => (),
        }
    }
}

/// Locks the entry that has the page `index`, and says which page of the device it begins with.
/// Sleeps.
pub(crate) fn lock_index(mapping: &Mapping, index: usize) -> (usize, Option<Page>) {
    if !mapping.inode().is_dax() {
        return (FAILED, None);
    }
    loop {
        let mut walk = Walk::new(mapping, index, Size::Page);
        let mut tree = walk.lock();
        let Found::Entry(entry) = tree.load() else {
            return (NOT_NEEDED, None);
        };
        if entry.is_locked() {
            tree.wait_and_leave(entry);
            continue;
        }
        // Nothing was faulted in, or a hole.
        let Some(page) = entry.first_page() else {
            return (NOT_NEEDED, None);
        };
        tree.replace(entry.locked());
        return (entry.into_word(), Some(page));
    }
}

/// Unlocks the entry that has the page `index`.
pub(crate) fn unlock(mapping: &Mapping, index: usize, entry: Entry) {
    drop(LockedEntry::new(
        &mut Walk::new(mapping, index, Size::Page),
        entry,
    ));
}
