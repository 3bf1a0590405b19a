// SPDX-License-Identifier: GPL-2.0

//! Which file a page of a device belongs to.
//!
//! Memory failure starts with a page, and nothing keeps the page's file but RCU. Once the entries
//! of the mapping are locked, and the page still belongs to it, the mapping cannot go: who frees an
//! inode locks them after the last entry is gone.

use crate::{
    entry::{Entry, Size},
    mapping::DaxMapping,
    pages::SHARED,
    tree::Walk,
};
use core::{
    marker::PhantomData,
    ptr::{addr_of, eq, NonNull},
};
use kernel::{bindings, sync::rcu};

/// A folio of a DAX device.
///
/// # Invariants
///
/// The folio is initialised, consists of one page, and stays for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Folio<'a>(NonNull<bindings::folio>, PhantomData<&'a ()>);

impl<'a> Folio<'a> {
    /// The folio that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says.
    #[inline]
    pub(crate) unsafe fn from_raw(ptr: NonNull<bindings::folio>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr, PhantomData)
    }

    fn fields(self) -> *mut bindings::page {
        self.0.as_ptr().cast()
    }

    fn mapping(self) -> *mut bindings::address_space {
        // SAFETY: By the invariant the field is there; read once, for it may change.
        unsafe {
            addr_of!((*self.fields()).__bindgen_anon_1.__bindgen_anon_1.mapping).read_volatile()
        }
    }

    /// The page of the file that it is, if it is one of a file.
    fn index(self) -> usize {
        // SAFETY: By the invariant the field is there; read once, for it may change.
        unsafe {
            addr_of!(
                (*self.fields())
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .__bindgen_anon_2
            )
            .cast::<usize>()
            .read_volatile()
        }
    }

    /// Who it belongs to at this moment.
    ///
    /// # Safety
    ///
    /// If that is a file, its mapping is not freed during `'m`.
    unsafe fn owner<'m>(self) -> Found<'m> {
        let mapping = self.mapping();
        // A page that files share has no address there.
        if mapping.is_null() || mapping as usize & bindings::PAGE_MAPPING_FLAGS as usize != 0 {
            return Found::Nobody;
        }
        // SAFETY: By the caller's promise it stays.
        if unsafe { addr_of!((*mapping).host).read_volatile() }.is_null() {
            return Found::Nobody;
        }
        // SAFETY: As above, and it has an inode.
        let mapping = unsafe { DaxMapping::from_raw(mapping) };
        match mapping.inode() {
            inode if !inode.is_dax() => Found::Nobody,
            inode if inode.is_char_device() => Found::Device,
            _ => Found::File(mapping),
        }
    }

    /// The filesystem whose files have it at this moment. Any context.
    pub(crate) fn owners(self) -> Owners {
        let _guard = rcu::read_lock();
        if eq(self.mapping(), SHARED) {
            return Owners::Several;
        }
        // SAFETY: Inodes, and filesystems, are freed a grace period after their last entry has gone.
        match unsafe { self.owner() } {
            Found::File(mapping) => Owners::Filesystem(mapping.inode().device()),
            Found::Nobody | Found::Device => Owners::None,
        }
    }

    /// Locks its entry, unless somebody else has: then this waits until he has not, and the caller
    /// tries again, for the page may belong to another file then. Sleeps.
    pub(crate) fn try_lock(self) -> Locking {
        let guard = rcu::read_lock();
        // SAFETY: Inodes are freed a grace period after their last entry has gone, and the page was
        // of the mapping inside the section. Later the lock of the entries keeps it.
        let mapping = match unsafe { self.owner() } {
            Found::Nobody => return Locking::Nothing,
            // A reference to the pgmap keeps its inode.
            Found::Device => return Locking::NotNeeded,
            Found::File(mapping) => mapping,
        };
        let mut walk = Walk::new(mapping, 0, Size::Page);
        let mut tree = walk.lock();
        if !eq(self.mapping(), mapping.as_raw()) {
            return Locking::Again;
        }
        tree.set(self.index());
        let Some(entry) = tree.load().entry() else {
            return Locking::Nothing;
        };
        if entry.is_locked() {
            // The lock of the entries keeps the mapping until it is dropped in there.
            drop(guard);
            tree.wait_and_leave(entry);
            return Locking::Again;
        }
        tree.replace(entry.locked());
        // INVARIANT: Just locked.
        Locking::Locked(Place {
            mapping: NonNull::from(mapping),
            index: tree.index(),
            entry,
        })
    }
}

/// Where an entry is that was locked for a folio.
///
/// The folio does not tell it for as long as that: another file that shares its block may fault it
/// in under the lock of *its* entry, and then it belongs to both, and to neither by name.
///
/// # Invariants
///
/// `mapping` has `entry`, locked for the owner of this, at `index`; so it stays.
#[must_use = "the entry stays locked"]
pub(crate) struct Place {
    mapping: NonNull<DaxMapping>,
    index: usize,
    entry: Entry,
}

impl Place {
    /// The mapping, the page, and what the entry was. It is on the caller to unlock it.
    pub(crate) fn with<R>(self, unlock: impl FnOnce(&DaxMapping, usize, Entry) -> R) -> R {
        // SAFETY: By the invariant it stays until the entry is unlocked, which is the last that is
        // done with it.
        let mapping = unsafe { self.mapping.as_ref() };
        unlock(mapping, self.index, self.entry)
    }
}

/// Whose files have a folio.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Nobody's, or those of a device.
    None,
    /// The filesystem with this device number.
    Filesystem(u32),
    /// It is shared by files, and cannot say which.
    Several,
}

/// Who a folio belongs to.
enum Found<'m> {
    /// Nobody, or files that share it.
    Nobody,
    /// A device: it is used without a filesystem.
    Device,
    /// A file.
    File(&'m DaxMapping),
}

/// What became of locking a folio's entry.
pub(crate) enum Locking {
    /// It belongs to no file, or to several.
    Nothing,
    /// It belongs to a device, and stays.
    NotNeeded,
    /// It was locked; this is where.
    Locked(Place),
    /// Somebody else had it locked, or the page changes hands.
    Again,
}
