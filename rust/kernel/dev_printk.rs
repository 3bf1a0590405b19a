// SPDX-License-Identifier: GPL-2.0

//! Messages that begin with the name of a device.
//!
//! [`dev_err!`](crate::dev_err), [`dev_warn!`](crate::dev_warn), [`dev_info!`](crate::dev_info) and
//! [`dev_dbg!`](crate::dev_dbg) take a [`Device`], a format string and its arguments. Any context.
//!
//! C header: [`include/linux/dev_printk.h`](srctree/include/linux/dev_printk.h)

use crate::{bindings, device::Device, ffi::c_void};
use core::fmt;

/// How loud a message is.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Level {
    /// C: `KERN_ERR`.
    Error,
    /// C: `KERN_WARNING`.
    Warning,
    /// C: `KERN_INFO`.
    Info,
    /// C: `KERN_DEBUG`.
    Debug,
}

/// Prints one. C: `dev_printk()`.
#[doc(hidden)]
#[cold]
pub fn print(level: Level, device: &Device, args: fmt::Arguments<'_>) {
    let level = match level {
        Level::Error => bindings::KERN_ERR.as_ptr(),
        Level::Warning => bindings::KERN_WARNING.as_ptr(),
        Level::Info => bindings::KERN_INFO.as_ptr(),
        Level::Debug => bindings::KERN_DEBUG.as_ptr(),
    };
    // SAFETY: The level is one of the kernel's strings, the device is valid, and `%pA` takes a
    // pointer to `fmt::Arguments`.
    unsafe {
        bindings::_dev_printk(
            level.cast(),
            device.as_raw(),
            c"%pA".as_ptr().cast(),
            (&raw const args).cast::<c_void>(),
        )
    };
}

/// Prints an error about a device. C: `dev_err()`.
///
/// # Examples
///
/// ```
/// use kernel::{dev_err, device::Device};
///
/// fn report(device: &Device, errno: i32) {
///     dev_err!(device, "lost its memory: {errno}\n");
/// }
/// ```
#[macro_export]
macro_rules! dev_err {
    ($device:expr, $($arg:tt)+) => {
        $crate::dev_printk::print(
            $crate::dev_printk::Level::Error, $device, ::core::format_args!($($arg)+))
    };
}

/// Prints a warning about a device. C: `dev_warn()`.
#[macro_export]
macro_rules! dev_warn {
    ($device:expr, $($arg:tt)+) => {
        $crate::dev_printk::print(
            $crate::dev_printk::Level::Warning, $device, ::core::format_args!($($arg)+))
    };
}

/// Tells something about a device. C: `dev_info()`.
#[macro_export]
macro_rules! dev_info {
    ($device:expr, $($arg:tt)+) => {
        $crate::dev_printk::print(
            $crate::dev_printk::Level::Info, $device, ::core::format_args!($($arg)+))
    };
}

/// Prints what helps to find a mistake, in kernels with `CONFIG_RUST_DEBUG_ASSERTIONS` only. C:
/// `dev_dbg()`.
#[macro_export]
macro_rules! dev_dbg {
    ($device:expr, $($arg:tt)+) => {
        if ::core::cfg!(debug_assertions) {
            $crate::dev_printk::print(
                $crate::dev_printk::Level::Debug, $device, ::core::format_args!($($arg)+))
        }
    };
}
