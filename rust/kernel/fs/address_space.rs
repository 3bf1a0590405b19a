// SPDX-License-Identifier: GPL-2.0

//! Address spaces of files: `struct address_space`.
//!
//! This abstraction applies to the mapping of any file. The meaning of its entries depends on the
//! file: they are folios in a page cache, and DAX entries for a DAX file.
//!
//! This file encapsulates access to the fields of a valid `struct address_space`, and calls of C
//! functions that need nothing but a valid one.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::inode::Inode;
use crate::{bindings, error::Error, types::Opaque};
use core::{
    mem::ManuallyDrop,
    ptr::{addr_of, addr_of_mut},
};

/// The mapping of an inode. C: `struct address_space`.
///
/// # Invariants
///
/// The structure is initialised and has an inode.
#[doc(alias = "address_space")]
#[repr(transparent)]
pub struct AddressSpace(Opaque<bindings::address_space>);

impl AddressSpace {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `address_space` with an inode, both of which stay valid
    /// for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::address_space) -> &'a Self {
        // SAFETY: The type is transparent over `struct address_space`, and the caller promises that
        // `ptr` is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::address_space {
        self.0.get()
    }

    /// Returns the inode. C: `mapping->host`.
    #[inline]
    pub fn inode(&self) -> &Inode {
        // SAFETY: By the type invariants there is an inode, which is valid as long as the mapping.
        unsafe { Inode::from_raw((*self.as_raw()).host) }
    }

    /// Returns the array of the entries. C: `mapping->i_pages`.
    #[inline]
    pub fn i_pages(&self) -> *mut bindings::xarray {
        // SAFETY: By the type invariants the structure is valid; only the address of a field is
        // computed.
        unsafe { addr_of_mut!((*self.as_raw()).i_pages) }
    }

    /// Returns a pointer to the number of pages that have entries. C: `mapping->nrpages`.
    ///
    /// The number may be changed only under the lock of `i_pages`.
    #[inline]
    pub fn nrpages(&self) -> *mut crate::ffi::c_ulong {
        // SAFETY: By the type invariants the structure is valid; only the address of a field is
        // computed.
        unsafe { addr_of_mut!((*self.as_raw()).nrpages) }
    }

    /// Returns the flags for allocating the nodes of `i_pages`. C: `mapping_gfp_mask()`.
    #[doc(alias = "mapping_gfp_mask")]
    #[inline]
    pub fn gfp_mask(&self) -> bindings::gfp_t {
        // SAFETY: By the type invariants the structure is valid. The mask does not change once the
        // inode is in use.
        unsafe { (*self.as_raw()).gfp_mask }
    }

    /// Returns whether the mapping has no entries. Any context. C: `mapping_empty()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::fs::inode::Inode;
    ///
    /// /// Returns whether a scan of the inodes has to visit this one.
    /// fn is_candidate(inode: &Inode) -> bool {
    ///     inode.is_dax() && !inode.mapping().is_empty()
    /// }
    /// ```
    #[doc(alias = "mapping_empty")]
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: By the type invariants the structure is valid. The head of the array is a word
        // that other CPUs change as a whole, so one volatile read gets one of its values.
        unsafe { addr_of!((*self.as_raw()).i_pages.xa_head).read_volatile() }.is_null()
    }

    /// Unmaps `count` pages from page `first` on from all page tables. If `count` is 0, unmaps
    /// everything from `first` on. Sleeps. C: `unmap_mapping_pages()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::fs::address_space::AddressSpace;
    ///
    /// /// Unmaps a file from all processes. It can be faulted in again at once.
    /// fn unmap_all(mapping: &AddressSpace) {
    ///     mapping.unmap(0, 0);
    /// }
    /// ```
    #[doc(alias = "unmap_mapping_pages")]
    #[inline]
    pub fn unmap(&self, first: usize, count: usize) {
        // SAFETY: By the type invariants the mapping is valid, which is all that the function
        // needs.
        unsafe { bindings::unmap_mapping_pages(self.as_raw(), first as _, count as _, false) };
    }

    /// Returns a pointer to `invalidate_lock`.
    #[inline]
    fn invalidate_lock(&self) -> *mut bindings::rw_semaphore {
        // SAFETY: By the type invariants the structure is valid; only the address of a field is
        // computed.
        unsafe { addr_of_mut!((*self.as_raw()).invalidate_lock) }
    }

    /// Takes `invalidate_lock` for writing, which excludes faults and truncation until the guard is
    /// dropped. Sleeps uninterruptibly, as the faults that have begun do. C:
    /// `filemap_invalidate_lock()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::fs::address_space::AddressSpace;
    ///
    /// /// Unmaps a file, and calls `work` while no process can fault it in.
    /// fn with_unmapped(mapping: &AddressSpace, work: impl FnOnce()) {
    ///     let _lock = mapping.lock_invalidate();
    ///     mapping.unmap(0, 0);
    ///     work();
    /// }
    /// ```
    #[doc(alias = "filemap_invalidate_lock")]
    pub fn lock_invalidate(&self) -> InvalidateLock<'_> {
        // SAFETY: By the type invariants the mapping is valid, so its lock is initialised.
        unsafe { bindings::down_write(self.invalidate_lock()) };
        // INVARIANT: The lock has just been taken, and only the guard releases it.
        InvalidateLock(self)
    }

    /// Takes `invalidate_lock` as [`lock_invalidate`](Self::lock_invalidate) does, but returns `None`
    /// if the task is killed while it waits. Sleeps.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::fs::address_space::AddressSpace;
    ///
    /// /// Unmaps a file, and calls `work` while no process can fault it in.
    /// fn with_unmapped(mapping: &AddressSpace, work: impl FnOnce()) {
    ///     if let Some(_lock) = mapping.lock_invalidate_killable() {
    ///         mapping.unmap(0, 0);
    ///         work();
    ///     }
    /// }
    /// ```
    pub fn lock_invalidate_killable(&self) -> Option<InvalidateLock<'_>> {
        // SAFETY: By the type invariants the mapping is valid, so its lock is initialised.
        let error = unsafe { bindings::down_write_killable(self.invalidate_lock()) };
        // INVARIANT: The lock has just been taken, and only the guard releases it.
        (error == 0).then(|| InvalidateLock(self))
    }

    /// Removes the clean entries of the pages from `first` to `last`, inclusive. Sleeps. C:
    /// `invalidate_inode_pages2_range()`, whose return value no caller here can use.
    #[doc(alias = "invalidate_inode_pages2_range")]
    #[inline]
    pub fn invalidate(&self, first: usize, last: usize) {
        // SAFETY: By the type invariants the mapping is valid, which is all that the function
        // needs.
        unsafe { bindings::invalidate_inode_pages2_range(self.as_raw(), first as _, last as _) };
    }

    /// Tags the dirty entries of the pages from `first` to `last`, inclusive, for writeback.
    /// Sleeps. C: `tag_pages_for_writeback()`.
    #[doc(alias = "tag_pages_for_writeback")]
    #[inline]
    pub fn tag_for_writeback(&self, first: usize, last: usize) {
        // SAFETY: By the type invariants the mapping is valid, which is all that the function
        // needs.
        unsafe { bindings::tag_pages_for_writeback(self.as_raw(), first as _, last as _) };
    }

    /// Records a writeback error, which the next `fsync()` of the file returns. Any context. C:
    /// `mapping_set_error()`.
    #[doc(alias = "mapping_set_error")]
    #[cold]
    pub fn set_error(&self, error: Error) {
        // SAFETY: By the type invariants the mapping is valid, which is all that the function
        // needs.
        unsafe { bindings::mapping_set_error(self.as_raw(), error.to_errno()) };
    }
}

