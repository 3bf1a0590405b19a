// SPDX-License-Identifier: GPL-2.0

//! Page frame numbers and physical ranges.
//!
//! The C side keeps page frame numbers, byte addresses and lengths in the same `unsigned long`, and
//! shifts by `PAGE_SHIFT` between them. Here each has a type, and the result type of a conversion
//! shows whether it can overflow.
//!
//! Two conventions are C's own, because these types stand for `struct range`:
//!
//! * [`PhysRange`] has an *inclusive* end, in bytes;
//! * [`PfnRange`] has an *inclusive* last PFN, as the ranges of an XArray have.
//!
//! C headers: [`include/linux/pfn.h`](srctree/include/linux/pfn.h),
//! [`include/linux/range.h`](srctree/include/linux/range.h)

use crate::{bindings, page::PAGE_SHIFT};
use core::fmt;

/// A page frame number (PFN): a physical address in pages.
///
/// A PFN need not have a `struct page`, nor memory behind it.
///
/// # Examples
///
/// ```
/// use kernel::{mm::pfn::Pfn, page::PAGE_SIZE};
///
/// let pfn = Pfn::containing(5 * PAGE_SIZE as u64 + 1);
/// assert_eq!(pfn, Pfn::new(5));
/// assert_eq!(pfn.checked_add(2).map(Pfn::nr), Some(7));
/// assert!(pfn.checked_add(usize::MAX).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Pfn(usize);

impl Pfn {
    /// Creates a PFN from its number.
    #[inline]
    pub const fn new(nr: usize) -> Self {
        Self(nr)
    }

    /// Returns the PFN of the page that contains the byte at the address `phys`. C: `PHYS_PFN()`.
    #[doc(alias = "PHYS_PFN")]
    #[inline]
    pub const fn containing(phys: u64) -> Self {
        // CAST: `phys >> PAGE_SHIFT` has at most 52 bits and `usize` has 64.
        Self((phys >> PAGE_SHIFT) as usize)
    }

    /// Returns the number, in pages.
    #[inline]
    pub const fn nr(self) -> usize {
        self.0
    }

    /// Returns the address of the first byte of the page, or `None` if it does not fit into 64
    /// bits. C: `PFN_PHYS()`, which drops the upper bits instead.
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

    /// Returns the PFN that is `pages` higher, or `None` on overflow.
    #[inline]
    pub const fn checked_add(self, pages: usize) -> Option<Self> {
        match self.0.checked_add(pages) {
            Some(nr) => Some(Self(nr)),
            None => None,
        }
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
/// // The end lies before the start; the range is all of the address space.
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
    /// Creates the range of the bytes from `start` to `end`, both inclusive. Returns `None` if the
    /// end lies before the start, or the length does not fit into a `u64`.
    #[inline]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start > end || (start == 0 && end == u64::MAX) {
            return None;
        }
        // INVARIANT: The order and the length were just checked.
        Some(Self { start, end })
    }

    /// Creates the range of `len` bytes from `start` on. Returns `None` if it is empty or ends
    /// beyond 64 bits of address.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::pfn::PhysRange;
    ///
    /// assert_eq!(PhysRange::with_len(0x1000, 0x2000), PhysRange::new(0x1000, 0x2fff));
    /// assert_eq!(PhysRange::with_len(0x1000, 0), None);
    /// assert_eq!(PhysRange::with_len(u64::MAX, 2), None);
    /// ```
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

    /// Converts a C `struct range`, or returns `None` if it ends before it starts.
    #[inline]
    pub fn from_raw(range: bindings::range) -> Option<Self> {
        Self::new(range.start, range.end)
    }

    /// Returns the range as a C `struct range`.
    #[inline]
    pub fn as_raw(self) -> bindings::range {
        bindings::range {
            start: self.start,
            end: self.end,
        }
    }

    /// Returns the address of the first byte.
    #[inline]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Returns the address of the last byte (inclusive).
    #[inline]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Returns the length in bytes, at least 1. C: `range_len()`.
    #[doc(alias = "range_len")]
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(self) -> u64 {
        // OVERFLOW: By the type invariants the length fits.
        self.end.wrapping_sub(self.start).wrapping_add(1)
    }

    /// Returns the length in whole pages, rounded down.
    #[inline]
    pub const fn pages(self) -> usize {
        // CAST: A number of pages has at most 52 bits, as in `Pfn::containing`.
        (self.len() >> PAGE_SHIFT) as usize
    }

    /// Returns whether the range contains the byte at the address `phys`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::pfn::PhysRange;
    ///
    /// let range = PhysRange::new(0x1000, 0x1fff).ok_or(EINVAL)?;
    /// assert!(range.contains(0x1fff) && !range.contains(0x2000));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub const fn contains(self, phys: u64) -> bool {
        phys >= self.start && phys <= self.end
    }

    /// Returns the PFNs of all pages that the range touches.
    #[inline]
    pub const fn pfns(self) -> PfnRange {
        // INVARIANT: `start <= end` remains true after the same shift of both.
        PfnRange {
            first: Pfn::containing(self.start),
            last: Pfn::containing(self.end),
        }
    }

    /// Returns whether start and length are multiples of `align` bytes, which is a power of two.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::pfn::PhysRange;
    ///
    /// let range = PhysRange::with_len(0x20_0000, 0x1000).ok_or(EINVAL)?;
    /// assert!(range.is_aligned(0x1000) && !range.is_aligned(0x20_0000));
    /// # Ok::<(), Error>(())
    /// ```
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

/// A range of PFNs with an inclusive last PFN.
///
/// # Invariants
///
/// `first <= last`.
///
/// # Examples
///
/// ```
/// use kernel::mm::pfn::{Pfn, PfnRange};
///
/// let pfns = PfnRange::new(Pfn::new(8), Pfn::new(15)).ok_or(EINVAL)?;
/// assert_eq!(pfns.len(), 8);
/// assert!(pfns.contains(Pfn::new(15)) && !pfns.contains(Pfn::new(16)));
/// assert!(PfnRange::new(Pfn::new(2), Pfn::new(1)).is_none());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnRange {
    first: Pfn,
    last: Pfn,
}

impl PfnRange {
    /// Creates the range from `first` to `last`, both inclusive, or returns `None` if `last` is
    /// lower.
    #[inline]
    pub const fn new(first: Pfn, last: Pfn) -> Option<Self> {
        if first.0 <= last.0 {
            // INVARIANT: The order was just checked.
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// Returns the first PFN.
    #[inline]
    pub const fn first(self) -> Pfn {
        self.first
    }

    /// Returns the last PFN (inclusive).
    #[inline]
    pub const fn last(self) -> Pfn {
        self.last
    }

    /// Returns the number of PFNs, at least 1 (saturating, for the range of all PFNs).
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        // OVERFLOW: By the type invariants `first <= last`.
        self.last.0.wrapping_sub(self.first.0).saturating_add(1)
    }

    /// Returns whether the range contains `pfn`.
    #[inline]
    pub const fn contains(self, pfn: Pfn) -> bool {
        pfn.0 >= self.first.0 && pfn.0 <= self.last.0
    }
}
