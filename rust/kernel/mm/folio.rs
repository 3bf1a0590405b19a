// SPDX-License-Identifier: GPL-2.0

//! References to `struct folio`.
//!
//! A [`FolioRef`] gives the right to look at a folio, and to take references to it if its count
//! is not zero. As long as nothing keeps the folio it may be freed, split or merged at any time,
//! so a caller without a reference checks after it has taken one that the page still belongs to the
//! same folio. [`ZoneDeviceFolio`](super::memremap::ZoneDeviceFolio) adds that the folio is in
//! ZONE_DEVICE and its pgmap stays valid; it dereferences to this type.
//!
//! This file encapsulates the access to the fields of `struct folio` that lie beyond those of its
//! first page, the reference and pin counts, and the change from pages to a folio and back.
//!
//! C headers: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/page-flags.h`](srctree/include/linux/page-flags.h),
//! [`include/linux/page_ref.h`](srctree/include/linux/page_ref.h)

use super::page::PageRef;
use crate::{bindings, interrupt::LocalInterruptDisabled, page::PAGE_SIZE};
use core::{
    marker::PhantomData,
    mem::size_of,
    ptr::{addr_of, addr_of_mut, NonNull},
    sync::atomic::{AtomicI32, Ordering},
};

/// The bits of `folio->mapping` that say it is not a `struct address_space`.
const MAPPING_FLAGS: usize = bindings::PAGE_MAPPING_FLAGS as usize;
const MAPPING_ANON: usize = bindings::PAGE_MAPPING_ANON as usize;

/// The bits of the flags of the second page of a folio that are its order. C: `folio->_flags_1`.
const ORDER_MASK: usize = 0xff;

impl<'a> PageRef<'a> {
    /// Returns the folio that the page belongs to at this moment. C: `page_folio()`.
    #[doc(alias = "page_folio")]
    #[doc(alias = "compound_head")]
    #[inline(always)]
    pub fn folio(self) -> FolioRef<'a> {
        if let Some(head) = self.head_of_tail() {
            // INVARIANT: The head is the first page of the folio of its tails.
            return FolioRef(head);
        }
        // Where hugetlb has freed most of a folio's memmap, the first page of what is left stands
        // in for others: it looks like a head, and the page behind it has the address of the real
        // one. C: `page_fixed_fake_head()`.
        if cfg!(CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP)
            && self.as_raw() as usize % PAGE_SIZE == 0
            && self.has(bindings::pageflags_PG_head)
        {
            // SAFETY: A page with the flag is followed by at least one tail page, which is valid as
            // long as the head is.
            if let Some(head) = unsafe { self.nth(1) }.head_of_tail() {
                // INVARIANT: The head is the first page of the folio.
                return FolioRef(head);
            }
        }
        // INVARIANT: The page is no tail page, so it is the first page of its folio.
        FolioRef(self)
    }

    /// Returns whether an anonymous page belongs to one process alone. C: `PageAnonExclusive()`.
    ///
    /// The result means nothing for other pages.
    #[doc(alias = "PageAnonExclusive")]
    #[inline]
    pub fn is_anon_exclusive(self) -> bool {
        let folio = self.folio();
        // hugetlb keeps the flag in the head, a transparent huge page in each page.
        let page = if folio.is_hugetlb() { folio.0 } else { self };
        page.has(bindings::pageflags_PG_anon_exclusive)
    }
}

/// Steps by which the owner of idle pages makes one folio of them, and takes it apart again.
///
/// ```text
///   pages, each with a count of 1                 folio with a count of 1
///     ref_freeze() each: 1 -> 0                     ref_freeze() the head: 1 -> 0
///     become_tail() each but the first              become_single() each tail, the last one first,
///     become_head() the first                         and ref_unfreeze() it
///     ref_unfreeze() the head                       end_head(), and ref_unfreeze() the head
/// ```
///
/// A count of 0 says that the folio changes: no task takes a reference that adds to it. A task that
/// has added to a count by mistake sees that it was 0, and subtracts again. So the end of a freeze
/// *adds* 1, where C (`page_ref_unfreeze()`) stores.
///
/// A task that takes a reference to a folio checks after that whether the page still belongs to it,
/// and changes no other field of the folio before. If the page is the first of several and is a folio
/// of its own, so are the others behind it: the last page is the first to become one.
impl<'a> PageRef<'a> {
    /// Returns whether the page is the first of a folio of more than one page. C: `PageHead()`.
    #[doc(alias = "PageHead")]
    #[inline(always)]
    pub fn is_head(self) -> bool {
        self.has(bindings::pageflags_PG_head)
    }

