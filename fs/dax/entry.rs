// SPDX-License-Identifier: GPL-2.0

//! What a mapping remembers of a page that it gave out.
//!
//! Files that are mapped directly have no page cache. In its place there is, for each page or each
//! 2 MiB that somebody has faulted in, an entry:
//!
//! | entry | means | frames |
//! |---|---|---|
//! | empty | somebody is faulting it in; only ever seen locked, or by who locks it | none |
//! | zero | a hole, read through the zero page | none of the device |
//! | frames | memory of the device | 1 or 512 |
//!
//! An entry is a word, so that it fits into the XArray: a number there is shifted left by one, with
//! the lowest bit set. From the second bit on: locked, huge, zero, empty, and the frame number.
//! The word is what C has too: it is seen in tracepoints, and as a cookie.

use crate::direct_access::EntryMemory;
use kernel::{
    bindings,
    mm::pfn::Pfn,
    page::{PAGE_SHIFT, PAGE_SIZE},
};

/// The size of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// A page.
    Page,
    /// What an entry of a page middle directory maps: 2 MiB.
    Huge,
}

impl Size {
    /// As a power of two of pages.
    #[inline]
    pub(crate) const fn order(self) -> u32 {
        match self {
            Self::Page => 0,
            Self::Huge => bindings::PMD_ORDER,
        }
    }

    /// In pages.
    #[inline]
    pub(crate) const fn pages(self) -> usize {
        1 << self.order()
    }

    /// In bytes.
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        PAGE_SIZE << self.order()
    }

    /// The first page, in the file, of the entry that has the page `index`.
    #[inline]
    pub(crate) const fn align(self, index: usize) -> usize {
        index & !self.colour()
    }

    /// The bits of a page's index that are its place in an entry. C: `PG_PMD_COLOUR`.
    #[doc(alias = "PG_PMD_COLOUR")]
    #[inline]
    pub(crate) const fn colour(self) -> usize {
        // OVERFLOW: At least one page.
        self.pages() - 1
    }
}

/// An entry, locked or not.
///
/// # Invariants
///
/// The lowest bit is set. Unless it is empty or zero, the frames are memory of a device with
/// `struct page`s, which stay as long as the entry is in a mapping: the filesystem has the device,
/// and truncates its mappings before it lets it go.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Entry(usize);

impl Entry {
    const VALUE: usize = 1;
    const LOCKED: usize = 1 << 1;
    const HUGE: usize = 1 << 2;
    const ZERO: usize = 1 << 3;
    const EMPTY: usize = 1 << 4;
    const SHIFT: u32 = 5;

    #[inline]
    const fn new(pfn: Pfn, size: Size, flags: usize) -> Self {
        let huge = match size {
            Size::Page => 0,
            Size::Huge => Self::HUGE,
        };
        Self((pfn.nr() << Self::SHIFT) | huge | flags | Self::VALUE)
    }

    /// Nothing yet.
    #[inline]
    pub(crate) const fn empty(size: Size) -> Self {
        // INVARIANT: Empty.
        Self::new(Pfn::new(0), size, Self::EMPTY)
    }

    /// A hole, read through the zero page at `pfn`.
    #[inline]
    pub(crate) const fn zero(pfn: Pfn, size: Size) -> Self {
        // INVARIANT: Zero.
        Self::new(pfn, size, Self::ZERO)
    }

    /// The memory that does for it.
    #[inline]
    pub(crate) fn frames(fit: &EntryMemory<'_>) -> Self {
        // INVARIANT: What there is access to, and is to be faulted in, has pages; and the
        // filesystem has the device.
        Self::new(fit.pfn().pfn(), fit.size(), 0)
    }

    /// From what is in a mapping, unless that is no number.
    ///
    /// # Safety
    ///
    /// A number there is an entry.
    #[inline]
    pub(crate) unsafe fn from_word(word: usize) -> Option<Self> {
        // INVARIANT: The caller's promise.
        (word & Self::VALUE != 0).then_some(Self(word))
    }

    /// From what [`into_word`](Self::into_word) gave.
    ///
    /// # Safety
    ///
    /// It did, and the entry, locked, is in a mapping since.
    #[inline]
    pub(crate) const unsafe fn from_cookie(word: usize) -> Self {
        // INVARIANT: The caller's promise.
        Self(word)
    }

    /// The word.
    #[inline]
    pub(crate) const fn into_word(self) -> usize {
        self.0
    }

    /// Its size.
    #[inline]
    pub(crate) const fn size(self) -> Size {
        if self.0 & Self::HUGE != 0 {
            Size::Huge
        } else {
            Size::Page
        }
    }

    /// The page `n` of it as an entry of its own, not locked, if it is memory of the device.
    #[inline]
    pub(crate) const fn part(self, n: usize) -> Option<Self> {
        match self.pfn() {
            // INVARIANT: One of its frames.
            Some(pfn) if n < self.size().pages() => {
                Some(Self::new(Pfn::new(pfn.nr().wrapping_add(n)), Size::Page, 0))
            }
            _ => None,
        }
    }

    /// Whether somebody has locked it.
    #[inline]
    pub(crate) const fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// The same, locked.
    #[inline]
    #[must_use]
    pub(crate) const fn locked(self) -> Self {
        Self(self.0 | Self::LOCKED)
    }

    /// The same, not locked.
    #[inline]
    #[must_use]
    pub(crate) const fn unlocked(self) -> Self {
        Self(self.0 & !Self::LOCKED)
    }

    /// Whether it is a hole.
    #[inline]
    pub(crate) const fn is_zero(self) -> bool {
        self.0 & Self::ZERO != 0
    }

    /// Whether it is memory of the device.
    #[inline]
    pub(crate) const fn has_frames(self) -> bool {
        self.0 & (Self::ZERO | Self::EMPTY) == 0
    }

    /// The first frame, if it is memory of the device.
    #[inline]
    pub(crate) const fn pfn(self) -> Option<Pfn> {
        if self.has_frames() {
            Some(Pfn::new(self.0 >> Self::SHIFT))
        } else {
            None
        }
    }
}

/// The first byte of the page `index` of a file.
#[inline]
pub(crate) const fn byte_of(index: usize) -> i64 {
    // CAST: A file has no more bytes than `i64` can count.
    (index << PAGE_SHIFT) as i64
}

/// The page of a file that has the byte at `position`.
#[inline]
pub(crate) const fn page_of(position: i64) -> usize {
    (position >> PAGE_SHIFT) as usize
}

// The bits of an entry are those of C: tracepoints and the cookies of memory failure show them.
const _: () = {
    let hole = Entry::zero(Pfn::new(0x1234), Size::Huge);
    assert!(hole.is_zero() && !hole.is_locked() && hole.locked().is_locked());
    assert!(hole.locked().unlocked().0 == hole.0);
    assert!(matches!(hole.size(), Size::Huge));
    // The zero page is not memory of the file.
    assert!(hole.pfn().is_none() && hole.part(0).is_none());
    assert!(hole.into_word() == (0x1234 << 5) | 0b01101);
    assert!(Entry::empty(Size::Page).into_word() == 0b10001);
    assert!(Size::Huge.align(0x3ff) == 0x200);
};
