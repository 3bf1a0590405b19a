// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c` and `include/linux/memremap.h`.

//! Pgmaps of device memory: `struct page`s for memory that the system did not boot with.
//!
//! A driver that owns a range of physical memory (a persistent memory namespace, a GPU's memory, a
//! PCI BAR) describes it in a [`DevPagemap`], "pgmap" for short, and asks for `struct page`s. From
//! then on the range is in ZONE_DEVICE, its pages can be mapped and pinned, and the *registry*
//! answers the question on which the safety of all that rests: does this PFN belong to a live
//! pgmap?
//!
//! # To map device memory
//!
//! A driver that wants `struct page`s for a range does the following:
//!
//! 1. It gets hold of the physical memory as a [`Region`].
//! 2. It implements [`Operations`], for the pages that it wants back and for memory that turns bad.
//! 3. It creates a [`Registration`], which maps the pages, and keeps it as long as it needs them.
//! 4. It drops the [`Registration`], which waits until no page is in use and unmaps them.
//!
//! A driver of a bus device that wants its memory mapped for the kernel as well uses
//! [`DeviceMemory`](super::device_memory::DeviceMemory) instead.
//!
//! # Three references that look alike
//!
//! All three are counts, two of them are the same `percpu_ref`, and each means something else:
//!
//! | | holder | what it keeps | type |
//! |---|---|---|---|
//! | live reference | a walker, while it reads | the pgmap: it is not torn down | [`LiveRef`] |
//! | bulk references | the mapping, one per page | nothing of their own: they are the mapping's share of the count | a number in `mm/memremap/state.rs` |
//! | page pin | the task or device that does I/O to a page | the memory and its `struct page`: teardown waits for the pin | the count of `struct page` |
//!
//! A PFN leads to its page only by a [`LiveRef`] to a pgmap that covers the PFN, by a lookup with
//! interrupts off (until they are on again), or by a DAX entry (while it is in its mapping).
//!
//! # The life of a pgmap
//!
//! ```text
//!           start            finish          kill          drain           wait_idle        unmap
//!  Unmapped -------> Mapping --------> Live ------> Dying -------> Drained -----------> Idle -------> Unmapped
//!                       |  commit a range, one by one ^
//!                       +-----------------------------+
//!                                   abort
//! ```
//!
//! `mm/memremap/state.rs` has one type per state. A lookup succeeds from `Mapping` on, as soon as
//! the first range has its entry in the registry (`mm/memremap/registry.rs` says why so early),
//! until `kill`. The count of live references is freed in the last step only, after every entry is
//! erased and a grace period has passed: a lookup that found the entry just before may still read
//! it.
//!
//! # The implementations
//!
//! With `CONFIG_RUST_DEV_PAGEMAP` the C entry points are in `mm/memremap/memremap.rs`, otherwise in
//! `mm/memremap.c`. What drivers use ([`Registration`], [`DevPagemap::lookup`]) calls those entry
//! points and works with either.
//!
//! The `unsafe` code in this file encapsulates the fields of `struct dev_pagemap`.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use crate::{
    bindings,
    mm::pfn::{Pfn, PfnRange, PhysRange},
    sync::percpu_ref::PercpuRef,
    types::Opaque,
};
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{addr_of, addr_of_mut, NonNull},
};

mod altmap;
mod page;
#[cfg(CONFIG_DEVICE_PRIVATE)]
mod private_fault;
#[cfg(CONFIG_RUST_DEV_PAGEMAP_RECORDER)]
pub mod recorder;
mod registration;
#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
pub mod registry;
mod revoke;

pub use altmap::Altmap;
pub use page::{ZoneDeviceFolio, ZoneDevicePage};
#[cfg(CONFIG_DEVICE_PRIVATE)]
pub use private_fault::PrivateFault;
pub use registration::{Operations, Options, Region, RegisterError, Registration};
pub use revoke::{revoke_hook, set_revoke_hook, RevokeHook};

/// The granularity in which device memory can be mapped, in bytes. C: `SUBSECTION_SIZE`.
pub const SUBSECTION_SIZE: u64 = bindings::SUBSECTION_SIZE as u64;

