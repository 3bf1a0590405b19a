// SPDX-License-Identifier: GPL-2.0

//! Mapping device memory from a driver: [`Registration`] and what it takes.
//!
//! It calls `memremap_pages()` and `memunmap_pages()`, so it works with the registry in Rust and in
//! C.
//!
//! The `unsafe` code in this file encapsulates the memory of a `struct dev_pagemap` and the calls
//! of its operations.

#[cfg(CONFIG_DEVICE_PRIVATE)]
use super::PrivateFault;
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
    str::{CStr, CString},
    sync::Arc,
    types::ForeignOwnable,
};
use core::{
    marker::PhantomData,
    mem::size_of,
    ptr::{addr_of_mut, NonNull},
};

/// Physical memory that belongs to the holder of the value alone. Dropping it releases the memory.
///
/// # Invariants
///
/// No other code uses the range while the value exists. If the range was reserved in the resource
/// tree, it lies in what `reserved` holds. If `is_memory`, the CPU may access the range.
///
/// # Examples
///
/// ```
/// use kernel::{c_str, mm::memremap::Region};
///
/// /// Reserves 2 MiB of addresses for the driver itself and the rest for pages.
/// fn reserve() -> Result<(Region, Region)> {
///     let region = Region::request_free(256 << 20, c_str!("doctest"))?;
///     region.split(2 << 20).ok_or(EINVAL)
/// }
/// ```
pub struct Region {
    range: PhysRange,
    reserved: Option<Arc<Reserved>>,
    is_memory: bool,
}

/// A range that is reserved in the resource tree. It is released when the last region in it is
/// dropped.
///
/// # Invariants
///
/// The range is reserved, and only this value may release it.
#[cfg_attr(not(CONFIG_GET_FREE_REGION), expect(dead_code))]
struct Reserved {
    range: PhysRange,
    /// The name that the resource tree points to.
    _name: CString,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the range is reserved, and only this value releases it.
        unsafe {
            bindings::__release_region(
                addr_of_mut!(bindings::iomem_resource),
                self.range.start(),
                self.range.len(),
            )
        };
    }
}

impl Region {
    /// Reserves a free part of the physical address space, of at least `size` bytes, rounded up to
    /// a memory section (128 MiB), for memory that the CPU cannot address. C:
    /// `request_free_mem_region()`. Sleeps.
    ///
    /// There is nothing behind it, which `struct page`s of [`MemoryType::Private`] do not need. All
    /// other types have a linear mapping, through which a CPU reads speculatively, and so need
    /// memory: see [`Region::assume_memory`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ERANGE` if the address space has no such part.
    #[cfg(CONFIG_GET_FREE_REGION)]
    #[doc(alias = "request_free_mem_region")]
    pub fn request_free(size: u64, name: &CStr) -> Result<Self> {
        // A module's name would not do: the region may be forgotten and the module unloaded.
        let name = CString::try_from(name)?;
        // SAFETY: The root of the resource tree is a static, and the name, whose bytes do not move, is
        // freed after the resource.
        let resource = unsafe {
            bindings::request_free_mem_region(
                addr_of_mut!(bindings::iomem_resource),
                size as _,
                name.as_char_ptr(),
            )
        };
        let resource = from_err_ptr(resource)?;
        // SAFETY: The pointer is to a valid resource that was just created for this call.
        let (start, end) = unsafe { ((*resource).start, (*resource).end) };
        let Some(range) = PhysRange::new(start, end) else {
            // A resource always is a range; if it were none, it would stay with its name.
            core::mem::forget(name);
            return Err(EINVAL);
        };
        // INVARIANT: The range was free and is now reserved. (If there is no memory for the `Arc`,
        // this value is dropped, which releases the range.)
        let reserved = Arc::new(Reserved { range, _name: name }, GFP_KERNEL)?;
        Ok(Self {
            range,
            reserved: Some(reserved),
            is_memory: false,
        })
    }

