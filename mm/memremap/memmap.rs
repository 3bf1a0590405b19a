// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/mm_init.c`.

//! Initialising the memmap of a range.
//!
//! C initialises one `struct page` after the other: it clears the structure, sets one field after the
//! other, and sets some of them again if the page is part of a compound page. But the pages of a
//! range are all alike, or of three kinds:
//!
//! | page | differs from others of its kind |
//! |---|---|
//! | a single page, or the head of a compound page | in nothing |
//! | the first tail, which has fields of the folio | in the address of its head |
//! | any other tail | in the address of its head |
//!
//! So [`Templates`] has one page of each kind, made by the functions by which C makes them, and
//! [`init`] stores copies, as whole cache lines that go past the caches: a memmap is larger than
//! these, and most of it is not read soon.
//!
//! This relies on a memmap in which `page->flags` has no number of a section (SPARSEMEM_VMEMMAP,
//! which ZONE_DEVICE needs) and no page has its address (`WANT_PAGE_VIRTUAL`, which x86-64 does not
//! define). KMSAN must see the stores; with it C initialises the memmap.
//!
//! The memmap of compound pages may be deduplicated (`Documentation/mm/vmemmap_dedup.rst`): then
//! only the first pages of each have a `struct page` of their own.
//!
//! The `unsafe` code in this file encapsulates the stores to a memmap that no code uses yet.
//!
//! C header: [`include/linux/mmzone.h`](srctree/include/linux/mmzone.h)

use crate::range::RangeOf;
use core::{
    mem::{offset_of, size_of},
    ptr::{addr_of_mut, null_mut},
};
use kernel::{
    arch::x86::nontemporal::{Line, NonTemporal},
    bindings,
    mm::{
        memremap::{DevPagemap, MemoryType},
        node::Node,
        pfn::Pfn,
    },
    page::PAGE_SIZE,
    static_assert,
};

/// Whether this file knows the memmap of this configuration.
const IS_KNOWN: bool = cfg!(CONFIG_SPARSEMEM_VMEMMAP) && !cfg!(CONFIG_KMSAN);

/// The number of pages after which initialising a memmap offers to reschedule: those of a section.
const RESCHED_INTERVAL: usize = bindings::PAGES_PER_SECTION as usize;

/// The size of a `struct page`, in words.
const WORDS: usize = size_of::<bindings::page>() / size_of::<usize>();
static_assert!(size_of::<bindings::page>() % size_of::<usize>() == 0);

/// The word of a `struct page` that has the address of the head if the page is a tail.
const COMPOUND_HEAD: usize = offset_of!(
    bindings::page,
    __bindgen_anon_1.__bindgen_anon_3.compound_head
) / size_of::<usize>();

/// The contents of a `struct page`.
pub(crate) type Words = [usize; WORDS];

/// Initialises the memmap of the data pages of a range, and the migrate type of their pageblocks. C:
/// `memmap_init_zone_device()`. Sleeps.
///
/// # Safety
///
/// The pages of the range must have been added, `zone` must be ZONE_DEVICE of `node`, to which they
/// belong, and no code may use them yet.
#[doc(alias = "memmap_init_zone_device")]
pub(crate) unsafe fn init(of: &RangeOf<'_>, zone: *mut bindings::zone, node: Node) {
    let (pgmap, pfns) = (of.pgmap(), of.range().pfns());
    let unit = 1usize.checked_shl(pgmap.vmemmap_shift());
    // The pages in front of it may hold the memmap, and were initialised when they were added.
    let first = pgmap.first_pfn(of.index(), of.range());
    let (true, Some(unit), Some(first)) = (IS_KNOWN, unit, first) else {
        // SAFETY: By the caller's promise the pages were added to this zone and are not used yet.
        unsafe {
            bindings::memmap_init_zone_device(zone, pfns.first().nr(), pfns.len(), pgmap.as_raw())
        };
        return;
    };
    // OVERFLOW: `first` is one of the PFNs of the range, which is not all of memory.
    let end = pfns.last().nr().wrapping_add(1);
    let templates = Templates::new(pgmap, first, node);
    let mut memmap = Memmap::begin();
    // SAFETY: By the caller's promise these pages have a memmap, which no code uses yet.
    unsafe {
        if unit == 1 {
            memmap.fill(first.nr(), end.wrapping_sub(first.nr()), &templates.head);
        } else {
            // A compound page that is not whole has what C gives it, up to the end.
            for pfn in (first.nr()..end).step_by(unit) {
                let pages = nr_struct_pages(pgmap, pfn, unit).min(end.wrapping_sub(pfn));
                memmap.fill_compound(pfn, pages, &templates);
            }
        }
    }
    drop(memmap);
    // SAFETY: By the caller's promise the pages are in the zone, and their memmap was just
    // initialised.
    unsafe { init_pageblocks(first.nr(), end) };
}

