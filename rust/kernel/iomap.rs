// SPDX-License-Identifier: GPL-2.0

//! Where a filesystem has the data of a file.
//!
//! ```text
//!  let mut extents = Extents::new(inode, at, len, flags, operations);
//!  while extents.next()? {            // the filesystem ends the last extent and finds the next
//!      extents.processed(body(&extents));   // how far the body has got, or why not
//!  }
//! ```
//!
//! An extent is a [`Map`]. For a write to blocks that files share there are two: where the data
//! goes, and where it was.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)

use crate::{
    bindings,
    error::{Error, Result},
    fs::inode::Inode,
    page::{PAGE_MASK, PAGE_SHIFT},
    types::Opaque,
};
use core::{
    marker::PhantomData,
    ptr::{null, null_mut},
};

/// How a filesystem finds extents. C: `struct iomap_ops`.
#[doc(alias = "iomap_ops")]
#[repr(transparent)]
pub struct Operations(Opaque<bindings::iomap_ops>);

impl Operations {
    /// The operations that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// `ptr` points to operations of a filesystem, valid for `'a`, that may be called for the inode
    /// that they are used with.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *const bindings::iomap_ops) -> &'a Self {
        // SAFETY: The type is transparent over `struct iomap_ops`; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }
}

/// What an extent is for. C: `IOMAP_WRITE` and so on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Data is written: there have to be blocks.
    pub const WRITE: Self = Self(bindings::IOMAP_WRITE);
    /// Data is zeroed: holes may stay.
    pub const ZERO: Self = Self(bindings::IOMAP_ZERO);
    /// A page fault.
    pub const FAULT: Self = Self(bindings::IOMAP_FAULT);
    /// Do not wait.
    pub const NOWAIT: Self = Self(bindings::IOMAP_NOWAIT);
    /// Blocks that are shared get copies.
    pub const UNSHARE: Self = Self(bindings::IOMAP_UNSHARE);
    /// Memory is used directly.
    pub const DAX: Self = Self(bindings::IOMAP_DAX);

    /// Both.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With `other` if `condition` holds.
    #[inline]
    #[must_use]
    pub const fn and_if(self, condition: bool, other: Self) -> Self {
        if condition {
            self.and(other)
        } else {
            self
        }
    }
}

/// Goes through the extents of a range of a file. C: `struct iomap_iter`.
///
/// # Invariants
///
/// `raw` has been changed by `iomap_iter()` and [`Extents::processed`] only. The inode and the
/// operations are valid for `'a`.
#[doc(alias = "iomap_iter")]
pub struct Extents<'a> {
    raw: bindings::iomap_iter,
    operations: &'a Operations,
    _inode: PhantomData<&'a Inode>,
}

impl<'a> Extents<'a> {
    /// Of `len` bytes from `position` on.
    #[inline]
    pub fn new(
        inode: &'a Inode,
        position: i64,
        len: u64,
        flags: Flags,
        operations: &'a Operations,
    ) -> Self {
        // INVARIANT: Not begun.
        Self {
            raw: bindings::iomap_iter {
                inode: inode.as_raw(),
                pos: position,
                len,
                processed: 0,
                flags: flags.0,
                iomap: none(),
                srcmap: none(),
                private: null_mut(),
            },
            operations,
            _inode: PhantomData,
        }
    }

    /// Ends the last extent, and finds the next. `false` if that was all, or if nothing of the last
    /// was processed. May sleep. C: `iomap_iter()`.
    ///
    /// # Errors
    ///
    /// The filesystem's, or that of the body.
    #[doc(alias = "iomap_iter")]
    #[inline]
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<bool> {
        // SAFETY: By the invariant all is valid.
        let found = unsafe { bindings::iomap_iter(&mut self.raw, self.operations.0.get()) };
        // The likely answers without a call.
        if found < 0 {
            return Err(Error::from_errno(found));
        }
        Ok(found > 0)
    }

    /// Says how many bytes of the extent the body has dealt with, or why none. 0 ends it all.
    #[inline]
    pub fn processed(&mut self, bytes: Result<u64>) {
        self.raw.processed = match bytes {
            // CAST: No more than the length of the extent, or C warns.
            Ok(bytes) => bytes as i64,
            Err(error) => i64::from(error.to_errno()),
        };
    }

