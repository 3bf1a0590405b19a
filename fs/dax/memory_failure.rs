// SPDX-License-Identifier: GPL-2.0-only

//! Entries that are locked while memory failure looks at their pages.
//!
//! A cookie stands for what was locked: 0 for nothing that could be, all ones for what needs no
//! lock; the entry, or the address of where it is if a folio was all that was known.

use crate::lock::LockedEntry;
use crate::{
    entry::{Entry, Size},
    folio::{Folio, Locking, Place},
    mapping::DaxMapping,
    pages::Page,
    tree::{Found, Walk},
};
use core::ptr::NonNull;
use kernel::{
    alloc::{flags::GFP_KERNEL, KBox},
    bindings,
    ffi::c_ulong,
    macros::export,
};

/// Nothing was locked.
const FAILED: usize = 0;
/// There is nothing to lock.
const NOT_NEEDED: usize = usize::MAX;

/// Locks the entry of a folio. Sleeps.
fn lock_folio(folio: Folio<'_>) -> usize {
    // Before, for there is no way back from a locked entry that nobody knows.
    let Ok(room) = KBox::<Place>::new_uninit(GFP_KERNEL) else {
        return FAILED;
    };
    loop {
        match folio.try_lock() {
            Locking::Nothing => return FAILED,
            Locking::NotNeeded => return NOT_NEEDED,
            // CAST: An address is neither 0 nor all ones.
            Locking::Locked(place) => return KBox::into_raw(KBox::write(room, place)) as usize,
            Locking::Again => (),
        }
    }
}

/// Locks the entry that has the page `index`, and says which page of the device it begins with.
/// Sleeps.
fn lock_index(mapping: &DaxMapping, index: usize) -> (usize, Option<Page>) {
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
fn unlock(mapping: &DaxMapping, index: usize, entry: Entry) {
    drop(LockedEntry::new(
        &mut Walk::new(mapping, index, Size::Page),
        entry,
    ));
}

/// Locks the entry of a folio. Sleeps. Returns a cookie for `dax_unlock_folio()`, or 0.
///
/// # Safety
///
/// `folio` is of a pgmap that the caller has a reference to.
#[export]
pub(crate) unsafe extern "C" fn dax_lock_folio(
    folio: *mut bindings::folio,
) -> bindings::dax_entry_t {
    // SAFETY: The caller's promise.
    let folio = NonNull::new(folio).map(|folio| unsafe { Folio::from_raw(folio) });
    folio.map_or(0, lock_folio)
}

/// Unlocks the entry of a folio.
///
/// # Safety
///
/// `dax_lock_folio()` has given `cookie`, and it was not here before.
#[export]
pub(crate) unsafe extern "C" fn dax_unlock_folio(
    _folio: *mut bindings::folio,
    cookie: bindings::dax_entry_t,
) {
    if cookie == FAILED || cookie == NOT_NEEDED {
        return;
    }
    // SAFETY: The caller's promise: `lock_folio()` made it of a box, and this is the only time that
    // it comes back.
    let place = unsafe { KBox::from_raw(cookie as *mut Place) };
    KBox::into_inner(place).with(unlock);
}

/// Locks the entry of a file's page, and writes to `page` which page of the device that is. Sleeps.
/// Returns a cookie for `dax_unlock_mapping_entry()`, or 0.
///
/// # Safety
///
/// `mapping` is valid, and `page` is valid for writes.
#[export]
pub(crate) unsafe extern "C" fn dax_lock_mapping_entry(
    mapping: *mut bindings::address_space,
    index: c_ulong,
    page: *mut *mut bindings::page,
) -> bindings::dax_entry_t {
    // SAFETY: The caller's promise.
    let mapping = unsafe { DaxMapping::from_raw(mapping) };
    let (cookie, first) = lock_index(mapping, index);
    if let Some(first) = first {
        // SAFETY: The caller's promise.
        unsafe { page.write(Page::as_raw(first)) };
    }
    cookie
}

/// Unlocks the entry of a file's page.
///
/// # Safety
///
/// `dax_lock_mapping_entry()` has given `cookie`, which is not 0, for the same page.
#[export]
pub(crate) unsafe extern "C" fn dax_unlock_mapping_entry(
    mapping: *mut bindings::address_space,
    index: c_ulong,
    cookie: bindings::dax_entry_t,
) {
    if cookie == NOT_NEEDED {
        return;
    }
    // SAFETY: The caller's promise.
    let (mapping, entry) = unsafe { (DaxMapping::from_raw(mapping), Entry::from_cookie(cookie)) };
    unlock(mapping, index, entry);
}