/// The kind of memory that a pgmap describes. C: `enum memory_type`.
///
/// The owner of the first two allocates and frees their pages one by one (an allocated page holds a
/// live reference); the pages of the others are in use as long as they are mapped.
#[doc(alias = "memory_type")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryType {
    /// Memory that the CPU cannot address. C: `MEMORY_DEVICE_PRIVATE`.
    Private,
    /// Memory that the CPU can address, but that cannot be pinned. C: `MEMORY_DEVICE_COHERENT`.
    Coherent,
    /// The blocks of a filesystem. A page is idle at a count of 1, and the put that drops it to
    /// that wakes tasks that wait for it. C: `MEMORY_DEVICE_FS_DAX`.
    FsDax,
    /// Memory behind a character device. C: `MEMORY_DEVICE_GENERIC`.
    Generic,
    /// A PCI BAR for peer-to-peer DMA. C: `MEMORY_DEVICE_PCI_P2PDMA`.
    PciP2pdma,
}

impl MemoryType {
    /// Converts a value of the C enumeration, or returns `None` if it has no such value.
    #[inline]
    pub(crate) const fn from_raw(raw: bindings::memory_type) -> Option<Self> {
        Some(match raw {
            bindings::memory_type_MEMORY_DEVICE_PRIVATE => Self::Private,
            bindings::memory_type_MEMORY_DEVICE_COHERENT => Self::Coherent,
            bindings::memory_type_MEMORY_DEVICE_FS_DAX => Self::FsDax,
            bindings::memory_type_MEMORY_DEVICE_GENERIC => Self::Generic,
            bindings::memory_type_MEMORY_DEVICE_PCI_P2PDMA => Self::PciP2pdma,
            _ => return None,
        })
    }

    /// Returns the value of the C enumeration.
    pub(crate) const fn as_raw(self) -> bindings::memory_type {
        match self {
            Self::Private => bindings::memory_type_MEMORY_DEVICE_PRIVATE,
            Self::Coherent => bindings::memory_type_MEMORY_DEVICE_COHERENT,
            Self::FsDax => bindings::memory_type_MEMORY_DEVICE_FS_DAX,
            Self::Generic => bindings::memory_type_MEMORY_DEVICE_GENERIC,
            Self::PciP2pdma => bindings::memory_type_MEMORY_DEVICE_PCI_P2PDMA,
        }
    }

    /// Returns whether the owner allocates and frees the pages one by one. Each allocated page then
    /// holds a live reference, and the mapping has no bulk references.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::memremap::MemoryType;
    ///
    /// assert!(MemoryType::Private.pages_are_allocated());
    /// assert!(!MemoryType::FsDax.pages_are_allocated());
    /// ```
    pub const fn pages_are_allocated(self) -> bool {
        matches!(self, Self::Private | Self::Coherent)
    }

    /// Returns the name for messages and debugfs.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(kernel::mm::memremap::MemoryType::FsDax.name(), "fs_dax");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Coherent => "coherent",
            Self::FsDax => "fs_dax",
            Self::Generic => "generic",
            Self::PciP2pdma => "pci_p2pdma",
        }
    }
}

/// A pgmap: device memory with `struct page`s. C: `struct dev_pagemap`.
///
/// A reference to a pgmap only says that the structure is valid: the pgmap may be dying, or not
/// mapped yet. [`LiveRef`] says that it is live.
///
/// # Invariants
///
/// The owner has set up the structure as the C header asks for, with at least one range behind it,
/// and does not change its type, flags, operations, owner and ranges while it can be reached.
#[doc(alias = "dev_pagemap")]
#[repr(transparent)]
pub struct DevPagemap(Opaque<bindings::dev_pagemap>);

// SAFETY: The fields that are read by a shared reference do not change, by the type invariants, or
// are read by one volatile access, or are a counter for use by several CPUs. So no access is a data
// race.
unsafe impl Sync for DevPagemap {}
// SAFETY: A pgmap is not tied to a thread, and its fields can be read by any, as said for `Sync`.
unsafe impl Send for DevPagemap {}

