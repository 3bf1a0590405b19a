// SPDX-License-Identifier: GPL-2.0

//! For drivers: give a range of device memory `struct page`s.
//!
//! A driver needs three things: a [`Region`] of physical memory that is its own, the
//! [`Operations`] that its pages need, and a [`Registration`], which maps the pages when it is made
//! and unmaps them when it is dropped.
//!
//! It goes through `memremap_pages()` and `memunmap_pages()`, so it works with the registry in
//! Rust and in C.

use super::{DevPagemap, MemoryType, ZoneDevicePage, SUBSECTION_SIZE};
use crate::{
    bindings,
    error::{
        code::{EINVAL, EOPNOTSUPP},
        from_err_ptr, Error, Result,
    },
    ffi::{c_int, c_ulong, c_void},
    mm::{
        node::Node,
        pfn::{Pfn, PfnRange, PhysRange},
    },
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    str::CStr,
    sync::Arc,
    types::ForeignOwnable,
};
use core::{
    marker::PhantomData,
    mem::size_of,
    ptr::{addr_of_mut, NonNull},
};

/// Physical memory that is its holder's alone. Dropping it gives the memory back.
///
/// # Invariants
///
/// Nobody else uses the range while the value exists. If it was reserved in the resource tree, it
/// lies in what `reserved` holds.
pub struct Region {
    range: PhysRange,
    reserved: Option<Arc<Reserved>>,
}

/// What was reserved in the resource tree; it is given back when the last region in it goes.
///
/// # Invariants
///
/// The range is reserved, and nobody else gives it back.
#[cfg_attr(not(CONFIG_GET_FREE_REGION), expect(dead_code))]
struct Reserved(PhysRange);

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: By the invariant the range is reserved, and it is ours to release.
        unsafe {
            bindings::__release_region(
                addr_of_mut!(bindings::iomem_resource),
                self.0.start(),
                self.0.len(),
            )
        };
    }
}

impl Region {
    /// Finds a free stretch of the physical address space, of at least `size` bytes, rounded up to
    /// a memory section (128 MiB), for memory that the CPU cannot address. C:
    /// `request_free_mem_region()`. Sleeps.
    ///
    /// There is no memory behind it. That is all the same to `struct page`s.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ERANGE` if there is no such stretch.
    #[cfg(CONFIG_GET_FREE_REGION)]
    #[doc(alias = "request_free_mem_region")]
    pub fn request_free(size: u64, name: &'static CStr) -> Result<Self> {
        // SAFETY: The root of the resource tree is a static; the name is never freed.
        let resource = unsafe {
            bindings::request_free_mem_region(
                addr_of_mut!(bindings::iomem_resource),
                size as _,
                name.as_char_ptr(),
            )
        };
        let resource = from_err_ptr(resource)?;
        // SAFETY: A valid resource that was just made for us.
        let (start, end) = unsafe { ((*resource).start, (*resource).end) };
        // A resource that is no range cannot be; giving up without it leaks a name.
        let range = PhysRange::new(start, end).ok_or(EINVAL)?;
        // INVARIANT: It was free, and is reserved now. (If there is no memory for the `Arc`, this
        // is dropped.)
        let reserved = Arc::new(Reserved(range), GFP_KERNEL)?;
        Ok(Self {
            range,
            reserved: Some(reserved),
        })
    }

    /// Memory that the caller got by other means.
    ///
    /// # Safety
    ///
    /// Nobody else uses the range while the value exists, and it is not System RAM.
    pub const unsafe fn assume_owned(range: PhysRange) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            range,
            reserved: None,
        }
    }

    /// Cuts it in two: the first `len` bytes and the rest. `None`, and all of it is gone, if either
    /// would be empty.
    pub fn split(self, len: u64) -> Option<(Self, Self)> {
        let first = PhysRange::with_len(self.range.start(), len)?;
        let rest = PhysRange::new(first.end().checked_add(1)?, self.range.end())?;
        // INVARIANT: Two parts of what was ours, which do not overlap.
        Some((
            Self {
                range: first,
                reserved: self.reserved.clone(),
            },
            Self {
                range: rest,
                reserved: self.reserved,
            },
        ))
    }

    /// The range.
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// `len` bytes of it, from byte `offset` on, if it has them.
    pub const fn part(&self, offset: u64, len: u64) -> Option<PhysRange> {
        match self.range.start().checked_add(offset) {
            Some(start) => match PhysRange::with_len(start, len) {
                Some(part) if self.range.contains(part.end()) => Some(part),
                _ => None,
            },
            None => None,
        }
    }
}

/// What the owner of device memory is called for. C: `struct dev_pagemap_ops`.
#[doc(alias = "dev_pagemap_ops")]
pub trait Operations {
    /// What the driver keeps with the pgmap, and gets in every call.
    type Data: ForeignOwnable + Send + Sync;

