// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! DAX entries: what the mapping of a file stores for pages that were faulted in.
//!
//! A DAX file has no page cache. In its place the mapping stores one entry for each page, or for
//! each 2 MiB, that a fault has handled:
//!
//! | entry | meaning | PFNs |
//! |---|---|---|
//! | empty | no fault has filled it yet: one is in progress, or the last one failed | none |
//! | zero | a hole, mapped read-only to the zero page or the huge zero folio | none of the device |
//! | memory | device memory | 1 or 512 |
//!
//! An entry is a value entry of the XArray: a number, shifted left by one, with the lowest bit set.
//! From the second bit on it consists of the flags locked, PMD, zero and empty, and the PFN. This
//! is the format of C, and it is visible in tracepoints and in the cookies of memory failure.

use crate::direct_access::EntryMemory;
use core::{marker::PhantomData, ops::Deref};
use kernel::{
    bindings,
    mm::pfn::Pfn,
    page::{PAGE_SHIFT, PAGE_SIZE},
};

/// The size of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// One page, as a PTE maps it.
    Pte,
    /// 2 MiB, as a PMD maps it.
    Pmd,
}

impl Size {
    /// Returns the size as an order: the binary logarithm of the number of pages.
    #[inline]
    pub(crate) const fn order(self) -> u32 {
        match self {
            Self::Pte => 0,
            Self::Pmd => bindings::PMD_ORDER,
        }
    }

    /// Returns the size in pages.
    #[inline]
    pub(crate) const fn pages(self) -> usize {
        1 << self.order()
    }

    /// Returns the size in bytes. C: `dax_entry_size()`.
    #[doc(alias = "dax_entry_size")]
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        PAGE_SIZE << self.order()
    }

    /// Returns the index of the first page of the entry that contains the page `index`.
    #[inline]
    pub(crate) const fn align(self, index: usize) -> usize {
        index & !self.colour()
    }

    /// Returns the mask of the index bits that select a page within an entry. C: `PG_PMD_COLOUR`.
    #[doc(alias = "PG_PMD_COLOUR")]
    #[inline]
    pub(crate) const fn colour(self) -> usize {
        // OVERFLOW: An entry has at least one page.
        self.pages() - 1
    }
}

/// The word of a DAX entry, locked or not. It is a number, and no evidence that a mapping has the
/// entry: that is an [`EntryRef`](crate::owner::EntryRef).
///
/// # Invariants
///
/// The lowest bit is set.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Entry(usize);

impl Entry {
    const VALUE: usize = 1;
    const LOCKED: usize = 1 << 1;
    const PMD: usize = 1 << 2;
    const ZERO: usize = 1 << 3;
    const EMPTY: usize = 1 << 4;
    const SHIFT: u32 = 5;

    /// Creates an entry from its parts. C: `dax_make_entry()`.
    #[doc(alias = "dax_make_entry")]
    #[inline]
    const fn new(pfn: Pfn, size: Size, flags: usize) -> Self {
        let pmd = match size {
            Size::Pte => 0,
            Size::Pmd => Self::PMD,
        };
        Self((pfn.nr() << Self::SHIFT) | pmd | flags | Self::VALUE)
    }

    /// Creates an empty entry.
    #[inline]
    pub(crate) const fn empty(size: Size) -> Self {
        // INVARIANT: `new` sets the lowest bit.
        Self::new(Pfn::new(0), size, Self::EMPTY)
    }

    /// Creates an entry for a hole, which is mapped to the zero page at `pfn`.
    #[inline]
    const fn zero(pfn: Pfn, size: Size) -> Self {
        // INVARIANT: `new` sets the lowest bit.
        Self::new(pfn, size, Self::ZERO)
    }

    /// Converts a word of the array, if it is a value entry.
    #[inline]
    pub(crate) fn from_word(word: usize) -> Option<Self> {
        // INVARIANT: The lowest bit is checked.
        (word & Self::VALUE != 0).then_some(Self(word))
    }

    /// Returns the word of the array.
    #[inline]
    pub(crate) const fn into_word(self) -> usize {
        self.0
    }

    /// Returns the size. C: `dax_is_pmd_entry()`, `dax_entry_order()`.
    #[doc(alias = "dax_is_pmd_entry")]
    #[doc(alias = "dax_is_pte_entry")]
    #[doc(alias = "dax_entry_order")]
    #[inline]
    pub(crate) const fn size(self) -> Size {
        if self.0 & Self::PMD != 0 {
            Size::Pmd
        } else {
            Size::Pte
        }
    }

