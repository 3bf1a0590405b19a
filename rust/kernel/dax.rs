// SPDX-License-Identifier: GPL-2.0

//! DAX devices: memory that a filesystem maps and copies from without I/O.
//!
//! ```text
//!  Registration::new --> Registration -- add_host() --> found by filesystems on that disk
//!                           |  dropped: 1. no filesystem finds it any more
//!                           |           2. the holder is told, new access fails, old access is over
//!                           |           3. the driver's data is dropped
//!                           +-- device(): Arc<DaxDevice>, which may stay longer
//! ```
//!
//! [`DaxDevice`] is the object, [`Registration`] what makes it answer. The split is for whoever
//! reports memory failures: they may come as long as the memory has pages, and then the object has
//! to be there, while nobody may get access any more.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

mod access;

pub use access::{call_direct_access, Access, AccessMode, PageOffset, RecoveryWrite};

pub(crate) use access::serve_direct_access;

use crate::{
    bindings,
    block::disk::{GenDiskBuilder, Operations as DiskOperations},
    device::Device,
    error::{code::EINVAL, from_err_ptr, from_result, to_result, Result},
    ffi::{c_int, c_long, c_ulong, c_void},
    prelude::*,
    sync::{Arc, UniqueArc},
    types::ARef,
};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};

/// What the driver of a DAX device does. C: `struct dax_operations`.
///
/// All of them are called while the device is alive only, and may sleep.
#[doc(alias = "dax_operations")]
pub trait Operations: Send + Sync + Sized + 'static {
    /// Memory from the page `at` on, of which `pages` are wanted; more and less of them are fine.
    /// It stays as long as the driver's data, and so as long as the device is alive.
    ///
    /// # Errors
    ///
    /// `EHWPOISON` if some of it is bad, unless the access is for [`AccessMode::Recovery`].
    fn direct_access(&self, at: PageOffset, pages: usize, mode: AccessMode) -> Result<Access<'_>>;

    /// Fills a page with zeroes.
    fn zero_page(&self, at: PageOffset) -> Result;

    /// Writes over bad memory, and returns how many bytes were written. See [`RecoveryWrite`].
    fn recovery_write(&self, write: RecoveryWrite<'_>) -> usize;
}

/// A DAX device, alive or not. C: `struct dax_device`.
///
/// # Invariants
///
/// A valid device, to which we have the one reference of whoever made it.
#[doc(alias = "dax_device")]
pub struct DaxDevice(NonNull<bindings::dax_device>);

// SAFETY: A DAX device has no thread of its own; its flags are atomic.
unsafe impl Send for DaxDevice {}
// SAFETY: As for `Send`.
unsafe impl Sync for DaxDevice {}

impl DaxDevice {
    #[inline]
    fn as_raw(&self) -> *mut bindings::dax_device {
        self.0.as_ptr()
    }

    /// Data that is copied to it goes past the CPU's caches. C: `set_dax_nocache()`.
    #[doc(alias = "set_dax_nocache")]
    #[inline]
    pub fn set_nocache(&self) {
        // SAFETY: By the invariant the device is valid.
        unsafe { bindings::set_dax_nocache(self.as_raw()) };
    }

    /// Data that is copied from it may turn out to be bad. C: `set_dax_nomc()`.
    #[doc(alias = "set_dax_nomc")]
    #[inline]
    pub fn set_nomc(&self) {
        // SAFETY: By the invariant the device is valid.
        unsafe { bindings::set_dax_nomc(self.as_raw()) };
    }

    /// It may be mapped with `MAP_SYNC`. C: `set_dax_synchronous()`.
    #[doc(alias = "set_dax_synchronous")]
    #[inline]
    pub fn set_synchronous(&self) {
        // SAFETY: By the invariant the device is valid.
        unsafe { bindings::set_dax_synchronous(self.as_raw()) };
    }

