// SPDX-License-Identifier: GPL-2.0

//! The pgmap registry: `struct page`s for device memory.
//!
//! These are the entry points of `mm/memremap.c`, for C code that cannot tell the difference: same
//! names, same licence class, same errnos, same warnings. Each turns raw arguments into types,
//! calls safe code, and turns the answer back. The protocol is in `rust/kernel/mm/memremap.rs`, the
//! states in `memremap/life.rs` there, lookup in `memremap/registry.rs`; what it takes to map one is
//! in [`map`].
//!
//! Where this differs from `mm/memremap.c` on purpose, see
//! `Documentation/mm/memremap-rust.rst`.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use core::ptr::{null_mut, NonNull};
use kernel::{
    bindings,
    device::Device,
    error::code::EINVAL,
    ffi::{c_int, c_ulong, c_void},
    macros::export,
    mm::{
        memremap::{
            registry::lookup, DevPagemap, LiveRef, ZoneDeviceFolio, ZoneDevicePage, SUBSECTION_SIZE,
        },
        node::Node,
        pfn::Pfn,
    },
};

mod debugfs;
mod detach;
mod hotplug;
mod map;
mod page;
mod range;
mod registry;
mod state;
mod wait_idle;

use state::{Live, Unmapped};

const __LOG_PREFIX: &[u8] = b"memremap\0";

kernel::late_initcall!(memremap_init, init);

/// Called once, at boot.
fn init() {
    debugfs::init();
}

/// The alignment, in bytes, that a namespace needs to be usable in every mode. Any context.
///
/// # Safety
///
/// None to keep; C functions are unsafe to call.
#[cfg(not(CONFIG_ARCH_HAS_MEMREMAP_COMPAT_ALIGN))]
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn memremap_compat_align() -> c_ulong {
    SUBSECTION_SIZE as _
}

/// Whether `pfn` is a page of the memory itself, and not one that holds its memmap. Any context.
///
/// # Safety
///
/// `pgmap` is a pgmap that is mapped.
#[export]
pub unsafe extern "C" fn pgmap_pfn_valid(pgmap: *mut bindings::dev_pagemap, pfn: c_ulong) -> bool {
    // SAFETY: The caller's promise.
    unsafe { DevPagemap::from_raw(pgmap) }.has_data_page(Pfn::new(pfn))
}

/// Maps the ranges of a pgmap. Sleeps. Returns the address of the first, or an errno.
///
/// # Safety
///
/// `pgmap` is set up as the C header asks for, is not mapped, and stays until it is unmapped.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn memremap_pages(
    pgmap: *mut bindings::dev_pagemap,
    nid: c_int,
) -> *mut c_void {
    let Some(pgmap) = NonNull::new(pgmap) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: The caller's promise.
    let unmapped = unsafe { Unmapped::from_raw(pgmap) };
    match map::map(unmapped, Node::from_raw(nid)) {
        Ok(live) => {
            let address = live.address();
            // It comes back in `memunmap_pages`.
            let _ = live.into_raw();
            address
        }
        Err(error) => error.to_ptr(),
    }
}

/// Unmaps a pgmap. Sleeps, for as long as somebody has one of its pages pinned; if the task is
/// killed meanwhile, the pages stay, and the structure and the driver may go all the same.
///
/// # Safety
///
/// `pgmap` was mapped by `memremap_pages()`, and not unmapped since. The caller holds no lock of a
/// filesystem.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn memunmap_pages(pgmap: *mut bindings::dev_pagemap) {
    if let Some(pgmap) = NonNull::new(pgmap) {
        // SAFETY: `memremap_pages` left it to the caller, who gives it back.
        let live = unsafe { Live::from_raw(pgmap) };
        let _ = live.unmap();
    }
}

