// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/gup.c`.

//! References to device memory that an entry maps: taken, and then put or handed to the caller of
//! GUP.
//!
//! [`DeviceRun`] has them. Drop puts exactly the references that this entry took. `into_pages()`
//! writes the pages into the caller's array instead, and `into_raw()` hands them to C.
//!
//! An entry with `_PAGE_DEVMAP` does not say how long its pages stay valid; their pgmap does. As
//! long as the pgmap is alive, its pages are valid. What the entry maps is one range of PFNs, so
//! one look at the pgmap answers for all of the pages:
//!
//! * their `struct page`s are valid and follow each other;
//! * their type says whether they can be taken at all;
//! * the count of a page that its owner does not take back is never zero, so adding to it needs no
//!   loop (the others: see below);
//! * if the memmap consists of single pages, each is a folio. If it consists of compound pages, the
//!   part of the range that is in one folio takes one addition.
//!
//! # FS DAX
//!
//! The pages of 2 MiB of FS DAX are single ones or one folio, and that changes while they are idle. The
//! count of a page that changes is 0 (`kernel::mm::folio`). So what was taken is valid if no count was
//! 0, and the first page is after that still what it was before. Until then nothing but the counts is
//! touched: the pin count of a folio lies in a page that may be another's. If the pages have changed, the
//! walk without locks leaves them to the slow path, which tries again.
//!
//! The owner of a generic or P2PDMA pgmap may have pages taken back (`page_free`): the count drops
//! to 0, and is then set to 1, whatever it was. An addition in between would be lost, and undoing it
//! would leave an idle page with a count of 0. So the walk without locks leaves such pages to the slow
//! path, which takes one only if its count is not 0, in one step.
//!
//! The `unsafe` code here takes references that it owns from then on.
//!
//! C: `gup_fast_devmap_leaf()`, `try_grab_folio()`, `gup_fast_undo_dev_pagemap()`

use crate::{
    flags::{refs_of_small_folio, GupFlags},
    grabbed_folio::{put_grabbed, warn_overflow},
    page_array::PageArray,
    vmstat::FollPinStat,
};
use core::{hint::spin_loop, marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
use kernel::mm::memremap::registry;
use kernel::{
    bindings,
    error::{
        code::{EFAULT, ENOMEM, EOPNOTSUPP},
        Error,
    },
    interrupt::LocalInterruptDisabled,
    mm::{
        folio::FolioRef,
        memremap::{DevPagemap, MemoryType},
        page::PageRef,
        pfn::Pfn,
    },
    sync::wait_var::wake_up_var,
};

/// A live pgmap that stays mapped during `'irq`.
///
/// With the registry in Rust, disabled interrupts keep a pgmap that was found alive
/// ([`registry::lookup_irqs_off`]). With the registry in C, this holds a live reference.
pub(crate) struct WalkedPgmap<'irq>(Kept<'irq>);

#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
type Kept<'irq> = &'irq DevPagemap;
#[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
type Kept<'irq> = (kernel::mm::memremap::LiveRef, PhantomData<&'irq ()>);

impl<'irq> WalkedPgmap<'irq> {
    /// Returns the live pgmap of `pfn`: `last` if it covers the PFN. C: `get_dev_pagemap()`.
    #[doc(alias = "get_dev_pagemap")]
    #[inline(always)]
    pub(crate) fn lookup(
        pfn: Pfn,
        last: Option<Self>,
        irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        match last {
            Some(last) if last.pgmap().first_range_covers(pfn) => Some(last),
            last => Self::lookup_again(pfn, last, irq),
        }
    }

    /// Looks the PFN up in the registry.
    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    #[inline]
    fn lookup_again(
        pfn: Pfn,
        _last: Option<Self>,
        irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        registry::lookup_irqs_off(pfn, irq).map(Self)
    }

    /// Looks the PFN up in the registry.
    #[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
    fn lookup_again(
        pfn: Pfn,
        last: Option<Self>,
        _irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        DevPagemap::lookup(pfn, last.map(|last| last.0 .0)).map(|live| Self((live, PhantomData)))
    }

    /// Returns the pgmap.
    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    #[inline(always)]
    fn pgmap(&self) -> &DevPagemap {
        self.0
    }

