// SPDX-License-Identifier: GPL-2.0

//! Initialisation functions of built-in code that is not a driver.
//!
//! `module!` gives each crate the initcall level of a driver and a name in `/sys/module`. Built-in
//! code of the core kernel uses the macros here instead: [`fs_initcall!`](crate::fs_initcall) and
//! [`late_initcall!`](crate::late_initcall).
//!
//! C header: [`include/linux/init.h`](srctree/include/linux/init.h)

/// Calls a function once at boot, after the drivers were initialised. C: `late_initcall()`.
///
/// The first argument is the name of the symbol that C calls.
///
/// # Examples
///
/// ```
/// mod debugfs {
///     /// Creates files in debugfs.
///     fn init() {}
///
///     kernel::late_initcall!(rust_doctest_late_init, init);
/// }
/// ```
#[macro_export]
macro_rules! late_initcall {
    ($name:ident, $function:path) => {
        $crate::initcall!("7", $name, $function);
    };
}

/// Calls a function once at boot, before drivers are initialised and so before the first filesystem
/// of a disk is mounted. C: `fs_initcall()`.
///
/// The first argument is the name of the symbol that C calls.
///
/// # Examples
///
/// ```
/// mod dax {
///     /// Allocates what the first mount of a disk needs.
///     fn init() {}
///
///     kernel::fs_initcall!(rust_doctest_fs_init, init);
/// }
/// ```
#[macro_export]
macro_rules! fs_initcall {
    ($name:ident, $function:path) => {
        $crate::initcall!("5", $name, $function);
    };
}

/// Calls a function once at boot, at the given level. C: `__define_initcall()`.
#[doc(hidden)]
#[macro_export]
macro_rules! initcall {
    ($level:literal, $name:ident, $function:path) => {
        /// Calls the initialisation function. C calls this once, at boot.
        #[doc(hidden)]
        #[no_mangle]
        #[link_section = ".init.text"]
        extern "C" fn $name() -> ::kernel::ffi::c_int {
            $function();
            0
        }

        // The entry is the offset of the function from the entry itself, in 32 bits, as
        // `include/linux/init.h` defines it.
        ::core::arch::global_asm!(
            ::core::concat!(".section \".initcall", $level, ".init\", \"a\""),
            ".long {function} - .",
            ".previous",
            function = sym $name,
        );
    };
}