/// Returns how many pages of the compound page at `pfn`, of `unit` pages, have a `struct page` of
/// their own. C: `compound_nr_pages()`.
#[doc(alias = "compound_nr_pages")]
fn nr_struct_pages(pgmap: &DevPagemap, pfn: usize, unit: usize) -> usize {
    const RESERVED: usize =
        bindings::VMEMMAP_RESERVE_NR as usize * (PAGE_SIZE / size_of::<bindings::page>());

    let altmap = match pgmap.altmap() {
        // SAFETY: The field lies in a valid pgmap; only its address is computed.
        Some(_) => unsafe { addr_of_mut!((*pgmap.as_raw()).altmap) },
        None => null_mut(),
    };
    // A part of a section with RAM uses the memmap that the section has since boot.
    // SAFETY: The functions only read the pgmap, which is valid, and the section table.
    let is_whole = unsafe {
        bindings::early_section(bindings::__pfn_to_section(pfn)) != 0
            || !bindings::vmemmap_can_optimize(altmap, pgmap.as_raw())
    };
    if is_whole {
        unit
    } else {
        RESERVED
    }
}

/// Gives all pageblocks that begin in a range of PFNs the migrate type of a zone that the page
/// allocator never sees. C: `pageblock_migratetype_init_range()`. Sleeps.
///
/// # Safety
///
/// The pages must have an initialised memmap and be in their zone, and no code may use them yet.
#[doc(alias = "pageblock_migratetype_init_range")]
unsafe fn init_pageblocks(first: usize, end: usize) {
    const STEP: usize = bindings::PAGEBLOCK_NR_PAGES;

    let Some(first) = first.checked_next_multiple_of(STEP) else {
        return;
    };
    for pfn in (first..end).step_by(STEP) {
        // SAFETY: By the caller's promise the page is initialised, and its zone spans it.
        unsafe {
            bindings::set_pageblock_migratetype(
                bindings::pfn_to_page(pfn),
                bindings::migratetype_MIGRATE_MOVABLE as _,
            )
        };
        if pfn % RESCHED_INTERVAL == 0 {
            // SAFETY: No spinlock is held; the caller may sleep, as documented.
            unsafe { bindings::cond_resched() };
        }
    }
}

/// The contents of the pages of a range. The tails have no head yet.
struct Templates {
    /// A single page, or the first page of a compound page.
    head: Words,
    /// The second page of a compound page.
    first_tail: Words,
    /// Any other page of a compound page.
    tail: Words,
}

/// Room for the `struct page`s that have fields of a folio.
#[repr(C, align(64))]
struct Folio([Words; 4]);
static_assert!(size_of::<bindings::folio>() <= size_of::<[Words; 4]>());

impl Templates {
    /// Makes the pages of a range of a pgmap that begins with the page `first`.
    fn new(pgmap: &DevPagemap, first: Pfn, node: Node) -> Self {
        let mut folio = Folio([[0; WORDS]; 4]);
        let order = pgmap.vmemmap_shift();
        let head = addr_of_mut!(folio).cast::<bindings::page>();
        // SAFETY: There is room for four `struct page`s, which no other code can reach. The steps
        // are those of C, in its order: the folio's fields in the third page are overwritten when
        // that page is made.
        unsafe {
            init_page(head, pgmap, first, node);
            if order != 0 {
                bindings::__SetPageHead(head);
                init_tail(head, 1, pgmap, first, node);
                bindings::prep_compound_head(head, order);
                init_tail(head, 2, pgmap, first, node);
            }
        }
        let [head, first_tail, tail, _] = folio.0;
        Self {
            head,
            first_tail,
            tail,
        }
    }
}

/// Makes a page of a pgmap. C: `__init_zone_device_page()`.
///
/// # Safety
///
/// `page` must be valid for writes, and no other code may access it.
#[doc(alias = "__init_zone_device_page")]
unsafe fn init_page(page: *mut bindings::page, pgmap: &DevPagemap, pfn: Pfn, node: Node) {
    let zone = bindings::zone_type_ZONE_DEVICE as usize;
    // SAFETY: The caller allows the `struct page` to be written. The functions write nothing else.
    unsafe {
        bindings::__init_single_page(page, pfn.nr(), zone, node.as_raw());
        bindings::__SetPageReserved(page);
        let words = addr_of_mut!((*page).__bindgen_anon_1.__bindgen_anon_4);
        addr_of_mut!((*words).pgmap).write(pgmap.as_raw());
        addr_of_mut!((*words).zone_device_data).write(null_mut());
        // The owner takes the first reference when it allocates the page.
        if pgmap
            .memory_type()
            .is_some_and(MemoryType::pages_are_allocated)
        {
            bindings::set_page_count(page, 0);
        }
    }
}

