// SPDX-License-Identifier: GPL-2.0

//! Mapping of file ranges to extents on a device.
//!
//! A filesystem implements `struct iomap_ops`, here [`IomapOps`]. Code below the filesystem walks
//! over a range of a file with an [`IomapIter`], one extent at a time:
//!
//! ```text
//!  let mut iter = IomapIter::new(inode, pos, len, flags, ops);
//!  while iter.next()? {                  // iomap_end() for the last extent, iomap_begin() for the next
//!      iter.set_processed(body(&iter));  // the number of bytes that the body processed, or an error
//!  }
//! ```
//!
//! Each extent is an [`Iomap`]. A write to blocks that several files share has two: the destination
//! ([`IomapIter::iomap`]) and the blocks that hold the old data ([`IomapIter::srcmap`]).
//!
//! The filesystem may hold resources for an extent until `iomap_end()`. If the walk is left in the
//! middle of an extent, dropping the iterator ends it.
//!
//! The unsafe code here encapsulates the call of `iomap_iter()`: the type keeps the iterator in the
//! state that C demands between two calls.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)

use crate::{
    bindings,
    error::{Error, Result},
    fs::inode::Inode,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    ops::BitOr,
    ptr::{null, null_mut},
};

/// The operations of a filesystem that begin and end an extent. C: `struct iomap_ops`.
#[doc(alias = "iomap_ops")]
#[repr(transparent)]
pub struct IomapOps(Opaque<bindings::iomap_ops>);

impl IomapOps {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a `struct iomap_ops` that stays valid for `'a`, and whose functions may
    /// be called for every inode that the result is used with.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *const bindings::iomap_ops) -> &'a Self {
        // SAFETY: The type is transparent over `struct iomap_ops`, and the caller promises that
        // `ptr` is valid for `'a`, so the reference is valid.
        unsafe { &*ptr.cast::<Self>() }
    }
}

/// The purpose of a walk, which the filesystem gets with each extent. C: `IOMAP_WRITE` etc.
///
/// # Examples
///
/// ```
/// use kernel::iomap::IomapFlags;
///
/// let fault = IomapFlags::DAX | IomapFlags::FAULT;
/// assert!(fault.set_if(false, IomapFlags::WRITE) == fault);
/// assert!(fault.set_if(true, IomapFlags::WRITE).contains(IomapFlags::WRITE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IomapFlags(u32);

impl IomapFlags {
    /// The range is written, so the filesystem must allocate blocks.
    pub const WRITE: Self = Self(bindings::IOMAP_WRITE);
    /// The range is zeroed, so holes may remain.
    pub const ZERO: Self = Self(bindings::IOMAP_ZERO);
    /// The walk is part of a page fault.
    pub const FAULT: Self = Self(bindings::IOMAP_FAULT);
    /// The filesystem must not block.
    pub const NOWAIT: Self = Self(bindings::IOMAP_NOWAIT);
    /// Shared blocks are to be copied.
    pub const UNSHARE: Self = Self(bindings::IOMAP_UNSHARE);
    /// The extent is accessed through its DAX device.
    pub const DAX: Self = Self(bindings::IOMAP_DAX);

    /// Returns these flags, with those of `other` added if `condition` is true.
    #[inline]
    #[must_use]
    pub const fn set_if(self, condition: bool, other: Self) -> Self {
        if condition {
            Self(self.0 | other.0)
        } else {
            self
        }
    }

