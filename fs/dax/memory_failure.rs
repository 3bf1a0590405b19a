// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Entries that memory failure locks while it looks at their pages.
//!
//! A cookie stands for the lock. It is 0 if there is nothing to lock, and all ones if no lock is
//! needed. `dax_lock_mapping_entry()` returns the word of the entry, as C does, because its caller
//! knows mapping and index. `dax_lock_page()` and `dax_lock_folio()` return the address of a
//! [`PageLock`], which records them. C looks both up in the folio again when it unlocks; but they may
//! have changed: another file that shares the block may fault it in under the lock of *its* entry
//! meanwhile, and then the folio names neither file.
//!
//! The page that has failed may be any page of its folio. Its own index is what counts, and its own
//! flag says that it has failed. C takes the first page of the folio, or of the entry, for it.
//!
//! This file encapsulates the cookies, and the way from a folio to the mapping that owns it.

use crate::{
    entry::{Entry, Size},
    entry_array::{Cursor, Slot},
    entry_lock::LockedEntry,
    mapping::DaxMapping,
    owner::{FilePage, Owner},
};
use core::ptr::NonNull;
use kernel::{
    alloc::{flags::GFP_KERNEL, KBox},
    bindings,
    ffi::c_ulong,
    fs::address_space::AddressSpace,
    macros::export,
    mm::{folio::FolioRef, page::PageRef},
    sync::rcu,
};

/// The cookie for a failure: nothing was locked.
const FAILED: usize = 0;
/// The cookie for memory that needs no lock.
const NOT_NEEDED: usize = usize::MAX;

/// An entry that was locked for a page.
///
/// # Invariants
///
/// `mapping` has `entry` at `index`, locked for the owner of this value; so the mapping stays
/// valid.
#[must_use = "the entry stays locked"]
struct PageLock {
    mapping: NonNull<DaxMapping>,
    index: usize,
    entry: Entry,
}

impl PageLock {
    /// Unlocks the entry.
    fn unlock(self) {
        // SAFETY: By the type invariants the mapping stays valid until the entry is unlocked, and
        // it is not accessed after that. The lock of the entry belongs to `self`.
        unsafe { unlock(self.mapping.as_ref(), self.index, self.entry) };
    }
}

/// The result of trying to lock the entry of a page.
enum TryLock {
    /// No file owns the page, or several do.
    Failed,
    /// A device owns the page, and stays.
    NotNeeded,
    /// The entry was locked.
    Locked(PageLock),
    /// Another task had the entry locked, or the owner has changed.
    Retry,
}

/// Locks the entry of a page unless another task holds it locked. In that case waits until it is
/// unlocked, and the caller tries again, because the page may have another owner by then. Sleeps.
fn try_lock(page: PageRef<'_>) -> TryLock {
    // SAFETY: Nothing sleeps until the guard is dropped: the lock of an array is a spinlock.
    let guard = unsafe { rcu::read_lock() };
    // SAFETY: Inodes are freed a grace period after their last entry has been removed, and the
    // section is open. After it the lock of the array keeps the mapping, once the page has been
    // found to name it still.
    let mapping = match unsafe { Owner::of(page) } {
        Owner::None => return TryLock::Failed,
        // The caller's reference to the pgmap keeps the inode of the device.
        Owner::Device => return TryLock::NotNeeded,
        Owner::File(mapping) => mapping,
    };
    let mut cursor = Cursor::new(mapping, 0, Size::Pte);
    let mut array = cursor.lock();
    let Some(index) = Owner::index_in(page, &array) else {
        return TryLock::Retry;
    };
    array.set(index);
    let names = |entry: &Entry| entry.part(index & entry.size().colour());
    let own = array
        .load()
        .entry()
        .filter(|entry| names(entry).and_then(Entry::pfn) == Some(page.pfn()));
    // Where the entries of a folio are counted, the file need not have one for this page.
    let Some(entry) = own else {
        return TryLock::Failed;
    };
    if entry.is_locked() {
        // The lock of the array keeps the mapping until it is released in `unlock_and_wait`.
        drop(guard);
        array.unlock_and_wait(entry);
        return TryLock::Retry;
    }
    let Some(entry) = LockedEntry::lock(array).map(LockedEntry::forget) else {
        return TryLock::Retry;
    };
    // INVARIANT: The entry has just been locked, and the lock belongs to this value.
    TryLock::Locked(PageLock {
        mapping: NonNull::from(mapping),
        index,
        entry,
    })
}

/// Locks the entry of a page and returns the cookie. Sleeps.
fn lock_page(page: PageRef<'_>) -> usize {
    // The memory comes first: once the entry is locked, failure would have to unlock it again.
    let Ok(memory) = KBox::<PageLock>::new_uninit(GFP_KERNEL) else {
        return FAILED;
    };
    loop {
        match try_lock(page) {
            TryLock::Failed => return FAILED,
            TryLock::NotNeeded => return NOT_NEEDED,
            // CAST: An address is neither 0 nor all ones.
            TryLock::Locked(lock) => return KBox::into_raw(KBox::write(memory, lock)) as usize,
            TryLock::Retry => (),
        }
    }
}