/// Makes the page with this index, not 0, of a compound page. C: `memmap_init_compound()`.
///
/// # Safety
///
/// `head` must be valid for writes of more than `index` pages, and no other code may access them.
#[doc(alias = "memmap_init_compound")]
unsafe fn init_tail(
    head: *mut bindings::page,
    index: u8,
    pgmap: &DevPagemap,
    first: Pfn,
    node: Node,
) {
    let page = head.wrapping_add(index.into());
    // SAFETY: By the caller's promise the page may be written. The functions write nothing else.
    unsafe {
        init_page(page, pgmap, first, node);
        bindings::prep_compound_tail(head, index.into());
        bindings::set_page_count(page, 0);
    }
}

/// A memmap that is being written. Dropping it orders the stores before all later ones.
struct Memmap {
    stores: NonTemporal,
    /// The number of pages that may be written before the task offers to reschedule.
    left: usize,
}

impl Memmap {
    /// Begins to write.
    fn begin() -> Self {
        Self {
            stores: NonTemporal::begin(),
            left: RESCHED_INTERVAL,
        }
    }

    /// Writes the same contents to the `struct page`s of `count` PFNs. Sleeps.
    ///
    /// # Safety
    ///
    /// The PFNs must have a memmap, which no code uses yet.
    #[inline]
    unsafe fn fill(&mut self, pfn: usize, count: usize, page: &Words) {
        let (mut pfn, mut count) = (pfn, count);
        while count > self.left {
            // SAFETY: The caller promises that these PFNs have a memmap that no code uses.
            unsafe { self.store(pfn, self.left, page) };
            pfn = pfn.wrapping_add(self.left);
            count = count.wrapping_sub(self.left);
            *self = Self::begin();
            // SAFETY: No spinlock is held; the caller may sleep, as documented.
            unsafe { bindings::cond_resched() };
        }
        // SAFETY: The caller promises that these PFNs have a memmap that no code uses.
        unsafe { self.store(pfn, count, page) };
        self.left = self.left.wrapping_sub(count);
    }

    /// Writes the `struct page`s of the first `count` pages of a compound page. Sleeps.
    ///
    /// # Safety
    ///
    /// The PFNs must have a memmap, which no code uses yet.
    unsafe fn fill_compound(&mut self, pfn: usize, count: usize, templates: &Templates) {
        // SAFETY: The function only computes an address.
        let head = unsafe { bindings::pfn_to_page(pfn) };
        let tail_of_head = |words: &Words| {
            let mut words = *words;
            words[COMPOUND_HEAD] = (head as usize).wrapping_add(1);
            words
        };
        // SAFETY: The caller promises that the PFNs have a memmap that no code uses. There are
        // `count` of them.
        unsafe {
            self.fill(pfn, count.min(1), &templates.head);
            self.fill(
                pfn.wrapping_add(1),
                count.min(2).saturating_sub(1),
                &tail_of_head(&templates.first_tail),
            );
            self.fill(
                pfn.wrapping_add(2),
                count.saturating_sub(2),
                &tail_of_head(&templates.tail),
            );
        }
    }

    /// Writes the same contents to the `struct page`s of `count` PFNs.
    ///
    /// # Safety
    ///
    /// The PFNs must have a memmap, which no code uses yet.
    #[inline(always)]
    unsafe fn store(&self, pfn: usize, count: usize, page: &Words) {
        // SAFETY: The function only computes an address.
        let to = unsafe { bindings::pfn_to_page(pfn) }.cast::<Words>();
        if size_of::<Words>() == size_of::<Line>() {
            // SAFETY: The two types are the same if they have the same size, and the caller promises
            // that this part of the memmap may be written, which is one array (SPARSEMEM_VMEMMAP).
            unsafe {
                self.stores
                    .fill(to.cast(), count, &*core::ptr::from_ref(page).cast())
            };
        } else {
            for n in 0..count {
                // SAFETY: The caller promises that this part of the memmap may be written, which is
                // one array (SPARSEMEM_VMEMMAP).
                unsafe { to.wrapping_add(n).write(*page) };
            }
        }
    }
}
