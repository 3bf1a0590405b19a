// SPDX-License-Identifier: GPL-2.0

//! The holder of a DAX device: the one user that copies from and to its memory.
//!
//! A filesystem is the holder of the device that it is on. One without a block device, such as famfs,
//! knows the number of a character device (`/dev/dax0.0`), whose driver must be fsdev_dax. To use the
//! memory of a DAX device, a module does the following:
//!
//! 1. It implements [`HolderOperations`], by which it learns of memory that turns bad, and that the
//!    device goes away.
//! 2. It becomes the holder ([`Held::new`]). There is one at a time.
//! 3. For each use of the memory it opens a section ([`Held::live`]), and asks for the memory of a range
//!    of pages ([`Live::direct_access`]). Both end at once if the device was removed.
//! 4. It copies ([`HeldMemory::read`], [`HeldMemory::write`]) and makes what it has written durable
//!    ([`HeldMemory::flush`]).
//! 5. It drops the [`Held`].
//!
//! ```text
//!  Held::new() ----------------------------------------------------> dropped: another may hold it
//!      |-- live() ---> Live ---------------------------> dropped: the device may be killed
//!                       |-- direct_access() --> HeldMemory: read, write, flush
//! ```
//!
//! A holder may outlive the binding of the device's driver, and even see the device bound again: it is
//! not its holder then, and [`Held::live`] fails. The section and that question belong together: a driver
//! that unbinds takes the holder away, and then waits for all sections that may have seen it.
//!
//! This file encapsulates the reference to the device, the address by which C knows the holder, and
//! reads and writes of device memory by address.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use super::{call_direct_access, Access, AccessMode, DaxDevice, PageOffset, ReadGuard};
use crate::{
    bindings,
    error::{
        code::{EFAULT, EINVAL, EIO, ENODEV, ENXIO, EOPNOTSUPP},
        from_result, to_result, Result,
    },
    ffi::{c_int, c_uint, c_void},
    mm::pfn_t::PfnT,
    page::PAGE_SIZE,
    prelude::*,
};
use core::{marker::PhantomData, ptr::NonNull};

/// The number of a device. C: `dev_t`.
///
/// # Examples
///
/// ```
/// use kernel::dax::DeviceNumber;
///
/// assert!(DeviceNumber::new(250, 3).is_some());
/// assert!(DeviceNumber::new(1 << 12, 0).is_none());
/// assert!(DeviceNumber::new(0, 1 << 20).is_none());
/// ```
#[doc(alias = "dev_t")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceNumber(bindings::dev_t);

impl DeviceNumber {
    /// Returns the number with this major (below 4,096) and minor (below 1,048,576), or `None` if there
    /// is none. C: `MKDEV()`.
    #[doc(alias = "MKDEV")]
    pub const fn new(major: u32, minor: u32) -> Option<Self> {
        const MINOR_BITS: u32 = 20;
        if major >= 1 << (u32::BITS - MINOR_BITS) || minor >= 1 << MINOR_BITS {
            return None;
        }
        Some(Self((major << MINOR_BITS) | minor))
    }

    /// Creates the number from C's.
    pub(super) const fn from_raw(number: bindings::dev_t) -> Self {
        Self(number)
    }
}

impl DaxDevice {
    /// Returns the device with this number, with a reference of its own. Sleeps. C: `dax_dev_find()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if no DAX device has the number.
    pub(super) fn find(number: DeviceNumber) -> Result<Self> {
        // SAFETY: The function looks the number up, and returns null or a reference.
        let device = unsafe { bindings::dax_dev_find(number.0) };
        // INVARIANT: The device was returned with a reference, which the value owns.
        NonNull::new(device).map(Self).ok_or(ENODEV)
    }
}