    /// Returns whether the page belongs to a folio of which it is not the first page. C:
    /// `PageTail()`.
    #[doc(alias = "PageTail")]
    #[inline(always)]
    pub fn is_tail(self) -> bool {
        self.pgmap_word() & 1 != 0
    }

    /// Returns whether the memory of the page has failed. C: `PageHWPoison()`.
    #[doc(alias = "PageHWPoison")]
    #[inline(always)]
    pub fn is_hwpoison(self) -> bool {
        cfg!(CONFIG_MEMORY_FAILURE) && self.has_hwpoison()
    }

    #[cfg(CONFIG_MEMORY_FAILURE)]
    #[inline(always)]
    fn has_hwpoison(self) -> bool {
        self.has(bindings::pageflags_PG_hwpoison)
    }

    #[cfg(not(CONFIG_MEMORY_FAILURE))]
    #[inline(always)]
    fn has_hwpoison(self) -> bool {
        false
    }

    /// Sets the count of an idle page from 1 to 0. Returns `false`, and does nothing, if it has
    /// another count. A full memory barrier on success. C: `page_ref_freeze()`.
    ///
    /// # Safety
    ///
    /// The caller must be the owner of the page, which is idle at 1 and which nothing frees at 0. It
    /// must call [`ref_unfreeze()`](Self::ref_unfreeze), unless the page becomes a tail.
    #[doc(alias = "page_ref_freeze")]
    #[inline(always)]
    pub unsafe fn ref_freeze(self) -> bool {
        self.refcount()
            .compare_exchange(1, 0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Adds 1 to the count of a page that is frozen. A full memory barrier. C:
    /// `page_ref_unfreeze()`.
    ///
    /// # Safety
    ///
    /// The page must be frozen, by [`ref_freeze()`](Self::ref_freeze) or because it was a tail, and
    /// must not be a tail any more.
    #[doc(alias = "page_ref_unfreeze")]
    #[inline(always)]
    pub unsafe fn ref_unfreeze(self) {
        self.refcount().fetch_add(1, Ordering::SeqCst);
    }

    /// Makes the page the head of a folio. C: `prep_compound_head()`, `__SetPageHead()`.
    ///
    /// # Safety
    ///
    /// The `1 << order` pages from this one on must be frozen, and of one pgmap. `order` must be at
    /// least 1 and less than 64. All but this page must be tails of it.
    #[doc(alias = "prep_compound_head")]
    #[inline]
    pub unsafe fn become_head(self, order: u32) {
        let folio = self.as_raw().cast::<bindings::folio>();
        // SAFETY: By the caller's promise there is a page behind this one, and so the memory of the
        // second page of a folio. Nothing else accesses these fields as long as the pages are frozen;
        // its flags change at any time, but only atomically.
        unsafe {
            let second = addr_of_mut!((*folio).__bindgen_anon_2.__bindgen_anon_1);
            addr_of_mut!((*second)._large_mapcount.counter).write(-1);
            addr_of_mut!((*second)._entire_mapcount.counter).write(-1);
            addr_of_mut!((*second)._nr_pages_mapped.counter).write(0);
            addr_of_mut!((*second)._pincount.counter).write(0);
            addr_of_mut!((*second)._folio_nr_pages).write(1 << order);
            let behind = self.nth(1);
            behind.flags().fetch_and(!ORDER_MASK, Ordering::Relaxed);
            behind.flags().fetch_or(order as usize, Ordering::Relaxed);
        }
        self.flags()
            .fetch_or(1 << bindings::pageflags_PG_head, Ordering::SeqCst);
    }

    /// Makes the page a tail of the folio that begins at `head`. C: `prep_compound_tail()`.
    ///
    /// # Safety
    ///
    /// The page and `head` must be frozen, and lie in one pgmap, and no file may own the page.
    #[doc(alias = "prep_compound_tail")]
    #[inline(always)]
    pub unsafe fn become_tail(self, head: PageRef<'_>) {
        // SAFETY: By the caller's promise no file owns the page, and only the caller gives it to one.
        unsafe { self.set_mapping(bindings::TAIL_MAPPING as *mut bindings::address_space) };
        self.compound_head_field()
            .store(head.as_raw() as usize | 1, Ordering::Release);
    }

    /// Makes a tail page a folio of its own, of the same pgmap, with this owner. It stays frozen.
    ///
    /// # Safety
    ///
    /// The page must be a tail of a folio in ZONE_DEVICE whose head is frozen, and `pgmap` the
    /// [word](Self::pgmap_word) of that head. `mapping` and `index` must be what
    /// [`set_mapping()`](Self::set_mapping) and [`index_field()`](Self::index_field) ask for.
    #[inline(always)]
    pub unsafe fn become_single(
        self,
        pgmap: usize,
        mapping: *mut bindings::address_space,
        index: usize,
    ) {
        // SAFETY: By the caller's promise the folio is frozen, so nothing else accesses these fields
        // of a tail. In the second page they are fields of the folio.
        unsafe {
            addr_of_mut!(
                (*self.as_raw())
                    .__bindgen_anon_1
                    .__bindgen_anon_4
                    .zone_device_data
            )
            .write(core::ptr::null_mut());
            self.index_field().store(index, Ordering::Relaxed);
            self.set_mapping(mapping);
        }
        self.compound_head_field().store(pgmap, Ordering::Release);
    }

    /// Prepares the second page of a folio for [`become_single()`](Self::become_single): its flags
    /// have the order of the folio.
    ///
    /// # Safety
    ///
    /// The page must be the second one of a folio whose head is frozen.
    #[inline]
    pub unsafe fn clear_order(self) {
        self.flags().fetch_and(!ORDER_MASK, Ordering::Relaxed);
    }

    /// Makes the head of a folio a folio of its own. It stays frozen. A full memory barrier.
    ///
    /// # Safety
    ///
    /// The page must be a head and frozen, and its folio must have no tails any more.
    #[inline]
    pub unsafe fn end_head(self) {
        self.flags()
            .fetch_and(!(1 << bindings::pageflags_PG_head), Ordering::SeqCst);
    }
}

/// A reference to a folio, which is what references are counted on. C: `struct folio`.
///
/// # Invariants
///
/// The [invariants of `PageRef`](PageRef#invariants) hold for the folio's first page and, if the
/// folio is large, for its second page.
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
/// let folio = unsafe { PageRef::from_raw(raw) }.folio();
/// assert!(folio.nr_pages() == 1 && !folio.is_large() && !folio.is_hugetlb());
///
/// // Two more references, and back to one.
/// // SAFETY: Two is positive and small, and the references are dropped below.
/// assert_eq!(unsafe { folio.ref_try_add(2) }, Ok(()));
/// assert_eq!(folio.ref_count(), 3);
/// // SAFETY: The two references were just taken.
/// unsafe { folio.put_refs(2) };
/// assert_eq!(folio.ref_count(), 1);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "struct folio")]
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FolioRef<'a>(PageRef<'a>);

impl<'a> FolioRef<'a> {
    /// Creates a reference to the folio at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct folio` of the memmap that stays valid for `'a`.
    #[inline(always)]
    pub unsafe fn from_raw(ptr: NonNull<bindings::folio>) -> Self {
        // INVARIANT: The first member of a folio is its first page.
        // SAFETY: By the caller's promise this page is initialised and stays valid for `'a`.
        Self(unsafe { PageRef::from_raw(ptr.cast()) })
    }

