// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! Pages of a pgmap: allocating one, freeing one, visiting all.
//!
//! What the count of a page means is in `rust/kernel/mm/memremap/page.rs`.
//!
//! The `unsafe` code in this file encapsulates the counts of pages without references, and the way
//! from a pgmap to its `struct page`s.

use core::ptr::{addr_of_mut, null_mut, NonNull};
use kernel::{
    bindings,
    mm::memremap::{DevPagemap, MemoryType, ZoneDeviceFolio, ZoneDevicePage},
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
        // does not add to a count of 0: see `arch/x86/mm/gup/take.rs`.)
        unsafe { bindings::set_page_count(first.as_raw(), 1) };
    }
    Ok(())
}

/// The number of pages after which a pass over a pgmap offers to reschedule.
const RESCHED_INTERVAL: usize = 4096;

/// Returns whether `holds` is true of a page of a pgmap, of those that have a count of their own:
/// each page, or the first one of each compound page. The pages are visited in order, until `holds`
/// returns true. Sleeps between some of them.
///
/// # Safety
///
/// All ranges of the pgmap that are mapped must stay mapped during `'a`.
// All memory of a device goes through this loop when its driver is unbound.
#[inline(always)]
pub(crate) unsafe fn any_page<'a>(
    pgmap: &'a DevPagemap,
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
        // SAFETY: The range is mapped, so it has a memmap.
        let mut page = unsafe { bindings::pfn_to_page(first.nr()) };
        while left != 0 {
            let now = left.min(RESCHED_INTERVAL);
            for _ in 0..now {
                // SAFETY: The pointer is to a page of the range: its memmap is one array
                // (SPARSEMEM_VMEMMAP) with `units` elements of this step, which by the caller's
                // promise stays during `'a`.
                if holds(unsafe { ZoneDevicePage::from_raw(NonNull::new_unchecked(page)) }) {
                    return true;
                }
                page = page.wrapping_add(step);
            }
            left = left.wrapping_sub(now);
            // SAFETY: No spinlock is held; callers may sleep, as documented.
            unsafe { bindings::cond_resched() };
        }
    }
    false
}