/// What the holder of a DAX device does when its memory fails. C: `struct dax_holder_operations`.
#[doc(alias = "dax_holder_operations")]
pub trait HolderOperations: Send + Sync + 'static {
    /// Handles a failure of `len` bytes from byte `offset` of the device on. `flags` are those of
    /// `memory_failure()`. May sleep, but must not drop or make a [`Held`].
    ///
    /// [`FLAG_REMOVED`] is set when all of the device goes away; it is alive until this returns.
    ///
    /// C: `->notify_failure()`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` leaves it to the common handler, which kills the tasks that have the pages mapped.
    fn notify_failure(&self, offset: u64, len: u64, flags: i32) -> Result;
}

/// The flag of a failure that is none: the device is being removed. C: `MF_MEM_PRE_REMOVE`.
#[doc(alias = "MF_MEM_PRE_REMOVE")]
pub const FLAG_REMOVED: i32 = bindings::mf_flags_MF_MEM_PRE_REMOVE as i32;

/// What C knows as the holder: the address of this.
struct Holder<T> {
    operations: T,
    /// Without this, the holders of a type without fields would have one address.
    _address: u8,
}

/// A DAX device of which this value is the holder. Dropping it (sleeps) makes way for another.
///
/// # Invariants
///
/// `device` is referenced, and that reference is the one of `fs_dax_get()`. C calls the operations of
/// `Self::TABLE` with `holder` for as long as the device has it as its holder.
///
/// # Examples
///
/// ```
/// use kernel::dax::{DeviceNumber, Held, HolderOperations, PageOffset};
///
/// struct Ignore;
///
/// impl HolderOperations for Ignore {
///     fn notify_failure(&self, _offset: u64, _len: u64, _flags: i32) -> Result {
///         Err(EOPNOTSUPP)
///     }
/// }
///
/// /// Copies the first bytes of a device.
/// fn read_start(number: DeviceNumber, to: &mut [u8]) -> Result {
///     let held = Held::new(number, Ignore)?;
///     held.live()?.direct_access(PageOffset::new(0), 1)?.read(0, to)
/// }
///
/// let free = DeviceNumber::new(4095, 1).ok_or(EINVAL)?;
/// assert_eq!(read_start(free, &mut [0; 8]), Err(ENODEV));
/// # Ok::<(), Error>(())
/// ```
pub struct Held<T: HolderOperations> {
    device: NonNull<bindings::dax_device>,
    holder: NonNull<Holder<T>>,
    _holder: PhantomData<KBox<Holder<T>>>,
}

// SAFETY: The holder is not bound to a task, and its operations are `Send`.
unsafe impl<T: HolderOperations> Send for Held<T> {}
// SAFETY: A shared reference opens sections, which are of the task that does, and the operations are
// `Sync`.
unsafe impl<T: HolderOperations> Sync for Held<T> {}

impl<T: HolderOperations> Held<T> {
    const TABLE: bindings::dax_holder_operations = bindings::dax_holder_operations {
        notify_failure: Some(Self::notify_failure),
    };

    /// Becomes the holder of the device with this number. Sleeps. C: `fs_dax_get()`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such DAX device, or no driver is bound to it; `EOPNOTSUPP` if its driver
    /// has no operations, as device_dax and kmem; `EBUSY` if it has a holder; `ENOMEM`.
    #[doc(alias = "fs_dax_get")]
    pub fn new(number: DeviceNumber, operations: T) -> Result<Self> {
        let device = DaxDevice::find(number)?;
        let holder = KBox::into_raw(KBox::new(
            Holder {
                operations,
                _address: 0,
            },
            GFP_KERNEL,
        )?);
        // SAFETY: The device is valid. The holder is on the heap and stays until the device does not
        // know it any more, and the table is a constant.
        let taken = to_result(unsafe {
            bindings::fs_dax_get(device.as_raw(), holder.cast(), const { &Self::TABLE })
        });
        match (taken, NonNull::new(holder)) {
            // INVARIANT: The device was just taken, for which it was referenced.
            (Ok(()), Some(holder)) => Ok(Self {
                device: device.0,
                holder,
                _holder: PhantomData,
            }),
            (taken, _) => {
                // SAFETY: The pointer came from `into_raw`, and the device does not know it.
                drop(unsafe { KBox::from_raw(holder) });
                taken.and(Err(EINVAL))
            }
        }
    }

