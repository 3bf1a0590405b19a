// SPDX-License-Identifier: GPL-2.0

//! References to `struct page`.
//!
//! [`PageRef`] is the one place that reads the unions of `struct page`. It gives the right to look
//! at a page and nothing else: the memory of the `struct page` is valid, but what it describes may
//! change at any time. It may be freed, split, merged, or handed out again. Types with more rights
//! dereference to it:
//!
//! | type | additional guarantee |
//! |---|---|
//! | [`PageRef`] | none: the `struct page` is initialised and its memory stays valid |
//! | [`ZoneDevicePage`](super::memremap::ZoneDevicePage) | the page is in ZONE_DEVICE and its pgmap stays valid |
//!
//! [`FolioRef`](super::folio::FolioRef) is the same for the folio that a page belongs to, which has
//! the reference count, the pin count and the mapping.
//!
//! Fields are read natively, as C's inlines read them, because hot paths do so for each page. They
//! are only accessed atomically. This file encapsulates the access to the fields: a [`PageRef`] can
//! be read without `unsafe`.
//!
//! C headers: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/page-flags.h`](srctree/include/linux/page-flags.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::pfn::Pfn;
use crate::{bindings, static_assert};
use core::{
    marker::PhantomData,
    mem::{offset_of, size_of},
    ptr::{addr_of_mut, NonNull},
    sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering},
};

// `page->compound_head` and `page->pgmap` are the same word.
static_assert!(
    offset_of!(
        bindings::page,
        __bindgen_anon_1.__bindgen_anon_3.compound_head
    ) == offset_of!(bindings::page, __bindgen_anon_1.__bindgen_anon_4.pgmap)
);

/// Returns the first element of the memmap. C: `vmemmap`.
#[inline(always)]
fn vmemmap() -> *mut bindings::page {
    #[cfg(CONFIG_DYNAMIC_MEMORY_LAYOUT)]
    {
        // SAFETY: The variable is written once, early at boot, before this code can run, so the
        // read is not a data race.
        unsafe { bindings::vmemmap_base as *mut bindings::page }
    }
    #[cfg(not(CONFIG_DYNAMIC_MEMORY_LAYOUT))]
    {
        // SAFETY: With SPARSEMEM_VMEMMAP the function computes an address and accesses no memory.
        unsafe { bindings::pfn_to_page(0) }
    }
}

/// A reference to a page. C: `struct page`.
///
/// # Invariants
///
/// The `struct page` is initialised and its memory stays valid for `'a`. It is an element of the
/// memmap. Its fields are only accessed atomically, since what it describes may change at any time.
/// A page in ZONE_DEVICE is a data page of its pgmap, not one that holds the memmap.
///
/// # Examples
///
/// ```
/// use core::ptr::NonNull;
/// use kernel::{alloc::flags::GFP_KERNEL, mm::page::PageRef, page::Page};
///
/// let owner = Page::alloc_page(GFP_KERNEL)?;
/// let raw = NonNull::new(owner.as_ptr()).ok_or(EINVAL)?;
/// // SAFETY: `owner` keeps the page, which is an element of the memmap, until the end.
/// let page = unsafe { PageRef::from_raw(raw) };
///
/// assert_eq!(page.ref_count(), 1);
/// assert!(!page.is_zone_device() && !page.is_zero_page());
/// // The page belongs to no file, and is not anonymous memory.
/// assert!(page.mapping().is_null());
///
/// // The PFN leads back to the page.
/// // SAFETY: As for `page` above.
/// assert!(unsafe { PageRef::from_pfn(page.pfn()) } == page);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "struct page")]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageRef<'a>(NonNull<bindings::page>, PhantomData<&'a bindings::page>);