    /// Returns the pgmap.
    #[cfg(not(CONFIG_RUST_DEV_PAGEMAP))]
    #[inline(always)]
    fn pgmap(&self) -> &DevPagemap {
        &self.0 .0
    }
}

/// Why pages of a pgmap cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceError {
    /// They belong to a filesystem, where truncation waits for pins, and the pin is a long-term
    /// one.
    LongTermFsDax,
    /// They are memory of a PCI device, and the caller did not set `FOLL_PCI_P2PDMA`.
    PciP2pdma,
    /// Memory of this type cannot be pinned.
    MemoryType,
    /// The reference count of the first page is about to overflow, or has overflowed.
    RefCount,
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::LongTermFsDax => EOPNOTSUPP,
            DeviceError::PciP2pdma => Error::from_errno(-(bindings::EREMOTEIO as i32)),
            DeviceError::MemoryType => EFAULT,
            DeviceError::RefCount => ENOMEM,
        }
    }
}

/// Why references to pages of a pgmap were not taken, or not all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GrabError {
    /// A count is about to overflow, or has overflowed.
    Overflows,
    /// The folio changes at this moment.
    Changes,
}

impl GrabError {
    /// Returns the reason why a count that was found to be `count`, which is not positive, cannot be
    /// added to.
    #[inline]
    fn of(count: i32) -> Self {
        match count {
            0 => Self::Changes,
            _ => Self::Overflows,
        }
    }
}

/// The number of pages of a folio of FS DAX, if it has more than one.
pub(crate) const FSDAX_FOLIO_PAGES: usize = 1 << bindings::PMD_ORDER;

/// References to consecutive pages of a pgmap. Drop puts them.
///
/// # Invariants
///
/// `first` and the pages behind it lie in a pgmap that stays mapped for `'a`. The value owns a
/// reference (a pin if `PIN`) to each of the first `taken` of them.
pub(crate) struct DeviceRun<'a, const PIN: bool> {
    first: PageRef<'a>,
    taken: usize,
    _pgmap: PhantomData<&'a DevPagemap>,
}

impl<'a, const PIN: bool> DeviceRun<'a, PIN> {
    /// Takes references to `pages` pages from `pfn` on, or to as many of them as are in one range
    /// of `pgmap`. A full memory barrier on success.
    ///
    /// Returns `None` if memory of its type cannot be taken in this way, or if a count is about to
    /// overflow. The slow path then reports the reason.
    ///
    /// # Safety
    ///
    /// `pfn` must lie in a mapped range of `pgmap`. That holds for a PFN that a page table entry
    /// maps, if `pgmap` was looked up for it.
    #[inline(always)]
    pub(crate) unsafe fn try_grab(
        pgmap: &'a WalkedPgmap<'_>,
        pfn: Pfn,
        pages: usize,
        flags: GupFlags,
        irq: LocalInterruptDisabled<'a>,
    ) -> Option<Self> {
        let pgmap = pgmap.pgmap();
        // SAFETY: By the caller's promise `pfn` is in a mapped range of the pgmap.
        let (mut run, pages) = unsafe { Self::new::<true>(pgmap, pfn, pages, flags, irq) }.ok()?;
        run.grab(pgmap, pages).is_ok().then_some(run)
    }

    /// Takes references as [`try_grab`](Self::try_grab) does, but if a count is about to overflow,
    /// returns those to the pages before it.
    ///
    /// # Errors
    ///
    /// Returns why not even the first page can be taken.
    ///
    /// # Safety
    ///
    /// `pfn` must lie in a mapped range of `pgmap`. That holds for a PFN that a page table entry
    /// maps, if `pgmap` was looked up for it.
    #[inline]
    pub(crate) unsafe fn try_grab_some(
        pgmap: &'a WalkedPgmap<'_>,
        pfn: Pfn,
        pages: usize,
        flags: GupFlags,
        irq: LocalInterruptDisabled<'a>,
    ) -> Result<Self, DeviceError> {
        let pgmap = pgmap.pgmap();
        // SAFETY: By the caller's promise `pfn` is in a mapped range of the pgmap.
        let (mut run, pages) = unsafe { Self::new::<false>(pgmap, pfn, pages, flags, irq) }?;
        // `taken` says how many references the value owns, whether that is all or not.
        if is_taken_back(pgmap) {
            run.grab_unless_free(pages);
        } else {
            // Folios change with interrupts disabled, on another CPU, so this ends soon.
            while run.grab(pgmap, pages) == Err(GrabError::Changes) {
                spin_loop();
            }
        }
        match run.taken {
            0 => Err(DeviceError::RefCount),
            _ => Ok(run),
        }
    }

