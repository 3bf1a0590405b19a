// SPDX-License-Identifier: GPL-2.0

//! Adding memory that the system did not boot with, and taking it away.
//!
//! Only what ZONE_DEVICE needs: memory that has `struct page`s and, except for device-private
//! memory, a linear mapping, but that the page allocator never sees.
//!
//! Lock order: whoever adds or removes memory holds the hotplug lock (`Hotplug`) for that and
//! nothing else. Initialising a memmap takes seconds per terabyte and happens outside it.
//!
//! C header: [`include/linux/memory_hotplug.h`](srctree/include/linux/memory_hotplug.h)

use crate::{
    bindings,
    error::{code::ENOMEM, to_result, Error, Result},
    mm::{
        memremap::{range::RangeOf, registry::Entry, DevPagemap, MemoryType, SUBSECTION_SIZE},
        node::Node,
        pfn::PhysRange,
        prot::PageProt,
    },
    page::PAGE_SHIFT,
};
use core::ptr::null_mut;

/// How a range relates to System RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RamOverlap {
    /// Not at all.
    Disjoint,
    /// It is RAM.
    Ram,
    /// Part of it is RAM.
    Mixed,
}

/// Whether a range has System RAM in it. C: `region_intersects()`.
#[doc(alias = "region_intersects")]
pub fn ram_overlap(range: PhysRange) -> RamOverlap {
    // SAFETY: Looks at the resource tree, under its lock.
    // CAST: `size_t` is `u64` here; the constants are small.
    let answer = unsafe {
        bindings::region_intersects(
            range.start(),
            range.len() as usize,
            bindings::IORESOURCE_SYSTEM_RAM as _,
            bindings::IORES_DESC_NONE as _,
        )
    } as u32;
    match answer {
        bindings::REGION_DISJOINT => RamOverlap::Disjoint,
        bindings::REGION_MIXED => RamOverlap::Mixed,
        _ => RamOverlap::Ram,
    }
}

/// Whether the architecture can address a range, and, if asked for, map it linearly. C:
/// `mhp_range_allowed()`.
#[doc(alias = "mhp_range_allowed")]
pub fn range_allowed(range: PhysRange, need_mapping: bool) -> bool {
    // SAFETY: Arithmetic on the range.
    unsafe { bindings::mhp_range_allowed(range.start(), range.len(), need_mapping) }
}

impl PageProt {
    /// As C maps device memory of this type in the linear mapping: FS DAX memory is never
    /// encrypted, a PCI BAR never cached.
    pub fn for_device(kind: Option<MemoryType>) -> Self {
        // SAFETY: Arithmetic on a constant.
        Self(unsafe {
            match kind {
                Some(MemoryType::FsDax) => bindings::page_kernel_decrypted(),
                Some(MemoryType::PciP2pdma) => bindings::page_kernel_noncached(),
                _ => bindings::page_kernel(),
            }
        })
    }
}

/// Evidence that the memory hotplug lock is held for writing. C: `mem_hotplug_begin()`.
///
/// # Invariants
///
/// The lock is held while the value exists.
struct Hotplug(core::marker::PhantomData<*mut ()>);

impl Hotplug {
    /// Takes the lock. Sleeps.
    #[doc(alias = "mem_hotplug_begin")]
    fn begin() -> Self {
        // SAFETY: No preconditions; released in `drop`.
        unsafe { bindings::mem_hotplug_begin() };
        // INVARIANT: Just taken.
        Self(core::marker::PhantomData)
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        // SAFETY: Held, by the invariant, by this task: the value is not `Send`.
        unsafe { bindings::mem_hotplug_done() };
    }
}

/// A range whose cache mode is on record, so that no later mapping contradicts it. C:
/// `track_pfn_remap()`. Dropping it takes the record off (sleeps).
///
/// # Invariants
///
/// The record for `range` is there, and this value alone is responsible for it.
pub struct TrackedPfns {
    range: PhysRange,
}

