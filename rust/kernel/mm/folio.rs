// SPDX-License-Identifier: GPL-2.0

//! Pages and folios that nothing keeps, as a walk without locks meets them.
//!
//! Whoever reads a page table entry without its lock knows a page frame, and that the frame has a
//! `struct page`. He does not know that the page still belongs to the mapping a moment later: it may
//! be freed, split, merged, or be somebody else's by then. So a [`MappedPage`] lets its fields be
//! looked at and its count be raised *if it is not zero*; what it was is then asked again. The
//! protocol of taking a reference that way is in [`super::gup`].
//!
//! Fields are read the way C's inlines read them, without a call: this runs per page.
//!
//! C headers: [`include/linux/page-flags.h`](srctree/include/linux/page-flags.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::pfn::Pfn;
use crate::{bindings, irq::LocalInterruptDisabled, page::PAGE_SIZE};
use core::{
    marker::PhantomData,
    ptr::{addr_of, addr_of_mut, NonNull},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
};

/// `mapping` of a page: the low bits say that it is no `struct address_space`.
const MAPPING_FLAGS: usize = bindings::PAGE_MAPPING_FLAGS as usize;
const MAPPING_ANON: usize = bindings::PAGE_MAPPING_ANON as usize;

/// A page that an entry of a page table pointed to when it was read.
///
/// # Invariants
///
/// The `struct page` is initialised and its memory stays for `'a`. What it describes may change at
/// any time, so its fields are only accessed atomically.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MappedPage<'a>(NonNull<bindings::page>, PhantomData<&'a ()>);

impl<'a> MappedPage<'a> {
    /// The page of the frame `pfn`. C: `pfn_to_page()`.
    ///
    /// # Safety
    ///
    /// The frame has a `struct page` that stays for `'a`. Both are so for a frame in a present
    /// entry that is not special, as long as interrupts are off; and for one in a pgmap, as long
    /// as there is a live reference to that.
    #[doc(alias = "pfn_to_page")]
    #[inline]
    pub unsafe fn from_pfn(pfn: Pfn, _irq: LocalInterruptDisabled<'a>) -> Self {
        // SAFETY: The caller's promise.
        let page = unsafe { pfn.to_page() };
        // INVARIANT: The caller's promise.
        Self(page, PhantomData)
    }

    /// The page that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr, PhantomData)
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Its place in the memmap, in pages.
    #[inline]
    fn index(self) -> usize {
        // SAFETY: As in `from_pfn`.
        let memmap = unsafe { bindings::vmemmap_base };
        (self.as_raw() as usize).wrapping_sub(memmap) / core::mem::size_of::<bindings::page>()
    }

    /// The page `n` pages on in the memmap.
    ///
    /// # Safety
    ///
    /// That is a page as the type's invariant says.
    #[inline]
    pub(super) unsafe fn add(self, n: usize) -> Self {
        // SAFETY: By the caller's promise there is a page at that place, so it is not null.
        let page = unsafe { NonNull::new_unchecked(self.as_raw().wrapping_add(n)) };
        // INVARIANT: The caller's promise.
        Self(page, PhantomData)
    }

    #[inline]
    fn flags(self) -> usize {
        // SAFETY: By the invariant the field is there; it is a word that is accessed atomically.
        unsafe { AtomicUsize::from_ptr(addr_of_mut!((*self.as_raw()).flags).cast()) }
            .load(Ordering::Relaxed)
    }

    #[inline]
    fn has(self, flag: bindings::pageflags) -> bool {
        self.flags() & (1 << flag) != 0
    }

    /// The word that is `compound_head` in a tail page.
    #[inline]
    fn compound_head(self) -> usize {
        // SAFETY: As in `flags`; the union's word is always there.
        unsafe {
            let word = addr_of_mut!(
                (*self.as_raw())
                    .__bindgen_anon_1
                    .__bindgen_anon_3
                    .compound_head
            );
            AtomicUsize::from_ptr(word.cast())
        }
        .load(Ordering::Relaxed)
    }

