// SPDX-License-Identifier: GPL-2.0

//! Messages about a device, which the log prefixes with its driver and name.
//!
//! [`dev_err!`](crate::dev_err), [`dev_warn!`](crate::dev_warn), [`dev_info!`](crate::dev_info) and
//! [`dev_dbg!`](crate::dev_dbg) take a [`Device`], a format string and its arguments. They may be
//! used in any context.
//!
//! The unsafe code here encapsulates the call of `_dev_printk()` with `%pA`.
//!
//! C header: [`include/linux/dev_printk.h`](srctree/include/linux/dev_printk.h)

use crate::{bindings, device::Device, ffi::c_void};
use core::fmt;

/// The level of a message.
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

/// Prints a message about a device. Any context. C: `dev_printk()`.
#[doc(hidden)]
#[cold]
pub fn print(level: Level, device: &Device, args: fmt::Arguments<'_>) {
    let level = match level {
        Level::Error => bindings::KERN_ERR.as_ptr(),
        Level::Warning => bindings::KERN_WARNING.as_ptr(),
        Level::Info => bindings::KERN_INFO.as_ptr(),
        Level::Debug => bindings::KERN_DEBUG.as_ptr(),
    };
    // SAFETY: `level` is one of the constant strings of printk. The reference shows that the device
    // is valid. `%pA` takes a pointer to `fmt::Arguments`, which is valid for the call.
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
/// fn report(device: &Device, error: Error) {
///     dev_err!(device, "could not map the memory: {}\n", error.to_errno());
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
///
/// # Examples
///
/// ```
/// use kernel::{dev_warn, device::Device};
///
/// fn report(device: &Device) {
///     dev_warn!(device, "no interface for flushing caches\n");
/// }
/// ```
#[macro_export]
macro_rules! dev_warn {
    ($device:expr, $($arg:tt)+) => {
        $crate::dev_printk::print(
            $crate::dev_printk::Level::Warning, $device, ::core::format_args!($($arg)+))
    };
}

/// Prints an informational message about a device. C: `dev_info()`.
///
/// # Examples
///
/// ```
/// use kernel::{dev_info, device::Device};
///
/// fn report(device: &Device, pages: usize) {
///     dev_info!(device, "{pages} pages\n");
/// }
/// ```
#[macro_export]
macro_rules! dev_info {
    ($device:expr, $($arg:tt)+) => {
        $crate::dev_printk::print(
            $crate::dev_printk::Level::Info, $device, ::core::format_args!($($arg)+))
    };
}

/// Prints a debug message about a device, in kernels with `CONFIG_RUST_DEBUG_ASSERTIONS` only. C:
/// `dev_dbg()`.
///
/// # Examples
///
/// ```
/// use kernel::{dev_dbg, device::Device};
///
/// fn report(device: &Device, sector: u64) {
///     dev_dbg!(device, "cleared poison at sector {sector}\n");
/// }
/// ```
#[macro_export]
macro_rules! dev_dbg {
    ($device:expr, $($arg:tt)+) => {
        if ::core::cfg!(debug_assertions) {
            $crate::dev_printk::print(
                $crate::dev_printk::Level::Debug, $device, ::core::format_args!($($arg)+))
        }
    };
}
