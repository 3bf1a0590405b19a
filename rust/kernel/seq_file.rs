// SPDX-License-Identifier: GPL-2.0

//! Files whose content is generated when they are read.
//!
//! The unsafe code here encapsulates a `struct seq_file` that is being read: C has a buffer for it,
//! and reads it again with a larger one if the output does not fit.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use crate::{bindings, types::Opaque};
use core::{ffi::c_void, fmt};

/// The output of a file that is being read. C: `struct seq_file`.
///
/// # Examples
///
/// ```
/// use kernel::{seq_file::SeqFile, seq_print};
///
/// fn show(file: &SeqFile) {
///     for cpu in 0..2 {
///         seq_print!(file, "cpu{cpu} {}\n", cpu * 10);
///     }
/// }
/// ```
#[doc(alias = "seq_file")]
#[repr(transparent)]
pub struct SeqFile(Opaque<bindings::seq_file>);

impl SeqFile {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a `struct seq_file` that is being read by the current task, and stays so
    /// for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::seq_file) -> &'a Self {
        // SAFETY: The type is transparent over `struct seq_file`, and the caller promises that
        // `ptr` is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Appends formatted text; see [`seq_print!`](crate::seq_print). Any context. C:
    /// `seq_printf()`.
    #[doc(alias = "seq_printf")]
    pub fn call_printf(&self, args: fmt::Arguments<'_>) {
        // SAFETY: The file is being read by this task, so C has set up its buffer. `%pA` takes a
        // pointer to `fmt::Arguments`, which is valid for the call.
        unsafe {
            bindings::seq_printf(
                self.0.get(),
                c"%pA".as_ptr().cast(),
                (&raw const args).cast::<c_void>(),
            )
        };
    }
}

/// Appends formatted text to a [`SeqFile`](crate::seq_file::SeqFile). C: `seq_printf()`.
///
/// # Examples
///
/// ```
/// use kernel::{seq_file::SeqFile, seq_print};
///
/// fn show(file: &SeqFile) {
///     seq_print!(file, "rust\n");
/// }
/// ```
#[macro_export]
macro_rules! seq_print {
    ($file:expr, $($arg:tt)+) => {
        $file.call_printf(::core::format_args!($($arg)+))
    };
}