    /// The last reference of a page was dropped: it is the owner's again.
    ///
    /// Any context that may drop a page reference: it must not sleep.
    fn page_free(data: <Self::Data as ForeignOwnable>::Borrowed<'_>, page: ZoneDevicePage<'_>);

    /// The memory behind these frames is bad: see to it that nobody uses them. May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, the default, leaves it to the common way: kill who has them mapped.
    fn memory_failure(
        _data: <Self::Data as ForeignOwnable>::Borrowed<'_>,
        _pfns: PfnRange,
        _flags: i32,
    ) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// How a [`Registration`] is made; the default is single pages on the nearest node.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// The order, in pages, of the compound pages that the memmap shall consist of: those of a pud
    /// at most. 0: single pages, the only ones that filesystems can have.
    pub vmemmap_shift: u32,
    /// The node of the memory; none in particular: the nearest.
    pub node: Node,
}

impl Options {
    /// How the ranges have to be aligned, in bytes: to what can be mapped, and to whole compound
    /// pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` for compound pages that no entry of a page table could map.
    fn alignment(self) -> Result<u64> {
        const LARGEST: u32 = bindings::PUD_SHIFT - PAGE_SHIFT as u32;

        if self.vmemmap_shift > LARGEST {
            return Err(EINVAL);
        }
        Ok(SUBSECTION_SIZE.max((PAGE_SIZE as u64) << self.vmemmap_shift))
    }
}

/// A registration failed. What was handed over comes back.
pub struct RegisterError<D> {
    /// Why.
    pub error: Error,
    /// The driver's data.
    pub data: D,
    /// The regions.
    pub regions: KVec<Region>,
}

impl<D> From<RegisterError<D>> for Error {
    fn from(error: RegisterError<D>) -> Self {
        error.error
    }
}

/// Mapped device memory. Dropping it unmaps the memory (sleeps).
///
/// # Invariants
///
/// `storage` holds a `struct dev_pagemap` with its ranges, zeroed but for what was set up; it was
/// mapped by `memremap_pages()` and does not move. `data` is what `into_foreign` returned.
pub struct Registration<T: Operations> {
    storage: KVec<u64>,
    data: *const c_void,
    /// Dropped after the memory was unmapped.
    _regions: KVec<Region>,
    _operations: PhantomData<T>,
}

// SAFETY: A pgmap has no thread of its own, and the driver's data is `Send`.
unsafe impl<T: Operations> Send for Registration<T> {}
// SAFETY: A shared reference gives out `&DevPagemap` only, which is `Sync`.
unsafe impl<T: Operations> Sync for Registration<T> {}

