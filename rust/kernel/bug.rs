// SPDX-License-Identifier: GPL-2.0

//! Warnings: something is wrong in the kernel, and it can go on.
//!
//! [`warn!`](crate::warn!) prints a message, the registers and the call trace, taints the kernel
//! and goes on. The report names the Rust source line, as it does for `WARN()` in C, because the
//! macro writes the same `__bug_table` entry for an `ud2` that C writes.
//!
//! C header: [`include/linux/bug.h`](srctree/include/linux/bug.h)

use crate::bindings;
use core::{ffi::c_void, fmt};

/// The taint that a warning leaves behind. C: `TAINT_WARN`.
const TAINT_WARN: u32 = 9;

/// Flags for the `__bug_table` entry: a warning whose message was printed already.
#[doc(hidden)]
pub const WARN_FLAGS: u32 =
    bindings::BUGFLAG_WARNING | bindings::BUGFLAG_NO_CUT_HERE | (TAINT_WARN << 8);

/// The size of a `__bug_table` entry.
#[doc(hidden)]
pub const BUG_ENTRY_SIZE: usize = core::mem::size_of::<bindings::bug_entry>();

/// Prints what stands above a warning's registers.
#[doc(hidden)]
#[cold]
#[inline(never)]
pub fn print_message(args: fmt::Arguments<'_>) {
    // SAFETY: `%pA` takes a pointer to `fmt::Arguments`.
    unsafe {
        bindings::__warn_printk(c"%pA\n".as_ptr().cast(), (&raw const args).cast::<c_void>())
    };
}

/// Copies a path and its terminating zero into an array, for the bug table to point at.
#[doc(hidden)]
pub const fn path_bytes<const N: usize>(path: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let path = path.as_bytes();
    let mut i = 0;
    while i < path.len() {
        bytes[i] = path[i];
        i += 1;
    }
    bytes
}

/// The trap behind [`warn!`](crate::warn!): the exception handler finds this instruction in the
/// bug table, prints the report and continues after it.
#[doc(hidden)]
#[macro_export]
macro_rules! warn_trap {
    () => {{
        static FILE: [u8; ::core::file!().len() + 1] =
            $crate::bug::path_bytes(::core::file!());
        #[cfg(CONFIG_DEBUG_BUGVERBOSE)]
        // SAFETY: `ud2` with a warning entry in the bug table is a trap that returns to the next
        // instruction with all registers as they were. `.discard.reachable` tells objtool so.
        unsafe {
            ::core::arch::asm!(
                "2: ud2",
                ".pushsection __bug_table,\"aw\"",
                "3: .long 2b - .",
                ".long {file} - .",
                ".word {line}",
                ".word {flags}",
                ".org 3b + {size}",
                ".popsection",
                "998:",
                ".pushsection .discard.reachable",
                ".long 998b",
                ".popsection",
                file = sym FILE,
                line = const ::core::line!() as u16,
                flags = const $crate::bug::WARN_FLAGS,
                size = const $crate::bug::BUG_ENTRY_SIZE,
            )
        };
        #[cfg(not(CONFIG_DEBUG_BUGVERBOSE))]
        let _ = &FILE;
        #[cfg(not(CONFIG_DEBUG_BUGVERBOSE))]
        // SAFETY: As above.
        unsafe {
            ::core::arch::asm!(
                "2: ud2",
                ".pushsection __bug_table,\"aw\"",
                "3: .long 2b - .",
                ".word {flags}",
                ".org 3b + {size}",
                ".popsection",
                "998:",
                ".pushsection .discard.reachable",
                ".long 998b",
                ".popsection",
                flags = const $crate::bug::WARN_FLAGS,
                size = const $crate::bug::BUG_ENTRY_SIZE,
            )
        };
    }};
}

/// Reports that something is wrong, with a message, and goes on. C: `WARN(1, ...)`.
///
/// Any context.
///
/// # Examples
///
/// ```ignore
/// kernel::warn!("Conflicting mapping in same section");
/// ```
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => {{
        $crate::bug::print_message(::core::format_args!($($arg)+));
        $crate::warn_trap!();
    }};
}

/// [`warn!`](crate::warn!), the first time it is reached only. C: `WARN_ONCE(1, ...)`.
#[macro_export]
macro_rules! warn_once {
    ($($arg:tt)+) => {{
        // In the section that a write to `clear_warn_once` in debugfs zeroes.
        #[link_section = ".data..once"]
        static WARNED: ::core::sync::atomic::AtomicBool =
            ::core::sync::atomic::AtomicBool::new(false);
        if !WARNED.swap(true, ::core::sync::atomic::Ordering::Relaxed) {
            $crate::warn!($($arg)+);
        }
    }};
}
