// SPDX-License-Identifier: GPL-2.0

//! Memory of a device, mapped for the kernel as long as a driver is bound.
//!
//! ```text
//!  Reservation ----- DeviceMemory::map() --------> DeviceMemory without pages
//!       |             (C: devm_memremap)
//!       +----------- DeviceMemory::map_pages() --> DeviceMemory with `struct page`s
//!      Blueprint      (C: devm_memremap_pages)
//! ```
//!
//! A mapping owns the reservation of its physical range, and gives it back after it was unmapped.
//!
//! Nothing in here is part of the kernel image: a driver in a module calls the C functions itself,
//! so that `tools/testing/nvdimm` can wrap them.
//!
//! C headers: [`include/linux/memremap.h`](srctree/include/linux/memremap.h),
//! [`include/linux/io.h`](srctree/include/linux/io.h)

use super::{
    memremap::Altmap,
    pfn::{Pfn, PfnRange, PhysRange},
    pfn_t::PfnFlags,
    segment::{Source, Target},
};
use crate::{
    bindings, dev_warn,
    device::Device,
    devres::{BoundDevice, DevresGroup},
    error::{
        code::{EBUSY, EINVAL, EIO, ENOMEM, ENXIO},
        from_err_ptr, from_result, Result,
    },
    ffi::{c_int, c_uint, c_ulong, c_void},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    types::{ARef, Opaque},
};
use core::{
    marker::PhantomData,
    ptr::{addr_of, addr_of_mut, NonNull},
};

/// A physical range that is reserved for a driver in the resource tree.
///
/// # Invariants
///
/// The range is memory of the device that the group is for. The device's lock is held, and by the
/// thread that has the value, until that is part of a [`DeviceMemory`].
pub struct Reservation {
    _group: DevresGroup,
    range: PhysRange,
    /// Whose name is in the resource tree.
    _name: ARef<Device>,
    /// It stays with the thread that holds the lock.
    _not_send: PhantomData<*mut ()>,
}

impl Reservation {
    /// Reserves the range, under the name of the device `name`. Sleeps. C:
    /// `devm_request_mem_region()`.
    ///
    /// # Safety
    ///
    /// The range is memory of the token's device, whose lock the caller holds; and holds as long as
    /// the value can be with this thread.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else has it, which is in the log then; `ENOMEM`.
    #[doc(alias = "devm_request_mem_region")]
    #[inline]
    pub unsafe fn new(token: &BoundDevice, range: PhysRange, name: &Device) -> Result<Self> {
        let request = |device: &Device| {
            // SAFETY: A valid device that is bound; the root of the tree is a static, and the name
            // stays because the device that has it does.
            let resource = unsafe {
                bindings::__devm_request_region(
                    device.as_raw(),
                    addr_of_mut!(bindings::iomem_resource),
                    range.start(),
                    range.len(),
                    bindings::dev_name(name.as_raw()),
                )
            };
            if resource.is_null() {
                dev_warn!(device, "could not reserve region [mem {range:?}]\n");
                return Err(EBUSY);
            }
            Ok(())
        };
        // SAFETY: The caller holds the lock.
        let (group, ()) = unsafe { DevresGroup::acquire(token, request) }?;
        // INVARIANT: The caller's promise; other threads cannot have it.
        Ok(Self {
            _group: group,
            range,
            _name: name.into(),
            _not_send: PhantomData,
        })
    }

    /// The range.
    #[inline]
    pub const fn range(&self) -> PhysRange {
        self.range
    }
}

/// How pages shall be made for device memory: a pgmap that is not mapped yet. C: `struct
/// dev_pagemap`.
///
/// # Invariants
///
/// Zeroed but for what a pgmap has before it is mapped: range, flags and altmap.
#[doc(alias = "dev_pagemap")]
pub struct Blueprint(KBox<Opaque<bindings::dev_pagemap>>);

// SAFETY: It is a plain structure until it is mapped.
unsafe impl Send for Blueprint {}

impl Blueprint {
    /// One without a range yet. Sleeps.
    #[inline]
    pub(crate) fn new() -> Result<Self> {
        let memory = KBox::<Opaque<bindings::dev_pagemap>>::new_uninit(GFP_KERNEL)?;
        // INVARIANT: Zeroed.
        Ok(Self(memory.write(Opaque::new(
            // SAFETY: Zero is valid for every field of the structure.
            unsafe { core::mem::MaybeUninit::zeroed().assume_init() },
        ))))
    }