impl DevPagemap {
    /// Creates a reference to the pgmap at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a `struct dev_pagemap` that stays valid for `'a` and that its owner has
    /// set up as the C header asks for. Its description (type, flags, operations, owner, ranges)
    /// must not change meanwhile.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::dev_pagemap) -> &'a Self {
        // SAFETY: The type is transparent over `struct dev_pagemap`, and the caller promises that
        // the structure is valid for `'a` and meets the type invariants.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the raw pointer.
    #[inline]
    pub const fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.0.get()
    }

    /// Looks up the pgmap of `pfn` and takes a live reference to it. C: `get_dev_pagemap()`.
    ///
    /// `cached` is the result of an earlier lookup: it is returned as it is if it covers `pfn` too,
    /// which costs no lookup, and dropped if it does not.
    ///
    /// Any context, interrupts off included. Returns `None` if no pgmap covers `pfn`, or one that
    /// is being torn down.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::DevPagemap, pfn::Pfn};
    ///
    /// // The first page of memory belongs to no device.
    /// assert!(DevPagemap::lookup(Pfn::new(1), None).is_none());
    ///
    /// /// Counts the PFNs that belong to live pgmaps. Consecutive PFNs cost one lookup.
    /// fn count(pfns: impl Iterator<Item = Pfn>) -> usize {
    ///     let mut live = None;
    ///     pfns.filter(|pfn| {
    ///         live = DevPagemap::lookup(*pfn, live.take());
    ///         live.is_some()
    ///     })
    ///     .count()
    /// }
    /// assert_eq!(count((1..9).map(Pfn::new)), 0);
    /// ```
    #[doc(alias = "get_dev_pagemap")]
    #[inline]
    pub fn lookup(pfn: Pfn, cached: Option<LiveRef>) -> Option<LiveRef> {
        let cached = cached.map_or(core::ptr::null_mut(), LiveRef::into_raw);
        // SAFETY: `cached` is null or a pgmap with a live reference that this call owned and passes
        // on to the C function.
        let found = unsafe { bindings::get_dev_pagemap(pfn.nr() as _, cached) };
        // SAFETY: The C function returns null or a pgmap with a live reference that it passes on to
        // this call.
        NonNull::new(found).map(|found| unsafe { LiveRef::from_raw(found) })
    }

    /// Returns the kind of memory, or `None` if the owner stored a value that C does not define. C:
    /// `pgmap->type`.
    #[inline]
    pub fn memory_type(&self) -> Option<MemoryType> {
        MemoryType::from_raw(self.raw_memory_type())
    }

    /// Returns the kind of memory as C stores it, for messages.
    #[inline]
    pub fn raw_memory_type(&self) -> u32 {
        // SAFETY: By the type invariants the field is initialised and does not change.
        unsafe { (*self.as_raw()).type_ }
    }

    /// Returns the order of the compound pages that the memmap consists of; 0 for single pages.
    #[inline]
    pub fn vmemmap_shift(&self) -> u32 {
        // SAFETY: The owner set this field up with the description of the pgmap, so it is
        // initialised and does not change.
        // CAST: This is an order. A value that is no order is as wrong as the largest `u32`.
        unsafe { (*self.as_raw()).vmemmap_shift }
            .try_into()
            .unwrap_or(u32::MAX)
    }

    /// Returns where the memmap lies if it lies on the device itself. C: `pgmap_altmap()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::memremap::{Altmap, DevPagemap};
    ///
    /// /// Returns the pages of the device that hold its memmap.
    /// fn memmap_pages(pgmap: &DevPagemap) -> usize {
    ///     pgmap.altmap().map_or(0, |altmap: Altmap| altmap.alloc)
    /// }
    /// ```
    #[doc(alias = "pgmap_altmap")]
    #[inline]
    pub fn altmap(&self) -> Option<Altmap> {
        // SAFETY: By the type invariants the field is initialised and does not change.
        let flags = unsafe { (*self.as_raw()).flags };
        if flags & bindings::PGMAP_ALTMAP_VALID == 0 {
            return None;
        }
        // SAFETY: The fields of `altmap` are integers that the owner set up. Only `align` and
        // `alloc` change, under the hotplug lock; the volatile read may return an older value of
        // these.
        Some(Altmap::from_raw(unsafe {
            addr_of!((*self.as_raw()).altmap).read_volatile()
        }))
    }

    /// Returns an opaque pointer that identifies the owner, or null. C: `pgmap->owner`.
    #[inline]
    pub fn owner(&self) -> *mut core::ffi::c_void {
        // SAFETY: By the type invariants the field is initialised and does not change.
        unsafe { (*self.as_raw()).owner }
    }

    /// Returns which operations the owner has set up. C: `pgmap->ops`.
    pub fn operations(&self) -> HasOperations {
        // SAFETY: By the type invariants the field does not change; the owner set it to null or to
        // operations that are valid as long as the pgmap.
        let ops = unsafe { (*self.as_raw()).ops.as_ref() };
        HasOperations {
            frees_pages: ops.is_some_and(|ops| ops.page_free.is_some()),
            migrates_to_ram: ops.is_some_and(|ops| ops.migrate_to_ram.is_some()),
        }
    }

    /// Returns the number of mapped ranges: all of a live pgmap's, and those mapped so far while it
    /// is being mapped. C: `pgmap->nr_range`.
    #[inline]
    pub fn nr_ranges(&self) -> usize {
        // SAFETY: The field is initialised. The read is volatile, because mapping counts the ranges
        // here while other tasks read.
        let nr = unsafe { addr_of!((*self.as_raw()).nr_range).read_volatile() };
        usize::try_from(nr).unwrap_or(0)
    }

    /// Returns the range with this index, or `None` if it is not mapped or ends before it starts.
    #[inline]
    pub fn range(&self, index: usize) -> Option<PhysRange> {
        if index >= self.nr_ranges() {
            return None;
        }
        // SAFETY: At most as many ranges are mapped as the owner set up, and the index is below
        // that.
        unsafe { self.range_unchecked(index) }
    }

    /// Returns the range with this index, also if it is not mapped yet, or `None` if it ends before
    /// it starts.
    ///
    /// # Safety
    ///
    /// The owner must have set up more than `index` ranges.
    #[inline]
    pub unsafe fn range_unchecked(&self, index: usize) -> Option<PhysRange> {
        // SAFETY: By the type invariants the ranges lie behind the structure and do not change, and
        // the caller promises that there is one with this index.
        let raw = unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_1)
                .cast::<bindings::range>()
                .add(index)
                .read()
        };
        PhysRange::from_raw(raw)
    }

    /// Returns an iterator over the mapped ranges.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::DevPagemap, pfn::PhysRange};
    ///
    /// /// Returns the bytes of device memory that a pgmap maps.
    /// fn mapped_bytes(pgmap: &DevPagemap) -> u64 {
    ///     pgmap.ranges().map(PhysRange::len).sum()
    /// }
    /// ```
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> + '_ {
        (0..self.nr_ranges()).filter_map(|index| self.range(index))
    }

    /// Returns the number of PFNs from `pfn` on to the end of the mapped range that contains it, or
    /// 0 if no range does.
    #[inline]
    pub fn pfns_from(&self, pfn: Pfn) -> usize {
        let first = self.first_range_raw();
        let last = Pfn::containing(first.end);
        if pfn < Pfn::containing(first.start) || pfn > last {
            return self.pfns_from_beyond_first(pfn);
        }
        // OVERFLOW: A range has fewer than 2^64 PFNs.
        last.nr().wrapping_sub(pfn.nr()).wrapping_add(1)
    }

    /// Does the work of [`Self::pfns_from`] for the ranges after the first.
    #[cold]
    #[inline(never)]
    fn pfns_from_beyond_first(&self, pfn: Pfn) -> usize {
        let pfns = (1..self.nr_ranges())
            .filter_map(|index| self.range(index))
            .find(|range| range.pfns().contains(pfn))
            .and_then(|range| PfnRange::new(pfn, range.pfns().last()));
        pfns.map_or(0, |pfns| pfns.len())
    }

    /// Returns whether one of the mapped ranges contains `pfn`. C: `pgmap_pfn_valid()` without the
    /// altmap.
    #[inline]
    pub fn covers(&self, pfn: Pfn) -> bool {
        self.first_range_covers(pfn) || self.covers_beyond_first(pfn)
    }

    /// Returns whether the first range contains `pfn`. Nearly every pgmap has one range, and this
    /// runs per page table entry, so it compares the bare numbers; a first range that ends before
    /// it starts contains nothing.
    #[inline]
    pub fn first_range_covers(&self, pfn: Pfn) -> bool {
        let first = self.first_range_raw();
        pfn >= Pfn::containing(first.start) && pfn <= Pfn::containing(first.end)
    }

    /// Returns the first range as C stores it, valid or not.
    #[inline]
    fn first_range_raw(&self) -> bindings::range {
        // SAFETY: By the type invariants there is a range behind the structure, and ranges do not
        // change.
        unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_1)
                .cast::<bindings::range>()
                .read()
        }
    }

    /// Does the work of [`Self::covers`] for the ranges after the first.
    #[cold]
    #[inline(never)]
    fn covers_beyond_first(&self, pfn: Pfn) -> bool {
        self.pfns_from_beyond_first(pfn) != 0
    }

    /// Returns the first PFN of a range that has a data page: behind the driver's reserve and the
    /// memmap, if these lie in the range. Returns `None` if the range has no data page. C:
    /// `pfn_first()`.
    #[doc(alias = "pfn_first")]
    pub fn first_pfn(&self, index: usize, range: PhysRange) -> Option<Pfn> {
        let first = range.pfns().first();
        let first = match self.altmap() {
            // Only a pgmap with a single range can have an altmap.
            Some(altmap) if index == 0 => first.checked_add(altmap.offset()?)?,
            _ => first,
        };
        range.pfns().contains(first).then_some(first)
    }

    /// Returns whether `pfn` has a data page, not one that holds the memmap. C:
    /// `pgmap_pfn_valid()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::DevPagemap, pfn::Pfn};
    ///
    /// /// Returns whether a PFN holds a part of the memmap, or is reserved by the driver.
    /// fn is_metadata(pgmap: &DevPagemap, pfn: Pfn) -> bool {
    ///     pgmap.covers(pfn) && !pgmap.has_data_page(pfn)
    /// }
    /// ```
    #[doc(alias = "pgmap_pfn_valid")]
    pub fn has_data_page(&self, pfn: Pfn) -> bool {
        (0..self.nr_ranges())
            .filter_map(|index| self.range(index).map(|range| (index, range)))
            .find(|(_, range)| range.pfns().contains(pfn))
            .is_some_and(|(index, range)| {
                self.first_pfn(index, range)
                    .is_some_and(|first| pfn >= first)
            })
    }

    /// Returns the number of data pages of a range, in units of the memmap (compound pages, if it
    /// consists of these): the mapping holds as many bulk references. Returns `None` if the pgmap
    /// describes an impossible range. C: `pfn_len()`, `pfn_end()`.
    #[doc(alias = "pfn_len")]
    #[doc(alias = "pfn_end")]
    pub fn nr_units(&self, index: usize, range: PhysRange) -> Option<usize> {
        let first = self.first_pfn(index, range)?;
        // The PFN behind the last whole page. OVERFLOW: a range is not all of memory.
        let end = Pfn::containing(range.end().checked_add(1)?);
        end.nr()
            .checked_sub(first.nr())?
            .checked_shr(self.vmemmap_shift())
    }

    /// Returns the count behind the live references. C: `pgmap->ref`.
    ///
    /// # Safety
    ///
    /// The count must be initialised, and stay so while the result is used. That holds while the
    /// pgmap is mapped, and during an RCU read-side section in which it was found in the registry.
    #[inline]
    pub unsafe fn percpu_ref(&self) -> &PercpuRef {
        // SAFETY: The field lies in the pgmap, and the caller promises that it is initialised.
        unsafe { PercpuRef::from_raw(addr_of_mut!((*self.as_raw()).ref_)) }
    }
}