    /// Returns whether all flags of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for IomapFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An iterator over the extents of a range of a file. C: `struct iomap_iter`.
///
/// # Invariants
///
/// Only `iomap_iter()`, [`IomapIter::set_processed`] and [`IomapIter::set_stale`] have changed `raw`
/// since it was created; except that the length of the extent is 0 if there is none, because the walk has not begun or has
/// ended. The inode and the operations are valid for `'a`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     fs::inode::Inode,
///     iomap::{IomapFlags, IomapIter, IomapOps},
/// };
///
/// /// Returns how many bytes of a file lie in holes or unwritten extents.
/// fn bytes_without_data(inode: &Inode, ops: &IomapOps) -> Result<u64> {
///     let mut sum = 0u64;
///     let mut iter = IomapIter::new(inode, 0, inode.size() as u64, IomapFlags::DAX, ops);
///     while iter.next()? {
///         let bytes = iter.length();
///         if iter.iomap().iomap_type().reads_as_zeroes() {
///             sum = sum.saturating_add(bytes);
///         }
///         iter.set_processed(Ok(bytes));
///     }
///     Ok(sum)
/// }
/// ```
///
/// A walk that is left in the middle of an extent ends it, so the filesystem can release what it
/// holds for the extent:
///
/// ```
/// # use core::{ffi::c_uint, mem::MaybeUninit, ptr::from_mut, sync::atomic::{AtomicU32, Ordering}};
/// # use kernel::{bindings, fs::inode::Inode, iomap::{IomapFlags, IomapIter, IomapOps}};
/// # static ENDED: AtomicU32 = AtomicU32::new(0);
/// # unsafe extern "C" fn begin(
/// #     _: *mut bindings::inode, pos: i64, _: i64, _: c_uint,
/// #     iomap: *mut bindings::iomap, _: *mut bindings::iomap,
/// # ) -> core::ffi::c_int {
/// #     // SAFETY: The caller passes an extent that it owns.
/// #     let iomap = unsafe { &mut *iomap };
/// #     (iomap.offset, iomap.length) = (pos, 4096);
/// #     0
/// # }
/// # unsafe extern "C" fn end(
/// #     _: *mut bindings::inode, _: i64, _: i64, _: isize, _: c_uint, _: *mut bindings::iomap,
/// # ) -> core::ffi::c_int {
/// #     ENDED.fetch_add(1, Ordering::Relaxed);
/// #     0
/// # }
/// # let raw = bindings::iomap_ops { iomap_begin: Some(begin), iomap_end: Some(end) };
/// # let mut zeroed = MaybeUninit::<bindings::inode>::zeroed();
/// # // SAFETY: The functions above accept any inode, and C passes it on to them only.
/// # let (ops, inode) = unsafe {
/// #     (IomapOps::from_raw(&raw), Inode::from_raw(from_mut(&mut zeroed).cast()))
/// # };
/// let walk = |extents: u32| -> Result {
///     let mut iter = IomapIter::new(inode, 0, 8192, IomapFlags::DAX, ops);
///     for _ in 0..extents {
///         iter.next()?;
///         iter.set_processed(Ok(4096));
///     }
///     Ok(())
/// };
/// // Left before the first extent, in it, in the second one, and at the end of the range.
/// for (extents, ended) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
///     ENDED.store(0, Ordering::Relaxed);
///     walk(extents)?;
///     assert_eq!(ENDED.load(Ordering::Relaxed), ended);
/// }
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "iomap_iter")]
pub struct IomapIter<'a> {
    raw: bindings::iomap_iter,
    ops: &'a IomapOps,
    _inode: PhantomData<&'a Inode>,
}

impl<'a> IomapIter<'a> {
    /// Creates an iterator over the `len` bytes from `pos` on.
    #[inline]
    pub fn new(inode: &'a Inode, pos: i64, len: u64, flags: IomapFlags, ops: &'a IomapOps) -> Self {
        // INVARIANT: This is the state in which C demands a new iterator. The borrows keep the
        // inode and the operations valid for `'a`.
        Self {
            raw: bindings::iomap_iter {
                inode: inode.as_raw(),
                pos,
                len,
                processed: 0,
                flags: flags.0,
                iomap: no_extent(),
                srcmap: no_extent(),
                private: null_mut(),
            },
            ops,
            _inode: PhantomData,
        }
    }

    /// Ends the current extent, if there is one, and begins the next. Returns `false` at the end of
    /// the range, or if nothing of the current extent was processed. May sleep. C: `iomap_iter()`.
    ///
    /// # Errors
    ///
    /// Returns the error of the filesystem, or the one passed to
    /// [`set_processed`](Self::set_processed).
    #[doc(alias = "iomap_iter")]
    #[inline]
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<bool> {
        // SAFETY: By the type invariants the iterator is in a state that C has left or demands, and
        // the inode and the operations are valid.
        let found = unsafe { bindings::iomap_iter(&mut self.raw, self.ops.0.get()) };
        if found > 0 {
            return Ok(true);
        }
        // INVARIANT: C has ended the last extent, or has begun none.
        self.raw.iomap.length = 0;
        // Compared here rather than by `to_result()`: the usual results need no call.
        if found < 0 {
            return Err(Error::from_errno(found));
        }
        Ok(false)
    }