    /// Pages for all of `range`, the memmap in ordinary memory.
    #[inline]
    pub fn for_range(range: PhysRange) -> Result<Self> {
        let this = Self::new()?;
        let pgmap = this.as_raw();
        // SAFETY: The structure is ours, with room for one range.
        unsafe {
            *(*pgmap).__bindgen_anon_1.range.as_mut() = range.as_raw();
            (*pgmap).nr_range = 1;
        }
        Ok(this)
    }

    /// What C code takes, to fill it in.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.0.get()
    }

    /// The range, once there is one.
    #[inline]
    pub fn range(&self) -> Option<PhysRange> {
        // SAFETY: The structure is ours; the range is initialised, be it with zeroes.
        unsafe {
            let pgmap = self.as_raw();
            if (*pgmap).nr_range == 0 {
                return None;
            }
            PhysRange::from_raw(*(*pgmap).__bindgen_anon_1.range.as_ref())
        }
    }

    /// The range from `offset` on, if it is one and there are no page structures in it: they may be
    /// in the memory itself, in front.
    #[inline]
    fn data(&self, offset: u64) -> Option<PhysRange> {
        let range = self.range()?;
        let data = PhysRange::new(range.start().checked_add(offset)?, range.end())?;
        let pgmap = self.as_raw();
        // SAFETY: The structure is ours, and initialised.
        let (flags, altmap) = unsafe { ((*pgmap).flags, addr_of!((*pgmap).altmap).read()) };
        if flags & bindings::PGMAP_ALTMAP_VALID != 0 {
            let altmap = Altmap::from_raw(altmap);
            let behind = altmap.base.checked_add(altmap.offset()?)?;
            if data.start() < behind.phys()? {
                return None;
            }
        }
        Some(data)
    }
}

/// Who is told when memory with pages turns out to be bad.
pub trait FailureHandler: Send + Sync + 'static {
    /// These frames are bad: see to it that nobody uses them. May sleep. C: the `memory_failure`
    /// operation of a pgmap.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` leaves it to the common way: kill who has them mapped.
    fn memory_failure(&self, frames: PfnRange, flags: i32) -> Result;
}

impl<H: FailureHandler> FailureHandler for Arc<H> {
    #[inline]
    fn memory_failure(&self, frames: PfnRange, flags: i32) -> Result {
        (**self).memory_failure(frames, flags)
    }
}