    /// Promises that there is memory behind a region that [`Region::request_free`] has reserved.
    ///
    /// # Safety
    ///
    /// The CPU must be able to access the range through a linear mapping, for as long as a part of
    /// the region exists.
    #[cfg(CONFIG_GET_FREE_REGION)]
    pub unsafe fn assume_memory(self) -> Self {
        // INVARIANT: The caller promises that the CPU may access the range.
        Self {
            is_memory: true,
            ..self
        }
    }

    /// Creates a region of memory that the caller got by other means.
    ///
    /// # Safety
    ///
    /// No other code may use the range while the value exists. It must be memory that the CPU can
    /// access, and must not be System RAM.
    pub const unsafe fn assume_owned(range: PhysRange) -> Self {
        // INVARIANT: The caller promises that no other code uses the range, and that it is memory.
        Self {
            range,
            reserved: None,
            is_memory: true,
        }
    }

    /// Splits the region into its first `len` bytes and the rest. Returns `None`, and drops the
    /// region, if either part would be empty.
    pub fn split(self, len: u64) -> Option<(Self, Self)> {
        let first = PhysRange::with_len(self.range.start(), len)?;
        let rest = PhysRange::new(first.end().checked_add(1)?, self.range.end())?;
        // INVARIANT: The two are parts of a range that belonged to this value, and do not overlap.
        Some((
            Self {
                range: first,
                reserved: self.reserved.clone(),
                is_memory: self.is_memory,
            },
            Self {
                range: rest,
                reserved: self.reserved,
                is_memory: self.is_memory,
            },
        ))
    }

    /// Returns the physical range.
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// Returns the range of `len` bytes from byte `offset` of the region on, or `None` if they are
    /// not all in the region.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{c_str, mm::{memremap::Region, pfn::PhysRange}};
    ///
    /// let region = Region::request_free(1, c_str!("doctest"))?;
    /// let end = region.range().len();
    /// assert_eq!(region.part(0, 2 << 20).map(PhysRange::len), Some(2 << 20));
    /// assert!(region.part(end, 1).is_none());
    /// # Ok::<(), Error>(())
    /// ```
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

/// The operations of the owner of device memory. C: `struct dev_pagemap_ops`.
///
/// # Safety
///
/// [`page_free`](Self::page_free) must not sleep: C calls it inside read-side critical sections of RCU
/// and with spinlocks held, and sleeping would end such a section (see [`rcu`](crate::sync::rcu)).
#[doc(alias = "dev_pagemap_ops")]
pub unsafe trait Operations: 'static {
    /// The data that the driver keeps with the pgmap, and that each operation gets. A
    /// [`Registration`] that is forgotten stays mapped, so the data can borrow nothing.
    type Data: ForeignOwnable + Send + Sync + 'static;

    /// Frees a page after its last reference was dropped: it belongs to the owner again.
    ///
    /// Called in any context in which the last reference to a page may be dropped: it must not
    /// sleep.
    fn page_free(data: <Self::Data as ForeignOwnable>::Borrowed<'_>, page: ZoneDevicePage<'_>);

    /// Handles bad memory: stops all use of the pages of these PFNs. May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, the default, leaves it to the common handler, which kills the tasks that have
    /// the pages mapped.
    fn memory_failure(
        _data: <Self::Data as ForeignOwnable>::Borrowed<'_>,
        _pfns: PfnRange,
        _flags: i32,
    ) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Brings a page of [`MemoryType::Private`] back to RAM, because the CPU accesses it. Called with
    /// the `mmap_lock` held for reading. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory; any other error kills the task. The default does so, for memory
    /// that user space never maps.
    #[cfg(CONFIG_DEVICE_PRIVATE)]
    fn migrate_to_ram(
        _data: <Self::Data as ForeignOwnable>::Borrowed<'_>,
        _fault: PrivateFault<'_>,
    ) -> Result {
        Err(EINVAL)
    }
}

