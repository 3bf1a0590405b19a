// SPDX-License-Identifier: GPL-2.0

//! Files whose content is made when they are read.
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use crate::{bindings, types::Opaque};
use core::{ffi::c_void, fmt};

/// Where the content goes. C: `struct seq_file`.
#[repr(transparent)]
pub struct SeqFile(Opaque<bindings::seq_file>);

impl SeqFile {
    /// The file that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` points to an open file that is being read, valid for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::seq_file) -> &'a Self {
        // SAFETY: The type is transparent over `struct seq_file`, and the caller vouches for the
        // rest.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Appends text. What does not fit makes the C code start again with a larger buffer. Any
    /// context. C: `seq_printf()`.
    #[doc(alias = "seq_printf")]
    pub fn print(&self, args: fmt::Arguments<'_>) {
        // SAFETY: `%pA` takes a pointer to `fmt::Arguments`.
        unsafe {
            bindings::seq_printf(
                self.0.get(),
                c"%pA".as_ptr().cast(),
                (&raw const args).cast::<c_void>(),
            )
        };
    }
}

/// Appends formatted text to a [`SeqFile`].
#[macro_export]
macro_rules! seq_print {
    ($file:expr, $($arg:tt)+) => {
        $file.print(::core::format_args!($($arg)+))
    };
}
