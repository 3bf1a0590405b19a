// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! The pgmap registry: `struct page`s for device memory.
//!
//! This file has the entry points of `mm/memremap.c`, for C code that cannot tell the difference:
//! same names, same licence class, same errnos, same warnings. Each converts raw arguments into
//! types, calls the code of this directory, and converts the result.
//!
//! ```text
//!   memremap_pages()                                  memunmap_pages()
//!     map.rs: checks, order of the steps                state.rs: kill, drain
//!       state.rs: Unmapped -> Mapping -> Live             wait_idle.rs: files, pins
//!       for each range:                                     detach.rs: if the waiter is killed
//!         registry.rs: insert the entry                   for each range, newest step first:
//!         hotplug.rs: cache mode, memory                    hotplug.rs: memory, cache mode
//!         memmap.rs: the struct pages
//!         range.rs: the steps of a range as one value       registry.rs: erase, grace period
//!
//!   get_dev_pagemap()  --> rust/kernel/mm/memremap/registry.rs, which GUP inlines
//!   pfn_to_online_page(), request_mem_region() --> registry.rs: dying pgmaps as well
//!   put_page() and the like --> rust/kernel/mm/memremap/page.rs; page.rs here frees pages
//! ```
//!
//! The protocol (the three references, the life of a pgmap) is in `rust/kernel/mm/memremap.rs`.
//! `Documentation/mm/memremap-rust.rst` lists where this differs from `mm/memremap.c` on purpose.
//!
//! The `unsafe` code in this file encapsulates the calls from C.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::ptr::{null_mut, NonNull};
use kernel::{
    bindings, c_str, cstr,
    device::Device,
    error::code::{EBUSY, EINVAL},
    ffi::{c_char, c_int, c_ulong, c_void},
    macros::export,
    mm::{
        memremap::{
            registry::lookup, DevPagemap, LiveRef, ZoneDeviceFolio, ZoneDevicePage, SUBSECTION_SIZE,
        },
        node::Node,
        pfn::{Pfn, PhysRange},
    },
};

mod debugfs;
mod detach;
mod hotplug;
mod map;
mod memmap;
mod page;
mod range;
mod refusal;
mod registry;
mod state;
#[cfg(CONFIG_RUST_DEV_PAGEMAP_RECORDER)]
mod takers;
#[cfg(all(CONFIG_KUNIT = "y", CONFIG_RUST_MEMREMAP_KUNIT_TEST))]
mod tests;
mod wait_idle;

use state::{Live, Unmapped};

const __LOG_PREFIX: &[u8] = b"memremap\0";

// Called once, at boot.
kernel::late_initcall!(memremap_init, debugfs::init);

/// Returns the alignment, in bytes, with which a namespace can be used in every mode. Any context.
///
/// # Safety
///
/// This function has no requirements; it is unsafe because C calls it.
#[cfg(not(CONFIG_ARCH_HAS_MEMREMAP_COMPAT_ALIGN))]
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn memremap_compat_align() -> c_ulong {
    SUBSECTION_SIZE as _
}

/// Returns whether `pfn` has a data page, not one that holds the memmap. Any context.
///
/// # Safety
///
/// `pgmap` must point to a mapped pgmap.
#[export]
pub unsafe extern "C" fn pgmap_pfn_valid(pgmap: *mut bindings::dev_pagemap, pfn: c_ulong) -> bool {
    // SAFETY: The caller promises a mapped pgmap, which is valid for the call.
    unsafe { DevPagemap::from_raw(pgmap) }.has_data_page(Pfn::new(pfn))
}

/// Maps the ranges of a pgmap. Sleeps. Returns the address of the first range, or an errno.
///
/// # Safety
///
/// `pgmap` must point to a pgmap that is set up as the C header asks for, is not mapped, and stays
/// valid and in place until it is unmapped.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn memremap_pages(
    pgmap: *mut bindings::dev_pagemap,
    nid: c_int,
) -> *mut c_void {
    let Some(pgmap) = NonNull::new(pgmap) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: The caller promises a pgmap that is set up, not mapped, and stays valid.
    let unmapped = unsafe { Unmapped::from_raw(pgmap) };
    match map::map(unmapped, Node::from_raw(nid)) {
        Ok(live) => {
            let address = live.address();
            // `memunmap_pages` takes it over again.
            let _ = live.into_raw();
            address
        }
        Err(error) => error.to_ptr(),
    }
}

/// Unmaps a pgmap. Sleeps, for as long as one of its pages is in use. If the task is killed
/// meanwhile and the pgmap can be detached, the pages stay mapped, and the structure and the driver
/// may be freed all the same.
///
/// # Safety
///
/// `pgmap` must have been mapped by `memremap_pages()`, and not unmapped since. The caller must not
/// hold a lock of a filesystem.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn memunmap_pages(pgmap: *mut bindings::dev_pagemap) {
    if let Some(pgmap) = NonNull::new(pgmap) {
        // SAFETY: `memremap_pages` passed this pointer to the caller, which passes it back once and
        // promises that it holds no lock of a filesystem.
        let _ = unsafe { Live::from_raw(pgmap).unmap() };
    }
}

/// Maps the ranges of a pgmap until the driver of `dev` is unbound. Sleeps. Returns the address of
/// the first range, or an errno.
///
/// # Safety
///
/// `dev` must point to a valid device, and `pgmap` to a pgmap that is set up as the C header asks
/// for, is not mapped, and stays valid and in place until it is unmapped. The driver of `dev` must
/// be unbound without a lock of a filesystem.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn devm_memremap_pages(
    dev: *mut bindings::device,
    pgmap: *mut bindings::dev_pagemap,
) -> *mut c_void {
    let Some(pgmap) = NonNull::new(pgmap) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: The caller promises a valid device, and a pgmap that is set up, not mapped, and stays
    // valid.
    let (dev, unmapped) = unsafe { (Device::as_ref(dev), Unmapped::from_raw(pgmap)) };
    map::map_for(dev, unmapped).unwrap_or_else(|error| error.to_ptr())
}

