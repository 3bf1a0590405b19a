// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.
// Derived from `drivers/nvdimm/pmem.c`.

//! Memory of a device, mapped for the kernel as long as a driver is bound.
//!
//! ```text
//!  Reservation ----- DeviceMemory::map() --------> DeviceMemory without pages
//!       |             (C: devm_memremap)
//!       +----------- DeviceMemory::map_pages() --> DeviceMemory with `struct page`s
//!     PgmapParams     (C: devm_memremap_pages)
//! ```
//!
//! To use the memory of its device, a driver does the following:
//!
//! 1. It gets a [`Reservation`] of the physical range from its bus (nvdimm:
//!    [`Namespace::reserve`](crate::nvdimm::Namespace::reserve)).
//! 2. If the memory is to have `struct page`s, it describes them by [`PgmapParams`], and implements
//!    [`FailureHandler`] if it wants to hear of memory that turns bad.
//! 3. It maps the memory by [`DeviceMemory::map`] or [`DeviceMemory::map_pages`].
//! 4. It copies data by [`DeviceMemory::read`] and [`DeviceMemory::write`].
//! 5. It drops the [`DeviceMemory`] when it is unbound: the memory is unmapped, and then the
//!    reservation is released.
//!
//! None of this code is part of the kernel image: it is inlined into the driver, so that a driver
//! in a module calls the C functions itself and `tools/testing/nvdimm` can wrap them.
//!
//! The `unsafe` code in this file encapsulates the resources of a bound device (a group of devres),
//! `pgmap` the memory of a `struct dev_pagemap`, and `copy` the addresses of the mapping.
//!
//! C headers: [`include/linux/memremap.h`](srctree/include/linux/memremap.h),
//! [`include/linux/io.h`](srctree/include/linux/io.h)

use super::{pfn::PhysRange, pfn_t::PfnFlags};
use crate::{
    bindings, dev_warn,
    device::Device,
    devres::{BoundDevice, DevresGroup},
    error::{
        code::{EBUSY, EINVAL, ENOMEM, ENXIO},
        from_err_ptr, Result,
    },
    ffi::c_void,
    prelude::*,
    types::ARef,
};
use core::{
    marker::PhantomData,
    ptr::{addr_of_mut, NonNull},
};

mod copy;
mod pgmap;

use pgmap::MappedPgmap;
pub use pgmap::{FailureHandler, PgmapParams};

/// A physical range that is reserved for a driver in the resource tree. Dropping it releases the
/// range.
///
/// # Invariants
///
/// The range is memory of the device that the group belongs to. Until the value becomes part of a
/// [`DeviceMemory`], the thread that has the value holds the lock of that device.
pub struct Reservation {
    _group: DevresGroup,
    range: PhysRange,
    /// The owner of the name that the resource tree points to.
    _name: ARef<Device>,
    /// The value stays with the thread that holds the lock.
    _not_send: PhantomData<*mut ()>,
}

impl Reservation {
    /// Reserves the range, under the name of the device `name`. C: `devm_request_mem_region()`.
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY`, with a line in the log, if another driver has the range; `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The range must be memory of `device`. The caller must hold the lock of that device, and hold
    /// it as long as the value is not part of a [`DeviceMemory`].
    #[doc(alias = "devm_request_mem_region")]
    #[inline]
    pub unsafe fn new(device: &BoundDevice, range: PhysRange, name: &Device) -> Result<Self> {
        let request = |device: &Device| {
            // SAFETY: The device is valid and bound. The root of the resource tree is a static, and
            // the name stays valid as long as its device, which this value keeps.
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
        // SAFETY: The caller holds the lock of the device. The request adds one resource, which
        // belongs to this driver, and opens no group.
        let (group, ()) = unsafe { DevresGroup::acquire(device, request) }?;
        // INVARIANT: The caller promises that the range is memory of the device and that it holds
        // the lock, and the value is not `Send`.
        Ok(Self {
            _group: group,
            range,
            _name: name.into(),
            _not_send: PhantomData,
        })
    }

    /// Returns the physical range.
    #[inline]
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// Adds metadata before the reserved range, which other code has reserved for the same purpose.
    ///
    /// # Safety
    ///
    /// `range` must contain the reserved range and be memory of the device, and no other code may use the
    /// rest of it while the device is bound.
    #[cfg(CONFIG_RUST_DEV_DAX_FSDEV)]
    #[inline]
    pub(crate) unsafe fn with_metadata(self, range: PhysRange) -> Self {
        // INVARIANT: The caller promises that the range is memory of the device.
        Self { range, ..self }
    }
}

/// Memory of a device that the kernel can access. Dropping it unmaps the memory (sleeps; the caller
/// must not hold a lock of a filesystem).
///
/// The memory may begin with its own page structures, so only the data behind them can be read and
/// written. Other code may access the data at the same time, since user space can map it. So its
/// bytes are copied, and never borrowed.
///
/// # Invariants
///
/// The resources in `group` map `range.len()` bytes from `address` on. `data` is the last part of
/// `range`, mapped from `start` on, and contains no page structures.
///
/// # Examples
///
/// ```
/// use kernel::mm::device_memory::{DeviceMemory, PgmapParams, Reservation};
///
/// /// Maps all of a reserved range, with `struct page`s for all of it.
/// fn map(reservation: Reservation) -> Result<DeviceMemory<()>> {
///     let params = PgmapParams::for_range(reservation.range())?;
///     DeviceMemory::map_pages(reservation, params, 0, ())
/// }
/// ```
pub struct DeviceMemory<H: FailureHandler> {
    // The order of the fields is the order of release: the memory is unmapped, the pgmap is freed,
    // and the range is released.
    group: DevresGroup,
    pgmap: Option<KBox<MappedPgmap<H>>>,
    address: NonNull<u8>,
    range: PhysRange,
    start: NonNull<u8>,
    data: PhysRange,
    linear: bool,
    reservation: Reservation,
}

// SAFETY: Mapped memory is not tied to a thread, and nothing is acquired with the reservation any
// more, so its holder need not hold the device's lock.
unsafe impl<H: FailureHandler> Send for DeviceMemory<H> {}
// SAFETY: The bytes of the memory are copied and not borrowed, and the handler is `Sync`.
unsafe impl<H: FailureHandler> Sync for DeviceMemory<H> {}

impl<H: FailureHandler> DeviceMemory<H> {
    /// Maps the reserved range without pages, with the cache mode of persistent memory. All of it
    /// is data. C: `devm_memremap()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the range cannot be mapped; `ENOMEM`.
    #[doc(alias = "devm_memremap")]
    #[inline]
    pub fn map(reservation: Reservation) -> Result<Self> {
        let range = reservation.range;
        let map = |device: &Device| -> Result<*mut c_void> {
            // SAFETY: The device is valid and bound, and the range is reserved for it.
            from_err_ptr(unsafe {
                bindings::devm_memremap(
                    device.as_raw(),
                    range.start(),
                    usize::try_from(range.len())?,
                    bindings::ARCH_MEMREMAP_PMEM as _,
                )
            })
        };
        // SAFETY: By the reservation's invariants this thread holds the lock of the device. The
        // call adds one resource, which belongs to this driver, and opens no group.
        let (group, address) = unsafe { DevresGroup::acquire(reservation._group.device(), map) }?;
        Self::new(group, None, address, range, range, reservation)
    }

