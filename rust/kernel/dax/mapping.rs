// SPDX-License-Identifier: GPL-2.0

//! The mapping of a file that is mapped directly.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::reader::Device;
use crate::{
    bindings, error::Error, ffi::c_ulong, fs::inode::Inode, mm::pfn::Pfn, page::PAGE_SIZE,
    types::Opaque,
};
use core::ptr::{addr_of, addr_of_mut};

/// A mapping that somebody keeps. C: `struct address_space`.
///
/// # Invariants
///
/// The structure is initialised and has an inode. If that is a file of a filesystem with DAX, the
/// numbers among `i_pages` are [entries](super::entry::Entry).
#[repr(transparent)]
pub struct Mapping(Opaque<bindings::address_space>);

impl Mapping {
    /// The mapping that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says, for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::address_space) -> &'a Self {
        // SAFETY: The type is transparent; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::address_space {
        self.0.get()
    }

    /// The array with the entries.
    #[inline]
    pub(super) fn i_pages(&self) -> *mut bindings::xarray {
        // SAFETY: By the invariant the field is there.
        unsafe { addr_of_mut!((*self.as_raw()).i_pages) }
    }

    /// The inode.
    #[inline]
    pub fn inode(&self) -> &Inode {
        // SAFETY: By the invariant there is one, and it keeps the mapping.
        unsafe { Inode::from_raw((*self.as_raw()).host) }
    }

    /// Whether there is no entry. Any context. C: `mapping_empty()`.
    #[doc(alias = "mapping_empty")]
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: By the invariant the field is there; read once, for it may change.
        unsafe { addr_of!((*self.as_raw()).i_pages.xa_head).read_volatile() }.is_null()
    }

    /// How memory for it is allocated. C: `mapping_gfp_mask()`.
    #[inline]
    pub(super) fn gfp_mask(&self) -> bindings::gfp_t {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).gfp_mask }
    }

    /// Where C counts the pages that there are entries for. Changed under the lock of the entries.
    #[inline]
    pub(super) fn nrpages(&self) -> *mut c_ulong {
        // SAFETY: By the invariant the field is there.
        unsafe { addr_of_mut!((*self.as_raw()).nrpages) }
    }

    /// Takes `count` pages from `first` on out of every page table. Sleeps. C:
    /// `unmap_mapping_pages()`.
    #[doc(alias = "unmap_mapping_pages")]
    #[inline]
    pub fn unmap(&self, first: usize, count: usize) {
        // SAFETY: By the invariant the mapping is valid.
        unsafe { bindings::unmap_mapping_pages(self.as_raw(), first as _, count as _, false) };
    }

    /// Keeps faults, and who truncates, out of the file until the result is dropped. Sleeps. C:
    /// `filemap_invalidate_lock()`.
    #[doc(alias = "filemap_invalidate_lock")]
    pub fn lock_invalidate(&self) -> InvalidateLock<'_> {
        // SAFETY: By the invariant the mapping is valid.
        unsafe { bindings::down_write(addr_of_mut!((*self.as_raw()).invalidate_lock)) };
        // INVARIANT: Just taken.
        InvalidateLock(self)
    }

    /// Drops entries from `first` to `last`, both included, that are clean. Sleeps. C:
    /// `invalidate_inode_pages2_range()`, whose answer nobody here can use.
    #[doc(alias = "invalidate_inode_pages2_range")]
    #[inline]
    pub fn invalidate(&self, first: usize, last: usize) {
        // SAFETY: By the invariant the mapping is valid.
        unsafe { bindings::invalidate_inode_pages2_range(self.as_raw(), first as _, last as _) };
    }

    /// Marks what is dirty from `first` to `last`, both included, as to be written. Sleeps. C:
    /// `tag_pages_for_writeback()`.
    #[doc(alias = "tag_pages_for_writeback")]
    #[inline]
    pub fn tag_for_writeback(&self, first: usize, last: usize) {
        // SAFETY: By the invariant the mapping is valid.
        unsafe { bindings::tag_pages_for_writeback(self.as_raw(), first as _, last as _) };
    }

    /// Whoever syncs the file next is told of the error. Any context. C: `mapping_set_error()`.
    #[doc(alias = "mapping_set_error")]
    #[cold]
    pub fn set_error(&self, error: Error) {
        // SAFETY: By the invariant the mapping is valid.
        unsafe { bindings::mapping_set_error(self.as_raw(), error.to_errno()) };
    }

    /// Makes every mapping of `count` pages from `first` on, which are at `pfn`, clean and
    /// read-only, so that the next store is a fault; then writes the caches back. Sleeps. C:
    /// `pfn_mkclean_range()`, `dax_flush()`.
    ///
    /// The caller has locked the entry of these pages, or else a store between the two would be
    /// lost.
    #[doc(alias = "pfn_mkclean_range")]
    #[doc(alias = "dax_flush")]
    pub fn clean(&self, device: Device<'_>, pfn: Pfn, first: usize, count: usize) {
        // OVERFLOW: Entries end within the file.
        let last = first.wrapping_add(count).wrapping_sub(1);
        // SAFETY: By the invariant the mapping is valid.
        unsafe { bindings::i_mmap_lock_read(self.as_raw()) };
        // SAFETY: As above, and the tree does not change under the lock.
        let mut vma = unsafe {
            let tree = addr_of_mut!((*self.as_raw()).i_mmap);
            bindings::vma_interval_tree_iter_first(tree, first as _, last as _)
        };
        while !vma.is_null() {
            // SAFETY: A VMA of this mapping stays in the tree under the lock.
            unsafe { bindings::pfn_mkclean_range(pfn.nr() as _, count as _, first as _, vma) };
            // SAFETY: The lock may be held while sleeping.
            unsafe { bindings::cond_resched() };
            // SAFETY: As above.
            vma = unsafe { bindings::vma_interval_tree_iter_next(vma, first as _, last as _) };
        }
        // SAFETY: Locked above.
        unsafe { bindings::i_mmap_unlock_read(self.as_raw()) };
        // OVERFLOW: A frame number with the bytes of a page behind it is an address.
        let bytes = count.wrapping_mul(PAGE_SIZE);
        device.flush_frames(pfn, bytes);
    }
}

/// Faults, and who truncates, are kept out of a file.
///
/// # Invariants
///
/// `invalidate_lock` of the mapping is held for writing, by us.
#[must_use = "the lock is given back at once when it is dropped"]
pub struct InvalidateLock<'a>(&'a Mapping);

impl Drop for InvalidateLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is held.
        unsafe { bindings::up_write(addr_of_mut!((*self.0.as_raw()).invalidate_lock)) };
    }
}
