// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! The mapping of a DAX file.
//!
//! It is an [`AddressSpace`] in which every value entry is a [DAX entry](crate::entry): a number in
//! the mapping of any other file is the shadow of an evicted folio, and must not be taken for PFNs.
//! So the array of the entries is reached through a [`DaxMapping`] only.
//!
//! This file encapsulates that promise, and the walk over the VMAs of a mapping.

use crate::{direct_access::DaxDeviceRef, owner::EntryRef};
use core::{ops::Deref, ptr::addr_of_mut};
use kernel::{
    bindings,
    fs::{address_space::AddressSpace, inode::Inode},
};

/// The mapping of a DAX file.
///
/// # Invariants
///
/// The inode is one of a filesystem with DAX, and has `S_DAX` set or is being freed: value entries
/// in `i_pages` are DAX entries.
#[repr(transparent)]
pub(crate) struct DaxMapping(AddressSpace);

impl DaxMapping {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to the mapping of a DAX file, which stays valid for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::address_space) -> &'a Self {
        // INVARIANT: The caller promises that the file is a DAX file.
        // SAFETY: The type is transparent over `struct address_space`, and the caller promises that
        // `ptr` is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the mapping as that of a DAX file, if it is one. C: `dax_mapping()`.
    #[doc(alias = "dax_mapping")]
    #[inline]
    pub(crate) fn new(mapping: &AddressSpace) -> Option<&Self> {
        // SAFETY: Only a filesystem with DAX sets `S_DAX`, and an inode with it has no page cache,
        // so this is the mapping of a DAX file. The borrow of the result is that of `mapping`.
        (mapping.inode().is_dax()).then(|| unsafe { Self::from_raw(mapping.as_raw()) })
    }

    /// Returns the mapping of the inode, if that is a DAX file. C: `inode->i_mapping`.
    #[inline]
    pub(crate) fn of(inode: &Inode) -> Option<&Self> {
        Self::new(inode.mapping())
    }

    /// Makes every page table entry for the pages of an entry of this mapping, of which the first
    /// has the index `first`, clean and read-only, so that the next store faults; then writes the
    /// CPU caches back. Sleeps. C: `pfn_mkclean_range()`, `dax_flush()`.
    ///
    /// The caller has the entry locked. Otherwise a store between the two steps would be lost.
    #[doc(alias = "pfn_mkclean_range")]
    #[doc(alias = "dax_flush")]
    pub(crate) fn clean(&self, device: DaxDeviceRef<'_>, entry: EntryRef<'_>, first: usize) {
        let Some(pfn) = entry.pfn() else {
            return;
        };
        let count = entry.size().pages();
        // OVERFLOW: Entries end within the file.
        let last = first.wrapping_add(count).wrapping_sub(1);
        // SAFETY: By the type invariants the mapping is valid.
        unsafe { bindings::i_mmap_lock_read(self.as_raw()) };
        // SAFETY: The mapping is valid, and the lock, which has just been taken, keeps the tree as
        // it is.
        let mut vma = unsafe {
            let tree = addr_of_mut!((*self.as_raw()).i_mmap);
            bindings::vma_interval_tree_iter_first(tree, first as _, last as _)
        };
        while !vma.is_null() {
            // SAFETY: `vma` is in the tree, and stays there and valid while the lock is held.
            unsafe { bindings::pfn_mkclean_range(pfn.nr() as _, count as _, first as _, vma) };
            // SAFETY: The only lock taken here is a semaphore, whose holder may sleep.
            unsafe { bindings::cond_resched() };
            // SAFETY: `vma` is in the tree, which does not change while the lock is held.
            vma = unsafe { bindings::vma_interval_tree_iter_next(vma, first as _, last as _) };
        }
        // SAFETY: The lock was taken above by this task.
        unsafe { bindings::i_mmap_unlock_read(self.as_raw()) };
        device.flush_entry(entry);
    }
}

impl Deref for DaxMapping {
    type Target = AddressSpace;

    #[inline]
    fn deref(&self) -> &AddressSpace {
        &self.0
    }
}