/// Maps the ranges of a pgmap until the driver of `dev` is unbound. Sleeps. Returns the address
/// of the first, or an errno.
///
/// # Safety
///
/// As for `memremap_pages()`; `dev` is a valid device.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn devm_memremap_pages(
    dev: *mut bindings::device,
    pgmap: *mut bindings::dev_pagemap,
) -> *mut c_void {
    let Some(pgmap) = NonNull::new(pgmap) else {
        return EINVAL.to_ptr();
    };
    // SAFETY: The caller's promise.
    let (dev, unmapped) = unsafe { (Device::as_ref(dev), Unmapped::from_raw(pgmap)) };
    map::map_for(dev, unmapped).unwrap_or_else(|error| error.to_ptr())
}

/// Unmaps, before the driver of `dev` is unbound, what `devm_memremap_pages()` has mapped. Sleeps, as
/// `memunmap_pages()`.
///
/// # Safety
///
/// `devm_memremap_pages()` has mapped `pgmap` for `dev`, and it was not unmapped since.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn devm_memunmap_pages(
    dev: *mut bindings::device,
    pgmap: *mut bindings::dev_pagemap,
) {
    if let Some(pgmap) = NonNull::new(pgmap) {
        // SAFETY: The caller's promise.
        unsafe { Live::release_from(Device::as_ref(dev), pgmap) };
    }
}

/// Takes a live reference to the pgmap of the frame `pfn`; null if there is none that is alive.
/// Any context, interrupts off included.
///
/// # Safety
///
/// `pgmap` is null or a pgmap to which the caller has a live reference, which goes over to this
/// function.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn get_dev_pagemap(
    pfn: c_ulong,
    pgmap: *mut bindings::dev_pagemap,
) -> *mut bindings::dev_pagemap {
    // SAFETY: The caller's promise.
    let cached = NonNull::new(pgmap).map(|pgmap| unsafe { LiveRef::from_raw(pgmap) });
    lookup(Pfn::new(pfn), cached).map_or(null_mut(), LiveRef::into_raw)
}

/// Takes back a device folio whose last reference was dropped. Any context.
///
/// # Safety
///
/// `folio` is in ZONE_DEVICE, its pgmap is mapped, and the caller has dropped the last
/// reference. If its pages are allocated, `zone_device_page_init()` has handed it out.
#[export]
pub unsafe extern "C" fn free_zone_device_folio(folio: *mut bindings::folio) {
    let Some(folio) = NonNull::new(folio) else {
        return;
    };
    // SAFETY: The caller's promise.
    if unsafe { page::free(ZoneDeviceFolio::from_raw(folio)) }.is_err() {
        kernel::warn_once!("memremap: last reference of a page dropped that nobody can take back");
    }
}

/// Hands out an idle page, with one reference and locked. Sleeps if it is locked.
///
/// # Safety
///
/// `page` is in ZONE_DEVICE, its pgmap is mapped, and its pages are allocated; nobody refers to
/// it, and nobody else hands it out.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn zone_device_page_init(page: *mut bindings::page) {
    let Some(page) = NonNull::new(page) else {
        return;
    };
    // SAFETY: The caller's promise.
    if !unsafe { page::init(ZoneDevicePage::from_raw(page)) } {
        kernel::warn_once!("memremap: page handed out while its pgmap is torn down");
    }
}

/// Drops references of an FS DAX folio and wakes who waits until it is idle; `false` for other
/// types, of which nothing is dropped. Any context.
///
/// # Safety
///
/// `folio` is in ZONE_DEVICE, its pgmap is mapped, and the caller has the references, and gives
/// them up if the answer is `true`.
#[cfg(CONFIG_FS_DAX)]
#[export(EXPORT_SYMBOL)]
pub unsafe extern "C" fn __put_devmap_managed_folio_refs(
    folio: *mut bindings::folio,
    refs: c_int,
) -> bool {
    // This runs per page that is put: nothing is checked here that the caller promises.
    // SAFETY: The caller's promise; a folio is not at the address 0.
    unsafe { ZoneDeviceFolio::from_raw(NonNull::new_unchecked(folio)).put_managed_refs(refs) }
}
