// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! The pages of a pgmap.
//!
//! What the reference count of a page means depends on the pgmap's [`MemoryType`] (in 6.12; later
//! kernels differ):
//!
//! | type | idle at | references | when the page becomes idle again |
//! |---|---|---|---|
//! | private, coherent | 0 | the first is taken by the owner in `zone_device_page_init()` | the owner's `page_free` is called and the page's live reference put |
//! | FS DAX | 1 | pins only: being mapped does not count | waiters for the page are woken |
//! | generic, P2PDMA | 1 | pins only | nothing; if the count drops to 0, the owner's `page_free` is called and the count set to 1 |
//!
//! [`ZoneDevicePage`] and [`ZoneDeviceFolio`] are views of [`PageRef`] and [`FolioRef`]: their
//! pgmap is known to stay valid. The `unsafe` code here reads the pgmap through the page, and
//! changes the counts of pages that the caller owns.

use super::{DevPagemap, MemoryType};
use crate::{
    bindings,
    mm::{folio::FolioRef, page::PageRef},
    sync::wait_var::wake_up_var,
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{addr_of, NonNull},
};

impl PageRef<'_> {
    /// Returns whether the page is memory of a PCI device. C: `is_pci_p2pdma_page()`.
    #[inline(always)]
    pub fn is_pci_p2pdma_page(self) -> bool {
        cfg!(CONFIG_PCI_P2PDMA) && self.is_zone_device() && self.pgmap_is_pci_p2pdma()
    }

    /// Returns whether the pgmap of a page in ZONE_DEVICE is memory of a PCI device.
    #[cold]
    fn pgmap_is_pci_p2pdma(self) -> bool {
        // A tail page has the address of its head where the head has that of the pgmap.
        let first = self.head_of_tail().unwrap_or(self);
        let pgmap = first.pgmap_word() as *const bindings::dev_pagemap;
        // SAFETY: The page is in ZONE_DEVICE and is no tail page, so by the invariants of `PageRef`
        // the word is the address of its pgmap, which is not freed before the page's memmap. The
        // type does not change while the pgmap is mapped.
        let memory_type = unsafe { addr_of!((*pgmap).type_).read() };
        memory_type == bindings::memory_type_MEMORY_DEVICE_PCI_P2PDMA
    }
}

/// A page of a pgmap. C: `struct page` in ZONE_DEVICE.
///
/// # Invariants
///
/// The page is in ZONE_DEVICE, and the pgmap that it points back to stays valid for `'a`.
///
/// # Examples
///
/// ```
/// use kernel::mm::memremap::{MemoryType, ZoneDevicePage};
///
/// /// Returns whether only the filesystem, or no task at all, uses a page of FS DAX.
/// fn is_idle(page: ZoneDevicePage<'_>) -> bool {
///     page.pgmap().memory_type() == Some(MemoryType::FsDax) && page.ref_count() == 1
/// }
/// ```
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct ZoneDevicePage<'a>(PageRef<'a>, PhantomData<&'a DevPagemap>);

impl<'a> Deref for ZoneDevicePage<'a> {
    type Target = PageRef<'a>;

    #[inline(always)]
    fn deref(&self) -> &PageRef<'a> {
        &self.0
    }
}

impl<'a> ZoneDevicePage<'a> {
    /// Creates a reference to the page at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct page` in ZONE_DEVICE that stays valid for `'a`,
    /// as must the pgmap that the page points back to.
    #[inline(always)]
    pub unsafe fn from_raw(ptr: NonNull<bindings::page>) -> Self {
        // SAFETY: By the caller's promise the `struct page` is initialised and stays valid.
        let page = unsafe { PageRef::from_raw(ptr) };
        // INVARIANT: By the caller's promise the page is in ZONE_DEVICE and its pgmap stays valid.
        Self(page, PhantomData)
    }

