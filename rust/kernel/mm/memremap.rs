// SPDX-License-Identifier: GPL-2.0

//! Pgmaps of device memory: `struct page`s for memory that the system did not boot with.
//!
//! A driver that owns a range of physical memory (a persistent memory namespace, a GPU's memory, a
//! PCI BAR) describes it in a [`DevPagemap`] and asks for `struct page`s. From then on the range is in
//! ZONE_DEVICE, its pages can be mapped and pinned, and the *registry* answers the one question
//! that makes this safe: does this page frame number belong to a pgmap that is alive?
//!
//! # Three references that look alike
//!
//! All three are counts, two of them are the same `percpu_ref`, and each is something else:
//!
//! | | who holds it | what it keeps | type |
//! |---|---|---|---|
//! | live reference | a walker, for as long as it looks | the pgmap from being torn down | [`LiveRef`] |
//! | bulk references | the mapping, one per page | nothing of their own; they are the mapping's share | taken by `mm/memremap` |
//! | page pin | whoever does I/O to a page | the memory and its `struct page`: teardown waits  | `struct page` count |
//!
//! A page is reached from a pfn only through a [`LiveRef`] whose ranges cover that pfn.
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
//! `mm/memremap/state.rs` has one type per state. A lookup succeeds from `Mapping` on, as soon as the first range
//! has its entry in the registry (see there for why so early), until `kill`. The counters of the
//! live reference are freed in the last step only, after every entry is erased and a grace period
//! has passed: a lookup that found the entry just before may still be looking at them.
//!
//! # Who implements it
//!
//! With `CONFIG_RUST_DEV_PAGEMAP` the C entry points are in `mm/memremap/memremap.rs`, built from what is
//! here; else they are in `mm/memremap.c`. What a driver uses ([`Registration`], [`DevPagemap::lookup`])
//! goes through those entry points and works with either.
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
mod registration;
#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
pub mod registry;
mod revoke;

pub use altmap::Altmap;
pub use page::{ZoneDeviceFolio, ZoneDevicePage};
pub use registration::{Operations, Options, Region, RegisterError, Registration};
#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
pub use registry::is_dying_in;
pub use revoke::{revoke_hook, set_revoke_hook, RevokeHook};

/// Returns whether a PFN of this range belongs to a pgmap that is being torn down, of which the
/// registry in C knows nothing. Any context.
#[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
pub fn is_dying_in(_range: PhysRange) -> bool {
    false
}

/// The granularity in which device memory can be mapped, in bytes. C: `SUBSECTION_SIZE`.
pub const SUBSECTION_SIZE: u64 = bindings::SUBSECTION_SIZE as u64;

/// What kind of memory a pgmap describes. C: `enum memory_type`.
///
/// The first two have their pages counted by the pgmap (a page holds a live reference while it
/// is allocated); the others come with all their pages in use.
#[doc(alias = "memory_type")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryType {
    /// The CPU cannot address it at all. C: `MEMORY_DEVICE_PRIVATE`.
    Private,
    /// The CPU can address it, but nobody may pin it. C: `MEMORY_DEVICE_COHERENT`.
    Coherent,
    /// The blocks of a filesystem. A page is idle at a count of 1, and who drops it to that wakes
    /// who waits for it. C: `MEMORY_DEVICE_FS_DAX`.
    FsDax,
    /// Memory behind a character device. C: `MEMORY_DEVICE_GENERIC`.
    Generic,
    /// A PCI BAR for peer-to-peer DMA. C: `MEMORY_DEVICE_PCI_P2PDMA`.
    PciP2pdma,
}

impl MemoryType {
    /// The type that C means by `raw`, unless it means none.
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

    /// What C calls it.
    pub(crate) const fn as_raw(self) -> bindings::memory_type {
        match self {
            Self::Private => bindings::memory_type_MEMORY_DEVICE_PRIVATE,
            Self::Coherent => bindings::memory_type_MEMORY_DEVICE_COHERENT,
            Self::FsDax => bindings::memory_type_MEMORY_DEVICE_FS_DAX,
            Self::Generic => bindings::memory_type_MEMORY_DEVICE_GENERIC,
            Self::PciP2pdma => bindings::memory_type_MEMORY_DEVICE_PCI_P2PDMA,
        }
    }

