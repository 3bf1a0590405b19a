// SPDX-License-Identifier: GPL-2.0

//! The trap behind [`warn!`](crate::warn!): an `ud2` with an entry in the bug table.
//!
//! The exception handler finds the instruction in the table, prints the report (the Rust source
//! line, the registers, the call trace), and continues behind it. C writes the same entry for
//! `WARN()`.
//!
//! This file encapsulates the layout of the entry.
//!
//! C headers: [`arch/x86/include/asm/bug.h`](srctree/arch/x86/include/asm/bug.h),
//! [`include/asm-generic/bug.h`](srctree/include/asm-generic/bug.h)

use crate::bindings;

/// The taint of a kernel that has warned. C: `TAINT_WARN`.
const TAINT_WARN: u32 = 9;

/// The flags of the entry: a warning, with its message already printed.
#[doc(hidden)]
pub const WARN_FLAGS: u32 =
    bindings::BUGFLAG_WARNING | bindings::BUGFLAG_NO_CUT_HERE | (TAINT_WARN << 8);

/// The size of the entry, in bytes. C: `struct bug_entry`.
#[doc(hidden)]
pub const BUG_ENTRY_SIZE: usize = core::mem::size_of::<bindings::bug_entry>();

/// Copies a path and a terminating zero to an array, for the entry to point to.
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

/// Executes the trap. C: `_BUG_FLAGS()`.
#[doc(hidden)]
#[macro_export]
macro_rules! warn_trap {
    () => {{
        static FILE: [u8; ::core::file!().len() + 1] =
            $crate::arch::x86::bug::path_bytes(::core::file!());
        #[cfg(CONFIG_DEBUG_BUGVERBOSE)]
        // SAFETY: An `ud2` with a warning entry in the bug table is a trap that returns to the next
        // instruction with all registers as they were. `.discard.reachable` says so to objtool.
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
                flags = const $crate::arch::x86::bug::WARN_FLAGS,
                size = const $crate::arch::x86::bug::BUG_ENTRY_SIZE,
            )
        };
        #[cfg(not(CONFIG_DEBUG_BUGVERBOSE))]
        let _ = &FILE;
        #[cfg(not(CONFIG_DEBUG_BUGVERBOSE))]
        // SAFETY: An `ud2` with a warning entry in the bug table is a trap that returns to the next
        // instruction with all registers as they were. `.discard.reachable` says so to objtool.
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
                flags = const $crate::arch::x86::bug::WARN_FLAGS,
                size = const $crate::arch::x86::bug::BUG_ENTRY_SIZE,
            )
        };
    }};
}