    /// Creates a run without references, and returns it with the number of pages that are in one
    /// range of the pgmap. `NEVER_FREE` demands pages that are never free.
    ///
    /// # Safety
    ///
    /// `pfn` must lie in a mapped range of `pgmap`.
    #[inline(always)]
    unsafe fn new<const NEVER_FREE: bool>(
        pgmap: &'a DevPagemap,
        pfn: Pfn,
        pages: usize,
        flags: GupFlags,
        _irq: LocalInterruptDisabled<'a>,
    ) -> Result<(Self, usize), DeviceError> {
        // By the caller's promise a single page is in the range.
        let pages = match pages {
            1 => 1,
            _ => pages.min(pgmap.pfns_from(pfn)),
        };
        Self::check_type::<NEVER_FREE>(pgmap, flags)?;
        // INVARIANT: The pages are in the pgmap, which stays mapped for `'a`; none was taken yet.
        let run = Self {
            // SAFETY: By the caller's promise the PFN lies in a mapped range of the pgmap. The
            // pages of such a range are initialised and stay valid as long as it is mapped.
            first: unsafe { PageRef::from_pfn(pfn) },
            taken: 0,
            _pgmap: PhantomData,
        };
        Ok((run, pages))
    }

    /// Checks whether pages of a pgmap can be taken in this way, and are never free if `NEVER_FREE`
    /// demands that.
    ///
    /// # Errors
    ///
    /// Returns the reason if they cannot.
    #[inline(always)]
    fn check_type<const NEVER_FREE: bool>(
        pgmap: &DevPagemap,
        flags: GupFlags,
    ) -> Result<(), DeviceError> {
        match pgmap.memory_type().ok_or(DeviceError::MemoryType)? {
            // Truncation waits for pins of a file's pages, so these must be short.
            MemoryType::FsDax if PIN && flags.is_longterm() => Err(DeviceError::LongTermFsDax),
            MemoryType::FsDax => Ok(()),
            MemoryType::Generic | MemoryType::PciP2pdma if NEVER_FREE && frees_pages(pgmap) => {
                Err(DeviceError::MemoryType)
            }
            MemoryType::Generic => Ok(()),
            MemoryType::PciP2pdma if flags.allows_p2pdma() && !flags.is_longterm() => Ok(()),
            MemoryType::PciP2pdma => Err(DeviceError::PciP2pdma),
            _ => Err(DeviceError::MemoryType),
        }
    }

    /// Returns the number of pages.
    #[inline]
    pub(crate) fn pages(&self) -> usize {
        self.taken
    }

    /// Takes a reference to each of `pages` pages that has not been taken yet.
    ///
    /// # Errors
    ///
    /// Returns the reason why only those before one of them were taken.
    #[inline(always)]
    fn grab(&mut self, pgmap: &DevPagemap, pages: usize) -> Result<(), GrabError> {
        let is_taken = match pgmap.vmemmap_shift() {
            0 if pgmap.memory_type() == Some(MemoryType::FsDax) => return self.grab_fsdax(pages),
            0 => self.grab_single_pages(pages),
            _ => self.grab_folios(pages, try_add),
        };
        match is_taken {
            true => Ok(()),
            false => Err(GrabError::Overflows),
        }
    }