/// Nobody, for memory without pages, or whose failures are left to the common way.
impl FailureHandler for () {
    #[inline]
    fn memory_failure(&self, _frames: PfnRange, _flags: i32) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// A pgmap and who is told of its failures, where C finds both.
#[repr(C)]
struct Mapped<H> {
    pgmap: Opaque<bindings::dev_pagemap>,
    operations: bindings::dev_pagemap_ops,
    handler: H,
}

impl<H: FailureHandler> Mapped<H> {
    /// # Safety
    ///
    /// C calls it with the pgmap of a value of this type, which is mapped.
    unsafe extern "C" fn memory_failure(
        pgmap: *mut bindings::dev_pagemap,
        pfn: c_ulong,
        nr_pages: c_ulong,
        flags: c_int,
    ) -> c_int {
        let first = Pfn::new(pfn);
        let frames = nr_pages
            .checked_sub(1)
            .and_then(|more| PfnRange::new(first, first.checked_add(more)?));
        // SAFETY: The pgmap is the first field of a value of this type, which stays while it is
        // mapped.
        let this = unsafe { &*pgmap.cast::<Self>() };
        from_result(|| {
            this.handler
                .memory_failure(frames.ok_or(EINVAL)?, flags)
                .map(|()| 0)
        })
    }
}

/// Memory of a device that the kernel can use. Dropping it unmaps it (sleeps).
///
/// What is at its start may be its own page structures, so only the data behind them can be read
/// and written. Others may use that at the same time: user space has it mapped. So its bytes are
/// copied, and no reference to them is given out.
///
/// # Invariants
///
/// `range.len()` bytes from `address` on are mapped by what `group` holds. `data` is the end of
/// `range`, from `start` on, and has no page structures in it.
pub struct DeviceMemory<H: FailureHandler> {
    // The order matters: unmapped, then freed, then given back.
    group: DevresGroup,
    pgmap: Option<KBox<Mapped<H>>>,
    address: NonNull<u8>,
    range: PhysRange,
    start: NonNull<u8>,
    data: PhysRange,
    linear: bool,
    reservation: Reservation,
}

// SAFETY: Memory has no thread of its own, and nothing is acquired with its reservation any more.
unsafe impl<H: FailureHandler> Send for DeviceMemory<H> {}
// SAFETY: Its bytes are not accessed by references; the handler is `Sync`.
unsafe impl<H: FailureHandler> Sync for DeviceMemory<H> {}

impl<H: FailureHandler> DeviceMemory<H> {
    /// Maps the reserved range without pages, cached as persistent memory is. All of it is data.
    /// Sleeps. C: `devm_memremap()`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if it cannot be mapped; `ENOMEM`.
    #[doc(alias = "devm_memremap")]
    #[inline]
    pub fn map(reservation: Reservation) -> Result<Self> {
        let range = reservation.range;
        let map = |device: &Device| -> Result<*mut c_void> {
            // SAFETY: A valid device that is bound, and a range that is reserved.
            from_err_ptr(unsafe {
                bindings::devm_memremap(
                    device.as_raw(),
                    range.start(),
                    usize::try_from(range.len())?,
                    bindings::ARCH_MEMREMAP_PMEM as _,
                )
            })
        };
        // SAFETY: By the invariant of the reservation we hold the lock.
        let (group, address) = unsafe { DevresGroup::acquire(reservation._group.device(), map) }?;
        Self::new(group, None, address, range, range, reservation)
    }

    /// Makes pages for the range of the blueprint, which lies in the reservation, and maps them.
    /// The data begins at `data_offset` of the range. `handler` is told of failures. Sleeps. C:
    /// `devm_memremap_pages()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not in the reservation; `ENXIO` if there can be no data at that
    /// offset; what the pgmap registry answers.
    #[doc(alias = "devm_memremap_pages")]
    #[inline]
    pub fn map_pages(
        reservation: Reservation,
        blueprint: Blueprint,
        data_offset: u64,
        handler: H,
    ) -> Result<Self> {
        let reserved = reservation.range;
        let range = blueprint
            .range()
            .filter(|range| reserved.contains(range.start()) && reserved.contains(range.end()))
            .ok_or(EINVAL)?;
        let data = blueprint.data(data_offset).ok_or(ENXIO)?;
        // SAFETY: The structure is ours, and copied before anybody else has it.
        let pgmap = unsafe { blueprint.as_raw().read() };
        let mapped = KBox::new(
            Mapped {
                pgmap: Opaque::new(pgmap),
                operations: bindings::dev_pagemap_ops {
                    page_free: None,
                    migrate_to_ram: None,
                    memory_failure: Some(Mapped::<H>::memory_failure),
                },
                handler,
            },
            GFP_KERNEL,
        )?;
        let pgmap = mapped.pgmap.get();
        let map = |device: &Device| {
            // SAFETY: The structure is ours and on the heap, where it stays until the group has
            // unmapped it.
            unsafe {
                (*pgmap).type_ = bindings::memory_type_MEMORY_DEVICE_FS_DAX;
                (*pgmap).ops = &mapped.operations;
                (*pgmap).owner = pgmap.cast();
                from_err_ptr(bindings::devm_memremap_pages(device.as_raw(), pgmap))
            }
        };
        // SAFETY: By the invariant of the reservation we hold the lock.
        let (group, address) = unsafe { DevresGroup::acquire(reservation._group.device(), map) }?;
        Self::new(group, Some(mapped), address, range, data, reservation)
    }