    /// Creates a reference to the folio whose first page is `page`.
    ///
    /// # Safety
    ///
    /// `page` must be a folio of one page for as long as the value is used, or the first page of a
    /// folio.
    #[inline(always)]
    pub unsafe fn from_first_page(page: PageRef<'a>) -> Self {
        // INVARIANT: By the caller's promise `page` is the first page of its folio.
        Self(page)
    }

    /// Returns the first page. C: `&folio->page`.
    #[inline(always)]
    pub fn first_page(self) -> PageRef<'a> {
        self.0
    }

    /// Returns the raw pointer.
    #[inline(always)]
    pub fn as_raw(self) -> *mut bindings::folio {
        self.0.as_raw().cast()
    }

    /// Returns whether the folio has more than one page. C: `folio_test_large()`.
    #[doc(alias = "folio_test_large")]
    #[inline(always)]
    pub fn is_large(self) -> bool {
        self.0.has(bindings::pageflags_PG_head)
    }

    /// Returns whether the folio is in ZONE_DEVICE. C: `folio_is_zone_device()`.
    #[doc(alias = "folio_is_zone_device")]
    #[inline(always)]
    pub fn is_zone_device(self) -> bool {
        self.0.is_zone_device()
    }

    /// Returns the number of pages. C: `folio_nr_pages()`.
    #[doc(alias = "folio_nr_pages")]
    #[inline]
    pub fn nr_pages(self) -> usize {
        if !self.is_large() {
            return 1;
        }
        // SAFETY: By the type invariants the second page of a large folio, in which the field lies,
        // is valid. The read is volatile, because the field may change if nothing keeps the folio.
        let nr = unsafe {
            addr_of!(
                (*self.as_raw())
                    .__bindgen_anon_2
                    .__bindgen_anon_1
                    ._folio_nr_pages
            )
            .read_volatile()
        };
        (nr as usize).max(1)
    }