    /// Ends the current extent in the middle of the walk. May sleep. C: `->iomap_end()`.
    #[cold]
    fn end(&mut self) {
        let (pos, length) = (self.raw.pos, self.length());
        let processed = self.raw.processed.max(0);
        // SAFETY: By the type invariants the operations are valid, and so is the inode, for which
        // they may be called. The filesystem has begun this extent, and it is ended only here,
        // because the walk does not go on. It is not larger than the file.
        // CAST: A file has at most `i64::MAX` bytes.
        unsafe {
            if let Some(end) = (*self.ops.0.get()).iomap_end {
                end(
                    self.raw.inode,
                    pos,
                    length as _,
                    processed as _,
                    self.raw.flags,
                    &mut self.raw.iomap,
                );
            }
        }
    }

    /// Stores the result of the body for the current extent: the number of bytes processed, or an
    /// error. If it is 0 bytes, the walk ends.
    #[inline]
    pub fn set_processed(&mut self, bytes: Result<u64>) {
        self.raw.processed = match bytes {
            // CAST: At most the length of the extent; C warns otherwise.
            Ok(bytes) => bytes as i64,
            Err(error) => i64::from(error.to_errno()),
        };
    }

    /// Returns whether the current extent still is what the filesystem returned. It is not if a task
    /// that the caller does not exclude has changed the blocks of the file since, or if the filesystem
    /// cannot tell. C: `iomap_valid()` of `struct iomap_folio_ops`.
    #[doc(alias = "iomap_valid")]
    pub fn is_valid(&self) -> bool {
        // SAFETY: The filesystem has set the field to null or to its operations, which stay valid as
        // long as the inode.
        let valid = unsafe { self.raw.iomap.folio_ops.as_ref() }.and_then(|ops| ops.iomap_valid);
        // SAFETY: By the type invariants the inode is valid, and the extent is one that the
        // filesystem has returned for it.
        valid.is_some_and(|valid| unsafe { valid(self.raw.inode, &self.raw.iomap) })
    }

    /// Makes [`next`](Self::next) end the current extent, of which nothing was processed, and begin
    /// one at the same position. C: `IOMAP_F_STALE`.
    #[doc(alias = "IOMAP_F_STALE")]
    pub fn set_stale(&mut self) {
        // CAST: The flag has 16 bits.
        self.raw.iomap.flags |= bindings::IOMAP_F_STALE as u16;
        self.raw.processed = 0;
    }

    /// Returns the inode.
    #[inline]
    pub fn inode(&self) -> &'a Inode {
        // SAFETY: By the type invariants the inode is valid for `'a`.
        unsafe { Inode::from_raw(self.raw.inode) }
    }

    /// Returns the current position in the file, in bytes.
    #[inline]
    pub fn pos(&self) -> i64 {
        self.raw.pos
    }

    /// Returns the number of bytes of the range that remain, those of the current extent included.
    #[inline]
    pub fn remaining(&self) -> u64 {
        self.raw.len
    }

    /// Returns the number of bytes from the current position to the end of the current extent, or
    /// to the end of the range if that comes first. C: `iomap_length()`.
    #[doc(alias = "iomap_length")]
    #[inline]
    pub fn length(&self) -> u64 {
        let end_of = |iomap: &bindings::iomap| (iomap.offset as u64).wrapping_add(iomap.length);
        let mut end = end_of(&self.raw.iomap);
        if self.raw.srcmap.type_ != HOLE {
            end = end.min(end_of(&self.raw.srcmap));
        }
        self.raw.len.min(end.wrapping_sub(self.raw.pos as u64))
    }

    /// Returns the current extent: for a write, the destination of the data.
    #[inline]
    pub fn iomap(&self) -> Iomap<'_> {
        Iomap(&self.raw.iomap)
    }

    /// Returns the extent that holds the old data. C: `iomap_iter_srcmap()`.
    ///
    /// It differs from [`iomap`](Self::iomap) only in a write to shared blocks.
    #[doc(alias = "iomap_iter_srcmap")]
    #[inline]
    pub fn srcmap(&self) -> Iomap<'_> {
        if self.raw.srcmap.type_ != HOLE {
            Iomap(&self.raw.srcmap)
        } else {
            Iomap(&self.raw.iomap)
        }
    }

    /// Returns whether the data of the extent must be copied to unshare it. C:
    /// `iomap_want_unshare_iter()`.
    #[doc(alias = "iomap_want_unshare_iter")]
    #[inline]
    pub fn want_unshare(&self) -> bool {
        self.iomap().is_shared() && u32::from(self.raw.srcmap.type_) == bindings::IOMAP_MAPPED
    }

    /// Returns whether the walk has [`IomapFlags::WRITE`].
    #[inline]
    pub fn is_write(&self) -> bool {
        self.raw.flags & bindings::IOMAP_WRITE != 0
    }
}