    /// The inode.
    #[inline]
    pub fn inode(&self) -> &'a Inode {
        // SAFETY: By the invariant.
        unsafe { Inode::from_raw(self.raw.inode) }
    }

    /// Where in the file this is, in bytes.
    #[inline]
    pub fn position(&self) -> i64 {
        self.raw.pos
    }

    /// How many bytes are left of the whole range.
    #[inline]
    pub fn remaining(&self) -> u64 {
        self.raw.len
    }

    /// How many of them are in this extent. C: `iomap_length()`.
    #[doc(alias = "iomap_length")]
    #[inline]
    pub fn length(&self) -> u64 {
        let end_of = |map: &bindings::iomap| (map.offset as u64).wrapping_add(map.length);
        let mut end = end_of(&self.raw.iomap);
        if self.raw.srcmap.type_ != HOLE {
            end = end.min(end_of(&self.raw.srcmap));
        }
        self.raw.len.min(end.wrapping_sub(self.raw.pos as u64))
    }

    /// Where the data goes, or is.
    #[inline]
    pub fn map(&self) -> Map<'_> {
        Map(&self.raw.iomap)
    }

    /// Where the data was. C: `iomap_iter_srcmap()`.
    #[doc(alias = "iomap_iter_srcmap")]
    #[inline]
    pub fn source(&self) -> Map<'_> {
        if self.raw.srcmap.type_ != HOLE {
            Map(&self.raw.srcmap)
        } else {
            Map(&self.raw.iomap)
        }
    }

    /// Whether a copy of shared data is to be made. C: `iomap_want_unshare_iter()`.
    #[doc(alias = "iomap_want_unshare_iter")]
    #[inline]
    pub fn wants_unshare(&self) -> bool {
        self.map().is_shared() && u32::from(self.raw.srcmap.type_) == bindings::IOMAP_MAPPED
    }

    /// Whether it is for writing.
    #[inline]
    pub fn is_write(&self) -> bool {
        self.raw.flags & bindings::IOMAP_WRITE != 0
    }
}

const HOLE: u16 = bindings::IOMAP_HOLE as u16;

/// No extent. Field by field: zeroes in one piece are a call of `memset()`, of which every fault
/// would be two percent.
#[inline(always)]
const fn none() -> bindings::iomap {
    bindings::iomap {
        addr: bindings::IOMAP_NULL_ADDR as u64,
        offset: 0,
        length: 0,
        type_: HOLE,
        flags: 0,
        bdev: null_mut(),
        dax_dev: null_mut(),
        inline_data: null_mut(),
        private: null_mut(),
        folio_ops: null(),
        validity_cookie: 0,
    }
}

/// What an extent is. C: `type` of `struct iomap`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No blocks.
    Hole,
    /// Blocks with data.
    Mapped,
    /// Blocks without data: they read as zeroes.
    Unwritten,
    /// Something that has no memory of its own.
    Other,
}

impl Kind {
    /// Whether it reads as zeroes.
    #[inline]
    pub const fn is_zeroes(self) -> bool {
        matches!(self, Self::Hole | Self::Unwritten)
    }
}

/// An extent of a file. C: `struct iomap`.
#[derive(Clone, Copy)]
pub struct Map<'a>(&'a bindings::iomap);

impl Map<'_> {
    /// What it is.
    #[inline]
    pub fn kind(self) -> Kind {
        match u32::from(self.0.type_) {
            bindings::IOMAP_HOLE => Kind::Hole,
            bindings::IOMAP_MAPPED => Kind::Mapped,
            bindings::IOMAP_UNWRITTEN => Kind::Unwritten,
            _ => Kind::Other,
        }
    }

    /// Whether blocks were allocated for it just now. C: `IOMAP_F_NEW`.
    #[inline]
    pub fn is_new(self) -> bool {
        u32::from(self.0.flags) & bindings::IOMAP_F_NEW != 0
    }

    /// Whether metadata has to be written for the data to be durable. C: `IOMAP_F_DIRTY`.
    #[inline]
    pub fn is_dirty(self) -> bool {
        u32::from(self.0.flags) & bindings::IOMAP_F_DIRTY != 0
    }

    /// Whether other files have the blocks too, or it is a copy of such. C: `IOMAP_F_SHARED`.
    #[inline]
    pub fn is_shared(self) -> bool {
        u32::from(self.0.flags) & bindings::IOMAP_F_SHARED != 0
    }

    /// Its length in bytes, from where it begins.
    #[inline]
    pub fn len(self) -> u64 {
        self.0.length
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.length == 0
    }

    /// The page of the device that has the byte at `position` of the file. C: `dax_iomap_pgoff()`.
    #[inline]
    pub fn page_at(self, position: i64) -> crate::dax::PageOffset {
        let page = position as u64 & PAGE_MASK as u64;
        let byte = self
            .0
            .addr
            .wrapping_add(page)
            .wrapping_sub(self.0.offset as u64);
        crate::dax::PageOffset::new(byte >> PAGE_SHIFT)
    }

    /// The DAX device.
    #[inline]
    pub fn dax_device(self) -> *mut bindings::dax_device {
        self.0.dax_dev
    }
}
