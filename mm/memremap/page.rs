// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! Pages of a pgmap: allocating one, freeing one, visiting all.
//!
//! What the count of a page means is in `rust/kernel/mm/memremap/page.rs`.
//!
//! The `unsafe` code in this file encapsulates the counts of pages without references, and the way
//! from a pgmap to its `struct page`s.

use core::{
    ptr::{addr_of_mut, null_mut, NonNull},
    sync::atomic::{fence, Ordering},
};
use kernel::{
    bindings,
    mm::{
        folio::FolioRef,
        memremap::{DevPagemap, MemoryType, ZoneDeviceFolio, ZoneDevicePage},
    },
};

/// Allocates an idle page of private or coherent memory, with one reference, and locks it. C:
/// `zone_device_page_init()`.
///
/// Returns `false` if the pgmap is being torn down. The page is initialised all the same, as in C,
/// because C's caller cannot fail.
///
/// Sleeps if the page is locked, which an idle page is not.
///
/// # Safety
///
/// The pages of the pgmap must be allocated ones, this page must be idle (without references), and
/// the caller must be the only one that allocates it. The new holder must unlock the page and drop
/// the reference.
#[doc(alias = "zone_device_page_init")]
#[must_use = "a page handed out during teardown is a bug of the driver, to be reported"]
pub(crate) unsafe fn init(page: ZoneDevicePage<'_>) -> bool {
    // The allocated page's own live reference; `free` puts it.
    // SAFETY: By the type invariants the pgmap is valid, and it is mapped as long as it has pages,
    // so its reference count is initialised.
    let live =
        unsafe { bindings::percpu_ref_tryget_live(addr_of_mut!((*page.pgmap().as_raw()).ref_)) };
    // SAFETY: By the caller's promise the page is idle and only this caller allocates it, so no
    // other task changes its count.
    unsafe { bindings::set_page_count(page.as_raw(), 1) };
    // SAFETY: The page is valid, and the reference that was just created keeps it so.
    unsafe { bindings::lock_page(page.as_raw()) };
    live
}

/// The owner of a pgmap has no `page_free`.
#[derive(Debug)]
pub(crate) struct NotFreeable;

/// Frees a folio after its last reference was dropped: calls the owner's `page_free`. C:
/// `free_zone_device_folio()`. Any context that may drop the last reference to a page.
///
/// # Errors
///
/// [`NotFreeable`] if the owner has no `page_free`: the pages of FS DAX and generic memory are idle
/// at 1 and may not drop to 0. Nothing is done then.
///
/// # Safety
///
/// The caller must have dropped the last reference to the folio, and no task may take one. If the
/// pages of the pgmap are allocated, this page must have been allocated by [`init`], and must be
/// freed once for that.
#[doc(alias = "free_zone_device_folio")]
pub(crate) unsafe fn free(folio: ZoneDeviceFolio<'_>) -> Result<(), NotFreeable> {
    let pgmap = folio.pgmap();
    // SAFETY: The owner set `ops` before the pgmap was mapped and keeps it until it is unmapped, so
    // it is null or valid.
    let ops = unsafe { (*pgmap.as_raw()).ops.as_ref() };
    let page_free = ops.and_then(|ops| ops.page_free).ok_or(NotFreeable)?;
    let first = folio.first_page();

    // SAFETY: By the type invariants the folio is valid, and by the caller's promise it has no
    // references, so no other task changes its fields. Of a free page, `mapping` may hold a stale
    // value of the last user, which null replaces.
    unsafe {
        bindings::mem_cgroup_uncharge(folio.as_raw());
        if first.mapping() as usize & bindings::PAGE_MAPPING_ANON as usize != 0 {
            if cfg!(CONFIG_DEBUG_VM) && first.folio().is_large() {
                kernel::warn_once!(
                    "memremap: large anonymous folio freed, its tails stay exclusive"
                );
            }
            bindings::__ClearPageAnonExclusive(first.as_raw());
        }
        first.set_mapping(null_mut());
    }
    // SAFETY: The method is the owner's, and it is called with a page of the owner's pgmap that has
    // no references, as `struct dev_pagemap_ops` requires.
    unsafe { page_free(first.as_raw()) };

    if pgmap
        .memory_type()
        .is_some_and(MemoryType::pages_are_allocated)
    {
        // SAFETY: By the caller's promise `init` took this reference for the page. The pgmap may be
        // freed after it is put, so nothing follows.
        unsafe { pgmap.percpu_ref().put() };
    } else {
        // The page is idle again. The owner may have put the last reference to the pgmap: teardown
        // waits for this store, so nothing follows.
        // SAFETY: The page is valid and has no references, so no other task changes the count. (GUP
        // does not add to a count of 0: see `arch/x86/mm/gup/device_run.rs`.)
        unsafe { bindings::set_page_count(first.as_raw(), 1) };
    }
    Ok(())
}

/// The pages that a pass looks at before it offers to reschedule: those of a PMD, which may be one
/// folio.
const GROUP: usize = 1 << (bindings::PMD_SHIFT - bindings::PAGE_SHIFT);

/// The number of single pages that a pass looks at together.
const BLOCK: usize = 16;

/// What the pages of a block have in common fields: all bits that are set in one of them.
///
/// So the mappings are 0 if no page has a mapping, and the counts at most 1 if no page has a pin (or
/// an overflown count, which is negative).
#[derive(Clone, Copy, Default)]
pub(crate) struct BlockBits {
    pub(crate) counts: u32,
    pub(crate) mappings: usize,
}