impl Drop for IomapIter<'_> {
    #[inline]
    fn drop(&mut self) {
        // Never, unless the walk is left early: then the compiler does not see that it has ended.
        if self.raw.iomap.length != 0 {
            self.end();
        }
    }
}

const HOLE: u16 = bindings::IOMAP_HOLE as u16;

/// Returns the extent of an iterator that has not begun: a hole of no length.
///
/// It is written field by field: zeroing the structure as a whole is a call of `memset()`, which is
/// two percent of a fault.
#[inline(always)]
const fn no_extent() -> bindings::iomap {
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

/// The type of an extent. C: `type` of `struct iomap`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IomapType {
    /// No blocks. C: `IOMAP_HOLE`.
    Hole,
    /// Blocks with data. C: `IOMAP_MAPPED`.
    Mapped,
    /// Blocks without data, which read as zeroes. C: `IOMAP_UNWRITTEN`.
    Unwritten,
    /// Delayed allocation, or data inside the inode: nothing that a DAX device holds.
    Other,
}

impl IomapType {
    /// Returns whether the extent reads as zeroes.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::iomap::IomapType;
    ///
    /// assert!(IomapType::Unwritten.reads_as_zeroes());
    /// assert!(!IomapType::Mapped.reads_as_zeroes());
    /// ```
    #[inline]
    pub const fn reads_as_zeroes(self) -> bool {
        matches!(self, Self::Hole | Self::Unwritten)
    }
}

/// An extent of a file. C: `struct iomap`.
#[doc(alias = "iomap")]
#[derive(Clone, Copy)]
pub struct Iomap<'a>(&'a bindings::iomap);

impl Iomap<'_> {
    /// Returns the type of the extent.
    #[inline]
    pub fn iomap_type(self) -> IomapType {
        match u32::from(self.0.type_) {
            bindings::IOMAP_HOLE => IomapType::Hole,
            bindings::IOMAP_MAPPED => IomapType::Mapped,
            bindings::IOMAP_UNWRITTEN => IomapType::Unwritten,
            _ => IomapType::Other,
        }
    }

    /// Returns whether the blocks were allocated by this call of the filesystem. C: `IOMAP_F_NEW`.
    #[doc(alias = "IOMAP_F_NEW")]
    #[inline]
    pub fn is_new(self) -> bool {
        u32::from(self.0.flags) & bindings::IOMAP_F_NEW != 0
    }

    /// Returns whether metadata must be written before the data is durable. C: `IOMAP_F_DIRTY`.
    #[doc(alias = "IOMAP_F_DIRTY")]
    #[inline]
    pub fn is_dirty(self) -> bool {
        u32::from(self.0.flags) & bindings::IOMAP_F_DIRTY != 0
    }

    /// Returns whether the blocks are shared with other files, or are the copy made for a write to
    /// shared blocks. C: `IOMAP_F_SHARED`.
    #[doc(alias = "IOMAP_F_SHARED")]
    #[inline]
    pub fn is_shared(self) -> bool {
        u32::from(self.0.flags) & bindings::IOMAP_F_SHARED != 0
    }

    /// Returns the length of the whole extent, in bytes.
    #[inline]
    pub fn len(self) -> u64 {
        self.0.length
    }

    /// Returns whether the length is 0.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.length == 0
    }

    /// Returns the page of the DAX device that holds the byte at `pos` of the file. C:
    /// `dax_iomap_pgoff()`.
    #[cfg(all(CONFIG_BLOCK, CONFIG_DAX))]
    #[doc(alias = "dax_iomap_pgoff")]
    #[inline]
    pub fn dax_pgoff(self, pos: i64) -> crate::dax::PageOffset {
        use crate::page::{PAGE_MASK, PAGE_SHIFT};

        let page = pos as u64 & PAGE_MASK as u64;
        let byte = self
            .0
            .addr
            .wrapping_add(page)
            .wrapping_sub(self.0.offset as u64);
        crate::dax::PageOffset::new(byte >> PAGE_SHIFT)
    }

    /// Returns the DAX device of the extent, or null if it has none. C: `iomap->dax_dev`.
    ///
    /// The filesystem holds the device as long as the extent is in use.
    #[inline]
    pub fn dax_device(self) -> *mut bindings::dax_device {
        self.0.dax_dev
    }
}
