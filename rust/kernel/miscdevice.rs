// SPDX-License-Identifier: GPL-2.0

//! Character devices with an ioctl, and nothing else.
//!
//! To offer operations to programs, a module does the following:
//!
//! 1. It implements [`MiscDevice`] for a type: a name, what is kept for each open file, and what an
//!    ioctl does.
//! 2. It names its module for that type: [`misc_device!`](crate::misc_device!).
//! 3. It keeps a [`Registration`] in its structure, so that `/dev/NAME` exists while it is loaded.
//!
//! A program that has the device open keeps the module loaded.
//!
//! This file encapsulates the operations of the device, which live as long as the module, and the
//! private data of its files.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use crate::{
    bindings,
    error::{from_result, to_result, Result},
    ffi::{c_int, c_long, c_uint, c_ulong},
    prelude::*,
    str::CStr,
    types::Opaque,
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr::addr_of_mut};

/// The files and ioctls of a device. They may run at the same time, in many tasks.
pub trait MiscDevice: 'static {
    /// The name of the node in `/dev`.
    const NAME: &'static CStr;
    /// What the device keeps for a file from its opening until its last descriptor is closed.
    type File: Send + Sync + 'static;

    /// Opens a file. May sleep.
    ///
    /// # Errors
    ///
    /// Any error that opening the node shall fail with.
    fn open() -> Result<Self::File>;

    /// Handles an ioctl in the context of the task that has called it. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for a command that is not known; any other error of the operation.
    fn ioctl(file: &Self::File, command: u32, argument: usize) -> Result<c_int>;
}

/// The module of a device. Implemented by [`misc_device!`](crate::misc_device!).
///
/// # Safety
///
/// `MODULE` must be the module that the type is part of.
pub unsafe trait ModuleOf: 'static {
    /// The module.
    const MODULE: &'static ThisModule;
}

/// Names the module that calls it as the module of a [`MiscDevice`].
///
/// # Examples
///
/// ```ignore
/// kernel::misc_device!(Sum);
/// ```
#[macro_export]
macro_rules! misc_device {
    ($type:ty) => {
        // SAFETY: The static is that of the module in which this is expanded, and so is the type,
        // because the trait is of another crate.
        unsafe impl $crate::miscdevice::ModuleOf for $type {
            const MODULE: &'static $crate::ThisModule = &THIS_MODULE;
        }
    };
}

/// A registered device. Dropping it removes the node; programs that have it open may go on.
///
/// # Invariants
///
/// The device is registered.
pub struct Registration<T> {
    device: Pin<KBox<Opaque<bindings::miscdevice>>>,
    _operations: PhantomData<T>,
}

// SAFETY: A device may be removed by any task.
unsafe impl<T> Send for Registration<T> {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl<T> Sync for Registration<T> {}

impl<T: MiscDevice + ModuleOf> Registration<T> {
    /// Registers the device, readable and writable only by root. Sleeps. C: `misc_register()`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is a device of this name; `EBUSY` if there is no number for it; `ENOMEM`.
    #[doc(alias = "misc_register")]
    pub fn new() -> Result<Self> {
        // SAFETY: All fields are pointers or integers, for which zero is valid.
        let zeroed = unsafe { MaybeUninit::<bindings::miscdevice>::zeroed().assume_init() };
        let device = KBox::new(Opaque::new(zeroed), GFP_KERNEL)?;
        let raw = device.get();
        // SAFETY: The structure is owned exclusively until it is registered, and stays in place, on
        // the heap, until it is removed. Name and operations are constants of the module.
        to_result(unsafe {
            (*raw).minor = bindings::MISC_DYNAMIC_MINOR as _;
            (*raw).name = T::NAME.as_char_ptr();
            (*raw).mode = 0o600;
            (*raw).fops = const { &Operations::<T>::TABLE };
            bindings::misc_register(raw)
        })?;
        // INVARIANT: The device was just registered.
        Ok(Self {
            device: device.into(),
            _operations: PhantomData,
        })
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the device is registered, and it is not used after this:
        // files that are open refer to its operations only.
        unsafe { bindings::misc_deregister(self.device.get()) };
    }
}

/// The operations of the files of a device.
struct Operations<T>(PhantomData<T>);

impl<T: MiscDevice + ModuleOf> Operations<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: T::MODULE.as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        unlocked_ioctl: Some(Self::ioctl),
        // SAFETY: All fields are integers, or pointers or functions that may be null.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// Opens a file. C: `->open()`.
    ///
    /// # Safety
    ///
    /// `file` must be a file that is being opened, for the device.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            let data = KBox::new(T::open()?, GFP_KERNEL)?;
            // SAFETY: The caller guarantees that nothing else uses the file yet. Its private data is the
            // device's to choose.
            unsafe { addr_of_mut!((*file).private_data).write(KBox::into_raw(data).cast()) };
            Ok(0)
        })
    }

    /// Drops the data of a file. C: `->release()`.
    ///
    /// # Safety
    ///
    /// `file` must be a file that `open` has opened, and that nothing else uses any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The caller guarantees that `open` has stored the box, which nothing uses after this.
        drop(unsafe { KBox::<T::File>::from_raw((*file).private_data.cast()) });
        0
    }

    /// Calls the handler. C: `->unlocked_ioctl()`.
    ///
    /// # Safety
    ///
    /// `file` must be a file that `open` has opened. The current task must have it open, so that it
    /// keeps the module loaded.
    unsafe extern "C" fn ioctl(
        file: *mut bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        // SAFETY: The caller guarantees that `open` has stored the box, which stays until the file is
        // released. That is after this call, as the file is open.
        let data = unsafe { &*(*file).private_data.cast::<T::File>() };
        let status = match T::ioctl(data, command, argument) {
            Ok(status) => status,
            Err(error) => error.to_errno(),
        };
        // CAST: An `int` fits.
        status as c_long
    }
}