impl<'a> PageRef<'a> {
    /// Creates a reference to the page of `pfn`. C: `pfn_to_page()`.
    ///
    /// # Safety
    ///
    /// `pfn` must have an initialised `struct page` that stays valid for `'a`. That holds for a PFN
    /// in a present page table entry that is not special and not of device memory, as long as
    /// interrupts are off; for a PFN of a data page of a pgmap, as long as the caller has a live
    /// reference to the pgmap, or interrupts have been off since the pgmap was seen alive; and for a
    /// PFN of a DAX entry, as long as the entry stays in its mapping.
    #[doc(alias = "pfn_to_page")]
    #[inline(always)]
    pub unsafe fn from_pfn(pfn: Pfn) -> Self {
        // SAFETY: By the caller's promise the memmap, which is one array (SPARSEMEM_VMEMMAP), has
        // an element for `pfn`, so its address is not null.
        let page = unsafe { NonNull::new_unchecked(vmemmap().wrapping_add(pfn.nr())) };
        // INVARIANT: By the caller's promise this element is initialised and valid for `'a`.
        Self(page, PhantomData)
    }

    /// Creates a reference to the page at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct page` of the memmap that stays valid for `'a`. In
    /// ZONE_DEVICE it must be a data page of its pgmap.
    #[inline(always)]
    pub unsafe fn from_raw(ptr: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller promises exactly this.
        Self(ptr, PhantomData)
    }