    /// The folio that the page belongs to at this moment. C: `page_folio()`.
    #[doc(alias = "page_folio")]
    #[doc(alias = "compound_head")]
    #[inline(always)]
    pub fn folio(self) -> MappedFolio<'a> {
        let tail = |word: usize| NonNull::new((word & !1) as *mut bindings::page);
        let head = self.compound_head();
        if head & 1 != 0 {
            // INVARIANT: A head lies in the memmap as its tails do.
            return MappedFolio(tail(head).map_or(self, |head| Self(head, PhantomData)));
        }
        // Where hugetlb has freed most of a folio's memmap, the first page of what is left stands
        // in for others: it looks like a head, and what follows it tells which one is.
        if cfg!(CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP)
            && self.as_raw() as usize % PAGE_SIZE == 0
            && self.has(bindings::pageflags_PG_head)
        {
            // SAFETY: A head has at least one tail behind it.
            let head = unsafe { self.add(1) }.compound_head();
            if head & 1 != 0 {
                return MappedFolio(tail(head).map_or(self, |head| Self(head, PhantomData)));
            }
        }
        MappedFolio(self)
    }

    /// The NUMA node that the page is on. C: `page_to_nid()`.
    #[doc(alias = "page_to_nid")]
    #[inline]
    pub fn node(self) -> usize {
        (self.flags() >> bindings::NODES_PGSHIFT) & bindings::NODES_MASK as usize
    }

    /// Whether the page is device memory. C: `is_zone_device_page()`.
    #[doc(alias = "is_zone_device_page")]
    #[inline]
    pub fn is_device(self) -> bool {
        (self.flags() >> bindings::ZONES_PGSHIFT) & bindings::ZONES_MASK as usize
            == bindings::zone_type_ZONE_DEVICE as usize
    }

    /// The word in which a device page has the address of its pgmap.
    ///
    /// A tail page has the address of its head there, an odd one more; any other page a link of a
    /// list or something of its own, which is not the address of a pgmap. So a page with the
    /// same word as a device page is one of the same pgmap.
    #[inline(always)]
    pub(super) fn pgmap_word(self) -> usize {
        self.compound_head()
    }

    /// Whether the page is memory of a PCI device. C: `is_pci_p2pdma_page()`.
    #[doc(alias = "is_pci_p2pdma_page")]
    #[inline]
    pub fn is_p2pdma(self) -> bool {
        cfg!(CONFIG_PCI_P2PDMA) && self.is_device() && self.device_type_is_p2pdma()
    }

    #[cold]
    fn device_type_is_p2pdma(self) -> bool {
        // SAFETY: The page is in ZONE_DEVICE, so that this member of the union is the one in use,
        // and it points to the pgmap that keeps the page. Volatile, because it may become another.
        let raw = unsafe {
            let words = addr_of!((*self.as_raw()).__bindgen_anon_1);
            (*addr_of!((*words).__bindgen_anon_4.pgmap).read_volatile()).type_
        };
        raw == bindings::memory_type_MEMORY_DEVICE_PCI_P2PDMA
    }

    /// Whether it is the zero page. C: `is_zero_page()`.
    #[doc(alias = "is_zero_page")]
    #[inline]
    pub fn is_zero(self) -> bool {
        // SAFETY: Both are written once, at boot. The page has a `struct page`.
        let zero = unsafe {
            (bindings::vmemmap_base as *mut bindings::page).wrapping_add(bindings::zero_pfn)
        };
        self.as_raw() == zero
    }

    /// Whether an anonymous page belongs to one process alone. C: `PageAnonExclusive()`.
    #[doc(alias = "PageAnonExclusive")]
    #[inline]
    pub fn is_anon_exclusive(self) -> bool {
        let folio = self.folio();
        // hugetlb keeps it in the head, a transparent huge page in each page.
        let page = if folio.is_hugetlb() { folio.0 } else { self };
        page.has(bindings::pageflags_PG_anon_exclusive)
    }
}

/// A folio that a page was found to belong to: what references are counted on.
///
/// # Invariants
///
/// As for [`MappedPage`], of its first page.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MappedFolio<'a>(MappedPage<'a>);

impl<'a> MappedFolio<'a> {
    /// The folio that consists of `page` alone.
    ///
    /// # Safety
    ///
    /// It does, for as long as the value is used.
    #[inline]
    pub unsafe fn single(page: MappedPage<'a>) -> Self {
        // INVARIANT: The page is its own first page.
        Self(page)
    }

    /// The first page.
    #[inline]
    pub fn first_page(self) -> MappedPage<'a> {
        self.0
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::folio {
        self.0.as_raw().cast()
    }

    /// Whether it has more than one page. C: `folio_test_large()`.
    #[doc(alias = "folio_test_large")]
    #[inline]
    pub fn is_large(self) -> bool {
        self.0.has(bindings::pageflags_PG_head)
    }

    /// The count of references. C: `_refcount`.
    #[inline]
    pub(super) fn count(&self) -> &AtomicI32 {
        // SAFETY: `_refcount` is an `atomic_t`: four aligned bytes that everybody accesses
        // atomically, there by the invariant.
        unsafe { AtomicI32::from_ptr(addr_of_mut!((*self.0.as_raw())._refcount.counter)) }
    }

