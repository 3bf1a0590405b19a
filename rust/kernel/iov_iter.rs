// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that data is copied from or to.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{bindings, types::Opaque};

/// Where data comes from or goes to, and how much of it there still is. C: `struct iov_iter`.
///
/// # Invariants
///
/// The iterator is valid, and nobody else uses it.
#[repr(transparent)]
pub struct IovIter(Opaque<bindings::iov_iter>);

impl IovIter {
    /// The iterator that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says, for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::iov_iter) -> &'a mut Self {
        // SAFETY: The type is transparent over `struct iov_iter`; the rest is the caller's promise.
        unsafe { &mut *ptr.cast::<Self>() }
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(&mut self) -> *mut bindings::iov_iter {
        self.0.get()
    }

    /// How many bytes are left. C: `iov_iter_count()`.
    #[doc(alias = "iov_iter_count")]
    #[inline]
    pub fn count(&self) -> usize {
        // SAFETY: By the invariant the iterator is valid, and every kind has a count.
        unsafe {
            (*self.0.get())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .as_ref()
                .count
        }
    }

    /// Whether it is data that is written to a file. C: `iov_iter_rw() == WRITE`.
    #[doc(alias = "iov_iter_rw")]
    #[inline]
    pub fn is_source(&self) -> bool {
        // SAFETY: By the invariant the iterator is valid.
        unsafe { (*self.0.get()).data_source }
    }

    /// Writes zeroes to it, and returns how many. May sleep. C: `iov_iter_zero()`.
    #[doc(alias = "iov_iter_zero")]
    #[inline]
    pub fn zero(&mut self, len: usize) -> usize {
        // SAFETY: By the invariant the iterator is valid.
        unsafe { bindings::iov_iter_zero(len, self.as_raw()) }
    }
}