    /// Takes a reference to each of `pages` pages of FS DAX, as [`grab`](Self::grab) does.
    #[inline(always)]
    fn grab_fsdax(&mut self, pages: usize) -> Result<(), GrabError> {
        while self.taken < pages {
            // SAFETY: `taken` is less than `pages`, so by the type invariants this is a page of the
            // pgmap.
            let page = unsafe { self.first.nth(self.taken) };
            let part = match pages {
                1 => 1,
                // All pages of an aligned range of 2 MiB are in one folio, or none.
                _ => {
                    let behind = FSDAX_FOLIO_PAGES - page.pfn().nr() % FSDAX_FOLIO_PAGES;
                    behind.min(pages - self.taken)
                }
            };
            // The memmap of FS DAX has a `struct page` for each page, so the word tells.
            match page.head_of_tail() {
                // While the folio has references its tails are tails, and their head is a head.
                Some(head) => self.grab_part(head, part, || page.head_of_tail() == Some(head))?,
                None if page.is_head() => self.grab_part(page, part, || page.is_head())?,
                None => self.grab_fsdax_pages(page, part)?,
            }
        }
        Ok(())
    }

    /// Takes a reference to each of `pages` pages, which are in one folio of FS DAX with this first
    /// page, if they still are according to `is_same`.
    #[inline(always)]
    fn grab_part(
        &mut self,
        head: PageRef<'_>,
        pages: usize,
        is_same: impl FnOnce() -> bool,
    ) -> Result<(), GrabError> {
        // SAFETY: The page has been the first of the folio. Nothing but its count is accessed until
        // that is known to be so still.
        let folio = unsafe { FolioRef::from_first_page(head) };
        // CAST: At most 512.
        let refs = pages as i32;
        // SAFETY: The number is positive and small. The references become those of the run.
        if let Err(count) = unsafe { folio.ref_try_add(refs) } {
            warn_overflow(count);
            return Err(GrabError::of(count));
        }
        // From here on the references keep the folio, if it is still one.
        if !is_same() {
            // SAFETY: The references were just added to this count.
            unsafe { put_taken(folio, refs) };
            return Err(GrabError::Changes);
        }
        if PIN {
            // SAFETY: The folio is large, and a reference for each pin was just taken.
            unsafe { folio.pincount_add(refs) };
        }
        // INVARIANT: References to these pages, which are behind those that were taken, were taken.
        self.taken = self.taken.wrapping_add(pages);
        Ok(())
    }

    /// Takes a reference to each of `pages` pages from `page` on, which are single pages of one range
    /// of FS DAX.
    #[inline(always)]
    fn grab_fsdax_pages(&mut self, page: PageRef<'_>, pages: usize) -> Result<(), GrabError> {
        let amount = refs_of_small_folio::<PIN>();
        let end = page.as_raw().wrapping_add(pages);
        let mut next = page.as_raw();
        let mut result = Ok(());
        // Nothing is added to the first page of a range while its count is 0, not even by mistake: it
        // may be the head of a folio by now, and then a reference to it says that nothing changes.
        if page.pfn().nr() % FSDAX_FOLIO_PAGES == 0 {
            // SAFETY: The page is never freed. Only its count is accessed.
            if let Err(count) = unsafe { FolioRef::from_first_page(page).ref_try_add(amount) } {
                warn_overflow(count);
                return Err(GrabError::of(count));
            }
            next = next.wrapping_add(1);
        }
        // This runs once per page: see `grab_single_pages`.
        while next != end {
            // SAFETY: The address lies between the first of `pages` pages and their end, so by the
            // type invariants this is a page of the pgmap. Only its count is accessed.
            let folio = unsafe {
                FolioRef::from_first_page(PageRef::from_raw(NonNull::new_unchecked(next)))
            };
            // SAFETY: The page is never freed. What was added to a count that was not positive is
            // subtracted again.
            let old = unsafe { folio.ref_fetch_add(amount) };
            if old <= 0 {
                result = Err(undo_fsdax(folio, amount, old));
                break;
            }
            next = next.wrapping_add(1);
        }
        // CAST: The difference of two addresses in one array, in pages.
        let taken =
            (next as usize).wrapping_sub(page.as_raw() as usize) / size_of::<bindings::page>();
        // The references that were taken keep the pages what they are, if they are still single.
        if page.is_tail() || page.is_head() {
            put_fsdax_pages(page, taken, amount);
            return Err(GrabError::Changes);
        }
        // INVARIANT: References to these pages, which are behind those that were taken, were taken.
        self.taken = self.taken.wrapping_add(taken);
        result
    }