    /// Whether the owner allocates and frees the pages one by one. Each allocated page holds a
    /// live reference then, and the mapping has no bulk references.
    pub const fn pages_are_allocated(self) -> bool {
        matches!(self, Self::Private | Self::Coherent)
    }

    /// The name in messages and in debugfs.
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
/// A reference to one says only that the structure is there: the pgmap may be dying, or not be
/// mapped yet. [`LiveRef`] says that it is alive.
///
/// # Invariants
///
/// The structure was set up by its owner as C asks for, with at least one range behind it, and its
/// type, flags, operations, owner and ranges do not change while it can be reached.
#[doc(alias = "dev_pagemap")]
#[repr(transparent)]
pub struct DevPagemap(Opaque<bindings::dev_pagemap>);

// SAFETY: What is read from a shared pgmap does not change, is read once, or is a counter that
// is made for it.
unsafe impl Sync for DevPagemap {}
// SAFETY: As for `Sync`; a pgmap has no thread of its own.
unsafe impl Send for DevPagemap {}

impl DevPagemap {
    /// The pgmap that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` points to a pgmap as the type's invariant says, valid for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::dev_pagemap) -> &'a Self {
        // SAFETY: The type is transparent over `struct dev_pagemap`, and the caller vouches for
        // the rest.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// What C code takes.
    #[inline]
    pub const fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.0.get()
    }

    /// Looks up the pgmap of the frame `pfn` and takes a live reference to it. C:
    /// `get_dev_pagemap()`.
    ///
    /// `cached` is what an earlier lookup returned: it is given back as it is if it covers `pfn`
    /// too, which costs no lookup, and dropped if it does not.
    ///
    /// Any context, interrupts off included. `None` if no pgmap covers `pfn`, or one that is
    /// being torn down.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::DevPagemap, pfn::Pfn};
    ///
    /// // The first page of memory belongs to no device.
    /// assert!(DevPagemap::lookup(Pfn::new(1), None).is_none());
    /// ```
    #[doc(alias = "get_dev_pagemap")]
    #[inline]
    pub fn lookup(pfn: Pfn, cached: Option<LiveRef>) -> Option<LiveRef> {
        let cached = cached.map_or(core::ptr::null_mut(), LiveRef::into_raw);
        // SAFETY: `cached` is null or a pgmap to which this call owned a live reference, which
        // goes over to the C function.
        let found = unsafe { bindings::get_dev_pagemap(pfn.nr() as _, cached) };
        // SAFETY: The C function returns null or a pgmap with a live reference that is ours.
        NonNull::new(found).map(|found| unsafe { LiveRef::from_raw(found) })
    }

    /// The kind of memory, unless the owner wrote something there that C does not know.
    #[inline]
    pub fn memory_type(&self) -> Option<MemoryType> {
        // SAFETY: The field is initialised and, by the type's invariant, does not change.
        MemoryType::from_raw(unsafe { (*self.as_raw()).type_ })
    }

    /// The kind of memory as C has it, for messages.
    #[inline]
    pub fn raw_memory_type(&self) -> u32 {
        // SAFETY: As in `memory_type`.
        unsafe { (*self.as_raw()).type_ }
    }

    /// The order, in pages, of the compound pages that the memmap consists of; 0 for single pages.
    #[inline]
    pub fn vmemmap_shift(&self) -> u32 {
        // SAFETY: As in `memory_type`.
        // CAST: an order; one that is no order is as wrong as the largest `u32`.
        unsafe { (*self.as_raw()).vmemmap_shift }
            .try_into()
            .unwrap_or(u32::MAX)
    }

