// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/gup.c`.

//! Unpinning pages, and dropping references to folios of any kind.
//!
//! The `unsafe` code here drops references that the caller owns.
//!
//! C: `unpin_user_pages()` and `gup_put_folio()` of [`mm/gup.c`](srctree/mm/gup.c)

use crate::{device_run::FSDAX_FOLIO_PAGES, flags::refs_of_small_folio, vmstat::FollPinStat};
use core::ptr::NonNull;
use kernel::{
    bindings,
    mm::{
        folio::FolioRef,
        memremap::{MemoryType, ZoneDeviceFolio},
        page::PageRef,
    },
};

/// The references that one pin of a folio of one page is.
const PIN: i32 = refs_of_small_folio::<true>();

/// Unpins each page of an array; null entries are skipped. C: `unpin_user_pages()`. Any context
/// that may drop the last reference to a page.
///
/// Pages of one folio that are neighbours in the array are unpinned at once, and the vmstat counter
/// is updated once for each run of pages on one node.
///
/// # Safety
///
/// The pages must be valid, and the caller must own a pin of each, which it loses.
#[doc(alias = "unpin_user_pages")]
pub(crate) unsafe fn unpin(pages: &[*mut bindings::page]) {
    let mut stat = FollPinStat::released();
    let mut rest = pages;
    while let Some((&page, behind)) = rest.split_first() {
        rest = behind;
        let Some(page) = NonNull::new(page) else {
            continue;
        };
        // SAFETY: By the caller's promise the page is pinned, so it stays valid until it is
        // unpinned.
        let page = unsafe { PageRef::from_raw(page) };
        let folio = page.folio();
        if folio.is_large() {
            // The pins keep the folio as it is: it is not split.
            let pins = run_in_folio(folio, page.as_raw(), rest);
            rest = rest.get(pins..).unwrap_or_default();
            // SAFETY: The caller owns a pin of each of these pages, which belong to this folio.
            unsafe { unpin_large(folio, pins.wrapping_add(1), &mut stat) };
        } else if page.is_zone_device() {
            stat.add(page, 1);
            // SAFETY: The page is in ZONE_DEVICE, its folio has one page, and it is pinned.
            let device = unsafe { zone_device_folio(page) };
            // The pgmap may be freed after the page is unpinned, so these are read before.
            let pgmap = device.pgmap();
            let fsdax = pgmap.memory_type() == Some(MemoryType::FsDax);
            let single = pgmap.vmemmap_shift() == 0;
            let word = page.pgmap_word();
            if fsdax {
                // SAFETY: The folio is FS DAX, and `PIN` references are the pin that the caller
                // owns.
                unsafe { device.put_fsdax_refs(PIN) };
            } else {
                // SAFETY: `PIN` references are the pin that the caller owns.
                unsafe { folio.put_refs(PIN) };
            }
            if single {
                let run = match fsdax {
                    // SAFETY: The caller owns a pin of each page. `page` was a folio of one page of
                    // FS DAX, and pinned until now.
                    true => unsafe { unpin_fsdax_run(rest, page) },
                    // SAFETY: The caller owns a pin of each page. `word` is of a pgmap with folios
                    // of one page, which is not FS DAX.
                    false => unsafe { unpin_run(rest, word) },
                };
                stat.add_same_node(run);
                rest = rest.get(run..).unwrap_or_default();
            }
        } else if !page.is_zero_page() {
            stat.add(page, 1);
            // SAFETY: `PIN` references are the pin that the caller owns.
            unsafe { folio.put_refs(PIN) };
        }
    }
}

/// Returns how many pages at the beginning of `rest` are in `folio`, if the entry before them is
/// `last`, a page of it. C: `gup_folio_next()`.
///
/// No `struct page` in the array is looked at: the memmap of x86-64 is one array
/// (SPARSEMEM_VMEMMAP), so a page is in the folio if its address is between the first page and the
/// end. An array in any order, with pages that are repeated, is one run. Pages that follow each other
/// take one comparison each, and two where their order ends.
///
/// The result stays true as long as a reference keeps the folio, which is not split then.
#[doc(alias = "gup_folio_next")]
#[inline(always)]
pub(crate) fn run_in_folio(
    folio: FolioRef<'_>,
    last: *mut bindings::page,
    rest: &[*mut bindings::page],
) -> usize {
    match rest {
        [] => 0,
        rest => long_run_in_folio(folio, last, rest),
    }
}

/// Returns what [`run_in_folio`] returns.
#[inline(never)]
fn long_run_in_folio(
    folio: FolioRef<'_>,
    last: *mut bindings::page,
    rest: &[*mut bindings::page],
) -> usize {
    let first = folio.as_raw() as usize;
    let bytes = folio.nr_pages().wrapping_mul(size_of::<bindings::page>());
    let mut last = last;
    let mut run = 0_usize;
    loop {
        let behind = rest.get(run..).unwrap_or_default();
        let end = first.wrapping_add(bytes);
        // How many pages the folio has behind `last`.
        let most = end
            .wrapping_sub(last.wrapping_add(1) as usize)
            .min(bytes)
            .wrapping_div(size_of::<bindings::page>());
        let part = behind.get(..most).unwrap_or(behind);
        run = run.wrapping_add(consecutive(part, last.wrapping_add(1)));
        match rest.get(run) {
            Some(&page) if (page as usize).wrapping_sub(first) < bytes => last = page,
            _ => return run,
        }
        run = run.wrapping_add(1);
    }
}

