// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! A page fault of a DAX file, and what may be inserted into its page table.
//!
//! Device memory comes from an [`EntryMemory`], which borrows from the guard that keeps the device
//! alive; or, in the second half of a synchronous fault, from a locked entry, whose pgmap is then
//! looked up and kept. In both cases the device cannot be unbound between the check and the
//! insertion, so its teardown finds the page table entry.
//!
//! This file encapsulates these two arguments, and that the mapping of the fault is one of a DAX
//! file.

use crate::{
    direct_access::{DirectAccess, EntryMemory},
    entry::{byte_of, Size},
    entry_lock::LockedEntry,
    mapping::DaxMapping,
};
use core::{
    ops::Deref,
    ptr::{eq, NonNull},
};
use kernel::{
    bindings,
    error::Result,
    mm::{
        fault::{HugeZeroFolio, VmFault, VmFaultResult, ZeroPage},
        memremap::DevPagemap,
        pfn_t::{PfnFlags, PfnT},
    },
};

/// A page fault of a DAX file that is being handled.
///
/// # Invariants
///
/// The VMA of the fault maps a DAX file.
#[repr(transparent)]
pub(crate) struct DaxFault<'a>(VmFault<'a>);

impl<'a> DaxFault<'a> {
    /// Creates a value from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a fault of a DAX file that is being handled, which stays valid and is
    /// used by no other code for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(ptr: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: The caller promises that the file is a DAX file.
        // SAFETY: The caller promises that the fault is valid and exclusively used for `'a`.
        Self(unsafe { VmFault::from_raw(ptr) })
    }

    /// Returns the mapping of the file.
    #[inline]
    pub(crate) fn mapping(&self) -> &'a DaxMapping {
        // SAFETY: By the type invariants the file is a DAX file, and the VMA keeps it for `'a`.
        unsafe { DaxMapping::from_raw(self.0.mapping().as_raw()) }
    }

    /// Maps a page or 2 MiB at the PFNs from `pfn` on, for writing if `write`. May sleep.
    ///
    /// # Safety
    ///
    /// The PFNs must be memory of the file, aligned and as many as `size` says. Their pgmap must
    /// not be torn down during the call, and teardown after it must unmap the file.
    #[inline(always)]
    unsafe fn insert_pfns(&mut self, pfn: PfnT, size: Size, write: bool) -> VmFaultResult {
        // SAFETY: The process has mapped the file, so it may access the file's memory, and the
        // caller promises that teardown of the device finds the mapping.
        unsafe {
            match size {
                Size::Pte => self.0.insert_mixed(pfn, write),
                Size::Pmd => self.0.insert_pfn_pmd(pfn, write),
            }
        }
    }

    /// Maps memory that backs the entry, for writing if `write`. May sleep. C:
    /// `vmf_insert_mixed()`, `vmf_insert_mixed_mkwrite()`, `vmf_insert_pfn_pmd()`.
    ///
    /// # Safety
    ///
    /// The caller must have the entry locked that the file has at the index of this fault, and the
    /// entry must name this memory: so teardown finds the file, and unmaps it.
    #[inline(always)]
    pub(crate) unsafe fn insert(&mut self, memory: &EntryMemory<'_>, write: bool) -> VmFaultResult {
        // SAFETY: By the caller's promise the PFNs are memory of the file. By the invariants of
        // `EntryMemory` they are aligned, and as many as the size says. The device is not killed
        // while `memory` is borrowed, because killing waits for the guard, and the pgmap is torn
        // down after that, which unmaps the file that owns the pages.
        unsafe { self.insert_pfns(memory.pfn(), memory.size(), write) }
    }

    /// Maps the PFNs of the entry that the caller has locked for this fault, for writing if
    /// `write`. May sleep. Returns `SIGBUS` if their device has been unbound.
    ///
    /// There is no [`EntryMemory`] in the second half of a synchronous fault. A live reference to
    /// the pgmap takes its place: teardown waits for it, so it finds the page table entry.
    pub(crate) fn insert_locked(
        &mut self,
        locked: &LockedEntry<'_, '_>,
        write: bool,
    ) -> VmFaultResult {
        let entry = locked.entry();
        let is_of_fault = eq(locked.mapping(), self.mapping())
            && locked.index() == entry.size().align(self.index());
        let (true, Some(pfn)) = (is_of_fault, entry.pfn()) else {
            return VmFaultResult::SIGBUS;
        };
        let Some(_live) = DevPagemap::lookup(pfn, None) else {
            return VmFaultResult::SIGBUS;
        };
        let pfn = PfnT::new(pfn, PfnFlags::DEV | PfnFlags::MAP);
        // SAFETY: The file has this entry at the index of the fault, and it cannot be removed,
        // because the caller has it locked. So these are PFNs of the file, aligned and as many as
        // its size says. `_live` delays teardown of their pgmap until they are mapped, and teardown
        // then unmaps the file.
        unsafe { self.insert_pfns(pfn, entry.size(), write) }
    }

    /// Maps the zero page at the address, read-only. May sleep.
    #[inline]
    pub(crate) fn insert_zero_page(&mut self, zero: ZeroPage) -> VmFaultResult {
        self.0.insert_zero_page(zero)
    }

    /// Maps the huge zero folio around the address, read-only. Returns `false` if something is
    /// mapped there already, or if the VMA does not cover the 2 MiB.
    #[inline]
    pub(crate) fn insert_huge_zero(&mut self, zero: HugeZeroFolio<'_>) -> bool {
        self.0.insert_huge_zero(zero)
    }

    /// Splits a huge page that is mapped around the address, and counts the fallback in vmstat. C:
    /// `split_huge_pmd()`.
    #[inline]
    pub(crate) fn split(&mut self) {
        self.0.split_huge_pmd();
        self.0.count_fallback();
    }

    /// Fills the private page with zeroes. C: `clear_user_highpage()`.
    #[inline]
    pub(crate) fn clear_cow_page(&mut self) {
        self.0.clear_cow_page();
    }

    /// Copies a page of device memory to the private page. C: `copy_cow_page_dax()`.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if `from` has less than a page.
    #[inline]
    pub(crate) fn copy_to_cow_page(&mut self, from: &DirectAccess<'_>) -> Result {
        let from = from.page_address()?;
        // SAFETY: By the invariants of `DirectAccess` the page at this address is mapped for the
        // kernel while `from` is borrowed.
        unsafe { self.0.copy_to_cow_page(from) };
        Ok(())
    }

    /// Maps the private page, which has been filled. May sleep. C: `finish_fault()`.
    #[inline]
    pub(crate) fn finish_cow_page(&mut self) -> VmFaultResult {
        self.0.finish_cow_page()
    }

    /// Makes the data and metadata of an entry of this size at the fault durable. Sleeps. C:
    /// `vfs_fsync_range()`.
    ///
    /// # Errors
    ///
    /// Returns the error of the filesystem.
    #[inline]
    pub(crate) fn fsync(&self, size: Size) -> Result {
        let first = byte_of(self.index());
        // OVERFLOW: A file has at most `i64::MAX` bytes.
        let last = first.wrapping_add(size.bytes() as i64).wrapping_sub(1);
        self.0.fsync_range(first, last)
    }
}

impl<'a> Deref for DaxFault<'a> {
    type Target = VmFault<'a>;

    #[inline]
    fn deref(&self) -> &VmFault<'a> {
        &self.0
    }
}