    /// Takes a reference to each of `pages` pages, or to those before the first one that its owner
    /// is taking back, as [`grab`](Self::grab) does.
    #[cold]
    #[inline(never)]
    fn grab_unless_free(&mut self, pages: usize) -> bool {
        self.grab_folios(pages, try_add_unless_free)
    }

    /// Takes a reference to each of `pages` pages of a memmap of single pages, as
    /// [`grab`](Self::grab) does.
    #[inline(always)]
    fn grab_single_pages(&mut self, pages: usize) -> bool {
        let amount = refs_of_small_folio::<PIN>();
        let first = self.first.as_raw();
        let end = first.wrapping_add(pages);
        // This runs once per page. With an index in place of the address the compiler needs an
        // instruction more.
        let mut page = first;
        while page != end {
            // The page is its own folio, so nothing of it is read.
            // SAFETY: The address lies between the first of `pages` pages and their end, so by the
            // type invariants this is a page of the pgmap.
            let folio = unsafe {
                FolioRef::from_first_page(PageRef::from_raw(NonNull::new_unchecked(page)))
            };
            if !try_add(folio, amount) {
                // INVARIANT: References to the pages before this one were taken.
                self.taken =
                    (page as usize).wrapping_sub(first as usize) / size_of::<bindings::page>();
                return false;
            }
            page = page.wrapping_add(1);
        }
        // INVARIANT: References to all pages were taken.
        self.taken = pages;
        true
    }

    /// Takes a reference to each of `pages` pages, folio by folio, as [`grab`](Self::grab) does.
    fn grab_folios(&mut self, pages: usize, add: impl Fn(FolioRef<'_>, i32) -> bool) -> bool {
        while self.taken < pages {
            // SAFETY: `taken` is less than `pages`, so by the type invariants this is a page of the
            // pgmap.
            let page = unsafe { self.first.nth(self.taken) };
            let (folio, part) = part_in_folio(page, pages - self.taken);
            let amount = match folio.is_large() {
                true => part as i32,
                false => refs_of_small_folio::<PIN>(),
            };
            if !add(folio, amount) {
                return false;
            }
            if PIN && folio.is_large() {
                // SAFETY: The folio is large, and a reference for each pin was just taken.
                unsafe { folio.pincount_add(part as i32) };
            }
            // INVARIANT: References to `part` more pages were taken.
            self.taken = self.taken.wrapping_add(part);
        }
        true
    }

    /// Writes the pages into the caller's array, and hands the references to the caller of GUP with
    /// them. Returns `false`, and puts them, if the array has no room.
    #[inline(always)]
    pub(crate) fn into_pages(self, array: &mut PageArray<'_>, stat: &mut FollPinStat<'_>) -> bool {
        if !array.has_room(self.taken) {
            return false;
        }
        let (first, pages) = self.into_parts(stat);
        // SAFETY: The pages fit. By the type invariants the run owned a reference to each page,
        // which it does not put any more.
        unsafe { array.push(first, pages) };
        true
    }

    /// Hands the references to C: returns the first page and the number of pages.
    #[inline]
    pub(crate) fn into_raw(self, stat: &mut FollPinStat<'_>) -> (*mut bindings::page, usize) {
        let (first, pages) = self.into_parts(stat);
        (first.as_raw(), pages)
    }

    /// Returns the first page and the number of pages, to each of which the caller now owns a
    /// reference.
    #[inline(always)]
    fn into_parts(self, stat: &mut FollPinStat<'_>) -> (PageRef<'a>, usize) {
        let this = ManuallyDrop::new(self);
        if PIN {
            stat.add(this.first, this.taken);
        }
        #[cfg(CONFIG_RUST_DEV_PAGEMAP_RECORDER)]
        kernel::mm::memremap::recorder::record(this.first, this.taken);
        (this.first, this.taken)
    }

    /// Puts the references. C: `gup_fast_undo_dev_pagemap()`.
    #[doc(alias = "gup_fast_undo_dev_pagemap")]
    #[cold]
    #[inline(never)]
    fn put(&mut self) {
        let mut done = 0;
        while done < self.taken {
            // SAFETY: `done` is less than `taken`, so by the type invariants this is a page of the
            // pgmap.
            let page = unsafe { self.first.nth(done) };
            let (folio, part) = part_in_folio(page, self.taken - done);
            // SAFETY: By the type invariants the run owns a reference to each of these pages. Each
            // is put once, and `put_grabbed()` ignores the number if the folio has one page.
            unsafe { put_grabbed(folio, part as i32, PIN) };
            done = done.wrapping_add(part);
        }
    }
}

impl<const PIN: bool> Drop for DeviceRun<'_, PIN> {
    #[inline]
    fn drop(&mut self) {
        if self.taken != 0 {
            self.put();
        }
    }
}

