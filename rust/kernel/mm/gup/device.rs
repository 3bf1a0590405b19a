// SPDX-License-Identifier: GPL-2.0

//! References to device memory, for all that one page table entry maps at once.
//!
//! An entry with `_PAGE_DEVMAP` says nothing about the life of the pages; the pgmap does: as long
//! as there is a live reference to it, its pages are there and none is free. What the entry maps
//! is one range of it, so one look at the pgmap answers for all of the pages:
//!
//! * their `struct page`s are there, one after another;
//! * their type, and so whether they may be taken in this way at all;
//! * no count is zero, so it can be added to without a loop;
//! * if the memmap consists of single pages, each is a folio. If it consists of compound pages, a
//!   folio's part of the run takes one addition.

use super::{grab::refused_count, small_amount, PinStatistics, Request, Taken};
#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
use crate::mm::memremap::registry;
use crate::{
    bindings,
    error::{
        code::{EFAULT, ENOMEM, EOPNOTSUPP},
        Error,
    },
    irq::LocalInterruptDisabled,
    mm::{
        folio::FolioRef,
        memremap::{DevPagemap, MemoryType},
        page::PageRef,
        pfn::Pfn,
    },
};
use core::{marker::PhantomData, mem::ManuallyDrop};

/// A pgmap that stays mapped as long as a walk goes on.
///
/// With the registry in Rust interrupts off are enough to keep what was found alive
/// ([`registry::lookup_irqs_off`]); with the one in C it takes a live reference.
pub struct WalkedPgmap<'irq>(Kept<'irq>);

#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
type Kept<'irq> = &'irq DevPagemap;
#[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
type Kept<'irq> = (crate::mm::memremap::LiveRef, PhantomData<&'irq ()>);

impl<'irq> WalkedPgmap<'irq> {
    /// The live pgmap of the frame `pfn`: the `last` one if it has the frame.
    #[inline(always)]
    pub fn lookup(pfn: Pfn, last: Option<Self>, irq: LocalInterruptDisabled<'irq>) -> Option<Self> {
        match last {
            Some(last) if last.pgmap().first_range_covers(pfn) => Some(last),
            last => Self::lookup_again(pfn, last, irq),
        }
    }

    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    #[inline]
    fn lookup_again(
        pfn: Pfn,
        _last: Option<Self>,
        irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        registry::lookup_irqs_off(pfn, irq).map(Self)
    }

    #[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
    fn lookup_again(
        pfn: Pfn,
        last: Option<Self>,
        _irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        DevPagemap::lookup(pfn, last.map(|last| last.0 .0)).map(|live| Self((live, PhantomData)))
    }

    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    #[inline(always)]
    fn pgmap(&self) -> &DevPagemap {
        self.0
    }

    #[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
    #[inline(always)]
    fn pgmap(&self) -> &DevPagemap {
        &self.0 .0
    }
}

/// Why pages of a pgmap are not given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Of a filesystem, and for long: whoever truncates a file waits for its pages.
    LongTerm,
    /// Of a PCI device, and the caller did not say that he can deal with that.
    PeerToPeer,
    /// Of a type that nobody may pin.
    Type,
    /// The count of the first page is about to overflow, or has.
    Count,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::LongTerm => EOPNOTSUPP,
            Refused::PeerToPeer => Error::from_errno(-(bindings::EREMOTEIO as i32)),
            Refused::Type => EFAULT,
            Refused::Count => ENOMEM,
        }
    }
}

/// References to consecutive pages of a pgmap that were taken and not yet kept. Dropped, it
/// gives them back.
///
/// # Invariants
///
/// `first` and the pages behind it lie in a pgmap that stays mapped for `'a`. The value owns a
/// reference (a pin if `PIN`) to each of the first `taken` of them.
pub struct DeviceRun<'a, const PIN: bool> {
    first: PageRef<'a>,
    taken: usize,
    _live: PhantomData<&'a DevPagemap>,
}