    /// Returns the index of `page` in the folio, in pages. C: `folio_page_idx()`.
    #[doc(alias = "folio_page_idx")]
    #[inline]
    pub fn page_idx(self, page: PageRef<'a>) -> usize {
        let bytes = (page.as_raw() as usize).wrapping_sub(self.0.as_raw() as usize);
        bytes / size_of::<bindings::page>()
    }

    /// Returns the byte that says what an unmapped page is used for. C: `page->page_type >> 24`.
    #[inline]
    fn page_type(self) -> u32 {
        // SAFETY: By the type invariants the union is valid. The read is volatile, because the
        // field may change.
        let word =
            unsafe { addr_of!((*self.0.as_raw()).__bindgen_anon_2.page_type).read_volatile() };
        word >> 24
    }

    /// Returns whether the folio belongs to hugetlb. C: `folio_test_hugetlb()`.
    #[doc(alias = "folio_test_hugetlb")]
    #[inline]
    pub fn is_hugetlb(self) -> bool {
        self.is_large() && self.page_type() == bindings::pagetype_PGTY_hugetlb
    }

    /// Returns whether the folio belongs to the slab allocator. C: `folio_test_slab()`.
    #[doc(alias = "folio_test_slab")]
    #[inline]
    pub fn is_slab(self) -> bool {
        self.page_type() == bindings::pagetype_PGTY_slab
    }