    /// Returns what the holder does when memory fails.
    pub fn operations(&self) -> &T {
        // SAFETY: The holder is on the heap until the value is dropped.
        &unsafe { self.holder.as_ref() }.operations
    }

    /// Opens a section in which the device is alive. Any context in which the caller may sleep.
    ///
    /// # Errors
    ///
    /// `ENXIO` if this is not the holder any more, because the device was removed or its driver unbound.
    pub fn live(&self) -> Result<Live<'_>> {
        let guard = ReadGuard::new();
        // SAFETY: By the type invariants the device is valid.
        let holder = unsafe { bindings::dax_holder(self.device.as_ptr()) };
        if holder != self.holder.as_ptr().cast() {
            return Err(ENXIO);
        }
        // INVARIANT: The section is open, and the device had this holder in it. So the operations which
        // the device has now are those that it had when it was taken, and stay until the section ends:
        // a driver takes the holder away and waits for open sections before it takes the operations.
        Ok(Live {
            device: self.device,
            _guard: guard,
            _held: PhantomData,
        })
    }

    /// Calls [`HolderOperations::notify_failure`].
    ///
    /// # Safety
    ///
    /// `device` must be a device that a value of this type holds, or has held in the section of
    /// `dax_read_lock()` in which this is called.
    unsafe extern "C" fn notify_failure(
        device: *mut bindings::dax_device,
        offset: u64,
        len: u64,
        flags: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The caller guarantees a valid device.
            let holder = unsafe { bindings::dax_holder(device) }.cast::<Holder<T>>();
            // SAFETY: The device had a holder of this type when C took its operations, in this section.
            // It is replaced, and freed, only after the section: `dax_clear_holder()` and `kill_dax()`
            // wait before they take the holder away. So this is that one, or null.
            let holder = unsafe { holder.as_ref() }.ok_or(EOPNOTSUPP)?;
            holder.operations.notify_failure(offset, len, flags)?;
            Ok(0)
        })
    }
}

impl<T: HolderOperations> Drop for Held<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value owns a reference to the device, which is given up
        // here. The holder is taken away by the first function, or was by `kill_dax()`. Both wait for
        // the calls of its operations, so nothing uses it when it is freed. It came from `into_raw`.
        unsafe {
            bindings::dax_clear_holder(self.device.as_ptr(), self.holder.as_ptr().cast());
            bindings::put_dax(self.device.as_ptr());
            drop(KBox::from_raw(self.holder.as_ptr()));
        }
    }
}

/// A section in which a DAX device is alive for its holder. The driver cannot be unbound meanwhile, so
/// it should be short.
///
/// # Invariants
///
/// The device is valid and had the holder whose [`Held`] is borrowed after the section was opened.
pub struct Live<'h> {
    device: NonNull<bindings::dax_device>,
    _guard: ReadGuard,
    _held: PhantomData<&'h ()>,
}

