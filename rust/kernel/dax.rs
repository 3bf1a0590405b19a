// SPDX-License-Identifier: GPL-2.0

//! DAX devices: memory that filesystems map and copy to and from without block I/O.
//!
//! To write the driver of a DAX device, do the following:
//!
//! 1. Implement [`Operations`] for the driver's data.
//! 2. Create a [`Registration`] with that data ([`Registration::new`]). The device is alive from
//!    then on, but filesystems do not find it yet.
//! 3. Set the properties of the device, [`Registration::device`].
//! 4. Register the device for a disk before the disk is added ([`Registration::add_host`]):
//!    filesystems on that disk find it.
//! 5. Drop the registration before the disk ([`GenDisk`](crate::block::disk::GenDisk)).
//!
//! ```text
//!  Registration::new --> Registration -- add_host() --> found by filesystems on that disk
//!                           |  dropped: 1. filesystems do not find the device any more
//!                           |           2. its holder is notified, new accesses fail, accesses in
//!                           |              progress end
//!                           |           3. the driver's data is dropped
//!                           +-- device(): Arc<DaxDevice>, which may outlive the registration
//! ```
//!
//! [`DaxDevice`] is the object, and [`Registration`] keeps it alive. They are separate because of
//! memory failures: these may occur as long as the memory has pages, and need the object even after
//! the device was killed.
//!
//! The types here that have direct C counterparts are:
//!
//! - [`Operations`]: `struct dax_operations`.
//! - [`DaxDevice`]: `struct dax_device`.
//! - [`AccessMode`]: `enum dax_access_mode`.
//!
//! A device of the dax bus (`dax0.0`) exists without its driver, so a driver of that bus serves its
//! memory in another way: [`bus`]. To be the holder of a DAX device, as a filesystem is, and to copy
//! from and to its memory, see [`Held`].
//!
//! This file encapsulates the reference to a `struct dax_device` and the private data of a live
//! one; `dax/access.rs` the output pointers of `->direct_access()`; `dax/table.rs` the calls of the
//! operations; `dax/read_guard.rs` the section in which a device stays alive. The reads and writes of
//! filesystems with DAX are in `fs/dax/`.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)
//!
//! # Examples
//!
//! A device that counts the accesses to another driver's memory:
//!
//! ```
//! use core::sync::atomic::{AtomicU64, Ordering};
//! use kernel::{
//!     block::disk::{self, GenDiskBuilder},
//!     dax::{self, Access, AccessMode, PageOffset, RecoveryWrite},
//!     sync::Arc,
//! };
//!
//! struct Counted<T> {
//!     lower: T,
//!     accesses: AtomicU64,
//! }
//!
//! impl<T: dax::Operations> dax::Operations for Counted<T> {
//!     fn direct_access(
//!         &self,
//!         at: PageOffset,
//!         pages: usize,
//!         mode: AccessMode,
//!     ) -> Result<Access<'_>> {
//!         self.accesses.fetch_add(1, Ordering::Relaxed);
//!         self.lower.direct_access(at, pages, mode)
//!     }
//!
//!     fn zero_page(&self, at: PageOffset) -> Result {
//!         self.lower.zero_page(at)
//!     }
//!
//!     fn recovery_write(&self, write: RecoveryWrite<'_>) -> usize {
//!         self.lower.recovery_write(write)
//!     }
//! }
//!
//! /// Makes the DAX device of a disk that is not added yet.
//! fn register<T: dax::Operations, D: disk::Operations>(
//!     lower: T,
//!     disk: &GenDiskBuilder<D>,
//! ) -> Result<dax::Registration<Counted<T>>> {
//!     let data = Arc::new(Counted { lower, accesses: AtomicU64::new(0) }, GFP_KERNEL)?;
//!     let mut dax = dax::Registration::new(data)?;
//!     dax.device().set_synchronous();
//!     dax.add_host(disk)?;
//!     Ok(dax)
//! }
//! ```

mod access;
#[cfg(CONFIG_RUST_DEV_DAX_FSDEV)]
pub mod bus;
#[cfg(CONFIG_RUST_DEV_DAX_FSDEV)]
mod holder;
mod read_guard;
mod table;

pub use access::{call_direct_access, Access, AccessMode, PageOffset, RecoveryWrite};

#[cfg(CONFIG_RUST_DEV_DAX_FSDEV)]
pub use holder::{DeviceNumber, Held, HeldMemory, HolderOperations, Live, FLAG_REMOVED};
pub use read_guard::ReadGuard;

pub(crate) use access::serve_direct_access;

use crate::{
    bindings,
    block::disk::{GenDiskBuilder, Operations as DiskOperations},
    device::Device,
    error::{code::EINVAL, from_err_ptr, to_result, Result},
    ffi::c_void,
    prelude::*,
    sync::{Arc, UniqueArc},
    types::ARef,
};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use table::{DataSource, Table};