/// The options of a [`Registration`]; the default is single pages on the nearest node.
///
/// # Examples
///
/// ```
/// use kernel::mm::{memremap::Options, node::Node};
///
/// let huge = Options { vmemmap_shift: 9, ..Options::default() };
/// assert_eq!(huge.node, None::<Node>);
/// ```
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// The order, in pages, of the compound pages that the memmap is to consist of: at most that of
    /// a PUD. 0 means single pages, the only ones that filesystems can use.
    pub vmemmap_shift: u32,
    /// The node of the memory, or `None` for the nearest.
    pub node: Option<Node>,
}

impl Options {
    /// Returns the alignment, in bytes, that ranges need: that of memory which can be mapped, and
    /// of whole compound pages.
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

/// The error of a registration, with the values that were passed to it.
pub struct RegisterError<D> {
    /// The reason.
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

/// Device memory that is mapped. Dropping it waits until no page is in use and unmaps the memory
/// (sleeps).
///
/// To map device memory, a driver does the following:
///
/// 1. It gets a [`Region`] for the memory, by [`Region::request_free`] or from its bus.
/// 2. It implements [`Operations`] for a type of its own, with the data that the operations need.
/// 3. It calls [`Registration::new`] with the kind of memory and the ranges to map.
/// 4. It reaches the pages by [`Registration::page`]; other code does by [`DevPagemap::lookup`].
///
/// Dropping it sleeps for as long as a page is in use; the caller must not hold a lock of a
/// filesystem. The C counterparts are `memremap_pages()` and `memunmap_pages()`.
///
/// # Invariants
///
/// `storage` holds a `struct dev_pagemap` with its ranges, in which all fields that were not set
/// are zero; `memremap_pages()` mapped it, and it does not move. `data` is the result of
/// `into_foreign`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     c_str,
///     mm::memremap::{
///         MemoryType, Operations, Options, Region, Registration, ZoneDevicePage,
///     },
///     sync::{Arc, ArcBorrow},
/// };
///
/// struct Gpu;
///
/// // SAFETY: `page_free` only prints a message.
/// unsafe impl Operations for Gpu {
///     type Data = Arc<Gpu>;
///
///     fn page_free(_gpu: ArcBorrow<'_, Gpu>, page: ZoneDevicePage<'_>) {
///         pr_debug!("pfn {:#x} is free\n", page.pfn().nr());
///     }
/// }
///
/// /// Creates `struct page`s for 128 MiB of memory that only the GPU can address.
/// fn map(gpu: Arc<Gpu>) -> Result<Registration<Gpu>> {
///     let region = Region::request_free(128 << 20, c_str!("gpu"))?;
///     let range = region.range();
///     let mut regions = KVec::new();
///     regions.push(region, GFP_KERNEL)?;
///     let kind = MemoryType::Private;
///     Ok(Registration::new(kind, regions, &[range], Options::default(), gpu)?)
/// }
///
/// // A registration without a range fails, and returns what was passed to it.
/// let gpu = Arc::new(Gpu, GFP_KERNEL)?;
/// let empty =
///     Registration::<Gpu>::new(MemoryType::Private, KVec::new(), &[], Options::default(), gpu);
/// assert!(empty.is_err_and(|failed| failed.error == EINVAL));
/// # Ok::<(), Error>(())
/// ```
pub struct Registration<T: Operations> {
    storage: KVec<u64>,
    data: *const c_void,
    /// Dropped after the memory was unmapped.
    _regions: KVec<Region>,
    _operations: PhantomData<T>,
}

// SAFETY: A pgmap is not tied to a thread, and the driver's data is `Send`.
unsafe impl<T: Operations> Send for Registration<T> {}
// SAFETY: A shared reference gives access to `&DevPagemap`, which is `Sync`, and to borrows of the
// driver's data, which is `Sync`.
unsafe impl<T: Operations> Sync for Registration<T> {}

impl<T: Operations> Registration<T> {
    const OPERATIONS: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        page_free: Some(Self::page_free),
        #[cfg(CONFIG_DEVICE_PRIVATE)]
        migrate_to_ram: Some(Self::migrate_to_ram),
        #[cfg(not(CONFIG_DEVICE_PRIVATE))]
        migrate_to_ram: None,
        memory_failure: Some(Self::memory_failure),
    };