/// A guard for `invalidate_lock` of a mapping, held for writing.
///
/// # Invariants
///
/// The current task holds `invalidate_lock` of the mapping for writing.
#[must_use = "the lock is released at once when the guard is dropped"]
pub struct InvalidateLock<'a>(&'a AddressSpace);

impl<'a> InvalidateLock<'a> {
    /// Calls `work` with the guard of a lock that the caller holds, and that stays the caller's.
    ///
    /// # Safety
    ///
    /// The current task must hold `invalidate_lock` of the mapping for writing.
    #[inline]
    pub unsafe fn with_held<T>(mapping: &'a AddressSpace, work: impl FnOnce(&mut Self) -> T) -> T {
        // INVARIANT: The caller holds the lock. The guard is not dropped, so it does not release
        // it.
        work(&mut ManuallyDrop::new(Self(mapping)))
    }

    /// Returns the mapping.
    #[inline]
    pub fn mapping(&self) -> &'a AddressSpace {
        self.0
    }

    /// Releases the lock, calls `work`, and takes the lock again. Sleeps.
    #[inline]
    pub fn while_unlocked<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let lock = self.0.invalidate_lock();
        // SAFETY: By the type invariants this task holds the lock for writing.
        unsafe { bindings::up_write(lock) };
        let result = work();
        // INVARIANT: The lock is held again.
        // SAFETY: The borrow keeps the mapping valid, and its lock is initialised.
        unsafe { bindings::down_write(lock) };
        result
    }
}

impl Drop for InvalidateLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this task holds the lock for writing, and the borrow keeps
        // the mapping valid.
        unsafe { bindings::up_write(self.0.invalidate_lock()) };
    }
}
