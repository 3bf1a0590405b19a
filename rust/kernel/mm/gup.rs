// SPDX-License-Identifier: GPL-2.0

//! Taking references to pages that a process has mapped: GUP, without locks.
//!
//! # The protocol
//!
//! With interrupts off ([`LocalInterruptDisabled`](crate::irq::LocalInterruptDisabled)), for each entry that maps pages:
//!
//! 1. read the entry, once, and see that it permits what is asked for;
//! 2. take the references ([`Grabbed`] for folios of the page allocator, [`DeviceRun`] for device
//!    memory). This is a full memory barrier;
//! 3. read the entry again, and the entry above it if the page table itself can be freed. If it is
//!    the same, whoever changes it from now on sees the references; if not, they go back;
//! 4. see that the folio may be pinned at all, and only then keep the references ([`Taken`]).
//!
//! Steps 2 to 4 are one value: what was grabbed gives itself back when it is dropped, exactly what
//! this entry took and nothing else, unless [`Grabbed::keep`] or [`DeviceRun::keep`] turns it into
//! entries of the caller's array. So there is no undo to be forgotten.
//!
//! With the lock of the page table nothing changes, and step 3 is not needed. Then device memory is
//! taken by step 2 alone, still with interrupts off, for that keeps the pgmap; and C writes the
//! array ([`DeviceRun::hand_over`]).
//!
//! # What a reference is worth
//!
//! | | `FOLL_GET` | `FOLL_PIN` |
//! |---|---|---|
//! | folio of one page | 1 | 1,024 (`GUP_PIN_COUNTING_BIAS`) |
//! | larger folio, `n` pages of it | `n` | `n`, and `n` on the count of pins |
//! | the zero page | 1 | nothing |
//!
//! C: the upper half of [`mm/gup.c`](srctree/mm/gup.c)

mod device;
mod grab;
mod put;
mod statistics;

pub use device::{DeviceRun, Refused, WalkedPgmap};
pub use grab::Grabbed;
pub use put::unpin;
pub use statistics::PinStatistics;

use super::page::PageRef;
use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};

/// How the references are counted, and for how long they are meant. C: `FOLL_GET`, `FOLL_PIN`,
/// `FOLL_PIN | FOLL_LONGTERM`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinKind {
    /// To use the `struct page`.
    Get,
    /// To use what is in the page.
    Pin,
    /// To use what is in the page for as long as user space likes: forbids memory that the kernel
    /// must be able to move, and files that cannot know when the page is written.
    LongTerm,
}

impl PinKind {
    /// Whether pins are counted, and not plain references.
    #[inline]
    pub const fn is_pin(self) -> bool {
        !matches!(self, Self::Get)
    }
}

/// What a caller of GUP asks for. C: `gup_flags`.
///
/// # Invariants
///
/// One of `FOLL_GET` and `FOLL_PIN` is set, and `FOLL_LONGTERM` only with the latter.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Request(u32);

impl Request {
    /// What C's flags say, if they ask for references in one of the three ways.
    #[inline]
    pub const fn from_flags(flags: u32) -> Option<Self> {
        const HOW: u32 = bindings::FOLL_GET | bindings::FOLL_PIN;
        let how = flags & HOW;
        let valid = match flags & bindings::FOLL_LONGTERM {
            0 => how == bindings::FOLL_GET || how == bindings::FOLL_PIN,
            _ => how == bindings::FOLL_PIN,
        };
        match valid {
            // INVARIANT: Just checked.
            true => Some(Self(flags)),
            false => None,
        }
    }

    /// How the references are counted, and for how long they are meant.
    #[inline]
    pub const fn kind(self) -> PinKind {
        match (
            self.0 & bindings::FOLL_PIN,
            self.0 & bindings::FOLL_LONGTERM,
        ) {
            (0, _) => PinKind::Get,
            (_, 0) => PinKind::Pin,
            _ => PinKind::LongTerm,
        }
    }

    /// Whether the pages are meant to be kept for long.
    #[inline]
    pub const fn is_longterm(self) -> bool {
        self.0 & bindings::FOLL_LONGTERM != 0
    }

    /// Whether the pages will be written.
    #[inline]
    pub const fn is_write(self) -> bool {
        self.0 & bindings::FOLL_WRITE != 0
    }

    /// Whether memory of PCI devices is welcome.
    #[inline]
    pub const fn allows_p2pdma(self) -> bool {
        self.0 & bindings::FOLL_PCI_P2PDMA != 0
    }
}

/// What a reference adds to the count of a folio of one page: `PIN` as in [`Grabbed`].
#[inline]
const fn small_amount<const PIN: bool>() -> i32 {
    match PIN {
        true => bindings::GUP_PIN_COUNTING_BIAS as i32,
        false => 1,
    }
}

/// The caller's array of pages, filled from its beginning.
///
/// # Invariants
///
/// `first` points to `capacity` entries that are ours to write for `'a`; the first `len` of them
/// hold pages to which the caller of GUP owns references; `len <= capacity`.
pub struct Taken<'a> {
    first: NonNull<*mut bindings::page>,
    capacity: usize,
    len: usize,
    _array: PhantomData<&'a mut ()>,
}

impl Taken<'_> {
    /// An empty array.
    ///
    /// # Safety
    ///
    /// `first` points to `capacity` entries that nobody else uses for `'a`.
    #[inline]
    pub unsafe fn new(first: NonNull<*mut bindings::page>, capacity: usize) -> Self {
        // INVARIANT: The caller's promise; nothing was taken yet.
        Self {
            first,
            capacity,
            len: 0,
            _array: PhantomData,
        }
    }

    /// How many pages were taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `pages` more fit.
    #[inline]
    fn has_room(&self, pages: usize) -> bool {
        pages <= self.capacity.wrapping_sub(self.len)
    }

    /// Adds `pages` consecutive pages.
    ///
    /// # Safety
    ///
    /// There is room for them, and the caller of GUP now owns references to them.
    #[inline]
    unsafe fn push(&mut self, first: PageRef<'_>, pages: usize) {
        let mut page = first.as_raw();
        // SAFETY: By the caller's promise these are entries of the array.
        let (mut slot, end) = unsafe {
            let slot = self.first.as_ptr().add(self.len);
            (slot, slot.add(pages))
        };
        while slot != end {
            // SAFETY: `slot` goes over the entries from the first free one on.
            unsafe {
                slot.write(page);
                slot = slot.add(1);
            }
            page = page.wrapping_add(1);
        }
        // INVARIANT: The caller's promise.
        self.len = self.len.wrapping_add(pages);
    }
}
