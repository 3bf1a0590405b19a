// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! Adding the memory of a range, and removing it.
//!
//! This is the part of memory hotplug that ZONE_DEVICE needs: memory that has `struct page`s and,
//! except for device-private memory, a linear mapping, but that the page allocator never sees.
//!
//! Locking: the hotplug lock ([`Hotplug`]) is held only while memory is added or removed, and never
//! together with `pgmap_lock`. Initialising a memmap takes seconds per terabyte and happens outside
//! it.
//!
//! The `unsafe` code in this file encapsulates memory hotplug, PFN tracking and KASAN's zero
//! shadow.
//!
//! C header: [`include/linux/memory_hotplug.h`](srctree/include/linux/memory_hotplug.h)

use crate::{memmap, range::RangeOf, registry::Entry};
use core::{
    marker::PhantomData,
    ptr::{addr_of_mut, null_mut},
};
use kernel::{
    bindings,
    error::{
        code::{EINVAL, ENOMEM},
        to_result, Error, Result,
    },
    mm::{
        memremap::{DevPagemap, MemoryType, SUBSECTION_SIZE},
        node::Node,
        pfn::PhysRange,
    },
    page::PAGE_SHIFT,
};

/// The relation of a range to System RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RamOverlap {
    /// No byte of it is RAM.
    Disjoint,
    /// All of it is RAM.
    Ram,
    /// Part of it is RAM.
    Mixed,
}

/// Returns how a range overlaps System RAM. C: `region_intersects()`. Any context.
#[doc(alias = "region_intersects")]
pub(crate) fn ram_overlap(range: PhysRange) -> RamOverlap {
    // SAFETY: The function only reads the resource tree, under its own lock.
    // CAST: `size_t` is `u64` here; the constants are small.
    let overlap = unsafe {
        bindings::region_intersects(
            range.start(),
            range.len() as usize,
            bindings::IORESOURCE_SYSTEM_RAM as _,
            bindings::IORES_DESC_NONE as _,
        )
    } as u32;
    match overlap {
        bindings::REGION_DISJOINT => RamOverlap::Disjoint,
        bindings::REGION_MIXED => RamOverlap::Mixed,
        _ => RamOverlap::Ram,
    }
}

/// Returns whether the architecture can address a range and, if `need_mapping`, map it linearly. C:
/// `mhp_range_allowed()`.
#[doc(alias = "mhp_range_allowed")]
pub(crate) fn is_range_allowed(range: PhysRange, need_mapping: bool) -> bool {
    // SAFETY: The function only computes with the range.
    unsafe { bindings::mhp_range_allowed(range.start(), range.len(), need_mapping) }
}

/// Returns the protection bits with which the linear mapping maps device memory of this type: FS
/// DAX memory is never encrypted, a PCI BAR never cached.
fn linear_mapping_prot(kind: Option<MemoryType>) -> bindings::pgprot_t {
    // SAFETY: The helpers only compute with their arguments and with constants.
    unsafe {
        let prot = bindings::PAGE_KERNEL();
        match kind {
            Some(MemoryType::FsDax) => bindings::pgprot_decrypted(prot),
            Some(MemoryType::PciP2pdma) => bindings::pgprot_noncached(prot),
            _ => prot,
        }
    }
}

/// Evidence that the memory hotplug lock is held for writing. C: `mem_hotplug_begin()`.
///
/// # Invariants
///
/// The current task holds the lock while the value exists.
struct Hotplug(PhantomData<*mut ()>);

impl Hotplug {
    /// Takes the lock. Sleeps.
    #[doc(alias = "mem_hotplug_begin")]
    fn begin() -> Self {
        // SAFETY: The function has no preconditions; `drop` releases the lock.
        unsafe { bindings::mem_hotplug_begin() };
        // INVARIANT: The lock was just taken.
        Self(PhantomData)
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held, and by this task, since the value is not
        // `Send`.
        unsafe { bindings::mem_hotplug_done() };
    }
}

/// A record of the cache mode of a range, with which later mappings have to agree. C:
/// `track_pfn_remap()`. Dropping it removes the record (sleeps).
///
/// # Invariants
///
/// There is such a record for `range`, and only this value may remove it. `prot` is the protection of
/// a linear mapping of the range, with the cache mode of the record.
pub(crate) struct TrackedPfns {
    range: PhysRange,
    prot: bindings::pgprot_t,
}