/// The operations of the driver of a DAX device. C: `struct dax_operations`.
///
/// They are called only while the device is alive, and may sleep.
#[doc(alias = "dax_operations")]
pub trait Operations: Send + Sync + Sized + 'static {
    /// Returns access to the memory from the page `at` on.
    ///
    /// The caller wants `pages` pages; the driver may return more or fewer. The access stays valid
    /// as long as the driver's data, and so as long as the device is alive.
    ///
    /// # Errors
    ///
    /// `EHWPOISON` if some of the pages are bad, unless the access is for [`AccessMode::Recovery`].
    fn direct_access(&self, at: PageOffset, pages: usize, mode: AccessMode) -> Result<Access<'_>>;

    /// Fills the page `at` with zeroes. C: `->zero_page_range()`.
    fn zero_page(&self, at: PageOffset) -> Result;

    /// Overwrites memory that may be bad, and returns the number of bytes written. C:
    /// `->recovery_write()`.
    fn recovery_write(&self, write: RecoveryWrite<'_>) -> usize;
}

/// A DAX device, which may be alive or dead. C: `struct dax_device`.
///
/// # Invariants
///
/// The pointer is a valid device, and this value owns the reference of its creator.
///
/// # Examples
///
/// ```
/// use kernel::dax::DaxDevice;
///
/// /// Sets the properties of persistent memory.
/// fn set_up(device: &DaxDevice, needs_flush: bool) {
///     device.set_nocache();
///     device.set_nomc();
///     device.set_synchronous();
///     device.set_write_cache(needs_flush);
/// }
/// ```
#[doc(alias = "dax_device")]
pub struct DaxDevice(NonNull<bindings::dax_device>);

// SAFETY: A reference to a DAX device is not bound to a task, so any thread may drop it.
unsafe impl Send for DaxDevice {}
// SAFETY: The methods that take a shared reference change the flags of the device atomically, or
// call functions that lock.
unsafe impl Sync for DaxDevice {}

impl DaxDevice {
    /// Returns the device as C functions take it.
    #[inline]
    fn as_raw(&self) -> *mut bindings::dax_device {
        self.0.as_ptr()
    }

    /// Makes copies to the device bypass the CPU caches. C: `set_dax_nocache()`.
    #[doc(alias = "set_dax_nocache")]
    #[inline]
    pub fn set_nocache(&self) {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::set_dax_nocache(self.as_raw()) };
    }

    /// Makes copies from the device handle machine checks. C: `set_dax_nomc()`.
    #[doc(alias = "set_dax_nomc")]
    #[inline]
    pub fn set_nomc(&self) {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::set_dax_nomc(self.as_raw()) };
    }

    /// Allows mappings with `MAP_SYNC`. C: `set_dax_synchronous()`.
    #[doc(alias = "set_dax_synchronous")]
    #[inline]
    pub fn set_synchronous(&self) {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::set_dax_synchronous(self.as_raw()) };
    }

    /// Sets whether the CPU caches must be written back to make data durable. C:
    /// `dax_write_cache()`.
    #[doc(alias = "dax_write_cache")]
    #[inline]
    pub fn set_write_cache(&self, on: bool) {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::dax_write_cache(self.as_raw(), on) };
    }

    /// Returns whether the CPU caches must be written back to make data durable. C:
    /// `dax_write_cache_enabled()`.
    #[doc(alias = "dax_write_cache_enabled")]
    #[inline]
    pub fn has_write_cache(&self) -> bool {
        // SAFETY: By the type invariants the device is valid.
        unsafe { bindings::dax_write_cache_enabled(self.as_raw()) }
    }

    /// Notifies the holder, the filesystem on the device, that `len` bytes from `offset` on are
    /// bad. `flags` are those of `memory_failure()`. Sleeps.
    ///
    /// C: `dax_holder_notify_failure()`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if there is no holder that handles failures; `ENXIO` if the device is dead;
    /// those of the holder.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{dax::DaxDevice, page::PAGE_SIZE};
    ///
    /// /// Reports a bad page, and returns whether a filesystem has handled it.
    /// fn report(device: &DaxDevice, page: u64) -> Result<bool> {
    ///     let size = PAGE_SIZE as u64;
    ///     let offset = page.checked_mul(size).ok_or(EINVAL)?;
    ///     match device.notify_failure(offset, size, 0) {
    ///         Ok(()) => Ok(true),
    ///         Err(error) if error == EOPNOTSUPP => Ok(false),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    #[doc(alias = "dax_holder_notify_failure")]
    #[inline]
    pub fn notify_failure(&self, offset: u64, len: u64, flags: i32) -> Result {
        // SAFETY: By the type invariants the device is valid. The function checks whether it is
        // alive and has a holder.
        to_result(unsafe { bindings::dax_holder_notify_failure(self.as_raw(), offset, len, flags) })
    }
}

impl Drop for DaxDevice {
    /// Drops the reference. C: `put_dax()`.
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants this value owns the reference, and it is not used after
        // this.
        unsafe { bindings::put_dax(self.as_raw()) };
    }
}