    #[inline]
    fn new(
        group: DevresGroup,
        pgmap: Option<KBox<Mapped<H>>>,
        address: *mut c_void,
        range: PhysRange,
        data: PhysRange,
        reservation: Reservation,
    ) -> Result<Self> {
        // SAFETY: Only the address is looked at.
        let linear = unsafe { !bindings::is_vmalloc_addr(address) };
        let address = NonNull::new(address.cast::<u8>()).ok_or(ENOMEM)?;
        // CAST: It was mapped, so this is an address difference.
        let offset = data.start().wrapping_sub(range.start()) as usize;
        let start = NonNull::new(address.as_ptr().wrapping_add(offset)).ok_or(ENOMEM)?;
        // INVARIANT: The callers have mapped it, and `Blueprint::data` has looked at the data.
        Ok(Self {
            group,
            pgmap,
            address,
            range,
            start,
            data,
            linear,
            reservation,
        })
    }

    /// The physical range that is mapped.
    #[inline]
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// The physical range that is reserved; it contains the other.
    #[inline]
    pub const fn reserved(&self) -> PhysRange {
        self.reservation.range
    }

    /// The physical range of the data, which is the end of what is mapped.
    #[inline]
    pub const fn data(&self) -> PhysRange {
        self.data
    }

    /// The device that it belongs to.
    #[inline]
    pub fn device(&self) -> &Device {
        self.group.device()
    }

    /// Whether there are pages for it.
    #[inline]
    pub const fn has_pages(&self) -> bool {
        self.pgmap.is_some()
    }

    /// What kind of frames it has.
    #[inline]
    pub fn frame_flags(&self) -> PfnFlags {
        if self.has_pages() {
            PfnFlags::DEV | PfnFlags::MAP
        } else {
            PfnFlags::DEV
        }
    }

    /// Where it is mapped.
    #[inline]
    pub(crate) const fn address(&self) -> *mut c_void {
        self.address.as_ptr().cast()
    }

    /// The address of `len` bytes at `offset` of the data.
    ///
    /// # Errors
    ///
    /// `EIO` if they are not all there.
    #[inline]
    fn at(&self, offset: u64, len: usize) -> Result<*mut u8> {
        let end = offset.checked_add(len as u64).ok_or(EIO)?;
        if end > self.data.len() {
            return Err(EIO);
        }
        // CAST: It was mapped, so its length is an address difference.
        Ok(self.start.as_ptr().wrapping_add(offset as usize))
    }

    /// Copies from `offset` of the data, and survives if the memory turns out to be bad. Does not
    /// sleep. C: `copy_mc_to_kernel()`.
    ///
    /// # Errors
    ///
    /// `EIO` if it is bad, or outside.
    #[doc(alias = "copy_mc_to_kernel")]
    #[inline]
    pub fn read(&self, offset: u64, to: Target<'_>) -> Result {
        let from = self.at(offset, to.len())?;
        let len = c_uint::try_from(to.len())?;
        // SAFETY: The bytes are mapped by the invariant; a target can be written.
        let left = unsafe { bindings::copy_mc_to_kernel(to.as_mut_ptr().cast(), from.cast(), len) };
        if left != 0 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Copies to `offset` of the data, past the caches of the CPU. Does not sleep. C:
    /// `memcpy_flushcache()`.
    ///
    /// # Errors
    ///
    /// `EIO` if it is outside.
    #[doc(alias = "memcpy_flushcache")]
    #[inline]
    pub fn write(&self, offset: u64, from: Source<'_>) -> Result {
        let to = self.at(offset, from.len())?;
        // SAFETY: The bytes are mapped by the invariant; a source can be read.
        unsafe {
            bindings::__memcpy_flushcache(to.cast(), from.as_ptr().cast(), from.len() as _);
        }
        Ok(())
    }

    /// The frames at `offset` of the data are good again, after the device has cleared an error of
    /// `cleared` bytes in `len` of them: their pages may be used again, and the caches forget what
    /// they have. May sleep.
    #[doc(alias = "arch_invalidate_pmem")]
    pub fn mark_good(&self, offset: u64, cleared: usize, len: usize) {
        let Ok(address) = self.at(offset, len) else {
            return;
        };
        if self.linear && self.has_pages() {
            let phys = self.data.start().wrapping_add(offset);
            let pages = cleared.min(len) / PAGE_SIZE;
            // SAFETY: The range has pages, which stay while it is mapped.
            unsafe {
                bindings::pmem_mark_pages_good(Pfn::containing(phys).nr(), pages);
            }
        }
        // SAFETY: By the invariant the bytes are mapped.
        unsafe { bindings::pmem_invalidate_cache(address.cast(), len) };
    }
}
