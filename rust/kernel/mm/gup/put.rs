// SPDX-License-Identifier: GPL-2.0

//! Giving pins back.
//!
//! C: `unpin_user_pages()` and `gup_put_folio()` of [`mm/gup.c`](srctree/mm/gup.c)

use super::PinStatistics;
use crate::{
    bindings,
    mm::{
        folio::FolioRef,
        memremap::{MemoryType, ZoneDeviceFolio},
        page::PageRef,
    },
};
use core::ptr::NonNull;

const BIAS: i32 = bindings::GUP_PIN_COUNTING_BIAS as i32;

/// Gives back one pin for each page of an array; null entries are passed over. C:
/// `unpin_user_pages()`. Any context that may drop the last reference to a page.
///
/// Pages of one folio that stand side by side are given back at once, and the books are written
/// once for each run of pages on one node.
///
/// # Safety
///
/// The caller owns a pin of each page, and gives it up.
#[doc(alias = "unpin_user_pages")]
pub unsafe fn unpin(pages: &[*mut bindings::page]) {
    let mut statistics = PinStatistics::released();
    let mut rest = pages;
    while let Some((&page, behind)) = rest.split_first() {
        rest = behind;
        let Some(page) = NonNull::new(page) else {
            continue;
        };
        // SAFETY: By the caller's promise the page is pinned, so that it stays.
        let page = unsafe { PageRef::from_raw(page) };
        let folio = page.folio();
        if folio.is_large() {
            let pins = rest
                .iter()
                .take_while(|&&next| {
                    let Some(next) = NonNull::new(next) else {
                        return false;
                    };
                    // SAFETY: As for `page`.
                    unsafe { PageRef::from_raw(next) }.folio() == folio
                })
                .count();
            rest = rest.get(pins..).unwrap_or_default();
            // SAFETY: The caller's promise, for each of these pages.
            unsafe { unpin_large(folio, pins.wrapping_add(1), &mut statistics) };
        } else if page.is_zone_device() {
            statistics.count(page, 1);
            // SAFETY: In ZONE_DEVICE, and pinned.
            let device = unsafe { device_folio(page) };
            // After the pin is given back the pgmap may be gone.
            let pgmap = device.pgmap();
            let fsdax = pgmap.memory_type() == Some(MemoryType::FsDax);
            let single = pgmap.vmemmap_shift() == 0;
            let word = page.pgmap_word();
            if fsdax {
                // SAFETY: The caller's promise: `BIAS` is one pin.
                unsafe { device.put_fsdax_refs(BIAS) };
            } else {
                // SAFETY: As above.
                unsafe { folio.put_refs(BIAS) };
            }
            if single {
                let run = match fsdax {
                    // SAFETY: The caller's promise.
                    true => unsafe { unpin_run::<true>(rest, word) },
                    // SAFETY: As above.
                    false => unsafe { unpin_run::<false>(rest, word) },
                };
                statistics.count_again(run);
                rest = rest.get(run..).unwrap_or_default();
            }
        } else if !page.is_zero_page() {
            statistics.count(page, 1);
            // SAFETY: As above.
            unsafe { folio.put_refs(BIAS) };
        }
    }
}

/// Gives back the pins of the first pages of an array, as long as they belong to the pgmap that
/// has this `word` in its pages: no more questions. Returns how many these were.
///
/// # Safety
///
/// As for [`unpin`]. The pgmap has pages that are folios of their own, of FS DAX if `FSDAX`.
#[inline]
unsafe fn unpin_run<const FSDAX: bool>(pages: &[*mut bindings::page], word: usize) -> usize {
    let mut run = 0;
    for &page in pages {
        let Some(page) = NonNull::new(page) else {
            break;
        };
        // SAFETY: By the caller's promise the page is pinned, so that it stays.
        let page = unsafe { PageRef::from_raw(page) };
        if page.pgmap_word() != word {
            break;
        }
        if FSDAX {
            // SAFETY: In the pgmap, so in ZONE_DEVICE; of FS DAX by the caller's promise, who
            // gives up one pin.
            unsafe { device_folio(page).put_fsdax_refs(BIAS) };
        } else {
            // SAFETY: A folio of its own by the caller's promise, who gives up one pin.
            unsafe { FolioRef::from_first_page(page).put_refs(BIAS) };
        }
        run += 1;
    }
    run
}

/// The folio that a device page is.
///
/// # Safety
///
/// The page is in ZONE_DEVICE, a folio of its own, and pinned.
#[inline(always)]
unsafe fn device_folio(page: PageRef<'_>) -> ZoneDeviceFolio<'_> {
    // SAFETY: The caller's promise. A page is not at the address 0.
    unsafe { ZoneDeviceFolio::from_raw(NonNull::new_unchecked(page.as_raw()).cast()) }
}

/// Gives back `pins` pins of a folio of more than one page.
///
/// # Safety
///
/// The caller owns them, and gives them up.
#[inline]
unsafe fn unpin_large(folio: FolioRef<'_>, pins: usize, statistics: &mut PinStatistics<'_>) {
    statistics.count(folio.first_page(), pins);
    // CAST: A folio has at most 2^18 pages, but may be in the array more than once: C counts in an
    // `int` as well.
    let pins = pins as i32;
    // SAFETY: The folio is large, and the pins are the caller's.
    unsafe { folio.pincount_sub(pins) };
    if folio.is_zone_device() {
        // SAFETY: The caller's promise: a pin of a large folio is one reference.
        unsafe { bindings::gup_put_refs(folio.as_raw(), pins) };
    } else {
        // SAFETY: As above.
        unsafe { folio.put_refs(pins) };
    }
}
