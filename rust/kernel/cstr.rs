// SPDX-License-Identifier: GPL-2.0

//! Strings of C code.
//!
//! The unsafe code here encapsulates the length of a string of C code.

use crate::{bindings, ffi::c_char, str::CStr};

/// Creates a reference to the string at `ptr`, as [`CStr::from_char_ptr`] does, but without an
/// addition that could panic.
///
/// # Safety
///
/// `ptr` must point to a string that ends with a NUL, and that stays valid and does not change for
/// `'a`.
pub unsafe fn from_char_ptr<'a>(ptr: *const c_char) -> &'a CStr {
    // SAFETY: The caller promises that the string ends with a NUL.
    let len = unsafe { bindings::strlen(ptr) };
    // OVERFLOW: A string does not fill the address space.
    // SAFETY: The caller promises that the bytes are valid and do not change for `'a`. There are
    // `len` bytes that are not NUL, and then the NUL.
    unsafe {
        let bytes = core::slice::from_raw_parts(ptr.cast(), len.wrapping_add(1));
        CStr::from_bytes_with_nul_unchecked(bytes)
    }
}