    /// Creates pages for the range of `params`, which must lie in the reservation, and maps them.
    /// The data begins `data_offset` bytes behind the start of that range. `handler` is called when
    /// memory turns bad. C: `devm_memremap_pages()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not in the reservation; `ENXIO` if there can be no data at that
    /// offset; and the errors of the pgmap registry.
    #[doc(alias = "devm_memremap_pages")]
    #[inline]
    pub fn map_pages(
        reservation: Reservation,
        params: PgmapParams,
        data_offset: u64,
        handler: H,
    ) -> Result<Self> {
        let reserved = reservation.range;
        let range = params
            .range()
            .filter(|range| reserved.contains(range.start()) && reserved.contains(range.end()))
            .ok_or(EINVAL)?;
        let data = params.data(data_offset).ok_or(ENXIO)?;
        let mapped = MappedPgmap::new(&params, handler)?;
        let pgmap = mapped.as_raw();
        let map = |device: &Device| {
            // SAFETY: The device is valid and bound. The pgmap is set up as the C header asks for,
            // and stays in place, on the heap, until the group has unmapped it.
            from_err_ptr(unsafe { bindings::devm_memremap_pages(device.as_raw(), pgmap) })
        };
        // SAFETY: By the reservation's invariants this thread holds the lock of the device. The
        // call adds resources of this driver only, and opens no group.
        let (group, address) = unsafe { DevresGroup::acquire(reservation._group.device(), map) }?;
        Self::new(group, Some(mapped), address, range, data, reservation)
    }

    /// Combines the results of mapping.
    #[inline]
    fn new(
        group: DevresGroup,
        pgmap: Option<KBox<MappedPgmap<H>>>,
        address: *mut c_void,
        range: PhysRange,
        data: PhysRange,
        reservation: Reservation,
    ) -> Result<Self> {
        // SAFETY: The function only compares the address.
        let linear = unsafe { !bindings::is_vmalloc_addr(address) };
        let address = NonNull::new(address.cast::<u8>()).ok_or(ENOMEM)?;
        // CAST: The range is mapped, so this is a difference of addresses.
        let offset = data.start().wrapping_sub(range.start()) as usize;
        let start = NonNull::new(address.as_ptr().wrapping_add(offset)).ok_or(ENOMEM)?;
        // INVARIANT: The callers have mapped the range from `address` on, and `PgmapParams::data`
        // has checked that the data contains no page structures.
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

    /// Returns the physical range that is mapped.
    #[inline]
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// Returns the physical range that is reserved, which contains the mapped one.
    #[inline]
    pub const fn reserved(&self) -> PhysRange {
        self.reservation.range
    }

    /// Returns the physical range of the data, which is the last part of what is mapped.
    #[inline]
    pub const fn data(&self) -> PhysRange {
        self.data
    }

    /// Returns the device that the memory belongs to.
    #[inline]
    pub fn device(&self) -> &Device {
        self.group.device()
    }

    /// Returns whether the memory has `struct page`s.
    #[inline]
    pub const fn has_pages(&self) -> bool {
        self.pgmap.is_some()
    }

    /// Returns the flags with which the PFNs of the memory are passed on as `pfn_t`.
    #[inline]
    pub fn pfn_flags(&self) -> PfnFlags {
        if self.has_pages() {
            PfnFlags::DEV | PfnFlags::MAP
        } else {
            PfnFlags::DEV
        }
    }

    /// Returns the address at which the data is mapped.
    #[cfg(CONFIG_RUST_DEV_DAX_FSDEV)]
    #[inline]
    pub(crate) const fn data_address(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the address at which the memory is mapped.
    #[inline]
    pub(crate) const fn address(&self) -> *mut c_void {
        self.address.as_ptr().cast()
    }
}