    /// Where the memmap lies if it lies on the device itself.
    #[doc(alias = "pgmap_altmap")]
    #[inline]
    pub fn altmap(&self) -> Option<Altmap> {
        // SAFETY: As in `memory_type`.
        let flags = unsafe { (*self.as_raw()).flags };
        if flags & bindings::PGMAP_ALTMAP_VALID == 0 {
            return None;
        }
        // SAFETY: The fields of `altmap` are integers; the owner set them up, and only `align` and
        // `alloc` change, under the hotplug lock: they are read once and may be stale.
        Some(Altmap::from_raw(unsafe {
            addr_of!((*self.as_raw()).altmap).read_volatile()
        }))
    }

    /// An opaque pointer that identifies the owner, or null.
    #[inline]
    pub fn owner(&self) -> *mut core::ffi::c_void {
        // SAFETY: As in `memory_type`.
        unsafe { (*self.as_raw()).owner }
    }

    /// What the owner has set up to be called for.
    pub fn operations(&self) -> HasOperations {
        // SAFETY: The owner set up `ops` before; null, or valid as long as the pgmap.
        let ops = unsafe { (*self.as_raw()).ops.as_ref() };
        HasOperations {
            frees_pages: ops.is_some_and(|ops| ops.page_free.is_some()),
            migrates_to_ram: ops.is_some_and(|ops| ops.migrate_to_ram.is_some()),
        }
    }

    /// How many ranges are mapped: all of a live pgmap's, the ones done so far while it is
    /// being mapped.
    #[inline]
    pub fn nr_ranges(&self) -> usize {
        // SAFETY: The field is initialised. Volatile, because whoever maps the ranges counts them
        // here while others look.
        let nr = unsafe { addr_of!((*self.as_raw()).nr_range).read_volatile() };
        usize::try_from(nr).unwrap_or(0)
    }

    /// The range with this index, if it is mapped and is a range.
    #[inline]
    pub fn range(&self, index: usize) -> Option<PhysRange> {
        if index >= self.nr_ranges() {
            return None;
        }
        // SAFETY: The index was just checked.
        unsafe { self.range_unchecked(index) }
    }

    /// The range with this index, also if it is not mapped yet.
    ///
    /// # Safety
    ///
    /// The owner set up more than `index` ranges.
    #[inline]
    pub unsafe fn range_unchecked(&self, index: usize) -> Option<PhysRange> {
        // SAFETY: By the type's invariant and the caller's promise there is such a range behind
        // the structure; ranges do not change.
        let raw = unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_1)
                .cast::<bindings::range>()
                .add(index)
                .read()
        };
        PhysRange::from_raw(raw)
    }

    /// The mapped ranges.
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> + '_ {
        (0..self.nr_ranges()).filter_map(|index| self.range(index))
    }

    /// How many frames there are from `pfn` on, to the end of the mapped range that has it; 0 if none
    /// has.
    #[inline]
    pub fn frames_from(&self, pfn: Pfn) -> usize {
        let first = self.first_range_raw();
        let last = Pfn::containing(first.end);
        if pfn < Pfn::containing(first.start) || pfn > last {
            return self.frames_from_beyond_first(pfn);
        }
        // Not 2^64 of them.
        last.nr().wrapping_sub(pfn.nr()).wrapping_add(1)
    }

    #[cold]
    #[inline(never)]
    fn frames_from_beyond_first(&self, pfn: Pfn) -> usize {
        let frames = (1..self.nr_ranges())
            .filter_map(|index| self.range(index))
            .find(|range| range.pfns().contains(pfn))
            .and_then(|range| PfnRange::new(pfn, range.pfns().last()));
        frames.map_or(0, |frames| frames.len())
    }

    /// Whether one of the mapped ranges has the frame `pfn`.
    #[inline]
    pub fn covers(&self, pfn: Pfn) -> bool {
        self.first_range_covers(pfn) || self.covers_beyond_first(pfn)
    }

    /// Whether the first range has the frame `pfn`. Nearly every pgmap has one range, and this
    /// runs per page table entry, so it compares with the bare numbers; a first range that is none
    /// compares to false.
    #[inline]
    pub fn first_range_covers(&self, pfn: Pfn) -> bool {
        let first = self.first_range_raw();
        pfn >= Pfn::containing(first.start) && pfn <= Pfn::containing(first.end)
    }

    /// The numbers of the first range, whatever they are.
    #[inline]
    fn first_range_raw(&self) -> bindings::range {
        // SAFETY: By the type's invariant there is a range behind the structure, and ranges do not
        // change.
        unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_1)
                .cast::<bindings::range>()
                .read()
        }
    }

    #[cold]
    #[inline(never)]
    fn covers_beyond_first(&self, pfn: Pfn) -> bool {
        self.frames_from_beyond_first(pfn) != 0
    }

    /// The first frame of a range that has a `struct page` of its own use: behind the driver's
    /// reserve and the memmap, if these lie in the range. `None` if nothing is left.
    pub fn first_pfn(&self, index: usize, range: PhysRange) -> Option<Pfn> {
        let first = range.pfns().first();
        let first = match self.altmap() {
            // An altmap is for a single range, the first.
            Some(altmap) if index == 0 => first.checked_add(altmap.offset()?)?,
            _ => first,
        };
        range.pfns().contains(first).then_some(first)
    }

    /// Whether `pfn` is a page of the memory itself, not one that holds the memmap. C:
    /// `pgmap_pfn_valid()`.
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

    /// How many pages of a range are handed out, counted in units of the memmap (compound pages,
    /// if it consists of these): what the mapping holds bulk references for. `None` if the page
    /// map describes an impossible range.
    pub fn nr_units(&self, index: usize, range: PhysRange) -> Option<usize> {
        let first = self.first_pfn(index, range)?;
        // The frame behind the last whole page. OVERFLOW: a range is not all of memory.
        let end = Pfn::containing(range.end().checked_add(1)?);
        end.nr()
            .checked_sub(first.nr())?
            .checked_shr(self.vmemmap_shift())
    }

    /// The count behind the live references.
    ///
    /// # Safety
    ///
    /// The count is initialised, and stays so while the result is used.
    #[inline]
    pub unsafe fn percpu_ref(&self) -> &PercpuRef {
        // SAFETY: The field lies in the pgmap; the caller vouches for its state.
        unsafe { PercpuRef::from_raw(addr_of_mut!((*self.as_raw()).ref_)) }
    }
}