    /// Returns what the folio's `mapping` says at this moment. C: `folio->mapping`.
    ///
    /// Interrupts are off, so the address space of a file is not freed meanwhile.
    #[inline(always)]
    pub fn mapping<'irq>(self, _irq: LocalInterruptDisabled<'irq>) -> FolioMapping<'irq> {
        // INVARIANT: The word is read now, and interrupts stay off during `'irq`.
        FolioMapping(self.0.mapping() as usize, PhantomData)
    }

    /// Notes that the folio was used. C: `folio_set_referenced()`.
    ///
    /// The flag is tested first: setting it is a locked instruction, and it is nearly always set.
    ///
    /// # Safety
    ///
    /// The caller must own a reference to the folio. A folio that nothing keeps may be free, or belong
    /// to an allocator that uses the flag otherwise.
    #[doc(alias = "folio_set_referenced")]
    #[inline(always)]
    pub unsafe fn set_referenced(self) {
        const REFERENCED: usize = 1 << bindings::pageflags_PG_referenced;
        let flags = self.0.flags();
        if flags.load(Ordering::Relaxed) & REFERENCED == 0 {
            flags.fetch_or(REFERENCED, Ordering::Relaxed);
        }
    }

    /// Returns the number of references. C: `folio_ref_count()`.
    #[doc(alias = "folio_ref_count")]
    #[inline(always)]
    pub fn ref_count(self) -> i32 {
        self.0.ref_count()
    }

    /// Takes `refs` references, unless the folio is free or its count has overflowed. C:
    /// `folio_ref_try_add()`.
    ///
    /// A full memory barrier on success. The caller may leak the references; it drops them with
    /// [`put_refs()`](Self::put_refs).
    ///
    /// # Safety
    ///
    /// `refs` must be positive, as a negative number would drop references that others own. It must
    /// be so small that a count that is positive before does not wrap around to a positive one: at
    /// most 2^30.
    ///
    /// # Errors
    ///
    /// Returns the count that was found: 0 of a free folio, negative if it has overflowed.
    #[doc(alias = "folio_ref_try_add")]
    #[doc(alias = "folio_ref_add_unless")]
    #[inline(always)]
    pub unsafe fn ref_try_add(self, refs: i32) -> Result<(), i32> {
        let count = self.0.refcount();
        let mut old = count.load(Ordering::Relaxed);
        loop {
            if old <= 0 {
                return Err(old);
            }
            match count.compare_exchange_weak(
                old,
                old.wrapping_add(refs),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => old = now,
            }
        }
    }

    /// Takes `refs` references and returns the count before that. C: `folio_ref_add()`. A full
    /// memory barrier.
    ///
    /// # Safety
    ///
    /// The folio must not be free. If the result is not positive, the count has overflowed, and the
    /// caller must undo the addition with [`ref_fetch_sub()`](Self::ref_fetch_sub).
    #[doc(alias = "folio_ref_add")]
    #[inline(always)]
    pub unsafe fn ref_fetch_add(self, refs: i32) -> i32 {
        self.0.refcount().fetch_add(refs, Ordering::SeqCst)
    }

    /// Drops `refs` references and returns the count before that. C: `folio_ref_sub()`. A full
    /// memory barrier.
    ///
    /// # Safety
    ///
    /// The caller must own that many references, which it loses. It must free the folio if these
    /// were the last.
    #[doc(alias = "folio_ref_sub")]
    #[inline(always)]
    pub unsafe fn ref_fetch_sub(self, refs: i32) -> i32 {
        self.0.refcount().fetch_sub(refs, Ordering::SeqCst)
    }

    /// Drops `refs` references and returns the number that is left. C: `folio_ref_sub_return()`. A
    /// full memory barrier.
    ///
    /// # Safety
    ///
    /// The caller must own that many references, which it loses. It must free the folio if these
    /// were the last.
    #[doc(alias = "folio_ref_sub_return")]
    #[inline(always)]
    pub unsafe fn ref_sub_return(self, refs: i32) -> i32 {
        if cfg!(CONFIG_DEBUG_PAGE_REF) {
            // The C inline has a tracepoint then.
            // SAFETY: By the type invariants the folio is valid, and by the caller's promise the
            // references are the caller's to drop.
            return unsafe { bindings::folio_ref_sub_return(self.as_raw(), refs) };
        }
        // SAFETY: The caller owns the references and frees the folio if these were the last.
        unsafe { self.ref_fetch_sub(refs) }.wrapping_sub(refs)
    }

    /// Drops `refs` references and frees the folio if these were the last. C: `folio_put_refs()`.
    /// Any context that may drop the last reference to a page.
    ///
    /// # Safety
    ///
    /// The caller must own that many references, which it loses.
    #[doc(alias = "folio_put_refs")]
    #[inline(always)]
    pub unsafe fn put_refs(self, refs: i32) {
        // SAFETY: The caller owns the references. If these were the last, the folio is freed below.
        if unsafe { self.ref_fetch_sub(refs) } == refs {
            // SAFETY: The count is 0 now, so no reference is left and this caller frees the folio.
            unsafe { bindings::__folio_put(self.as_raw()) };
        }
    }

    /// Returns the pin count of a large folio. C: `folio->_pincount`.
    ///
    /// # Safety
    ///
    /// The folio must be large.
    #[inline(always)]
    unsafe fn pincount(&self) -> &AtomicI32 {
        // SAFETY: By the caller's promise the folio is large, and by the type invariants its second
        // page, in which the field lies, is valid. The field is an `atomic_t`, which is four
        // aligned bytes that are only accessed atomically.
        unsafe {
            AtomicI32::from_ptr(addr_of_mut!(
                (*self.as_raw())
                    .__bindgen_anon_2
                    .__bindgen_anon_1
                    ._pincount
                    .counter
            ))
        }
    }

    /// Adds `pins` to the pin count of a large folio. C: `atomic_add(pins, &folio->_pincount)`.
    ///
    /// # Safety
    ///
    /// The folio must be large, and the caller must own a reference for each of these pins.
    #[inline(always)]
    pub unsafe fn pincount_add(self, pins: i32) {
        // SAFETY: The caller promises that the folio is large.
        unsafe { self.pincount() }.fetch_add(pins, Ordering::SeqCst);
    }

    /// Subtracts `pins` from the pin count of a large folio. C:
    /// `atomic_sub(pins, &folio->_pincount)`.
    ///
    /// # Safety
    ///
    /// The folio must be large, and the caller must own that many pins. It keeps a reference for
    /// each of them, and drops these next.
    #[inline(always)]
    pub unsafe fn pincount_sub(self, pins: i32) {
        // SAFETY: The caller promises that the folio is large.
        unsafe { self.pincount() }.fetch_sub(pins, Ordering::SeqCst);
    }
}