impl<T: Operations> Registration<T> {
    const OPERATIONS: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        page_free: Some(Self::page_free),
        migrate_to_ram: Some(Self::migrate_to_ram),
        memory_failure: Some(Self::memory_failure),
    };

    /// Maps `ranges`, each of which lies in one of `regions`, as memory of this kind. Sleeps.
    ///
    /// # Errors
    ///
    /// * `EINVAL` for no range, or a range outside the regions, or not aligned to
    ///   [`SUBSECTION_SIZE`] and to whole compound pages;
    /// * `EINVAL` for compound pages larger than a pud maps or of [`MemoryType::FsDax`], whose pages
    ///   belong to files one by one; and for [`MemoryType::PciP2pdma`], whose users in C look for
    ///   more around a pgmap;
    /// * `ENOMEM`, also for a range that overlaps a mapped one; `ENXIO` for System RAM; and what the
    ///   architecture answers.
    #[doc(alias = "memremap_pages")]
    pub fn new(
        kind: MemoryType,
        regions: KVec<Region>,
        ranges: &[PhysRange],
        options: Options,
        data: T::Data,
    ) -> Result<Self, RegisterError<T::Data>> {
        let prepared =
            Self::check(kind, &regions, ranges, options).and_then(|()| Self::storage(ranges.len()));
        let mut storage = match prepared {
            Ok(storage) => storage,
            Err(error) => {
                return Err(RegisterError {
                    error,
                    data,
                    regions,
                })
            }
        };
        let pgmap = storage.as_mut_ptr().cast::<bindings::dev_pagemap>();
        let data = data.into_foreign();

        // SAFETY: The storage is large enough for the structure and its ranges, zeroed, which is
        // valid for all of its fields, and not shared yet.
        unsafe {
            (*pgmap).type_ = kind.as_raw();
            (*pgmap).vmemmap_shift = options.vmemmap_shift as _;
            (*pgmap).ops = const { &Self::OPERATIONS };
            (*pgmap).owner = data.cast_mut().cast();
            // CAST: `check` has seen that there are few.
            (*pgmap).nr_range = ranges.len() as c_int;
            let first = addr_of_mut!((*pgmap).__bindgen_anon_1).cast::<bindings::range>();
            for (index, range) in ranges.iter().enumerate() {
                first.add(index).write(range.as_raw());
            }
        }
        // SAFETY: A pgmap that is set up as C asks for; the storage stays until it is unmapped.
        let mapped = unsafe { bindings::memremap_pages(pgmap, options.node.as_raw()) };
        match from_err_ptr(mapped) {
            // INVARIANT: Mapped; the storage is on the heap, so moving the value does not move it.
            Ok(_) => Ok(Self {
                storage,
                data,
                _regions: regions,
                _operations: PhantomData,
            }),
            Err(error) => Err(RegisterError {
                error,
                // SAFETY: It came from `into_foreign`, and nobody has it any more.
                data: unsafe { T::Data::from_foreign(data.cast()) },
                regions,
            }),
        }
    }

    fn check(
        kind: MemoryType,
        regions: &[Region],
        ranges: &[PhysRange],
        options: Options,
    ) -> Result {
        const MOST: usize = 1 << 16;

        let alignment = options.alignment()?;
        let owned = |range: &PhysRange| {
            regions.iter().any(|region| {
                region.range.contains(range.start()) && region.range.contains(range.end())
            })
        };
        let fits_kind = match kind {
            MemoryType::FsDax => options.vmemmap_shift == 0,
            MemoryType::PciP2pdma => false,
            _ => true,
        };
        if !fits_kind
            || ranges.is_empty()
            || ranges.len() > MOST
            || !ranges
                .iter()
                .all(|range| range.is_aligned(alignment) && owned(range))
        {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Zeroed memory for a pgmap with this many ranges.
    fn storage(ranges: usize) -> Result<KVec<u64>> {
        let range = size_of::<bindings::range>();
        // OVERFLOW: `check` has seen that there are few.
        let bytes = size_of::<bindings::dev_pagemap>().wrapping_add(range.wrapping_mul(ranges));
        let mut storage = KVec::new();
        storage.extend_with(bytes.div_ceil(size_of::<u64>()), 0, GFP_KERNEL)?;
        Ok(storage)
    }

    /// The pgmap.
    pub fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type's invariant the storage holds one, and it is mapped.
        unsafe { DevPagemap::from_raw(self.as_raw()) }
    }

    fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.storage.as_ptr().cast_mut().cast()
    }

    /// The driver's data.
    pub fn data(&self) -> <T::Data as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: By the invariant it came from `into_foreign`; it is taken back in `drop` only.
        unsafe { T::Data::borrow(self.data.cast()) }
    }

    /// The page of a frame of this memory, if it is one that holds data.
    pub fn page(&self, pfn: Pfn) -> Option<ZoneDevicePage<'_>> {
        if !self.pgmap().has_data_page(pfn) {
            return None;
        }
        // SAFETY: Arithmetic on the number of a frame that has a page.
        let page = NonNull::new(unsafe { bindings::pfn_to_page(pfn.nr()) })?;
        // SAFETY: A page of a mapped range, initialised when the range was mapped; the registration
        // keeps it mapped.
        Some(unsafe { ZoneDevicePage::from_raw(page) })
    }

    /// # Safety
    ///
    /// `page` is an unused page of a pgmap that a registration of this type made.
    unsafe extern "C" fn page_free(page: *mut bindings::page) {
        let Some(page) = NonNull::new(page) else {
            return;
        };
        // SAFETY: The caller's promise.
        let page = unsafe { ZoneDevicePage::from_raw(page) };
        // SAFETY: `owner` is the data, as `new` set it up.
        let data = unsafe { T::Data::borrow(page.pgmap().owner().cast_const().cast()) };
        T::page_free(data, page);
    }

    /// The CPU touched a page that it cannot address. A driver that lets user space have such pages
    /// needs a way to bring them back, which this API does not have yet.
    ///
    /// # Safety
    ///
    /// None; C calls it with a fault.
    unsafe extern "C" fn migrate_to_ram(_vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        bindings::vm_fault_reason_VM_FAULT_SIGBUS as _
    }

    /// # Safety
    ///
    /// `pgmap` is a pgmap that a registration of this type made.
    unsafe extern "C" fn memory_failure(
        pgmap: *mut bindings::dev_pagemap,
        pfn: c_ulong,
        nr_pages: c_ulong,
        mf_flags: c_int,
    ) -> c_int {
        let first = Pfn::new(pfn);
        let pfns = nr_pages
            .checked_sub(1)
            .and_then(|more| PfnRange::new(first, first.checked_add(more)?));
        crate::error::from_result(|| {
            // SAFETY: The caller's promise.
            let owner = unsafe { DevPagemap::from_raw(pgmap) }.owner();
            // SAFETY: `owner` is the data, as `new` set it up.
            let data = unsafe { T::Data::borrow(owner.cast_const().cast()) };
            T::memory_failure(data, pfns.ok_or(EINVAL)?, mf_flags).map(|()| 0)
        })
    }
}

impl<T: Operations> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is mapped, and this comes once.
        unsafe { bindings::memunmap_pages(self.as_raw()) };
        // SAFETY: It came from `into_foreign`, and the operations are not called any more.
        drop(unsafe { T::Data::from_foreign(self.data.cast()) });
    }
}