    /// Maps `ranges`, each of which lies in one of `regions`, as memory of this kind. C:
    /// `memremap_pages()`. Sleeps.
    ///
    /// # Errors
    ///
    /// * `EINVAL` for no range, or a range that lies outside the regions, or is not aligned to
    ///   [`SUBSECTION_SIZE`] and to whole compound pages;
    /// * `EINVAL` for a type other than [`MemoryType::Private`] if a region has no memory;
    /// * `EINVAL` for compound pages larger than a PUD maps, or of [`MemoryType::FsDax`], since its pages
    ///   belong to files one by one; and for [`MemoryType::PciP2pdma`], since its users in C expect more
    ///   data around a pgmap;
    /// * `ENOMEM`, also for a range that overlaps a mapped one; `ENXIO` for System RAM; `EBUSY` for an
    ///   overlap with a pgmap that is being torn down; and the errors of the architecture.
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

        // SAFETY: The storage is large enough for the structure and its ranges, and not shared yet.
        // It is zeroed, which is valid for all fields.
        unsafe {
            (*pgmap).type_ = kind.as_raw();
            (*pgmap).vmemmap_shift = options.vmemmap_shift as _;
            (*pgmap).ops = const { &Self::OPERATIONS };
            (*pgmap).owner = data.cast_mut().cast();
            // CAST: `check` limits the number of ranges.
            (*pgmap).nr_range = ranges.len() as c_int;
            let first = addr_of_mut!((*pgmap).__bindgen_anon_1).cast::<bindings::range>();
            for (index, range) in ranges.iter().enumerate() {
                first.add(index).write(range.as_raw());
            }
        }
        // SAFETY: The pgmap is set up as the C header asks for, and the storage stays in place
        // until it is unmapped.
        let mapped = unsafe { bindings::memremap_pages(pgmap, Node::to_raw(options.node)) };
        match from_err_ptr(mapped) {
            // INVARIANT: The pgmap is mapped. The storage is on the heap, so it does not move when
            // the value does.
            Ok(_) => Ok(Self {
                storage,
                data,
                _regions: regions,
                _operations: PhantomData,
            }),
            Err(error) => Err(RegisterError {
                error,
                // SAFETY: The pointer came from `into_foreign`, and after the failure no operation
                // is called with it any more.
                data: unsafe { T::Data::from_foreign(data.cast()) },
                regions,
            }),
        }
    }

    /// Checks the arguments of [`Self::new`].
    fn check(
        kind: MemoryType,
        regions: &[Region],
        ranges: &[PhysRange],
        options: Options,
    ) -> Result {
        const MAX_RANGES: usize = 1 << 16;

        let alignment = options.alignment()?;
        let owned = |range: &PhysRange| {
            regions.iter().any(|region| {
                (region.is_memory || kind == MemoryType::Private)
                    && region.range.contains(range.start())
                    && region.range.contains(range.end())
            })
        };
        let fits_kind = match kind {
            MemoryType::FsDax => options.vmemmap_shift == 0,
            MemoryType::PciP2pdma => false,
            _ => true,
        };
        if !fits_kind
            || ranges.is_empty()
            || ranges.len() > MAX_RANGES
            || !ranges
                .iter()
                .all(|range| range.is_aligned(alignment) && owned(range))
        {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Allocates zeroed memory for a pgmap with this many ranges. Sleeps.
    fn storage(ranges: usize) -> Result<KVec<u64>> {
        let range = size_of::<bindings::range>();
        // OVERFLOW: `check` limits the number of ranges.
        let bytes = size_of::<bindings::dev_pagemap>().wrapping_add(range.wrapping_mul(ranges));
        let mut storage = KVec::new();
        storage.extend_with(bytes.div_ceil(size_of::<u64>()), 0, GFP_KERNEL)?;
        Ok(storage)
    }

    /// Returns the pgmap.
    pub fn pgmap(&self) -> &DevPagemap {
        // SAFETY: By the type invariants the storage holds a mapped pgmap that does not move.
        unsafe { DevPagemap::from_raw(self.as_raw()) }
    }

    /// Returns the raw pointer to the pgmap.
    fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.storage.as_ptr().cast_mut().cast()
    }

    /// Borrows the driver's data.
    pub fn data(&self) -> <T::Data as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: By the type invariants the pointer came from `into_foreign`, and only `drop`
        // converts it back.
        unsafe { T::Data::borrow(self.data.cast()) }
    }