    /// Whether the CPU's caches have to be written back for data to be durable. C:
    /// `dax_write_cache()`.
    #[doc(alias = "dax_write_cache")]
    #[inline]
    pub fn set_write_cache(&self, on: bool) {
        // SAFETY: By the invariant the device is valid.
        unsafe { bindings::dax_write_cache(self.as_raw(), on) };
    }

    /// Whether they have to. C: `dax_write_cache_enabled()`.
    #[doc(alias = "dax_write_cache_enabled")]
    #[inline]
    pub fn has_write_cache(&self) -> bool {
        // SAFETY: By the invariant the device is valid.
        unsafe { bindings::dax_write_cache_enabled(self.as_raw()) }
    }

    /// Tells the filesystem on it that bytes of it are bad. Sleeps. C:
    /// `dax_holder_notify_failure()`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if nobody wants to know; `ENXIO` if the device is dead; what the filesystem
    /// answers.
    #[doc(alias = "dax_holder_notify_failure")]
    #[inline]
    pub fn notify_failure(&self, offset: u64, len: u64, flags: i32) -> Result {
        // SAFETY: By the invariant the device is valid.
        to_result(unsafe { bindings::dax_holder_notify_failure(self.as_raw(), offset, len, flags) })
    }
}

impl Drop for DaxDevice {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::put_dax(self.as_raw()) };
    }
}

/// A DAX device that is alive. Dropping it kills the device (sleeps). C: `kill_dax()`.
///
/// # Invariants
///
/// `device` is alive, its operations are those of `T` and its private data is `data`, which
/// `Arc::into_raw` returned. `host` is a disk with which it is registered.
pub struct Registration<T: Operations> {
    device: ManuallyDrop<Arc<DaxDevice>>,
    data: *const T,
    host: Option<Host>,
    _data: PhantomData<Arc<T>>,
}

/// A disk that filesystems find the device by.
///
/// # Invariants
///
/// `disk` is valid as long as `_device`, its device, is.
struct Host {
    disk: NonNull<bindings::gendisk>,
    _device: ARef<Device>,
}

// SAFETY: A DAX device has no thread of its own, and the data is `Send`.
unsafe impl<T: Operations> Send for Registration<T> {}
// SAFETY: Nothing is changed through a shared reference.
unsafe impl<T: Operations> Sync for Registration<T> {}

impl<T: Operations> Registration<T> {
    const TABLE: bindings::dax_operations = bindings::dax_operations {
        direct_access: Some(Self::direct_access),
        dax_supported: None,
        zero_page_range: Some(Self::zero_page_range),
        recovery_write: Some(Self::recovery_write),
    };

    /// Makes a device with this data. Sleeps. C: `alloc_dax()`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the caches of the CPU do not allow it; `ENOMEM`.
    #[doc(alias = "alloc_dax")]
    #[inline]
    pub fn new(data: Arc<T>) -> Result<Self> {
        // First, because a device without an owner would have to be killed.
        let slot = UniqueArc::<DaxDevice>::new_uninit(GFP_KERNEL)?;
        let data = Arc::into_raw(data);
        // SAFETY: The data stays until the device was killed; the table is never freed.
        let device = from_err_ptr(unsafe {
            bindings::alloc_dax(data.cast_mut().cast(), const { &Self::TABLE })
        });
        match device.and_then(|device| NonNull::new(device).ok_or(EINVAL)) {
            // INVARIANT: Devices are made alive.
            Ok(device) => Ok(Self {
                device: ManuallyDrop::new(slot.write(DaxDevice(device)).into()),
                data,
                host: None,
                _data: PhantomData,
            }),
            Err(error) => {
                // SAFETY: It came from `into_raw`, and nobody has it.
                drop(unsafe { Arc::from_raw(data) });
                Err(error)
            }
        }
    }

    /// The device.
    #[inline]
    pub fn device(&self) -> &Arc<DaxDevice> {
        &self.device
    }

