// SPDX-License-Identifier: GPL-2.0

//! Page frame numbers and physical ranges.
//!
//! The C side keeps page frame numbers, byte addresses and lengths in the same `unsigned long`,
//! and shifts by `PAGE_SHIFT` between them. Here each has a type, and a conversion that can lose or
//! overflow says so.
//!
//! Two conventions, both C's own, kept because these types stand for `struct range`:
//!
//! * [`PhysRange`] has an *inclusive* end, in bytes;
//! * [`PfnRange`] has an *inclusive* last frame, which is what the XArray wants as well.
//!
//! C headers: [`include/linux/pfn.h`](srctree/include/linux/pfn.h),
//! [`include/linux/range.h`](srctree/include/linux/range.h)

use crate::{bindings, page::PAGE_SHIFT};
use core::fmt;
#[cfg(any(CONFIG_RUST_X86_GUP, CONFIG_RUST_FS_DAX))]
use core::ptr::NonNull;

/// A page frame number: a physical address in pages.
///
/// It names a frame. It says nothing about whether that frame has a `struct page`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Pfn(usize);

impl Pfn {
    /// The frame with this number.
    #[inline]
    pub const fn new(nr: usize) -> Self {
        Self(nr)
    }

    /// The frame that holds the byte at `phys`. C: `PHYS_PFN()`.
    #[doc(alias = "PHYS_PFN")]
    #[inline]
    pub const fn containing(phys: u64) -> Self {
        // CAST: `phys >> PAGE_SHIFT` has at most 52 bits and `usize` has 64.
        Self((phys >> PAGE_SHIFT) as usize)
    }

    /// The number itself, in pages.
    #[inline]
    pub const fn nr(self) -> usize {
        self.0
    }

    /// The address of the frame's first byte, or `None` if the frame lies beyond 64 bits of
    /// address. C: `PFN_PHYS()`, which drops the upper bits instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::pfn::Pfn;
    ///
    /// assert_eq!(Pfn::new(3).phys(), Some(0x3000));
    /// assert_eq!(Pfn::new(usize::MAX).phys(), None);
    /// ```
    #[doc(alias = "PFN_PHYS")]
    #[inline]
    pub const fn phys(self) -> Option<u64> {
        let phys = (self.0 as u64) << PAGE_SHIFT;
        if phys >> PAGE_SHIFT == self.0 as u64 {
            Some(phys)
        } else {
            None
        }
    }

    /// The frame `pages` further on, or `None` on overflow.
    #[inline]
    pub const fn checked_add(self, pages: usize) -> Option<Self> {
        match self.0.checked_add(pages) {
            Some(nr) => Some(Self(nr)),
            None => None,
        }
    }

    /// Its `struct page`. Any context. C: `pfn_to_page()`.
    ///
    /// # Safety
    ///
    /// The frame has one.
    #[cfg(any(CONFIG_RUST_X86_GUP, CONFIG_RUST_FS_DAX))]
    #[doc(alias = "pfn_to_page")]
    #[inline(always)]
    pub unsafe fn to_page(self) -> NonNull<bindings::page> {
        // SAFETY: The memmap is one array (SPARSEMEM_VMEMMAP) that begins at `vmemmap_base`, which
        // is written once, early at boot.
        let memmap = unsafe { bindings::vmemmap_base } as *mut bindings::page;
        // SAFETY: By the caller's promise the array has this element; so it is not null either.
        unsafe { NonNull::new_unchecked(memmap.wrapping_add(self.nr())) }
    }
}

/// A range of physical memory, in bytes, with an inclusive end: `struct range`.
///
/// # Invariants
///
/// `start <= end`, and the length (`end - start + 1`) fits into a `u64`.
///
/// # Examples
///
/// ```
/// use kernel::mm::pfn::PhysRange;
///
/// let range = PhysRange::new(0x20_0000, 0x3f_ffff).ok_or(EINVAL)?;
/// assert_eq!(range.len(), 2 << 20);
/// assert_eq!(range.pfns().len(), 512);
///
/// // The end lies before the start, or the range is all of the address space: no range.
/// assert!(PhysRange::new(0x20_0000, 0x1f_ffff).is_none());
/// assert!(PhysRange::new(0, u64::MAX).is_none());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PhysRange {
    start: u64,
    end: u64,
}

impl PhysRange {
    /// The bytes from `start` to `end`, both included; `None` if they are no range, or if their
    /// number does not fit into a `u64`.
    #[inline]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start > end || (start == 0 && end == u64::MAX) {
            return None;
        }
        // INVARIANT: just checked.
        Some(Self { start, end })
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub const fn with_len(start: u64, len: u64) -> Option<Self> {
        if len == 0 {
            return None;
        }
        match start.checked_add(len - 1) {
            Some(end) => Self::new(start, end),
            None => None,
        }
    }

    /// What a C `struct range` says, if it is a range.
    #[inline]
    pub(crate) fn from_raw(range: bindings::range) -> Option<Self> {
        Self::new(range.start, range.end)
    }

    /// The same as a C `struct range`.
    #[inline]
    pub(crate) fn as_raw(self) -> bindings::range {
        bindings::range {
            start: self.start,
            end: self.end,
        }
    }

    /// The first byte.
    #[inline]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The last byte (inclusive).
    #[inline]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// The length in bytes, at least 1. C: `range_len()`.
    #[doc(alias = "range_len")]
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(self) -> u64 {
        // OVERFLOW: excluded by the invariant.
        self.end.wrapping_sub(self.start).wrapping_add(1)
    }

    /// The number of whole pages that fit into the length.
    #[inline]
    pub const fn pages(self) -> usize {
        // CAST: as in `Pfn::containing`.
        (self.len() >> PAGE_SHIFT) as usize
    }

    /// Whether the byte at `phys` is in the range.
    #[inline]
    pub const fn contains(self, phys: u64) -> bool {
        phys >= self.start && phys <= self.end
    }

    /// The frames that the range touches.
    #[inline]
    pub const fn pfns(self) -> PfnRange {
        // INVARIANT: `start <= end` stays true after the same shift on both.
        PfnRange {
            first: Pfn::containing(self.start),
            last: Pfn::containing(self.end),
        }
    }

    /// Whether both ends lie on a boundary of `align` bytes, a power of two.
    #[inline]
    pub const fn is_aligned(self, align: u64) -> bool {
        let mask = align.wrapping_sub(1);
        self.start & mask == 0 && self.len() & mask == 0
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end)
    }
}

/// A range of page frames with an inclusive last frame.
///
/// # Invariants
///
/// `first <= last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnRange {
    first: Pfn,
    last: Pfn,
}

impl PfnRange {
    /// The frames from `first` to `last`, both included, if there are any.
    #[inline]
    pub const fn new(first: Pfn, last: Pfn) -> Option<Self> {
        if first.0 <= last.0 {
            // INVARIANT: just checked.
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The first frame.
    #[inline]
    pub const fn first(self) -> Pfn {
        self.first
    }

    /// The last frame (inclusive).
    #[inline]
    pub const fn last(self) -> Pfn {
        self.last
    }

    /// The number of frames, at least 1 (saturating, for the range of all of them).
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        // OVERFLOW: `first <= last` by the invariant.
        self.last.0.wrapping_sub(self.first.0).saturating_add(1)
    }

    /// Whether `pfn` is one of them.
    #[inline]
    pub const fn contains(self, pfn: Pfn) -> bool {
        pfn.0 >= self.first.0 && pfn.0 <= self.last.0
    }
}
