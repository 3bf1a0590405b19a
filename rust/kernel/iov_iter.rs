// SPDX-License-Identifier: GPL-2.0

//! I/O vectors: memory of a process or of the kernel that data is copied from or to.
//!
//! The unsafe code here encapsulates access to the fields of a valid `struct iov_iter`.
//!
//! Upstream has a type per direction, `IovIterSource` and `IovIterDest`. The only user here,
//! `dax_iomap_rw()`, gets both directions through one pointer and handles them in one loop, so the
//! direction is a question to the iterator: [`IovIter::is_source`].
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{bindings, types::Opaque};

/// An iterator over the buffers of one read or write. C: `struct iov_iter`.
///
/// It advances with the data that is copied.
///
/// # Invariants
///
/// The iterator is valid, and no other code accesses it.
#[doc(alias = "iov_iter")]
#[repr(transparent)]
pub struct IovIter(Opaque<bindings::iov_iter>);

impl IovIter {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct iov_iter` that stays valid for `'a`, and that no
    /// other code accesses during `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::iov_iter) -> &'a mut Self {
        // SAFETY: The type is transparent over `struct iov_iter`, and the caller promises a valid
        // pointer and exclusive access for `'a`, so the reference is valid and unique.
        unsafe { &mut *ptr.cast::<Self>() }
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&mut self) -> *mut bindings::iov_iter {
        self.0.get()
    }

    /// Returns the number of bytes that are left. C: `iov_iter_count()`.
    #[doc(alias = "iov_iter_count")]
    #[inline]
    pub fn count(&self) -> usize {
        // SAFETY: By the type invariants the iterator is valid, and `count` is valid in every type
        // of iterator, so the union field may be read.
        unsafe {
            (*self.0.get())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .as_ref()
                .count
        }
    }

    /// Returns whether the buffers are the source of the data, so that this is a write to the file.
    /// C: `iov_iter_rw() == WRITE`.
    #[doc(alias = "iov_iter_rw")]
    #[inline]
    pub fn is_source(&self) -> bool {
        // SAFETY: By the type invariants the iterator is valid and not accessed by other code.
        unsafe { (*self.0.get()).data_source }
    }

    /// Fills up to `len` bytes of the buffers with zeroes, and returns how many. May sleep. C:
    /// `iov_iter_zero()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::iov_iter::IovIter;
    ///
    /// /// Copies a hole of `len` bytes to the buffers of a read.
    /// fn read_hole(dest: &mut IovIter, len: usize) -> Result {
    ///     let len = len.min(dest.count());
    ///     if dest.zero(len) == len { Ok(()) } else { Err(EFAULT) }
    /// }
    /// ```
    #[doc(alias = "iov_iter_zero")]
    #[inline]
    pub fn zero(&mut self, len: usize) -> usize {
        // SAFETY: By the type invariants the iterator is valid. C checks the direction and the
        // addresses of user memory.
        unsafe { bindings::iov_iter_zero(len, self.as_raw()) }
    }

    /// Faults up to `len` bytes of the buffers in, and returns how many of them can be read. Sleeps.
    /// C: `fault_in_iov_iter_readable()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::iov_iter::IovIter;
    ///
    /// /// Returns an error if the first byte of a write cannot be read.
    /// fn check(source: &mut IovIter) -> Result {
    ///     if source.fault_in(1) == 1 { Ok(()) } else { Err(EFAULT) }
    /// }
    /// ```
    #[doc(alias = "fault_in_iov_iter_readable")]
    #[inline]
    pub fn fault_in(&mut self, len: usize) -> usize {
        // SAFETY: By the type invariants the iterator is valid and not accessed by other code.
        let left = unsafe { bindings::fault_in_iov_iter_readable(self.as_raw(), len) };
        len.saturating_sub(left)
    }
}

/// Calls `work` with page faults disabled: a copy from or to memory of a process that is not mapped
/// ends there. C: `pagefault_disable()`, `pagefault_enable()`.
///
/// A task that holds a lock which page faults take copies this way.
#[doc(alias = "pagefault_disable")]
#[inline]
pub fn without_page_faults<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: The function counts in the current task, and the count is decremented below. (In the
    // kernel nothing unwinds.)
    unsafe { bindings::pagefault_disable() };
    let result = work();
    // SAFETY: The count was incremented above.
    unsafe { bindings::pagefault_enable() };
    result
}