/// Which operations the owner of a pgmap has. C: `struct dev_pagemap_ops`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HasOperations {
    /// It takes back pages whose last reference was dropped: `page_free`.
    pub frees_pages: bool,
    /// It can bring a page back that the CPU cannot address: `migrate_to_ram`.
    pub migrates_to_ram: bool,
}

/// A live reference: the pgmap that it refers to is not torn down while it is held.
///
/// It is meant for as long as a page table walk takes, and teardown waits for it: do not keep it
/// while waiting for anything that may itself wait for teardown. Dropping it is allowed in any
/// context, interrupts off included.
///
/// It does not keep pages from being freed that nobody pinned, and pinning a page does not need it
/// to be kept.
///
/// # Invariants
///
/// The value owns one reference of the pgmap's count, which was live when it was taken; so the
/// pgmap is valid, mapped, and its count initialised.
#[repr(transparent)]
pub struct LiveRef(NonNull<bindings::dev_pagemap>);

// SAFETY: A per-CPU count may be put on another CPU than the one it was taken on.
unsafe impl Send for LiveRef {}
// SAFETY: It gives out `&DevPagemap` only, which is `Sync`.
unsafe impl Sync for LiveRef {}

impl LiveRef {
    /// Takes over a live reference that C code took. C: what `get_dev_pagemap()` returns.
    ///
    /// # Safety
    ///
    /// The caller owns such a reference to the pgmap at `ptr`, and gives it up.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::dev_pagemap>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr)
    }

    /// Hands the reference to C code, which has to put it. C: `put_dev_pagemap()`.
    #[inline]
    pub fn into_raw(self) -> *mut bindings::dev_pagemap {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Deref for LiveRef {
    type Target = DevPagemap;

    #[inline]
    fn deref(&self) -> &DevPagemap {
        // SAFETY: By the invariant the pgmap is valid while the reference is held.
        unsafe { DevPagemap::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for LiveRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant the count is initialised, and one reference is ours to put.
        unsafe { self.percpu_ref().put() };
    }
}