/// What a folio belongs to, as it was when it was read. C: `folio->mapping`.
///
/// # Invariants
///
/// The word was read from a folio during `'irq`, and interrupts are off during `'irq`.
#[derive(Clone, Copy)]
pub struct FolioMapping<'irq>(usize, PhantomData<LocalInterruptDisabled<'irq>>);

impl<'irq> FolioMapping<'irq> {
    /// Returns whether the folio is anonymous memory. C: `folio_test_anon()`.
    ///
    /// The result means nothing for a folio in ZONE_DEVICE of a file: fs/dax marks pages that
    /// several files share with the same bit (`PAGE_MAPPING_DAX_SHARED`). Only folios of type
    /// `MEMORY_DEVICE_PRIVATE` and `MEMORY_DEVICE_COHERENT` can be anonymous memory in ZONE_DEVICE.
    #[doc(alias = "folio_test_anon")]
    #[inline(always)]
    pub fn is_anon(self) -> bool {
        self.0 & MAPPING_ANON != 0
    }

    /// Returns the address space if the folio belongs to a file.
    ///
    /// # Safety
    ///
    /// The word must have been read from a folio that was memory of a process or of a file at that
    /// moment, not of the slab allocator, free, a page table, or device memory that the CPU cannot
    /// address: these have other words in its place. That holds for a folio to which the caller
    /// owned a reference, if a present entry of the page tables of a process, of ordinary memory,
    /// was seen to map it after that reference was taken, and [`FolioRef::is_slab`] is false.
    #[inline(always)]
    pub unsafe fn file(self) -> Option<FileMapping<'irq>> {
        if self.0 & MAPPING_FLAGS != 0 {
            return None;
        }
        // INVARIANT: By the caller's promise a word without flags is null or the address of an
        // address space. The inode that contains it is freed after an RCU grace period, and none
        // ends while interrupts are off, which they have been since the word was read.
        NonNull::new(self.0 as *mut bindings::address_space)
            .map(|mapping| FileMapping(mapping, PhantomData))
    }
}

/// The address space of a file that a folio belonged to when it was read.
///
/// # Invariants
///
/// The memory of the `struct address_space` stays valid for `'irq`.
#[derive(Clone, Copy)]
pub struct FileMapping<'irq>(NonNull<bindings::address_space>, PhantomData<&'irq ()>);

impl FileMapping<'_> {
    /// Returns whether the kernel itself must not access the memory. C: `secretmem_mapping()`.
    #[doc(alias = "secretmem_mapping")]
    #[cfg(CONFIG_SECRETMEM)]
    #[inline(always)]
    pub fn is_secretmem(self) -> bool {
        // SAFETY: By the type invariants the field is valid. The read is volatile, because the
        // field may change.
        let operations = unsafe { addr_of!((*self.0.as_ptr()).a_ops).read_volatile() };
        operations == addr_of!(bindings::secretmem_aops)
    }

    /// Returns whether the kernel itself must not access the memory, which cannot be here. C:
    /// `secretmem_mapping()`.
    #[cfg(not(CONFIG_SECRETMEM))]
    #[inline(always)]
    pub fn is_secretmem(self) -> bool {
        false
    }

    /// Returns whether the file is shared memory or in tmpfs. C: `shmem_mapping()`.
    #[doc(alias = "shmem_mapping")]
    #[cfg(CONFIG_SHMEM)]
    #[inline]
    pub fn is_shmem(self) -> bool {
        // SAFETY: By the type invariants the structure is valid, and the function only reads it.
        unsafe { bindings::shmem_mapping(self.0.as_ptr()) }
    }

    /// Returns whether the file is shared memory or in tmpfs, which cannot be here. C:
    /// `shmem_mapping()`.
    #[cfg(not(CONFIG_SHMEM))]
    #[inline]
    pub fn is_shmem(self) -> bool {
        false
    }
}
