// SPDX-License-Identifier: GPL-2.0

//! Warnings about bugs in the kernel that it survives.
//!
//! [`warn!`](crate::warn!) prints a message, the registers and the call trace, taints the kernel
//! and continues. [`warn_once!`](crate::warn_once!) does so the first time it is reached.
//!
//! The trap that prints the report depends on the architecture. x86 has one
//! (`rust/kernel/arch/x86/bug.rs`), with which the report names the Rust source line; elsewhere the
//! call trace and the taint are all.
//!
//! This file encapsulates the call that prints a Rust format string.
//!
//! C header: [`include/linux/bug.h`](srctree/include/linux/bug.h)

#[cfg(CONFIG_BUG)]
use crate::bindings;
#[cfg(CONFIG_BUG)]
use core::ffi::c_void;
use core::fmt;

/// Prints the message of a warning. Any context. C: `__warn_printk()`.
#[doc(hidden)]
#[doc(alias = "__warn_printk")]
#[cold]
#[inline(never)]
pub fn print_message(args: fmt::Arguments<'_>) {
    #[cfg(CONFIG_BUG)]
    // SAFETY: The format string ends with a zero. For `%pA` the function takes a pointer to
    // `fmt::Arguments`, and it does not keep that pointer.
    unsafe {
        bindings::__warn_printk(c"%pA\n".as_ptr().cast(), (&raw const args).cast::<c_void>())
    };
    // As in C: a kernel without CONFIG_BUG says nothing.
    #[cfg(not(CONFIG_BUG))]
    let _ = args;
}

/// Prints the call trace and taints the kernel, where there is no trap. C: `TAINT_WARN`.
#[cfg(any(not(CONFIG_X86_64), CONFIG_UML, not(CONFIG_BUG)))]
#[doc(hidden)]
#[cold]
#[inline(never)]
pub fn print_trace() {
    #[cfg(CONFIG_BUG)]
    // SAFETY: Both functions may be called in any context.
    unsafe {
        bindings::dump_stack();
        // TAINT_WARN.
        bindings::add_taint(9, bindings::lockdep_ok_LOCKDEP_STILL_OK);
    };
}

/// Prints the report of a warning, below its message.
#[cfg(any(not(CONFIG_X86_64), CONFIG_UML, not(CONFIG_BUG)))]
#[doc(hidden)]
#[macro_export]
macro_rules! warn_trap {
    () => {
        $crate::bug::print_trace()
    };
}

/// Warns about a bug, with a message, and continues. Any context. C: `WARN(1, ...)`.
///
/// # Examples
///
/// ```ignore
/// kernel::warn!("memremap: PFN {pfn} is mapped twice");
/// ```
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => {{
        $crate::bug::print_message(::core::format_args!($($arg)+));
        $crate::warn_trap!();
    }};
}

/// Warns about a bug as [`warn!`](crate::warn!) does, the first time it is reached only. Any
/// context. C: `WARN_ONCE(1, ...)`.
///
/// A write to `clear_warn_once` in debugfs starts anew.
///
/// # Examples
///
/// ```ignore
/// if !is_aligned {
///     kernel::warn_once!("devmap: {pfn:?} is not aligned");
/// }
/// ```
#[macro_export]
macro_rules! warn_once {
    ($($arg:tt)+) => {{
        // The section that a write to `clear_warn_once` zeroes.
        #[link_section = ".data..once"]
        static WARNED: ::core::sync::atomic::AtomicBool =
            ::core::sync::atomic::AtomicBool::new(false);
        if !WARNED.swap(true, ::core::sync::atomic::Ordering::Relaxed) {
            $crate::warn!($($arg)+);
        }
    }};
}