    /// The count of pins of a large folio. C: `_pincount`.
    #[inline]
    pub(super) fn pin_count(&self) -> &AtomicI32 {
        // SAFETY: As in `count`. It lies in the second page, which a large folio has; and the page
        // after any other is there too or the word is not used.
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

    /// How many pages it has. C: `folio_nr_pages()`.
    #[doc(alias = "folio_nr_pages")]
    #[inline]
    pub fn nr_pages(self) -> usize {
        if !self.is_large() {
            return 1;
        }
        // SAFETY: As in `pin_count`. Read once: it may change if nobody keeps the folio.
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

    /// Where `page` lies in the folio, in pages. C: `folio_page_idx()`.
    #[doc(alias = "folio_page_idx")]
    #[inline]
    pub fn index_of(self, page: MappedPage<'a>) -> usize {
        page.index().wrapping_sub(self.0.index())
    }

    /// The byte that says what a page is that nobody maps. C: `page_type`.
    #[inline]
    fn page_type(self) -> u32 {
        // SAFETY: By the invariant the word is there; read once, for it may change.
        let word =
            unsafe { addr_of!((*self.0.as_raw()).__bindgen_anon_2.page_type).read_volatile() };
        word >> 24
    }

    /// Whether it belongs to hugetlb. C: `folio_test_hugetlb()`.
    #[doc(alias = "folio_test_hugetlb")]
    #[inline]
    pub fn is_hugetlb(self) -> bool {
        self.is_large() && self.page_type() == bindings::pagetype_PGTY_hugetlb
    }

    /// Whether it belongs to the slab allocator. C: `folio_test_slab()`.
    #[doc(alias = "folio_test_slab")]
    #[inline]
    pub fn is_slab(self) -> bool {
        self.page_type() == bindings::pagetype_PGTY_slab
    }

    /// What the folio is part of. Interrupts are off, so that a file's mapping stays for as long.
    #[inline]
    pub fn mapping<'irq>(self, _irq: LocalInterruptDisabled<'irq>) -> Mapping<'irq> {
        // SAFETY: As in `MappedPage::flags`; the union's word is always there.
        let word = unsafe {
            let word = addr_of_mut!((*self.0.as_raw()).__bindgen_anon_1.__bindgen_anon_1.mapping);
            AtomicUsize::from_ptr(word.cast())
        }
        .load(Ordering::Relaxed);
        // INVARIANT: Just read, and interrupts are off.
        Mapping(word, PhantomData)
    }

    /// Notes that the folio was used. C: `folio_set_referenced()`.
    ///
    /// The bit is looked at first: setting it is a locked instruction, and it is nearly always set.
    #[doc(alias = "folio_set_referenced")]
    #[inline]
    pub fn set_referenced(self) {
        const REFERENCED: usize = 1 << bindings::pageflags_PG_referenced;
        // SAFETY: As in `MappedPage::flags`.
        let flags = unsafe { AtomicUsize::from_ptr(addr_of_mut!((*self.0.as_raw()).flags).cast()) };
        if flags.load(Ordering::Relaxed) & REFERENCED == 0 {
            flags.fetch_or(REFERENCED, Ordering::Relaxed);
        }
    }
}

/// What a folio is part of, as it was when it was read. C: `folio->mapping`.
///
/// # Invariants
///
/// The word was read from a folio in the section `'irq`, in which interrupts are off.
#[derive(Clone, Copy)]
pub struct Mapping<'irq>(usize, PhantomData<LocalInterruptDisabled<'irq>>);

impl<'irq> Mapping<'irq> {
    /// Whether the folio is in no mapping (any more).
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether the folio is anonymous memory. C: `folio_test_anon()`.
    #[doc(alias = "folio_test_anon")]
    #[inline]
    pub fn is_anon(self) -> bool {
        self.0 & MAPPING_ANON != 0
    }

    /// The file's mapping, if it is one.
    #[inline]
    pub fn file(self) -> Option<FileMapping<'irq>> {
        if self.0 & MAPPING_FLAGS != 0 {
            return None;
        }
        // INVARIANT: Without flags it is an address space. Inodes, which contain these, are freed
        // after a grace period, and none ends while interrupts are off: since the word was read.
        NonNull::new(self.0 as *mut bindings::address_space)
            .map(|mapping| FileMapping(mapping, PhantomData))
    }
}

/// The mapping of a file.
///
/// # Invariants
///
/// The structure's memory stays for `'irq`.
#[derive(Clone, Copy)]
pub struct FileMapping<'irq>(NonNull<bindings::address_space>, PhantomData<&'irq ()>);

impl FileMapping<'_> {
    /// Whether it is memory that the kernel itself must not reach. C: `secretmem_mapping()`.
    #[doc(alias = "secretmem_mapping")]
    #[cfg(CONFIG_SECRETMEM)]
    #[inline]
    pub fn is_secret(self) -> bool {
        // SAFETY: By the invariant the field is there; read once, for it may change.
        let operations = unsafe { addr_of!((*self.0.as_ptr()).a_ops).read_volatile() };
        operations == addr_of!(bindings::secretmem_aops)
    }

    /// Whether it is memory that the kernel itself must not reach: there is none.
    #[cfg(not(CONFIG_SECRETMEM))]
    #[inline]
    pub fn is_secret(self) -> bool {
        false
    }

    /// Whether it is shared memory or tmpfs. C: `shmem_mapping()`.
    #[doc(alias = "shmem_mapping")]
    pub fn is_shmem(self) -> bool {
        // SAFETY: By the invariant the structure is there, and the function only compares.
        unsafe { bindings::shmem_mapping(self.0.as_ptr()) }
    }
}
