// SPDX-License-Identifier: GPL-2.0

//! The table of operations that C calls, and the way from a device to the data of its driver.
//!
//! A [`Registration`](super::Registration) keeps the data in the device. A device of the
//! [dax bus](super::bus) leads to the data through the device that the driver is bound to. The table is
//! the same for both; a [`DataSource`] is the difference.
//!
//! This file encapsulates the raw arguments of the operations.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use super::{serve_direct_access, AccessMode, Operations, PageOffset, RecoveryWrite};
use crate::{
    bindings,
    error::{
        code::{EINVAL, ENXIO},
        from_result, Result,
    },
    ffi::{c_int, c_long, c_ulong, c_void},
};
use core::marker::PhantomData;

/// The way from the private data of a DAX device to the data of its driver.
///
/// # Safety
///
/// What `data` returns for a device with the operations of [`Table`] with this source must be null or
/// valid until the device was killed.
pub(super) unsafe trait DataSource<T> {
    /// Returns the driver's data, or null if there is none any more.
    ///
    /// # Safety
    ///
    /// `private` must be the private data, not null, of a device that has the operations of [`Table`]
    /// with this source and is alive for the call.
    unsafe fn data(private: *mut c_void) -> *const T;
}

/// The operations of devices whose data is of the type `T`, and found by `S`.
pub(super) struct Table<T, S>(PhantomData<(T, S)>);

impl<T: Operations, S: DataSource<T>> Table<T, S> {
    /// The table that C calls.
    pub(super) const OPERATIONS: bindings::dax_operations = bindings::dax_operations {
        direct_access: Some(Self::direct_access),
        dax_supported: None,
        zero_page_range: Some(Self::zero_page_range),
        recovery_write: Some(Self::recovery_write),
    };

    /// Returns the driver's data of a device.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the device has no data any more.
    ///
    /// # Safety
    ///
    /// `device` must be a device with the operations of this table that is alive for `'a`.
    #[inline]
    unsafe fn data<'a>(device: *mut bindings::dax_device) -> Result<&'a T> {
        // SAFETY: The caller guarantees a valid device, as the function requires.
        let private = unsafe { bindings::dax_get_private(device) };
        if private.is_null() {
            return Err(ENXIO);
        }
        // SAFETY: The caller guarantees that the device has the operations of this table and is alive
        // for `'a`, and the source that the data is null or valid for as long.
        unsafe { S::data(private).as_ref() }.ok_or(ENXIO)
    }

    /// Returns access to memory. C: `->direct_access()`.
    ///
    /// # Safety
    ///
    /// `device` must be alive for the call, with the operations of this table. `kaddr` and `pfn` must
    /// each be null or valid for writes.
    unsafe extern "C" fn direct_access(
        device: *mut bindings::dax_device,
        pgoff: c_ulong,
        pages: c_long,
        mode: bindings::dax_access_mode,
        kaddr: *mut *mut c_void,
        pfn: *mut bindings::pfn_t,
    ) -> c_long {
        // SAFETY: The caller guarantees that the device has these operations and is alive.
        let data = unsafe { Self::data(device) };
        let at = PageOffset::new(pgoff as u64);
        let mode = AccessMode::from_raw(mode);
        // SAFETY: The caller guarantees that both pointers are null or valid for writes.
        unsafe {
            serve_direct_access(
                pages,
                |pages| data?.direct_access(at, pages, mode),
                kaddr,
                pfn,
            )
        }
    }

    /// Fills pages with zeroes, one by one. C: `->zero_page_range()`.
    ///
    /// # Safety
    ///
    /// `device` must be alive for the call, with the operations of this table.
    unsafe extern "C" fn zero_page_range(
        device: *mut bindings::dax_device,
        pgoff: c_ulong,
        pages: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The caller guarantees that the device has these operations and is alive.
            let data = unsafe { Self::data(device) }?;
            let first = pgoff as u64;
            let end = first.checked_add(pages as u64).ok_or(EINVAL)?;
            for page in first..end {
                data.zero_page(PageOffset::new(page))?;
            }
            Ok(0)
        })
    }

    /// Overwrites memory that may be bad. C: `->recovery_write()`.
    ///
    /// # Safety
    ///
    /// `device` must be alive for the call, with the operations of this table. `address` must be what
    /// `->direct_access()` returned for the page `pgoff`, plus an offset into that page, with `len`
    /// bytes accessible from there on; `data` must be a valid iterator that nothing else uses.
    unsafe extern "C" fn recovery_write(
        device: *mut bindings::dax_device,
        pgoff: c_ulong,
        address: *mut c_void,
        len: usize,
        data: *mut bindings::iov_iter,
    ) -> usize {
        let at = PageOffset::new(pgoff as u64);
        // SAFETY: The caller guarantees that the address was returned for that page, with `len`
        // bytes accessible, and that the iterator is valid and not shared.
        let write = unsafe { RecoveryWrite::new(at, address, len, data) };
        // SAFETY: The caller guarantees that the device has these operations and is alive.
        unsafe { Self::data(device) }.map_or(0, |data| data.recovery_write(write))
    }
}