impl Live<'_> {
    /// Returns access to up to `pages` pages from `at` on, as far as they are contiguous. May sleep. C:
    /// `dax_direct_access()`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the device is being removed; `EHWPOISON` for memory that the driver knows to be bad;
    /// `EFAULT` for memory that the kernel has not mapped; `ERANGE` or `EFAULT` behind the end.
    #[doc(alias = "dax_direct_access")]
    pub fn direct_access(&self, at: PageOffset, pages: usize) -> Result<HeldMemory<'_>> {
        // SAFETY: By the type invariants the device is valid, and its operations stay while the section
        // is open. The function checks whether it is alive; if it is, it is not killed before the section
        // ends, so the memory that it returns stays for as long as `self` is borrowed.
        let access = unsafe {
            call_direct_access(
                at,
                pages,
                AccessMode::Normal,
                |at, pages, mode, address, pfn| {
                    bindings::dax_direct_access(self.device.as_ptr(), at, pages, mode, address, pfn)
                },
            )
        }?;
        let address = NonNull::new(access.address().cast::<u8>()).ok_or(EFAULT)?;
        let len = access.pages().checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        // INVARIANT: The device has returned this memory, and is not killed while the section is open.
        Ok(HeldMemory {
            access,
            address,
            len,
            device: self.device,
        })
    }

    /// Fills a page with zeroes that are durable. Sleeps. C: `dax_zero_page_range()`.
    ///
    /// # Errors
    ///
    /// `ENXIO` if the device is being removed; `EIO` for memory that stays bad; errors of the driver.
    #[doc(alias = "dax_zero_page_range")]
    pub fn zero_page(&self, at: PageOffset) -> Result {
        // SAFETY: By the type invariants the device is valid, and its operations stay while the section
        // is open.
        to_result(unsafe { bindings::dax_zero_page_range(self.device.as_ptr(), at.as_raw(), 1) })
    }
}

/// Contiguous memory of a DAX device, which its holder copies from and to.
///
/// Programs may have the same memory mapped, so its bytes are copied and never borrowed.
///
/// # Invariants
///
/// `len` bytes are mapped from `address` on as long as the [`Live`] is borrowed, and are what `access`
/// describes.
pub struct HeldMemory<'l> {
    access: Access<'l>,
    address: NonNull<u8>,
    len: usize,
    device: NonNull<bindings::dax_device>,
}

impl HeldMemory<'_> {
    /// Returns the number of bytes, a multiple of the size of a page.
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the PFN of the first page.
    pub const fn pfn(&self) -> PfnT {
        self.access.pfn()
    }

    /// Returns the address of `len` bytes from byte `offset` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not all in the memory.
    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if end > self.len {
            return Err(EINVAL);
        }
        Ok(self.address.as_ptr().wrapping_add(offset))
    }

    /// Copies from byte `offset` on, and survives bad memory. Does not sleep. C: `copy_mc_to_kernel()`.
    ///
    /// # Errors
    ///
    /// `EIO` if the memory is bad; `EINVAL` if the bytes are not all in the memory.
    #[doc(alias = "copy_mc_to_kernel")]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let from = self.at(offset, to.len())?;
        let len = c_uint::try_from(to.len())?;
        // SAFETY: By the type invariants the bytes from `from` on are mapped, and `to` is borrowed
        // exclusively.
        let left = unsafe { bindings::copy_mc_to_kernel(to.as_mut_ptr().cast(), from.cast(), len) };
        if left != 0 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Copies to byte `offset`, bypassing the caches of the CPU. Does not sleep. C:
    /// `memcpy_flushcache()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the bytes are not all in the memory.
    #[doc(alias = "memcpy_flushcache")]
    pub fn write(&self, offset: usize, from: &[u8]) -> Result {
        let to = self.at(offset, from.len())?;
        // SAFETY: By the type invariants the bytes from `to` on are mapped, and `from` is borrowed.
        unsafe { bindings::__memcpy_flushcache(to.cast(), from.as_ptr().cast(), from.len() as _) };
        Ok(())
    }

    /// Writes the caches of the CPU back, for `len` bytes from byte `offset` on, if the device needs that
    /// to make stores durable. Programs may have made the stores. Does not sleep. C: `dax_flush()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the bytes are not all in the memory.
    #[doc(alias = "dax_flush")]
    pub fn flush(&self, offset: usize, len: usize) -> Result {
        let address = self.at(offset, len)?.cast::<c_void>();
        // SAFETY: By the type invariants the bytes are mapped, and the device is valid.
        unsafe { bindings::dax_flush(self.device.as_ptr(), address, len) };
        Ok(())
    }
}