/// A live DAX device. Dropping it kills the device. Sleeps. C: `kill_dax()`.
///
/// # Invariants
///
/// `device` is alive, its operations are those of `T` and its private data is `data`, which
/// `Arc::into_raw` returned. `host` is the disk for which the device is registered, if any.
///
/// # Examples
///
/// ```
/// use kernel::{block::disk, dax};
///
/// /// A disk with a DAX device. The fields are dropped in this order: first the DAX device.
/// struct Attached<T: dax::Operations + disk::Operations> {
///     _dax: dax::Registration<T>,
///     disk: disk::GenDisk<T>,
/// }
/// ```
#[doc(alias = "kill_dax")]
pub struct Registration<T: Operations> {
    device: ManuallyDrop<Arc<DaxDevice>>,
    data: *const T,
    host: Option<Host>,
    _data: PhantomData<Arc<T>>,
}

/// The disk through which filesystems find a DAX device.
///
/// # Invariants
///
/// `disk` is valid as long as `_device`, its device, is referenced.
struct Host {
    disk: NonNull<bindings::gendisk>,
    _device: ARef<Device>,
}

// SAFETY: A DAX device may be killed by any task, and the data is `Send`.
unsafe impl<T: Operations> Send for Registration<T> {}
// SAFETY: A shared reference gives access to the `DaxDevice` only, and that is `Sync`.
unsafe impl<T: Operations> Sync for Registration<T> {}

impl<T: Operations> Registration<T> {
    /// Creates a live device with this data. Sleeps. C: `alloc_dax()`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the CPU caches do not allow DAX; `ENOMEM`.
    #[doc(alias = "alloc_dax")]
    #[inline]
    pub fn new(data: Arc<T>) -> Result<Self> {
        // The allocation comes first, because a device without an owner would have to be killed.
        let slot = UniqueArc::<DaxDevice>::new_uninit(GFP_KERNEL)?;
        let data = Arc::into_raw(data);
        // SAFETY: The data stays valid until the device was killed, because dropping the
        // registration does that first. The table is a constant.
        let device = from_err_ptr(unsafe {
            bindings::alloc_dax(
                data.cast_mut().cast(),
                const { &Table::<T, Registered>::OPERATIONS },
            )
        });
        match device.and_then(|device| NonNull::new(device).ok_or(EINVAL)) {
            // INVARIANT: Devices are created alive, and this one with these operations and data.
            Ok(device) => Ok(Self {
                device: ManuallyDrop::new(slot.write(DaxDevice(device)).into()),
                data,
                host: None,
                _data: PhantomData,
            }),
            Err(error) => {
                // SAFETY: The pointer came from `into_raw`, and without a device nothing uses it.
                drop(unsafe { Arc::from_raw(data) });
                Err(error)
            }
        }
    }

    /// Returns the device.
    #[inline]
    pub fn device(&self) -> &Arc<DaxDevice> {
        &self.device
    }

    /// Registers the device for a disk, so that filesystems on the disk find it. Sleeps.
    ///
    /// C: `dax_add_host()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device has a disk already, or the disk a device; `ENOMEM`.
    #[doc(alias = "dax_add_host")]
    #[inline]
    pub fn add_host<D: DiskOperations>(&mut self, disk: &GenDiskBuilder<D>) -> Result {
        if self.host.is_some() {
            return Err(EBUSY);
        }
        let disk = disk.as_raw();
        #[cfg(CONFIG_FS_DAX)]
        // SAFETY: Both are valid. The disk stays valid until it is removed as a host, because the
        // reference to its device that is taken below is dropped after that.
        to_result(unsafe { bindings::dax_add_host(self.device.as_raw(), disk) })?;
        // SAFETY: The disk is valid, so it has a first partition with a device, which is referenced
        // as long as the disk is.
        let device =
            unsafe { Device::get_device(core::ptr::addr_of_mut!((*(*disk).part0).bd_device)) };
        // INVARIANT: The device was just registered for the disk, which stays valid while its
        // device is referenced.
        self.host = NonNull::new(disk).map(|disk| Host {
            disk,
            _device: device,
        });
        Ok(())
    }
}

/// The data of a [`Registration`].
struct Registered;

// SAFETY: A device with the operations of this source was created by `Registration::new`. So its
// private data is null, because the device is dead, or that of an `Arc`, which is dropped only after
// the device was killed.
unsafe impl<T: Operations> DataSource<T> for Registered {
    #[inline]
    unsafe fn data(private: *mut c_void) -> *const T {
        private.cast()
    }
}

impl<T: Operations> Drop for Registration<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            #[cfg(CONFIG_FS_DAX)]
            // SAFETY: By the type invariants the device is registered for this disk, and the disk
            // is valid while its device is referenced.
            unsafe {
                bindings::dax_remove_host(host.disk.as_ptr())
            };
            #[cfg(not(CONFIG_FS_DAX))]
            let _ = host.disk;
        }
        // SAFETY: By the type invariants the device is alive, so it can be killed.
        unsafe { bindings::kill_dax(self.device.as_raw()) };
        // SAFETY: The field is dropped only here, and not used after this. The device was killed,
        // so dropping the last reference is allowed.
        unsafe { ManuallyDrop::drop(&mut self.device) };
        // SAFETY: The pointer came from `into_raw`. The device is dead, and killing it has waited
        // for its operations, so nothing uses the data.
        drop(unsafe { Arc::from_raw(self.data) });
    }
}