impl BlockBits {
    /// Reads the pages of a block.
    ///
    /// # Safety
    ///
    /// [`BLOCK`] initialised pages of a mapped pgmap must begin at `first`.
    #[inline(always)]
    unsafe fn read(first: *mut bindings::page) -> Self {
        let page = |n: usize| {
            // SAFETY: The caller promises that the page is one of a pgmap, so it is in ZONE_DEVICE
            // and is not at the address 0. It is not used after this call.
            unsafe { ZoneDevicePage::from_raw(NonNull::new_unchecked(first.wrapping_add(n))) }
        };
        let mut bits = Self::default();
        // One field after the other, which takes fewer registers; the cache has the pages by then.
        for n in 0..BLOCK {
            // CAST: Only the bits are of interest.
            bits.counts |= page(n).ref_count() as u32;
        }
        for n in 0..BLOCK {
            bits.mappings |= page(n).mapping() as usize;
        }
        bits
    }
}

/// Returns whether `holds` is true of a page of a pgmap, of those that have a count of their own:
/// each page, or the first one of each compound page. The pages are visited in order, until `holds`
/// returns true. Sleeps between some of them.
///
/// Single pages are looked at in blocks first: `holds` is not called for the pages of a block of
/// which `may_hold` is false.
///
/// A pgmap of single pages may have compound ones of the size of a PMD, aligned to it. One that is
/// split while it is visited is visited again, page by page. (None is put together in a pgmap that is
/// drained.)
///
/// # Safety
///
/// All ranges of the pgmap that are mapped must stay mapped during `'a`.
// All memory of a device goes through this loop when its driver is unbound.
#[inline(always)]
pub(crate) unsafe fn any_page<'a>(
    pgmap: &'a DevPagemap,
    may_hold: impl Fn(BlockBits) -> bool + Copy,
    mut holds: impl FnMut(ZoneDevicePage<'a>) -> bool,
) -> bool {
    let step = 1usize.checked_shl(pgmap.vmemmap_shift()).unwrap_or(0);
    for index in 0..pgmap.nr_ranges() {
        let Some(range) = pgmap.range(index) else {
            continue;
        };
        let Some(first) = pgmap.first_pfn(index, range) else {
            continue;
        };
        let mut left = pgmap.nr_units(index, range).unwrap_or(0);
        // The units up to the end of the first group.
        let mut group = if step == 1 {
            GROUP.wrapping_sub(first.nr() % GROUP)
        } else {
            GROUP
        };
        // SAFETY: The range is mapped, so it has a memmap, which is one array (SPARSEMEM_VMEMMAP),
        // with `units` elements of this step, and by the caller's promise stays during `'a`.
        let mut first = unsafe { bindings::pfn_to_page(first.nr()) };
        while left != 0 {
            let now = left.min(group);
            // SAFETY: At least one unit is left, which begins with this page.
            let is_folio = || step == 1 && now == GROUP && unsafe { is_large(first) };
            let mut as_folio = is_folio();
            loop {
                let mut page = first;
                let mut units = if as_folio { 1 } else { now };
                while units != 0 {
                    if step == 1 {
                        // SAFETY: So many single pages are left.
                        let skipped = unsafe { blocks_without(page, units, may_hold) };
                        page = page.wrapping_add(skipped);
                        units = units.wrapping_sub(skipped);
                    }
                    let block = units.min(BLOCK);
                    for _ in 0..block {
                        // SAFETY: The pointer is to the first page of a unit of the range, which
                        // stays during `'a`.
                        if holds(unsafe { ZoneDevicePage::from_raw(NonNull::new_unchecked(page)) })
                        {
                            return true;
                        }
                        page = page.wrapping_add(step);
                    }
                    units = units.wrapping_sub(block);
                }
                // A folio is split before its pages are released, so if it is still one after it was
                // seen without a user, none of its pages has one.
                fence(Ordering::Acquire);
                if !as_folio || is_folio() {
                    break;
                }
                as_folio = false;
            }
            first = first.wrapping_add(now.wrapping_mul(step));
            left = left.wrapping_sub(now);
            group = GROUP;
            // SAFETY: No spinlock is held; callers may sleep, as documented.
            unsafe { bindings::cond_resched() };
        }
    }
    false
}

/// Returns the number of pages of the blocks at the front of `count` single pages for which
/// `may_hold` is false.
///
/// # Safety
///
/// So many initialised pages of a mapped pgmap must begin at `first`.
// Its loop has the registers for itself here.
#[inline(never)]
unsafe fn blocks_without(
    first: *mut bindings::page,
    count: usize,
    may_hold: impl Fn(BlockBits) -> bool,
) -> usize {
    let mut page = first;
    for block in 0..count / BLOCK {
        // SAFETY: By the caller's promise this block is one of the pages.
        if may_hold(unsafe { BlockBits::read(page) }) {
            return block.wrapping_mul(BLOCK);
        }
        page = page.wrapping_add(BLOCK);
    }
    count.wrapping_sub(count % BLOCK)
}

/// Returns whether a page is the first one of a compound page.
///
/// # Safety
///
/// `page` must point to an initialised page of a mapped pgmap that is no tail.
#[inline(always)]
unsafe fn is_large(page: *mut bindings::page) -> bool {
    // SAFETY: By the caller's promise the page is the first of its folio. A page that is no tail is
    // not at the address 0.
    unsafe { FolioRef::from_raw(NonNull::new_unchecked(page.cast())) }.is_large()
}
