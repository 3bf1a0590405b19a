// SPDX-License-Identifier: GPL-2.0

//! Character devices with an ioctl, and nothing else.
//!
//! To offer operations to programs, a module does the following:
//!
//! 1. It implements [`MiscDevice`] for a type: a name, and what an ioctl does.
//! 2. It names its module for that type: [`misc_device!`](crate::misc_device!).
//! 3. It keeps a [`Registration`] in its structure, so that `/dev/NAME` exists while it is loaded.
//!
//! A program that has the device open keeps the module loaded.
//!
//! This file encapsulates the operations of the device, which live as long as the module.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use crate::{
    bindings,
    error::{to_result, Result},
    ffi::{c_int, c_long, c_uint, c_ulong},
    prelude::*,
    str::CStr,
    types::Opaque,
};
use core::{marker::PhantomData, mem::MaybeUninit};

/// The ioctls of a device. They have no common state: they may run at the same time, in many tasks.
pub trait MiscDevice: 'static {
    /// The name of the node in `/dev`.
    const NAME: &'static CStr;

    /// Handles an ioctl in the context of the task that has called it. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for a command that is not known; any other error of the operation.
    fn ioctl(command: u32, argument: usize) -> Result<c_int>;
}

/// The module of a device. Implemented by [`misc_device!`](crate::misc_device!).
///
/// # Safety
///
/// `MODULE` must be the module that the type is part of.
pub unsafe trait ModuleOf {
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
        unlocked_ioctl: Some(Self::ioctl),
        // SAFETY: All fields are integers, or pointers or functions that may be null.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// Calls the handler. C: `->unlocked_ioctl()`.
    ///
    /// # Safety
    ///
    /// The current task must have the file open, so that it keeps the module loaded.
    unsafe extern "C" fn ioctl(
        _file: *mut bindings::file,
        command: c_uint,
        argument: c_ulong,
    ) -> c_long {
        let status = match T::ioctl(command, argument) {
            Ok(status) => status,
            Err(error) => error.to_errno(),
        };
        // CAST: An `int` fits.
        status as c_long
    }
}