impl TrackedPfns {
    /// Records the cache mode that a linear mapping of this type of memory has for the range of
    /// `entry`. If there is an older record, its mode stays. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a conflict, `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The caller must have the right to map the range.
    #[doc(alias = "track_pfn_remap")]
    pub(crate) unsafe fn track(entry: &Entry<'_>) -> Result<Self> {
        let of = entry.of();
        let range = of.range();
        let mut prot = linear_mapping_prot(of.pgmap().memory_type());
        // SAFETY: Without a VMA the function only reserves a memory type and changes `prot`; the
        // caller may map the range, so the reservation is its own.
        to_result(unsafe {
            bindings::track_pfn_remap(
                null_mut(),
                &mut prot,
                range.pfns().first().nr(),
                0,
                range.len() as _,
            )
        })?;
        // INVARIANT: The record was just made, or found, and `prot` has its cache mode.
        Ok(Self { range, prot })
    }
}

impl Drop for TrackedPfns {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the record is there and only this value may remove it.
        unsafe { untrack_pfns(self.range) };
    }
}

/// Removes the record of the cache mode of a range. C: `untrack_pfn()`. Sleeps.
///
/// # Safety
///
/// The range must have a record by [`TrackedPfns`] that was forgotten or is being dropped, and it
/// must not be removed again.
#[doc(alias = "untrack_pfn")]
pub(crate) unsafe fn untrack_pfns(range: PhysRange) {
    // SAFETY: The caller promises that the record is there. Without a VMA the function does nothing
    // else than to free it.
    unsafe {
        bindings::untrack_pfn(
            null_mut(),
            range.pfns().first().nr(),
            range.len() as _,
            true,
        )
    };
}

/// KASAN's shadow of the linear mapping of a range, which reports no access as bad. C:
/// `kasan_add_zero_shadow()`. Dropping it removes the shadow.
///
/// # Invariants
///
/// The shadow is there, and only this value may remove it.
struct ZeroShadow {
    range: PhysRange,
}

impl ZeroShadow {
    /// Adds the shadow.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not aligned to the shadow's pages, `ENOMEM`.
    #[doc(alias = "kasan_add_zero_shadow")]
    fn add(range: PhysRange, _hotplug: &Hotplug) -> Result<Self> {
        // SAFETY: The range belongs to the caller's pgmap and has no linear mapping yet, so it has
        // no shadow.
        to_result(unsafe {
            bindings::kasan_add_zero_shadow(bindings::__va(range.start()), range.len() as _)
        })?;
        // INVARIANT: The shadow was just added.
        Ok(Self { range })
    }
}

impl Drop for ZeroShadow {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the shadow is there and only this value may remove it.
        unsafe {
            bindings::kasan_remove_zero_shadow(
                bindings::__va(self.range.start()),
                self.range.len() as _,
            )
        };
    }
}

/// Returns the altmap of a pgmap as the memory hotplug code takes it, or null. C: `pgmap_altmap()`.
#[doc(alias = "pgmap_altmap")]
fn altmap_ptr(pgmap: &DevPagemap) -> *mut bindings::vmem_altmap {
    if pgmap.altmap().is_some() {
        // SAFETY: The field lies in a valid pgmap; only its address is computed.
        unsafe { addr_of_mut!((*pgmap.as_raw()).altmap) }
    } else {
        null_mut()
    }
}

/// Returns whether the CPU cannot reach the memory, which therefore has no linear mapping.
fn is_private(pgmap: &DevPagemap) -> bool {
    pgmap.memory_type() == Some(MemoryType::Private)
}

/// The memory of a range, which has `struct page`s. Dropping it removes these (sleeps) and, except
/// for device-private memory, the linear mapping.
///
/// # Invariants
///
/// The range was added as memory of its pgmap, lies in ZONE_DEVICE and has an initialised memmap,
/// and only this value may remove it.
pub(crate) struct Memory<'m>(RangeOf<'m>);