impl<'a, const PIN: bool> DeviceRun<'a, PIN> {
    /// Takes references to `pages` pages from `pfn` on, or to as many of them as are in one range of
    /// the pgmap `live`. A full memory barrier if it succeeds.
    ///
    /// `None` if memory of its type may not be taken in this way, or if a count is about to overflow;
    /// the slow path then says what is wrong.
    ///
    /// # Safety
    ///
    /// A range of the pgmap `live` that is mapped has `pfn`: so it is for a frame that an entry of
    /// a page table maps, if `live` was looked up for it.
    #[inline(always)]
    pub unsafe fn try_new(
        live: &'a WalkedPgmap<'_>,
        pfn: Pfn,
        pages: usize,
        request: Request,
        _irq: LocalInterruptDisabled<'a>,
    ) -> Option<Self> {
        let live = live.pgmap();
        // A single frame is there by the caller's promise.
        let pages = match pages {
            1 => 1,
            _ => pages.min(live.frames_from(pfn)),
        };
        Self::allowed(live, request).ok()?;
        // INVARIANT: Just checked; nothing was taken yet.
        let mut run = Self {
            // SAFETY: By the caller's promise the frame lies in a range of the pgmap, and `live`
            // keeps that.
            first: unsafe { PageRef::from_pfn(pfn) },
            taken: 0,
            _live: PhantomData,
        };
        let all = match live.vmemmap_shift() {
            0 => run.take_single(pages),
            _ => run.take_compound(pages),
        };
        all.then_some(run)
    }

    /// The same, or those before the first page that cannot be counted.
    ///
    /// # Errors
    ///
    /// Why not even the first can be had.
    ///
    /// # Safety
    ///
    /// As for [`Self::try_new`].
    #[inline]
    pub unsafe fn try_some(
        live: &'a WalkedPgmap<'_>,
        pfn: Pfn,
        pages: usize,
        request: Request,
        _irq: LocalInterruptDisabled<'a>,
    ) -> Result<Self, Refused> {
        let live = live.pgmap();
        let pages = match pages {
            1 => 1,
            _ => pages.min(live.frames_from(pfn)),
        };
        Self::allowed(live, request)?;
        // INVARIANT: As in `try_new`.
        let mut run = Self {
            // SAFETY: As in `try_new`.
            first: unsafe { PageRef::from_pfn(pfn) },
            taken: 0,
            _live: PhantomData,
        };
        // What was taken is in the value, all of it or not.
        match live.vmemmap_shift() {
            0 => run.take_single(pages),
            _ => run.take_compound(pages),
        };
        match run.taken {
            0 => Err(Refused::Count),
            _ => Ok(run),
        }
    }

    /// Whether pages of a pgmap may be taken in this way.
    #[inline(always)]
    fn allowed(live: &DevPagemap, request: Request) -> Result<(), Refused> {
        match live.memory_type().ok_or(Refused::Type)? {
            // Whoever truncates a file waits for pins, which are for a moment only.
            MemoryType::FsDax if PIN && request.is_longterm() => Err(Refused::LongTerm),
            MemoryType::FsDax | MemoryType::Generic => Ok(()),
            MemoryType::PciP2pdma if request.allows_p2pdma() && !request.is_longterm() => Ok(()),
            MemoryType::PciP2pdma => Err(Refused::PeerToPeer),
            _ => Err(Refused::Type),
        }
    }

    /// How many pages it is.
    #[inline]
    pub fn pages(&self) -> usize {
        self.taken
    }