/// Unmaps a pgmap that `devm_memremap_pages()` mapped, before the driver of `dev` is unbound.
/// Sleeps, like `memunmap_pages()`.
///
/// # Safety
///
/// `devm_memremap_pages()` must have mapped `pgmap` for `dev`, and it must not have been unmapped
/// since. The caller must not hold a lock of a filesystem.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn devm_memunmap_pages(
    dev: *mut bindings::device,
    pgmap: *mut bindings::dev_pagemap,
) {
    if let Some(pgmap) = NonNull::new(pgmap) {
        // SAFETY: The caller promises a device for which this pgmap is mapped, so the device has
        // the action that unmaps it, and promises that it holds no lock of a filesystem.
        unsafe { Live::release_from(Device::as_ref(dev), pgmap) };
    }
}

/// Looks up the pgmap of `pfn` and takes a live reference to it; returns null if there is none, or
/// it is dying. Any context, interrupts off included.
///
/// # Safety
///
/// `pgmap` must be null or point to a pgmap to which the caller owns a live reference, which it
/// passes on to this function.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn get_dev_pagemap(
    pfn: c_ulong,
    pgmap: *mut bindings::dev_pagemap,
) -> *mut bindings::dev_pagemap {
    // SAFETY: The caller passes on a live reference to this pgmap.
    let cached = NonNull::new(pgmap).map(|pgmap| unsafe { LiveRef::from_raw(pgmap) });
    lookup(Pfn::new(pfn), cached).map_or(null_mut(), LiveRef::into_raw)
}

/// Frees a device folio after its last reference was dropped. Any context.
///
/// # Safety
///
/// `folio` must be in ZONE_DEVICE, its pgmap must be mapped, and the caller must have dropped the
/// last reference. If the pages of the pgmap are allocated, `zone_device_page_init()` must have
/// allocated this one.
#[export]
pub unsafe extern "C" fn free_zone_device_folio(folio: *mut bindings::folio) {
    let Some(folio) = NonNull::new(folio) else {
        return;
    };
    // SAFETY: The caller promises a folio of a mapped pgmap without references, which was allocated
    // if its type asks for that.
    if unsafe { page::free(ZoneDeviceFolio::from_raw(folio)) }.is_err() {
        kernel::warn_once!(
            "memremap: last reference dropped to a page, and its owner frees no pages"
        );
    }
}

/// Allocates an idle page, with one reference and locked. Sleeps if the page is locked.
///
/// # Safety
///
/// `page` must be in ZONE_DEVICE, its pgmap must be mapped, and the pages of the pgmap must be
/// allocated ones. The page must have no references, and no other task may allocate it.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn zone_device_page_init(page: *mut bindings::page) {
    let Some(page) = NonNull::new(page) else {
        return;
    };
    // SAFETY: The caller promises an idle page of a mapped pgmap that only it allocates.
    if !unsafe { page::init(ZoneDevicePage::from_raw(page)) } {
        kernel::warn_once!("memremap: page handed out while its pgmap is torn down");
    }
}

/// Drops references to an FS DAX folio and wakes waiters if it is idle then. Returns `false`, and
/// drops nothing, for other types. Any context.
///
/// # Safety
///
/// `folio` must be in ZONE_DEVICE, its pgmap must be mapped, and the caller must own `refs`
/// references, which it loses if the result is `true`.
#[cfg(CONFIG_FS_DAX)]
#[export(EXPORT_SYMBOL)]
pub unsafe extern "C" fn __put_devmap_managed_folio_refs(
    folio: *mut bindings::folio,
    refs: c_int,
) -> bool {
    // This runs for each page that is put, so nothing that the caller promises is checked.
    // SAFETY: The caller promises a folio of a mapped pgmap, which is not at the address 0, and
    // owns the references.
    unsafe { ZoneDeviceFolio::from_raw(NonNull::new_unchecked(folio)).put_managed_refs(refs) }
}

/// Returns whether `pfn` belongs to a pgmap, live or dying. Any context.
///
/// # Safety
///
/// This function has no requirements; it is unsafe because C calls it.
#[export]
pub unsafe extern "C" fn pfn_has_pgmap(pfn: c_ulong) -> bool {
    registry::contains(Pfn::new(pfn))
}

/// Returns whether pages of an earlier user of these `n` bytes are still in use, so that the memory
/// has no new user yet, and logs that. Any context.
///
/// # Safety
///
/// `name` must be null or point to a string, the name of the new user.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn pgmap_keeps_region(
    start: bindings::resource_size_t,
    n: bindings::resource_size_t,
    name: *const c_char,
) -> bool {
    let Some(range) = PhysRange::with_len(start, n) else {
        return false;
    };
    let keeps = registry::is_dying_in(range);
    if keeps {
        // SAFETY: The caller promises that `name` points to a string unless it is null.
        let name = (!name.is_null()).then(|| unsafe { cstr::from_char_ptr(name) });
        kernel::pr_warn!(
            "{:?}: pages of an earlier use are still in use, not given to {} ({})\n",
            range,
            name.unwrap_or(c_str!("a driver")),
            EBUSY.to_errno(),
        );
    }
    keeps
}