    /// Returns page `n` of the entry as an unlocked PTE entry, if the entry is device memory.
    #[inline]
    pub(crate) const fn part(self, n: usize) -> Option<Self> {
        match self.pfn() {
            // INVARIANT: `new` sets the lowest bit.
            Some(pfn) if n < self.size().pages() => {
                Some(Self::new(Pfn::new(pfn.nr().wrapping_add(n)), Size::Pte, 0))
            }
            _ => None,
        }
    }

    /// Returns whether the entry is locked. C: `dax_is_locked()`.
    #[doc(alias = "dax_is_locked")]
    #[inline]
    pub(crate) const fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// Returns the entry with the lock bit set.
    #[inline]
    #[must_use]
    pub(crate) const fn locked(self) -> Self {
        Self(self.0 | Self::LOCKED)
    }

    /// Returns the entry with the lock bit clear.
    #[inline]
    #[must_use]
    pub(crate) const fn unlocked(self) -> Self {
        Self(self.0 & !Self::LOCKED)
    }

    /// Returns whether the entry is a hole. C: `dax_is_zero_entry()`.
    #[doc(alias = "dax_is_zero_entry")]
    #[inline]
    pub(crate) const fn is_zero(self) -> bool {
        self.0 & Self::ZERO != 0
    }

    /// Returns whether the entry is device memory, and so neither zero nor empty. C:
    /// `dax_is_zero_entry()`, `dax_is_empty_entry()`.
    #[doc(alias = "dax_is_empty_entry")]
    #[inline]
    pub(crate) const fn has_memory(self) -> bool {
        self.0 & (Self::ZERO | Self::EMPTY) == 0
    }

    /// Returns the first PFN, if the entry is device memory. C: `dax_to_pfn()`.
    #[doc(alias = "dax_to_pfn")]
    #[inline]
    pub(crate) const fn pfn(self) -> Option<Pfn> {
        if self.has_memory() {
            Some(Pfn::new(self.0 >> Self::SHIFT))
        } else {
            None
        }
    }
}

/// An entry that is to be stored: device memory that a guard keeps, or none.
///
/// # Invariants
///
/// If the entry is device memory, its PFNs are aligned and have `struct page`s, and their pgmap is
/// not torn down during `'m` without looking for files that own its pages after that.
#[derive(Clone, Copy)]
pub(crate) struct NewEntry<'m>(Entry, PhantomData<&'m ()>);

impl<'m> NewEntry<'m> {
    /// Creates an entry for device memory.
    #[inline]
    pub(crate) fn for_memory(memory: &'m EntryMemory<'_>) -> Self {
        // INVARIANT: By the invariants of `EntryMemory` the PFNs are aligned and have a `struct
        // page`. The guard that `memory` borrows from delays the killing of the device, and
        // teardown looks for owners after that.
        Self(
            Entry::new(memory.pfn().pfn(), memory.size(), 0),
            PhantomData,
        )
    }

    /// Creates an entry for a hole, which is mapped to the zero page at `pfn`.
    #[inline]
    pub(crate) const fn zero(pfn: Pfn, size: Size) -> Self {
        // INVARIANT: The entry is no device memory.
        Self(Entry::zero(pfn, size), PhantomData)
    }
}

impl Deref for NewEntry<'_> {
    type Target = Entry;

    #[inline(always)]
    fn deref(&self) -> &Entry {
        &self.0
    }
}

/// Returns the position of the first byte of the page `index` of a file.
#[inline]
pub(crate) const fn byte_of(index: usize) -> i64 {
    // CAST: A file has at most `i64::MAX` bytes.
    (index << PAGE_SHIFT) as i64
}

/// Returns the index of the page that contains the byte at `position` of a file.
#[inline]
pub(crate) const fn page_of(position: i64) -> usize {
    (position >> PAGE_SHIFT) as usize
}

// The format is that of C: tracepoints and the cookies of memory failure show it.
const _: () = {
    let hole = Entry::zero(Pfn::new(0x1234), Size::Pmd);
    assert!(hole.is_zero() && !hole.is_locked() && hole.locked().is_locked());
    assert!(hole.locked().unlocked().0 == hole.0);
    assert!(matches!(hole.size(), Size::Pmd));
    // The zero page is not memory of the file.
    assert!(hole.pfn().is_none() && hole.part(0).is_none());
    assert!(hole.into_word() == (0x1234 << 5) | 0b01101);
    assert!(Entry::empty(Size::Pte).into_word() == 0b10001);
    assert!(Size::Pmd.align(0x3ff) == 0x200);
};