    /// Returns the raw pointer.
    #[inline(always)]
    pub fn as_raw(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Returns the page frame number. C: `page_to_pfn()`.
    #[doc(alias = "page_to_pfn")]
    #[inline]
    pub fn pfn(self) -> Pfn {
        Pfn::new(
            (self.as_raw() as usize).wrapping_sub(vmemmap() as usize) / size_of::<bindings::page>(),
        )
    }

    /// Returns the page `n` pages further in the memmap. C: `nth_page()`.
    ///
    /// # Safety
    ///
    /// That `struct page` must be initialised and its memory must stay valid for `'a`. In
    /// ZONE_DEVICE it must be a data page of its pgmap.
    #[doc(alias = "nth_page")]
    #[inline(always)]
    pub unsafe fn nth(self, n: usize) -> Self {
        // SAFETY: By the caller's promise there is a `struct page` at this address, so it is not
        // null.
        let page = unsafe { NonNull::new_unchecked(self.as_raw().wrapping_add(n)) };
        // INVARIANT: The caller promises that this page is initialised and stays valid.
        Self(page, PhantomData)
    }

    /// Returns the word with the page's flags, node and zone. C: `page->flags`.
    #[inline(always)]
    pub(super) fn flags(&self) -> &AtomicUsize {
        // SAFETY: By the type invariants the field is valid for `'a`. All accesses to it are
        // atomic, and `unsigned long` has the size and alignment of `usize`.
        unsafe { AtomicUsize::from_ptr(addr_of_mut!((*self.as_raw()).flags).cast()) }
    }

    /// Returns whether the page has a flag.
    #[inline(always)]
    pub(super) fn has(self, flag: bindings::pageflags) -> bool {
        self.flags().load(Ordering::Relaxed) & (1 << flag) != 0
    }

    /// Returns the word that is `compound_head` in a tail page, and `pgmap` in the first page of a
    /// folio in ZONE_DEVICE.
    #[inline(always)]
    pub(super) fn compound_head_field(&self) -> &AtomicUsize {
        // SAFETY: By the type invariants the union is valid for `'a`. Each of its members has a
        // word at this place, which is accessed atomically.
        unsafe {
            AtomicUsize::from_ptr(
                addr_of_mut!(
                    (*self.as_raw())
                        .__bindgen_anon_1
                        .__bindgen_anon_3
                        .compound_head
                )
                .cast(),
            )
        }
    }

    /// Returns the first page of the compound page if this page is a tail page of one.
    ///
    /// This does not find the head if hugetlb has freed the `struct page` of the tail page;
    /// [`folio()`](Self::folio) does.
    #[inline(always)]
    pub fn head_of_tail(self) -> Option<Self> {
        let word = self.compound_head_field().load(Ordering::Relaxed);
        // A tail page has the address of its head there, plus one.
        (word & 1 != 0).then(|| {
            // SAFETY: An odd word is the address of a `struct page` plus one, and no `struct page`
            // is at the address 0.
            let head =
                unsafe { NonNull::new_unchecked(word.wrapping_sub(1) as *mut bindings::page) };
            // INVARIANT: The head is in the memmap and stays valid as its tails do.
            Self(head, PhantomData)
        })
    }

    /// Returns the word in which a page in ZONE_DEVICE has the address of its pgmap. C:
    /// `page->pgmap`.
    ///
    /// A tail page has the address of its head there, plus one. Any other page has a link of a list
    /// or something of its own there, which is never the address of a pgmap. So a page with the
    /// same word as the first page of a folio in ZONE_DEVICE belongs to the same pgmap.
    #[inline(always)]
    pub fn pgmap_word(self) -> usize {
        self.compound_head_field().load(Ordering::Relaxed)
    }

    /// Sets the pgmap that the page belongs to. C: `page->pgmap = pgmap`.
    ///
    /// What was written to the pgmap before this call is visible to a task that reads the field.
    ///
    /// # Safety
    ///
    /// The page must be the first page of a folio in ZONE_DEVICE. `pgmap` must stay valid as long
    /// as the page does. The caller must be the only one that changes the field.
    #[inline]
    pub unsafe fn set_pgmap(self, pgmap: NonNull<bindings::dev_pagemap>) {
        self.compound_head_field()
            .store(pgmap.as_ptr() as usize, Ordering::Release);
    }

    /// Returns the NUMA node of the page. C: `page_to_nid()`.
    #[doc(alias = "page_to_nid")]
    #[inline(always)]
    pub fn nid(self) -> usize {
        (self.flags().load(Ordering::Relaxed) >> bindings::NODES_PGSHIFT)
            & bindings::NODES_MASK as usize
    }

    /// Returns whether the page is in ZONE_DEVICE. C: `is_zone_device_page()`.
    #[doc(alias = "is_zone_device_page")]
    #[cfg(CONFIG_ZONE_DEVICE)]
    #[inline(always)]
    pub fn is_zone_device(self) -> bool {
        (self.flags().load(Ordering::Relaxed) >> bindings::ZONES_PGSHIFT)
            & bindings::ZONES_MASK as usize
            == bindings::zone_type_ZONE_DEVICE as usize
    }

    /// Returns whether the page is in ZONE_DEVICE, which does not exist here. C:
    /// `is_zone_device_page()`.
    #[cfg(not(CONFIG_ZONE_DEVICE))]
    #[inline(always)]
    pub fn is_zone_device(self) -> bool {
        false
    }

    /// Returns whether the page is in ZONE_MOVABLE. C: `is_zone_movable_page()`.
    #[doc(alias = "is_zone_movable_page")]
    #[inline(always)]
    pub fn is_zone_movable(self) -> bool {
        (self.flags().load(Ordering::Relaxed) >> bindings::ZONES_PGSHIFT)
            & bindings::ZONES_MASK as usize
            == bindings::zone_type_ZONE_MOVABLE as usize
    }

    /// Returns whether this is the zero page. C: `is_zero_page()`.
    #[inline(always)]
    pub fn is_zero_page(self) -> bool {
        // SAFETY: The variable is written once, at boot, before user space runs, so the read is not
        // a data race.
        let zero_pfn = unsafe { bindings::zero_pfn };
        self.as_raw() == vmemmap().wrapping_add(zero_pfn)
    }

    /// Returns the reference count. C: `page->_refcount`.
    ///
    /// Of a tail page it is always 0: references are counted in the folio.
    #[inline(always)]
    pub(super) fn refcount(&self) -> &AtomicI32 {
        // SAFETY: By the type invariants the field is valid for `'a`. It is an `atomic_t`, which is
        // four aligned bytes that are only accessed atomically.
        unsafe { AtomicI32::from_ptr(addr_of_mut!((*self.as_raw())._refcount.counter)) }
    }

    /// Returns the address at which waiters for the page's reference count sleep
    /// (`wake_up_var(&page->_refcount)`).
    #[inline(always)]
    pub fn refcount_key(self) -> *const core::ffi::c_void {
        core::ptr::from_ref(self.refcount()).cast()
    }

    /// Returns the number of references to the page itself. C: `page_ref_count()` of a page that is
    /// not a tail page.
    #[doc(alias = "page_ref_count")]
    #[inline(always)]
    pub fn ref_count(self) -> i32 {
        self.refcount().load(Ordering::Relaxed)
    }

    /// Returns the field that says which mapping the page belongs to. C: `page->mapping`.
    ///
    /// The field may hold a value that is not the address of an address space: its low bits are
    /// flags.
    ///
    /// Any holder of a reference can read it. Only the owner of the page stores to it, which is why
    /// [`set_mapping()`](Self::set_mapping) is unsafe.
    #[inline(always)]
    fn mapping_field(&self) -> &AtomicPtr<bindings::address_space> {
        // SAFETY: By the type invariants the union is valid for `'a`. The member is a word that is
        // only accessed atomically.
        unsafe {
            AtomicPtr::from_ptr(addr_of_mut!(
                (*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1.mapping
            ))
        }
    }

    /// Returns the mapping that the page belongs to at this moment, with its flag bits. C:
    /// `page->mapping`.
    #[inline(always)]
    pub fn mapping(self) -> *mut bindings::address_space {
        self.mapping_field().load(Ordering::Relaxed)
    }

    /// Sets the mapping that the page belongs to. C: `page->mapping = mapping`.
    ///
    /// What was written to the page before this call is visible to a task that reads the field with
    /// acquire semantics, and stores after that.
    ///
    /// # Safety
    ///
    /// The caller must be the only one that changes the owner of this page, and `mapping` must be
    /// null, a mapping that is not freed while the page belongs to it, or flags without an address.
    #[inline(always)]
    pub unsafe fn set_mapping(self, mapping: *mut bindings::address_space) {
        self.mapping_field().store(mapping, Ordering::Release);
    }

    /// Returns the field that is the page's index in its mapping. C: `page->index`, `page->share`.
    ///
    /// # Safety
    ///
    /// The page must not be a tail page, and the caller must only store to the field as the owner
    /// of the page, or change it as the number of entries that share the page (`page->share`).
    #[doc(alias = "share")]
    #[inline(always)]
    pub unsafe fn index_field(&self) -> &AtomicUsize {
        // SAFETY: By the type invariants the union is valid for `'a`. The member is a word; all
        // accesses to it are atomic.
        unsafe {
            AtomicUsize::from_ptr(
                addr_of_mut!(
                    (*self.as_raw())
                        .__bindgen_anon_1
                        .__bindgen_anon_1
                        .__bindgen_anon_2
                )
                .cast(),
            )
        }
    }

    /// Returns the field that is the owner's to use. C: `page->private`.
    ///
    /// # Safety
    ///
    /// The page must not be a tail page, and the caller must only store to the field as the owner of
    /// the page.
    #[doc(alias = "private")]
    #[inline(always)]
    pub unsafe fn private_field(&self) -> &AtomicUsize {
        // SAFETY: By the type invariants the union is valid for `'a`. The member is a word; all
        // accesses to it are atomic.
        unsafe {
            AtomicUsize::from_ptr(
                addr_of_mut!((*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1.private).cast(),
            )
        }
    }

    /// Returns the page's index in its mapping, in pages, at this moment. C: `page->index`.
    #[inline(always)]
    pub fn index(self) -> usize {
        // SAFETY: The field is only read. If the page changes meanwhile, the value means nothing,
        // but reading it is still valid.
        unsafe { self.index_field() }.load(Ordering::Relaxed)
    }
}