    /// Returns the pgmap that the page belongs to. C: `page->pgmap` of the folio's first page.
    #[inline]
    pub fn pgmap(self) -> &'a DevPagemap {
        self.folio().pgmap()
    }

    /// Returns the folio that the page belongs to. C: `page_folio()`.
    #[doc(alias = "page_folio")]
    #[inline]
    fn folio(self) -> ZoneDeviceFolio<'a> {
        // hugetlb, which frees parts of its memmap, has no pages in ZONE_DEVICE, so this need not
        // look for its fake heads as `PageRef::folio()` does.
        let first = self.0.head_of_tail().unwrap_or(self.0);
        // SAFETY: `first` is the head of the compound page that this page is a tail of, or the page
        // is no tail page.
        let folio = unsafe { FolioRef::from_first_page(first) };
        // INVARIANT: The pages of a compound page in ZONE_DEVICE belong to one pgmap.
        ZoneDeviceFolio(folio, PhantomData)
    }

    /// Returns the number of pages of the folio that the page belongs to. C: `folio_nr_pages()`.
    #[doc(alias = "folio_nr_pages")]
    #[inline]
    pub fn nr_pages(self) -> usize {
        self.folio().nr_pages()
    }

    /// Returns whether the page belongs to a mapping. C: `page->mapping != NULL`.
    #[inline]
    pub fn has_mapping(self) -> bool {
        !self.mapping().is_null()
    }
}

/// A folio of a pgmap, which is what references are counted on. C: `struct folio` in ZONE_DEVICE.
///
/// # Invariants
///
/// The folio is in ZONE_DEVICE, and the pgmap that its first page points back to stays valid for
/// `'a`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct ZoneDeviceFolio<'a>(FolioRef<'a>, PhantomData<&'a DevPagemap>);

impl<'a> Deref for ZoneDeviceFolio<'a> {
    type Target = FolioRef<'a>;

    #[inline(always)]
    fn deref(&self) -> &FolioRef<'a> {
        &self.0
    }
}

impl<'a> ZoneDeviceFolio<'a> {
    /// Creates a reference to the folio at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct folio` in ZONE_DEVICE that stays valid for `'a`,
    /// as must the pgmap that its first page points back to.
    #[inline(always)]
    pub unsafe fn from_raw(ptr: NonNull<bindings::folio>) -> Self {
        // SAFETY: By the caller's promise the `struct folio` is initialised and stays valid.
        let folio = unsafe { FolioRef::from_raw(ptr) };
        // INVARIANT: By the caller's promise the folio is in ZONE_DEVICE and its pgmap stays valid.
        Self(folio, PhantomData)
    }

    /// Returns the pgmap that the folio belongs to. C: `folio->page.pgmap`.
    #[inline(always)]
    pub fn pgmap(self) -> &'a DevPagemap {
        let pgmap = self.first_page().pgmap_word() as *mut bindings::dev_pagemap;
        // SAFETY: By the type invariants this is the first page of a folio in ZONE_DEVICE, so the
        // word is the address of its pgmap, which stays valid for `'a`.
        unsafe { DevPagemap::from_raw(pgmap) }
    }

    /// Drops `refs` references to an FS DAX folio, and wakes waiters for the folio if it is idle
    /// then. C: `__put_devmap_managed_folio_refs()`. Any context.
    ///
    /// Returns `false`, and does nothing, for other types: their references are ordinary ones.
    ///
    /// # Safety
    ///
    /// The caller must own that many references, which it loses if the result is `true`.
    #[doc(alias = "__put_devmap_managed_folio_refs")]
    #[inline]
    pub unsafe fn put_managed_refs(self, refs: i32) -> bool {
        if self.pgmap().memory_type() != Some(MemoryType::FsDax) {
            return false;
        }
        // SAFETY: The caller owns the references. An FS DAX folio is idle at 1, so these are not
        // the last and it is not freed.
        match unsafe { self.ref_sub_return(refs) } {
            1 => self.wake_idle(),
            _ => true,
        }
    }

    /// Wakes the waiters for the folio, which is idle. Returns `true`.
    ///
    /// A call at the end of [`put_managed_refs`](Self::put_managed_refs), which saves no registers then:
    /// that runs for each page that is put.
    #[inline(never)]
    fn wake_idle(self) -> bool {
        // The subtraction was a full barrier: what the holder did with the page comes before the
        // wake-up.
        wake_up_var(self.first_page().refcount_key());
        true
    }

    /// Drops `refs` references to a folio that is known to be FS DAX, and wakes waiters for the
    /// folio if it is idle then. Any context.
    ///
    /// # Safety
    ///
    /// The folio must be FS DAX, and the caller must own that many references, which it loses.
    #[inline(always)]
    pub unsafe fn put_fsdax_refs(self, refs: i32) {
        // SAFETY: The caller owns the references. An FS DAX folio is idle at 1, so these are not
        // the last and it is not freed.
        if unsafe { self.ref_sub_return(refs) } == 1 {
            // As above.
            wake_up_var(self.first_page().refcount_key());
        }
    }
}