/// Locks the entry that contains the page `index`. Returns the cookie and the page. Sleeps.
///
/// C returns the first page of the entry.
fn lock_index(mapping: &AddressSpace, index: usize) -> (usize, Option<NonNull<bindings::page>>) {
    let Some(mapping) = DaxMapping::new(mapping) else {
        return (FAILED, None);
    };
    loop {
        let mut cursor = Cursor::new(mapping, index, Size::Pte);
        let mut array = cursor.lock();
        let Slot::Entry(entry) = array.load() else {
            return (NOT_NEEDED, None);
        };
        if entry.is_locked() {
            array.unlock_and_wait(entry);
            continue;
        }
        // An empty entry or a hole has no page.
        if !entry.has_memory() {
            return (NOT_NEEDED, None);
        }
        let locked = LockedEntry::lock(array);
        if let Some(locked) = locked {
            let page = locked.entry_ref().page_at(index).map(FilePage::as_raw);
            return (locked.forget().into_word(), page);
        }
    }
}

/// Unlocks the entry that contains the page `index`.
///
/// # Safety
///
/// `entry` must be from [`LockedEntry::forget`], for that page, and not have been unlocked since.
unsafe fn unlock(mapping: &DaxMapping, index: usize, entry: Entry) {
    let mut cursor = Cursor::new(mapping, index, Size::Pte);
    // SAFETY: The caller promises that the entry is locked there, and that the lock belongs to no
    // other value.
    drop(unsafe { LockedEntry::from_raw(&mut cursor, entry) });
}

/// Locks the entry that names a page. Returns a cookie for `dax_unlock_folio()`, or 0. Sleeps.
///
/// # Safety
///
/// `page` must be null or a page of a pgmap that the caller has a reference to.
#[export]
pub(crate) unsafe extern "C" fn dax_lock_page(page: *mut bindings::page) -> c_ulong {
    let Some(page) = NonNull::new(page) else {
        return 0;
    };
    // SAFETY: The caller's reference to the pgmap keeps the page valid.
    lock_page(unsafe { PageRef::from_raw(page) })
}

/// Locks the entry that names the first page of a folio. Returns a cookie for `dax_unlock_folio()`,
/// or 0. Sleeps.
///
/// # Safety
///
/// `folio` must be null or a folio of a pgmap that the caller has a reference to.
#[export]
pub(crate) unsafe extern "C" fn dax_lock_folio(
    folio: *mut bindings::folio,
) -> bindings::dax_entry_t {
    let Some(folio) = NonNull::new(folio) else {
        return 0;
    };
    // SAFETY: The caller's reference to the pgmap keeps the folio valid.
    lock_page(unsafe { FolioRef::from_raw(folio) }.first_page())
}

/// Unlocks the entry of a page or a folio.
///
/// # Safety
///
/// `dax_lock_page()` or `dax_lock_folio()` must have returned `cookie`, which must not have been
/// passed to this function before.
#[export]
pub(crate) unsafe extern "C" fn dax_unlock_folio(
    _folio: *mut bindings::folio,
    cookie: bindings::dax_entry_t,
) {
    if cookie == FAILED || cookie == NOT_NEEDED {
        return;
    }
    // SAFETY: The caller promises that `lock_page()` has made the cookie, so it is the address of a
    // box, and that it is passed here once, so the box is not freed yet.
    let lock = unsafe { KBox::from_raw(cookie as *mut PageLock) };
    KBox::into_inner(lock).unlock();
}

/// Locks the entry that contains a page of a file, and stores the page to `page`. Returns a cookie for `dax_unlock_mapping_entry()`, or 0. Sleeps.
///
/// # Safety
///
/// `mapping` must be valid, and `page` must be valid for writes.
#[export]
pub(crate) unsafe extern "C" fn dax_lock_mapping_entry(
    mapping: *mut bindings::address_space,
    index: c_ulong,
    page: *mut *mut bindings::page,
) -> bindings::dax_entry_t {
    // SAFETY: The caller promises that the mapping is valid.
    let mapping = unsafe { AddressSpace::from_raw(mapping) };
    let (cookie, named) = lock_index(mapping, index);
    if let Some(named) = named {
        // SAFETY: The caller promises that `page` is valid for writes.
        unsafe { page.write(named.as_ptr()) };
    }
    cookie
}

/// Unlocks the entry that contains a page of a file.
///
/// # Safety
///
/// `dax_lock_mapping_entry()` must have returned `cookie`, which is not 0, for the same page.
#[export]
pub(crate) unsafe extern "C" fn dax_unlock_mapping_entry(
    mapping: *mut bindings::address_space,
    index: c_ulong,
    cookie: bindings::dax_entry_t,
) {
    if cookie == NOT_NEEDED {
        return;
    }
    // SAFETY: The caller promises that the cookie was made for this mapping, which is therefore
    // that of a DAX file, and that it is the word of an entry that has been locked there since.
    unsafe {
        let mapping = DaxMapping::from_raw(mapping);
        if let Some(entry) = Entry::from_word(cookie) {
            unlock(mapping, index, entry);
        }
    }
}
