// SPDX-License-Identifier: GPL-2.0

//! Control blocks of reads and writes.
//!
//! The unsafe code here encapsulates access to the fields of a valid `struct kiocb`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::inode::Inode;
use crate::{bindings, types::Opaque};

/// The control block of one read or write of a file. C: `struct kiocb`.
///
/// # Invariants
///
/// The control block is valid, its file is open, and no other code accesses it.
#[doc(alias = "kiocb")]
#[repr(transparent)]
pub struct Kiocb(Opaque<bindings::kiocb>);

impl Kiocb {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct kiocb` with an open file. Both must stay valid
    /// for `'a`, and no other code may access the control block during `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kiocb) -> &'a mut Self {
        // SAFETY: The type is transparent over `struct kiocb`, and the caller promises a valid
        // pointer and exclusive access for `'a`, so the reference is valid and unique.
        unsafe { &mut *ptr.cast::<Self>() }
    }

    /// Returns the inode that holds the data. C: `iocb->ki_filp->f_mapping->host`.
    #[inline]
    pub fn inode(&self) -> &Inode {
        // SAFETY: By the type invariants the file is open. An open file keeps its mapping, and with
        // it the inode, valid.
        unsafe { Inode::from_raw((*(*(*self.0.get()).ki_filp).f_mapping).host) }
    }

    /// Returns the position in the file, in bytes. C: `iocb->ki_pos`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::fs::kiocb::Kiocb;
    ///
    /// /// Advances the position after a read or write of `len` bytes.
    /// fn advance(iocb: &mut Kiocb, len: i64) {
    ///     *iocb.ki_pos_mut() = iocb.ki_pos().saturating_add(len);
    /// }
    /// ```
    #[inline]
    pub fn ki_pos(&self) -> i64 {
        // SAFETY: By the type invariants the control block is valid and not accessed by other code.
        unsafe { (*self.0.get()).ki_pos }
    }

    /// Returns the position in the file, for changing it.
    #[inline]
    pub fn ki_pos_mut(&mut self) -> &mut i64 {
        // SAFETY: By the type invariants the control block is valid and not accessed by other code,
        // and the borrow of `self` keeps the reference unique.
        unsafe { &mut (*self.0.get()).ki_pos }
    }

    /// Returns whether the operation must not block. C: `IOCB_NOWAIT`.
    #[doc(alias = "IOCB_NOWAIT")]
    #[inline]
    pub fn is_nowait(&self) -> bool {
        // SAFETY: By the type invariants the control block is valid and not accessed by other code.
        unsafe { (*self.0.get()).ki_flags & bindings::IOCB_NOWAIT != 0 }
    }
}
