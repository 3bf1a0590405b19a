// SPDX-License-Identifier: GPL-2.0

//! A read or write of a file that is on its way.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::inode::Inode;
use crate::{bindings, types::Opaque};

/// What a `read()` or `write()` is about. C: `struct kiocb`.
///
/// # Invariants
///
/// It is valid, has a file that is open, and nobody else uses it.
#[repr(transparent)]
pub struct Kiocb(Opaque<bindings::kiocb>);

impl Kiocb {
    /// What C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says, for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kiocb) -> &'a mut Self {
        // SAFETY: The type is transparent over `struct kiocb`; the rest is the caller's promise.
        unsafe { &mut *ptr.cast::<Self>() }
    }

    /// The inode that has the data. C: `ki_filp->f_mapping->host`.
    #[inline]
    pub fn inode(&self) -> &Inode {
        // SAFETY: By the invariant the file is open, and keeps its mapping and that its inode.
        unsafe { Inode::from_raw((*(*(*self.0.get()).ki_filp).f_mapping).host) }
    }

    /// Where in the file it is, in bytes. C: `ki_pos`.
    #[inline]
    pub fn position(&self) -> i64 {
        // SAFETY: By the invariant.
        unsafe { (*self.0.get()).ki_pos }
    }

    /// It is at `position` now.
    #[inline]
    pub fn set_position(&mut self, position: i64) {
        // SAFETY: By the invariant nobody else uses it.
        unsafe { (*self.0.get()).ki_pos = position };
    }

    /// Whether it must not wait. C: `IOCB_NOWAIT`.
    #[doc(alias = "IOCB_NOWAIT")]
    #[inline]
    pub fn is_nowait(&self) -> bool {
        // SAFETY: By the invariant.
        unsafe { (*self.0.get()).ki_flags & bindings::IOCB_NOWAIT != 0 }
    }
}
