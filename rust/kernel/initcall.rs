// SPDX-License-Identifier: GPL-2.0

//! Initialisation of built-in code that is no driver.
//!
//! `module!` gives every crate the level of a driver and a name in `/sys/module`. A part of the core
//! kernel wants neither.
//!
//! C header: [`include/linux/init.h`](srctree/include/linux/init.h)

/// Calls a function once, after the drivers were initialised. C: `late_initcall()`.
///
/// # Examples
///
/// ```ignore
/// fn start() {
///     pr_info!("the drivers are up\n");
/// }
/// kernel::late_initcall!(pgmap_start, start);
/// ```
#[macro_export]
macro_rules! late_initcall {
    ($name:ident, $function:path) => {
        $crate::initcall!("7", $name, $function);
    };
}

/// Calls a function once, before the first filesystem is mounted. C: `fs_initcall()`.
///
/// # Examples
///
/// ```ignore
/// fn start() {
///     pr_info!("no filesystem yet\n");
/// }
/// kernel::fs_initcall!(fsdax_start, start);
/// ```
#[macro_export]
macro_rules! fs_initcall {
    ($name:ident, $function:path) => {
        $crate::initcall!("5", $name, $function);
    };
}

/// The same for any level.
#[doc(hidden)]
#[macro_export]
macro_rules! initcall {
    ($level:literal, $name:ident, $function:path) => {
        /// Called by the boot code, once.
        #[doc(hidden)]
        #[no_mangle]
        #[link_section = ".init.text"]
        extern "C" fn $name() -> ::kernel::ffi::c_int {
            $function();
            0
        }

        // A 32-bit offset from where it stands, as `include/linux/init.h` writes it.
        ::core::arch::global_asm!(
            ::core::concat!(".section \".initcall", $level, ".init\", \"a\""),
            ".long {function} - .",
            ".previous",
            function = sym $name,
        );
    };
}