impl TrackedPfns {
    /// Puts the range on record with the cache mode of `prot`, which is changed to that of an
    /// older record if there is one. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a conflict, `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The range is the caller's to map.
    #[doc(alias = "track_pfn_remap")]
    pub unsafe fn track(range: PhysRange, prot: &mut PageProt) -> Result<Self> {
        // SAFETY: Without a VMA this reserves a memory type and changes `prot`, nothing else.
        to_result(unsafe {
            bindings::track_pfn_remap(
                null_mut(),
                &mut prot.0,
                range.pfns().first().nr(),
                0,
                range.len() as _,
            )
        })?;
        // INVARIANT: Just recorded.
        Ok(Self { range })
    }

    /// The record of a range that was put there and forgotten.
    ///
    /// # Safety
    ///
    /// It was, and this is called once for it.
    pub(super) unsafe fn reclaim(range: PhysRange) -> Self {
        // INVARIANT: The caller's promise.
        Self { range }
    }
}

impl Drop for TrackedPfns {
    fn drop(&mut self) {
        // SAFETY: The record is there, by the invariant.
        unsafe {
            bindings::untrack_pfn(
                null_mut(),
                self.range.pfns().first().nr(),
                self.range.len() as _,
                true,
            )
        };
    }
}

/// The shadow that KASAN has for the linear mapping of a range: one that is always clean. C:
/// `kasan_add_zero_shadow()`. Dropping it takes the shadow away.
///
/// # Invariants
///
/// The shadow is there, and this value alone is responsible for it.
struct ZeroShadow {
    range: PhysRange,
}

impl ZeroShadow {
    /// # Errors
    ///
    /// `EINVAL` if the range is not aligned to the shadow's pages, `ENOMEM`.
    fn add(range: PhysRange, _hotplug: &Hotplug) -> Result<Self> {
        // SAFETY: The linear mapping of the range has no shadow yet: nobody else owns the range.
        to_result(unsafe {
            bindings::kasan_add_zero_shadow(bindings::__va(range.start()), range.len() as _)
        })?;
        // INVARIANT: Just added.
        Ok(Self { range })
    }
}

impl Drop for ZeroShadow {
    fn drop(&mut self) {
        // SAFETY: The shadow is there, by the invariant.
        unsafe {
            bindings::kasan_remove_zero_shadow(
                bindings::__va(self.range.start()),
                self.range.len() as _,
            )
        };
    }
}

/// Takes away the sections of a range that were added before there was no memory for the memmap of the
/// next: `__add_pages()` leaves them, and then the range could never be added again (`EEXIST`).
///
/// # Safety
///
/// Adding the range just failed with `ENOMEM`, and it is nobody else's.
unsafe fn take_back_sections(of: &RangeOf<'_>, _hotplug: &Hotplug) {
    const STEP: usize = SUBSECTION_SIZE as usize >> PAGE_SHIFT;

    let (first, pages) = (of.range().pfns().first().nr(), of.range().pages());
    // The section that failed has none of our frames, and those behind it were not tried.
    let added = (0..pages)
        .step_by(STEP)
        // SAFETY: Looks at the sections.
        .find(|n| !unsafe { bindings::pfn_valid(first.wrapping_add(*n)) })
        .unwrap_or(pages);
    let pgmap = of.pgmap();
    if added != 0 {
        // SAFETY: The lock is held. By the caller's promise these frames were just added, by us, and
        // nobody uses them.
        unsafe {
            bindings::__remove_pages(first, added, pgmap.altmap_ptr(), pgmap.as_raw());
        }
    }
}

/// Device memory that has `struct page`s. Dropping it takes these away (sleeps), and, except for
/// device-private memory, the linear mapping.
///
/// # Invariants
///
/// The range was added as memory of its pgmap, lies in ZONE_DEVICE, has its memmap, and this value
/// alone is responsible for it.
pub struct Memory<'m>(RangeOf<'m>);