    /// Returns the page of `pfn` if it is a data page of this memory.
    pub fn page(&self, pfn: Pfn) -> Option<ZoneDevicePage<'_>> {
        if !self.pgmap().has_data_page(pfn) {
            return None;
        }
        // SAFETY: The PFN has a page; the function only computes its address.
        let page = NonNull::new(unsafe { bindings::pfn_to_page(pfn.nr()) })?;
        // SAFETY: The page lies in a mapped range. Mapping initialised its memmap, and the
        // registration keeps it mapped.
        Some(unsafe { ZoneDevicePage::from_raw(page) })
    }

    /// Calls [`Operations::page_free`].
    ///
    /// # Safety
    ///
    /// `page` must be an unused page of a pgmap that a registration of this type mapped.
    unsafe extern "C" fn page_free(page: *mut bindings::page) {
        let Some(page) = NonNull::new(page) else {
            return;
        };
        // SAFETY: The caller promises a page of such a pgmap, which stays valid for the call.
        let page = unsafe { ZoneDevicePage::from_raw(page) };
        // SAFETY: `new` set `owner` to the data, which is converted back after the last call only.
        let data = unsafe { T::Data::borrow(page.pgmap().owner().cast_const().cast()) };
        T::page_free(data, page);
    }

    /// Calls [`Operations::migrate_to_ram`].
    ///
    /// # Safety
    ///
    /// `vmf` must be a fault that is being handled, at an entry that names a page of a pgmap that a
    /// registration of this type mapped.
    #[cfg(CONFIG_DEVICE_PRIVATE)]
    unsafe extern "C" fn migrate_to_ram(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        let fault = NonNull::new(vmf).map(|vmf| {
            // SAFETY: The caller promises a fault that is being handled, and this returns to C after it.
            unsafe { PrivateFault::from_raw(vmf) }
        });
        let Some((fault, page)) = fault.and_then(|fault| fault.page().map(|page| (fault, page)))
        else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        let owner = page.pgmap().owner();
        // SAFETY: `new` set `owner` to the data, which is converted back after the last call only.
        let data = unsafe { T::Data::borrow(owner.cast_const().cast()) };
        match T::migrate_to_ram(data, fault) {
            Ok(()) => 0,
            Err(ENOMEM) => bindings::vm_fault_reason_VM_FAULT_OOM,
            Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
        }
    }

    /// Calls [`Operations::memory_failure`].
    ///
    /// # Safety
    ///
    /// `pgmap` must point to a pgmap that a registration of this type mapped.
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
            // SAFETY: The caller promises a mapped pgmap, which stays valid for the call.
            let owner = unsafe { DevPagemap::from_raw(pgmap) }.owner();
            // SAFETY: `new` set `owner` to the data, which is converted back after the last call
            // only.
            let data = unsafe { T::Data::borrow(owner.cast_const().cast()) };
            T::memory_failure(data, pfns.ok_or(EINVAL)?, mf_flags).map(|()| 0)
        })
    }
}

impl<T: Operations> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the pgmap is mapped, and it is unmapped only here. The
        // documentation of the type forbids a lock of a filesystem here; holding one can end in a
        // deadlock, but not in an invalid access.
        unsafe { bindings::memunmap_pages(self.as_raw()) };
        // SAFETY: The pointer came from `into_foreign`, and the operations are not called any more.
        drop(unsafe { T::Data::from_foreign(self.data.cast()) });
    }
}