    /// The page `n` pages on.
    ///
    /// # Safety
    ///
    /// `n` is less than the number of pages of the run.
    #[inline]
    unsafe fn page(&self, n: usize) -> PageRef<'a> {
        // SAFETY: By the caller's promise and the type's invariant it is a page of the pgmap.
        unsafe { self.first.nth(n) }
    }

    /// Takes `pages` single pages, or those before the first that cannot be counted. Whether it is
    /// all.
    #[inline(always)]
    fn take_single(&mut self, pages: usize) -> bool {
        let amount = small_amount::<PIN>();
        let first = self.first;
        for n in 0..pages {
            // It is its own folio; nothing needs to be read to know that.
            // SAFETY: Less than the number of pages: a page of the pgmap, by the invariant.
            let folio = unsafe { FolioRef::from_first_page(first.nth(n)) };
            if !add(folio, amount) {
                // INVARIANT: So many were taken.
                self.taken = n;
                return false;
            }
        }
        // INVARIANT: All were taken.
        self.taken = pages;
        true
    }

    /// The same of compound pages.
    fn take_compound(&mut self, pages: usize) -> bool {
        while self.taken < pages {
            // SAFETY: Less than the number of pages.
            let (folio, part) = part_of(unsafe { self.page(self.taken) }, pages - self.taken);
            let amount = match folio.is_large() {
                true => part as i32,
                false => small_amount::<PIN>(),
            };
            if !add(folio, amount) {
                return false;
            }
            if PIN && folio.is_large() {
                // SAFETY: The folio is large, and the references were just taken.
                unsafe { folio.pincount_add(part as i32) };
            }
            // INVARIANT: As many more.
            self.taken = self.taken.wrapping_add(part);
        }
        true
    }

    /// Keeps the references: the pages are the caller's now.
    #[inline(always)]
    pub fn keep(self, taken: &mut Taken<'_>, statistics: &mut PinStatistics<'_>) -> bool {
        if !taken.has_room(self.taken) {
            return false;
        }
        let (first, pages) = self.give_away(statistics);
        // SAFETY: There is room. By the type's invariant there was a reference for each page, and
        // it goes over to the caller of GUP.
        unsafe { taken.push(first, pages) };
        true
    }

    /// Hands the references to C, which writes down whose they are: the first page, and how many.
    #[inline]
    pub fn hand_over(self, statistics: &mut PinStatistics<'_>) -> (*mut bindings::page, usize) {
        let (first, pages) = self.give_away(statistics);
        (first.as_raw(), pages)
    }

    /// The references are somebody else's from now on.
    #[inline(always)]
    fn give_away(self, statistics: &mut PinStatistics<'_>) -> (PageRef<'a>, usize) {
        let this = ManuallyDrop::new(self);
        if PIN {
            statistics.count(this.first, this.taken);
        }
        (this.first, this.taken)
    }

    #[cold]
    #[inline(never)]
    fn give_back(&mut self) {
        let mut done = 0;
        while done < self.taken {
            // SAFETY: Less than the number of pages.
            let page = unsafe { self.page(done) };
            let (folio, part) = part_of(page, self.taken - done);
            let amount = match folio.is_large() {
                true => {
                    if PIN {
                        // SAFETY: The folio is large, and the pins are ours.
                        unsafe { folio.pincount_sub(part as i32) };
                    }
                    part as i32
                }
                false => small_amount::<PIN>(),
            };
            // SAFETY: The references are ours, by the invariant.
            unsafe { bindings::gup_put_refs(folio.as_raw(), amount) };
            done = done.wrapping_add(part);
        }
    }
}

impl<const PIN: bool> Drop for DeviceRun<'_, PIN> {
    #[inline]
    fn drop(&mut self) {
        if self.taken != 0 {
            self.give_back();
        }
    }
}

/// The folio of `page`, and how many of the `pages` pages from there on are in it; at least 1.
#[inline]
fn part_of(page: PageRef<'_>, pages: usize) -> (FolioRef<'_>, usize) {
    let folio = page.folio();
    let behind = folio.nr_pages().saturating_sub(folio.page_idx(page));
    (folio, behind.clamp(1, pages))
}

/// Adds to the count of a folio that is not free, unless it would overflow.
#[inline(always)]
fn add(folio: FolioRef<'_>, amount: i32) -> bool {
    // SAFETY: A folio of a pgmap that stays mapped is not free; an overflow is undone below.
    let old = unsafe { folio.ref_fetch_add(amount) };
    old > 0 || add_refused(folio, amount, old)
}

#[cold]
#[inline(never)]
fn add_refused(folio: FolioRef<'_>, amount: i32, old: i32) -> bool {
    // SAFETY: The references were just taken, and others remain.
    unsafe { folio.ref_fetch_sub(amount) };
    refused_count(old)
}