    /// Lets filesystems on the disk find it. Sleeps. C: `dax_add_host()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the disk or this has another already; `ENOMEM`.
    #[doc(alias = "dax_add_host")]
    #[inline]
    pub fn add_host<D: DiskOperations>(&mut self, disk: &GenDiskBuilder<D>) -> Result {
        if self.host.is_some() {
            return Err(EBUSY);
        }
        let disk = disk.as_raw();
        #[cfg(CONFIG_FS_DAX)]
        // SAFETY: Both are valid; the disk is until it is removed as a host, because we keep its
        // device.
        to_result(unsafe { bindings::dax_add_host(self.device.as_raw(), disk) })?;
        // SAFETY: A valid disk has a device.
        let device =
            unsafe { Device::get_device(core::ptr::addr_of_mut!((*(*disk).part0).bd_device)) };
        // INVARIANT: Just registered.
        self.host = NonNull::new(disk).map(|disk| Host {
            disk,
            _device: device,
        });
        Ok(())
    }

    /// The data of a device with these operations.
    ///
    /// # Safety
    ///
    /// `device` has these operations and is alive for `'a`.
    #[inline]
    unsafe fn data<'a>(device: *mut bindings::dax_device) -> Result<&'a T> {
        // SAFETY: The caller's promise.
        let data = unsafe { bindings::dax_get_private(device) }.cast::<T>();
        // SAFETY: What is not null is what `new` has put there: data of an `Arc` that is dropped
        // after the device is dead.
        unsafe { data.as_ref() }.ok_or(ENXIO)
    }

    /// # Safety
    ///
    /// C calls it with a device of these operations that is alive.
    unsafe extern "C" fn direct_access(
        device: *mut bindings::dax_device,
        pgoff: c_ulong,
        pages: c_long,
        mode: bindings::dax_access_mode,
        kaddr: *mut *mut c_void,
        pfn: *mut bindings::pfn_t,
    ) -> c_long {
        // SAFETY: The caller's promise.
        let data = unsafe { Self::data(device) };
        // SAFETY: The places are null or valid.
        unsafe {
            serve_direct_access(
                pages,
                |pages| {
                    data?.direct_access(
                        PageOffset::new(pgoff as u64),
                        pages,
                        AccessMode::from_raw(mode),
                    )
                },
                kaddr,
                pfn,
            )
        }
    }

    /// # Safety
    ///
    /// As for `direct_access`.
    unsafe extern "C" fn zero_page_range(
        device: *mut bindings::dax_device,
        pgoff: c_ulong,
        pages: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The caller's promise.
            let data = unsafe { Self::data(device) }?;
            let first = pgoff as u64;
            let end = first.checked_add(pages as u64).ok_or(EINVAL)?;
            for page in first..end {
                data.zero_page(PageOffset::new(page))?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for `direct_access`; `address` is what that has given for the page, and `data` has `len`
    /// bytes.
    unsafe extern "C" fn recovery_write(
        device: *mut bindings::dax_device,
        pgoff: c_ulong,
        address: *mut c_void,
        len: usize,
        data: *mut bindings::iov_iter,
    ) -> usize {
        let at = PageOffset::new(pgoff as u64);
        // SAFETY: The caller's promise.
        let write = unsafe { RecoveryWrite::new(at, address, len, data) };
        // SAFETY: The caller's promise.
        unsafe { Self::data(device) }.map_or(0, |data| data.recovery_write(write))
    }
}

impl<T: Operations> Drop for Registration<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            #[cfg(CONFIG_FS_DAX)]
            // SAFETY: By the invariant it was added, and is valid.
            unsafe {
                bindings::dax_remove_host(host.disk.as_ptr())
            };
            #[cfg(not(CONFIG_FS_DAX))]
            let _ = host.disk;
        }
        // SAFETY: By the invariant the device is alive.
        unsafe { bindings::kill_dax(self.device.as_raw()) };
        // SAFETY: This comes once. If it is the last reference, the device was killed before.
        unsafe { ManuallyDrop::drop(&mut self.device) };
        // SAFETY: It came from `into_raw`, and the device is dead: no operation has it.
        drop(unsafe { Arc::from_raw(self.data) });
    }
}