impl<'m> Memory<'m> {
    /// Adds a range of a pgmap, which has its entry in the registry already, and initialises
    /// the memmap. Sleeps. C: `arch_add_memory()` and `memmap_init_zone_device()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not aligned to [`SUBSECTION_SIZE`], `EEXIST` if it has a memmap
    /// already, `ENOMEM`.
    #[doc(alias = "arch_add_memory")]
    #[doc(alias = "memmap_init_zone_device")]
    pub fn add(entry: &Entry<'m>, node: Node, prot: PageProt) -> Result<Self> {
        let of = entry.of();
        let (pgmap, range) = (of.pgmap(), of.range());
        let (first, pages) = (range.pfns().first().nr(), range.pages());
        let mut params = bindings::mhp_params {
            altmap: pgmap.altmap_ptr(),
            pgprot: prot.0,
            pgmap: pgmap.as_raw(),
        };
        // SAFETY: A pointer into an array of zones that is never freed.
        let zone = unsafe { bindings::zone_device(node.as_raw()) };

        {
            let hotplug = Hotplug::begin();
            let take_back = |error: &Error| {
                if *error == ENOMEM {
                    // SAFETY: Adding it just failed for that, and the entry says that it is ours.
                    unsafe { take_back_sections(&of, &hotplug) };
                }
            };
            if is_private(pgmap) {
                // The CPU cannot reach it: pages, but no linear mapping.
                // SAFETY: The lock is held, and the entry says that the range is ours.
                to_result(unsafe { bindings::add_pages(node.as_raw(), first, pages, &mut params) })
                    .inspect_err(take_back)?;
            } else {
                let shadow = ZeroShadow::add(range, &hotplug)?;
                // SAFETY: As above.
                to_result(unsafe {
                    bindings::arch_add_memory(
                        node.as_raw(),
                        range.start(),
                        range.len(),
                        &mut params,
                    )
                })
                .inspect_err(take_back)?;
                // It stays as long as the memory does; `drop` takes it away.
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

        // Deferred until here to keep the hotplug lock out of the long part.
        // SAFETY: The pages are in this zone, and nobody uses them yet.
        unsafe { bindings::memmap_init_zone_device(zone, first, pages, pgmap.as_raw()) };

        // INVARIANT: Added, in the zone, initialised.
        Ok(Self(of))
    }

    /// The memory of a range that was added and forgotten.
    ///
    /// # Safety
    ///
    /// It was, and this is called once for it.
    pub(super) unsafe fn reclaim(of: RangeOf<'m>) -> Self {
        // INVARIANT: The caller's promise.
        Self(of)
    }
}

fn is_private(pgmap: &DevPagemap) -> bool {
    pgmap.memory_type() == Some(MemoryType::Private)
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        let (pgmap, range) = (self.0.pgmap(), self.0.range());
        let (first, pages) = (range.pfns().first().nr(), range.pages());
        // The frames in front of it may hold the memmap, and have no `struct page` that was
        // initialised.
        let first_page = pgmap
            .first_pfn(self.0.index(), range)
            .unwrap_or(range.pfns().first());

        let hotplug = Hotplug::begin();
        // SAFETY: By the invariant the memory is there, in a zone that its pages know, nobody refers
        // to the pages any more as far as 6.12 looks, and the lock is held.
        unsafe {
            let zone = bindings::page_zone(bindings::pfn_to_page(first_page.nr()));
            bindings::remove_pfn_range_from_zone(zone, first, pages);
            if is_private(pgmap) {
                bindings::__remove_pages(first, pages, null_mut(), pgmap.as_raw());
            } else {
                bindings::arch_remove_memory(
                    range.start(),
                    range.len(),
                    pgmap.altmap_ptr(),
                    pgmap.as_raw(),
                );
            }
        }
        if !is_private(pgmap) {
            // INVARIANT: `add` left the shadow to us.
            drop(ZeroShadow { range });
        }
        drop(hotplug);
    }
}
