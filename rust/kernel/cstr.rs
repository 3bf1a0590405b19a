// SPDX-License-Identifier: GPL-2.0

//! Strings that C code has.

use crate::{bindings, ffi::c_char, str::CStr};

/// The string at `ptr`, as [`CStr::from_char_ptr`] has it, but without a sum that could panic.
///
/// # Safety
///
/// `ptr` points to a string that ends with a zero byte, and that stays and does not change for `'a`.
pub(crate) unsafe fn from_ptr<'a>(ptr: *const c_char) -> &'a CStr {
    // SAFETY: The caller's promise.
    let len = unsafe { bindings::strlen(ptr) };
    // OVERFLOW: A string does not fill the memory.
    // SAFETY: That many bytes are there, of which the last alone is zero.
    unsafe {
        let bytes = core::slice::from_raw_parts(ptr.cast(), len.wrapping_add(1));
        CStr::from_bytes_with_nul_unchecked(bytes)
    }
}