/// The operations that the owner of a pgmap has set up. C: `struct dev_pagemap_ops`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HasOperations {
    /// The owner frees pages after their last reference was dropped: `page_free`.
    pub frees_pages: bool,
    /// The owner can migrate a page that the CPU cannot address to RAM: `migrate_to_ram`.
    pub migrates_to_ram: bool,
}

/// A live reference: its pgmap is not torn down while the reference is held.
///
/// It is meant to be held during a page table walk, and teardown waits for it. So its holder must
/// not wait for anything that may itself wait for teardown. It can be dropped in any context,
/// interrupts off included.
///
/// It does not keep a page allocated that has no references of its own, and a page that is pinned
/// does not need it.
///
/// # Invariants
///
/// The value owns one reference of the pgmap's count, which was live when the reference was taken;
/// so the pgmap is valid and mapped, and its count initialised.
#[repr(transparent)]
pub struct LiveRef(NonNull<bindings::dev_pagemap>);

// SAFETY: A per-CPU count may be put on another CPU than the one on which it was taken.
unsafe impl Send for LiveRef {}
// SAFETY: A shared reference only gives access to `&DevPagemap`, which is `Sync`.
unsafe impl Sync for LiveRef {}

impl LiveRef {
    /// Takes over a live reference from C code, such as the result of `get_dev_pagemap()`.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a mapped pgmap to which the caller owns a live reference, which it
    /// passes on.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The caller passes on a live reference that it owns.
        Self(ptr)
    }

    /// Passes the reference to C code, which has to put it. C: `put_dev_pagemap()`.
    #[inline]
    pub fn into_raw(self) -> *mut bindings::dev_pagemap {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Deref for LiveRef {
    type Target = DevPagemap;

    #[inline]
    fn deref(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the pgmap is valid while the reference is held.
        unsafe { DevPagemap::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for LiveRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the count is initialised and this value owns one
        // reference, which it puts only here.
        unsafe { self.percpu_ref().put() };
    }
}