/// Returns the folio of `page`, and how many of the `pages` pages from there on are in it, at least
/// 1.
#[inline(always)]
fn part_in_folio(page: PageRef<'_>, pages: usize) -> (FolioRef<'_>, usize) {
    let folio = page.folio();
    let behind = folio.nr_pages().saturating_sub(folio.page_idx(page));
    (folio, behind.min(pages).max(1))
}

/// Returns whether the owner of a pgmap frees pages.
#[inline(always)]
fn frees_pages(pgmap: &DevPagemap) -> bool {
    pgmap.operations().frees_pages
}

/// Returns whether pages of a pgmap may have a count of 0 while their owner takes them back.
#[inline(always)]
fn is_taken_back(pgmap: &DevPagemap) -> bool {
    pgmap.memory_type() != Some(MemoryType::FsDax) && frees_pages(pgmap)
}

/// Adds to the reference count of a folio whose pgmap is mapped and does not take pages back, unless
/// it would overflow. Returns whether it did.
#[inline(always)]
fn try_add(folio: FolioRef<'_>, amount: i32) -> bool {
    // SAFETY: The folio is not free: the count of an idle one is 1, and its owner does not take it
    // back. If the result is not positive, the addition is undone.
    let old = unsafe { folio.ref_fetch_add(amount) };
    old > 0 || undo_add(folio, amount, old)
}

/// Adds to the reference count of a folio, unless it is free or would overflow. Returns whether it
/// did.
fn try_add_unless_free(folio: FolioRef<'_>, amount: i32) -> bool {
    // SAFETY: The amount is at most that of the pages in a range of addresses of one call of GUP,
    // which is below 2^30. The references become those of the run.
    unsafe { folio.ref_try_add(amount) }
        .inspect_err(|count| warn_overflow(*count))
        .is_ok()
}

/// Puts references to `pages` pages of FS DAX from `page` on, `amount` each, which were taken in vain.
#[cold]
#[inline(never)]
fn put_fsdax_pages(page: PageRef<'_>, pages: usize, amount: i32) {
    for n in 0..pages {
        // SAFETY: The caller has taken the references to pages of a pgmap, each to the count of the
        // page itself.
        unsafe { put_taken(FolioRef::from_first_page(page.nth(n)), amount) };
    }
}

/// Undoes an addition to the count of a page of FS DAX that was 0 or has overflowed. Returns the
/// reason.
#[cold]
#[inline(never)]
fn undo_fsdax(folio: FolioRef<'_>, amount: i32, old: i32) -> GrabError {
    // SAFETY: The references were just added and are not used.
    unsafe { put_taken(folio, amount) };
    warn_overflow(old);
    GrabError::of(old)
}

/// Subtracts from the count of a page of FS DAX what was added to it, whatever the page is by now, and
/// wakes waiters if it is idle then.
///
/// # Safety
///
/// The caller must have added `refs` to this count. `folio` need not be a folio any more: nothing but
/// its count is accessed.
unsafe fn put_taken(folio: FolioRef<'_>, refs: i32) {
    // SAFETY: The caller has added the references, so they are its own. The page is not freed: its
    // pgmap keeps it, and it is idle at 1, or at 0 as a tail.
    if unsafe { folio.ref_sub_return(refs) } == 1 {
        wake_up_var(folio.first_page().refcount_key());
    }
}

/// Undoes an addition to a count that has overflowed. Returns `false`.
#[cold]
#[inline(never)]
fn undo_add(folio: FolioRef<'_>, amount: i32, old: i32) -> bool {
    // SAFETY: The references were just added and are not used. Nothing is freed: a count that was
    // not positive before is the same again.
    unsafe { folio.ref_fetch_sub(amount) };
    warn_overflow(old);
    false
}