/// Returns how many pages at the beginning of `pages` follow each other, the first being `first`.
#[inline(always)]
fn consecutive(pages: &[*mut bindings::page], first: *mut bindings::page) -> usize {
    const STEP: usize = 16;
    let mut next = first;
    let mut run = 0_usize;
    for step in pages.chunks_exact(STEP) {
        let differ = step.iter().enumerate().fold(0, |differ, (n, &page)| {
            differ | (page as usize ^ next.wrapping_add(n) as usize)
        });
        if differ != 0 {
            break;
        }
        next = next.wrapping_add(STEP);
        run = run.wrapping_add(STEP);
    }
    for &page in pages.get(run..).unwrap_or_default() {
        if page != next {
            break;
        }
        next = next.wrapping_add(1);
        run = run.wrapping_add(1);
    }
    run
}

/// Unpins the first pages of an array, as long as they follow `last`, and lie in the same aligned
/// range of 2 MiB. Returns their number.
///
/// All pages of such a range are in one folio, or none, as long as one of them is pinned. So if `last`
/// was a folio of one page, so are these.
///
/// # Safety
///
/// The pages must be valid, and the caller must own a pin of each, which it loses for the pages
/// counted in the result. `last` must be a page that was a folio of one page of FS DAX as long as the
/// caller had it pinned. Its pin may have been put; only its address is used.
#[inline]
unsafe fn unpin_fsdax_run(pages: &[*mut bindings::page], last: PageRef<'_>) -> usize {
    let at = last.pfn().nr() % FSDAX_FOLIO_PAGES;
    let pages = pages.get(..FSDAX_FOLIO_PAGES - 1 - at).unwrap_or(pages);
    let mut next = last.as_raw().wrapping_add(1);
    let mut run = 0;
    for &page in pages {
        if page != next {
            break;
        }
        // SAFETY: The page follows another one in the memmap, so its address is not null. By the
        // caller's promise it is pinned, so it stays valid until it is unpinned. It was pinned
        // together with `last`, so it is a folio of one page of FS DAX as well.
        unsafe {
            let page = PageRef::from_raw(NonNull::new_unchecked(page));
            zone_device_folio(page).put_fsdax_refs(PIN);
        }
        next = next.wrapping_add(1);
        run += 1;
    }
    run
}

/// Unpins the first pages of an array, as long as they belong to the pgmap that is in their
/// [`pgmap_word`](PageRef::pgmap_word), without looking at anything else. Returns their number.
///
/// # Safety
///
/// The pages must be valid, and the caller must own a pin of each, which it loses for the pages
/// counted in the result. The pgmap of `word` must have folios of one page, and not be FS DAX.
#[inline]
unsafe fn unpin_run(pages: &[*mut bindings::page], word: usize) -> usize {
    let mut run = 0;
    for &page in pages {
        let Some(page) = NonNull::new(page) else {
            break;
        };
        // SAFETY: By the caller's promise the page is pinned, so it stays valid until it is
        // unpinned.
        let page = unsafe { PageRef::from_raw(page) };
        if page.pgmap_word() != word {
            break;
        }
        // SAFETY: The page belongs to the pgmap, so it is a folio of one page. The caller owns a pin of
        // it.
        unsafe { FolioRef::from_first_page(page).put_refs(PIN) };
        run += 1;
    }
    run
}

/// Returns the folio that consists of a page in ZONE_DEVICE.
///
/// # Safety
///
/// The page must be in ZONE_DEVICE, the first page of its folio, and referenced.
#[inline(always)]
unsafe fn zone_device_folio(page: PageRef<'_>) -> ZoneDeviceFolio<'_> {
    // SAFETY: A `PageRef` is not null. By the caller's promise this page is the first of a folio in
    // ZONE_DEVICE, and a reference to a page keeps its pgmap.
    unsafe { ZoneDeviceFolio::from_raw(NonNull::new_unchecked(page.as_raw()).cast()) }
}

/// Puts `pins` pins of a large folio. C: `gup_put_folio()`.
///
/// # Safety
///
/// The folio must be large, and the caller must own that many pins, which it loses.
#[doc(alias = "gup_put_folio")]
#[inline]
unsafe fn unpin_large(folio: FolioRef<'_>, pins: usize, stat: &mut FollPinStat<'_>) {
    stat.add(folio.first_page(), pins);
    // CAST: A folio has at most 2^18 pages, but may be in the array more than once: C counts in an
    // `int` as well.
    let pins = pins as i32;
    // SAFETY: The folio is large. The caller owns the pins, and drops their references next.
    unsafe { folio.pincount_sub(pins) };
    // SAFETY: Each pin of a large folio is one reference.
    unsafe { put_folio_refs(folio, pins) };
}

/// Drops `refs` references to a folio of any kind: of FS DAX, waiters are woken if it is idle then,
/// and any other folio is freed if these were the last. Any context that may drop the last
/// reference to a page. C: `put_devmap_managed_folio_refs()`, `folio_put_refs()`.
///
/// # Safety
///
/// The caller must own that many references, which it loses.
#[doc(alias = "put_devmap_managed_folio_refs")]
#[inline]
pub(crate) unsafe fn put_folio_refs(folio: FolioRef<'_>, refs: i32) {
    if folio.is_zone_device() {
        // SAFETY: The folio is in ZONE_DEVICE and referenced by the caller.
        let device = unsafe { zone_device_folio(folio.first_page()) };
        // SAFETY: The caller owns the references, and loses them if the result is `true`.
        if unsafe { device.put_managed_refs(refs) } {
            return;
        }
    }
    // SAFETY: The caller owns the references, and none was dropped above.
    unsafe { folio.put_refs(refs) };
}