impl<'m> Memory<'m> {
    /// Adds a range of a pgmap, which already has its entry in the registry, and initialises the
    /// memmap. `tracking` is the record of the same range. Sleeps. C: `pagemap_range()` and
    /// `arch_add_memory()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not aligned to [`SUBSECTION_SIZE`], `EEXIST` if it already has a
    /// memmap, `ENOMEM`.
    #[doc(alias = "pagemap_range")]
    #[doc(alias = "arch_add_memory")]
    pub(crate) fn add(entry: &Entry<'m>, tracking: &TrackedPfns, node: Node) -> Result<Self> {
        let of = entry.of();
        if tracking.range != of.range() {
            return Err(EINVAL);
        }
        let (pgmap, range) = (of.pgmap(), of.range());
        let (first, pages) = (range.pfns().first().nr(), range.pages());
        let mut params = bindings::mhp_params {
            altmap: altmap_ptr(pgmap),
            pgprot: tracking.prot,
            pgmap: pgmap.as_raw(),
        };
        // SAFETY: By the invariants of `Node` it has zones, which are never freed.
        let zone = unsafe {
            let pgdat = bindings::NODE_DATA(node.as_raw());
            addr_of_mut!((*pgdat).node_zones[bindings::zone_type_ZONE_DEVICE as usize])
        };

        {
            let hotplug = Hotplug::begin();
            let remove_added_sections = |error: &Error| {
                if *error == ENOMEM {
                    // SAFETY: Adding the range just failed with this error, and the entry says that
                    // the range belongs to this pgmap.
                    unsafe { remove_sections(&of, &hotplug) };
                }
            };
            if is_private(pgmap) {
                // SAFETY: The lock is held, and the entry says that the range belongs to this
                // pgmap.
                to_result(unsafe { bindings::add_pages(node.as_raw(), first, pages, &mut params) })
                    .inspect_err(remove_added_sections)?;
            } else {
                let shadow = ZeroShadow::add(range, &hotplug)?;
                // SAFETY: The lock is held, and the entry says that the range belongs to this
                // pgmap.
                to_result(unsafe {
                    bindings::arch_add_memory(
                        node.as_raw(),
                        range.start(),
                        range.len(),
                        &mut params,
                    )
                })
                .inspect_err(remove_added_sections)?;
                // The shadow stays as long as the memory; `remove_memory` removes it.
                core::mem::forget(shadow);
            }
            // SAFETY: The pages were just added, and belong to no zone yet.
            unsafe {
                bindings::move_pfn_range_to_zone(
                    zone,
                    first,
                    pages,
                    params.altmap,
                    bindings::migratetype_MIGRATE_MOVABLE as _,
                )
            };
        }

        // This takes long, so it happens after the hotplug lock is released.
        // SAFETY: The pages are in this zone, and no code uses them yet.
        unsafe { memmap::init(&of, zone, node) };

        // INVARIANT: The range was added, is in the zone, and its memmap is initialised.
        Ok(Self(of))
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the memory is there and only this value may remove it. Its
        // pages are not in use: it was never part of a mapped pgmap.
        unsafe { remove_memory(&self.0) };
    }
}

/// Removes the sections that adding a range left behind when there was no memory for the memmap of
/// a later section: `__add_pages()` leaves them, and the range could never be added again
/// (`EEXIST`).
///
/// # Safety
///
/// Adding the range must just have failed with `ENOMEM`, and the range must belong to the pgmap of
/// `of`.
unsafe fn remove_sections(of: &RangeOf<'_>, _hotplug: &Hotplug) {
    const STEP: usize = SUBSECTION_SIZE as usize >> PAGE_SHIFT;

    let (first, pages) = (of.range().pfns().first().nr(), of.range().pages());
    // The section that failed has none of the range's PFNs, and later ones were not tried.
    let added = (0..pages)
        .step_by(STEP)
        // SAFETY: `pfn_valid()` only reads the section table.
        .find(|n| !unsafe { bindings::pfn_valid(first.wrapping_add(*n)) })
        .unwrap_or(pages);
    let pgmap = of.pgmap();
    if added != 0 {
        // SAFETY: The lock is held. By the caller's promise these pages were just added for this
        // pgmap, so no code uses them.
        unsafe {
            bindings::__remove_pages(first, added, altmap_ptr(pgmap), pgmap.as_raw());
        }
    }
}

/// Removes the memory of a range: its `struct page`s and, except for device-private memory, the
/// linear mapping. C: the part of `pageunmap_range()` under the hotplug lock,
/// `arch_remove_memory()`. Sleeps.
///
/// # Safety
///
/// The range must have [`Memory`] that was forgotten or is being dropped, must not be removed again
/// for it, and none of its pages may be in use.
#[doc(alias = "arch_remove_memory")]
pub(crate) unsafe fn remove_memory(of: &RangeOf<'_>) {
    let (pgmap, range) = (of.pgmap(), of.range());
    let (first, pages) = (range.pfns().first().nr(), range.pages());
    // The pages in front of it may hold the memmap, and have no initialised `struct page`.
    let first_page = pgmap
        .first_pfn(of.index(), range)
        .unwrap_or(range.pfns().first());

    let hotplug = Hotplug::begin();
    // SAFETY: The caller promises that the memory is there, in a zone that its pages name, and that
    // no page is in use. The lock is held.
    unsafe {
        let zone = bindings::page_zone(bindings::pfn_to_page(first_page.nr()));
        bindings::remove_pfn_range_from_zone(zone, first, pages);
        if is_private(pgmap) {
            bindings::__remove_pages(first, pages, null_mut(), pgmap.as_raw());
        } else {
            bindings::arch_remove_memory(
                range.start(),
                range.len(),
                altmap_ptr(pgmap),
                pgmap.as_raw(),
            );
        }
    }
    if !is_private(pgmap) {
        // INVARIANT: `Memory::add` left the shadow in place.
        drop(ZeroShadow { range });
    }
    drop(hotplug);
}
