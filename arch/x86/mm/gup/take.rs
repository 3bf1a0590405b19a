// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/gup.c`.

//! References to what a page table entry maps: taken, and then put or handed to the caller of GUP.
//!
//! [`GrabbedFolio`] has references to a folio of the page allocator, and [`DeviceRun`] to device
//! memory. Drop puts exactly the references that this entry took. `into_pages()` of both writes the
//! pages into the caller's array ([`PageArray`]) instead, and `into_raw()` hands them to C.
//!
//! # Device memory
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
//! The `unsafe` code here takes references that it owns from then on, and writes to the caller's
//! array.
//!
//! C: `try_grab_folio_fast()`, `try_grab_folio()`, `gup_fast_devmap_leaf()`, `gup_put_folio()`,
//! `gup_fast_folio_allowed()`, `gup_must_unshare()`

use crate::{put::put_folio_refs, vmstat::FollPinStat};
use core::{
    hint::spin_loop,
    marker::PhantomData,
    mem::{ManuallyDrop, MaybeUninit},
    ptr::NonNull,
    sync::atomic::{compiler_fence, Ordering},
};
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

/// How references are counted, and for how long they are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PinKind {
    /// To use the `struct page`. C: `FOLL_GET`.
    Get,
    /// To use what is in the page. C: `FOLL_PIN`.
    Pin,
    /// To use what is in the page for as long as user space likes. This forbids memory that the
    /// kernel must be able to move, and files that must know when a page is written. C:
    /// `FOLL_PIN | FOLL_LONGTERM`.
    LongTerm,
}

impl PinKind {
    /// Returns whether pins are counted, not plain references.
    #[inline]
    pub(crate) const fn is_pin(self) -> bool {
        !matches!(self, Self::Get)
    }
}

/// The flags of a call of GUP. C: `gup_flags`.
///
/// # Invariants
///
/// Exactly one of `FOLL_GET` and `FOLL_PIN` is set, and `FOLL_LONGTERM` only with the latter.
#[doc(alias = "gup_flags")]
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct GupFlags(u32);

impl GupFlags {
    /// Creates the flags from C's, if they ask for references in one of the three ways of
    /// [`PinKind`].
    #[inline]
    pub(crate) const fn new(flags: u32) -> Option<Self> {
        const KIND: u32 = bindings::FOLL_GET | bindings::FOLL_PIN;
        let kind = flags & KIND;
        let valid = match flags & bindings::FOLL_LONGTERM {
            0 => kind == bindings::FOLL_GET || kind == bindings::FOLL_PIN,
            _ => kind == bindings::FOLL_PIN,
        };
        match valid {
            // INVARIANT: Checked above.
            true => Some(Self(flags)),
            false => None,
        }
    }

    /// Returns how references are counted, and for how long they are held.
    #[inline]
    pub(crate) const fn kind(self) -> PinKind {
        match (
            self.0 & bindings::FOLL_PIN,
            self.0 & bindings::FOLL_LONGTERM,
        ) {
            (0, _) => PinKind::Get,
            (_, 0) => PinKind::Pin,
            _ => PinKind::LongTerm,
        }
    }

    /// Returns whether the pages are held for long. C: `FOLL_LONGTERM`.
    #[inline]
    pub(crate) const fn is_longterm(self) -> bool {
        self.0 & bindings::FOLL_LONGTERM != 0
    }

    /// Returns whether the pages will be written. C: `FOLL_WRITE`.
    #[inline]
    pub(crate) const fn is_write(self) -> bool {
        self.0 & bindings::FOLL_WRITE != 0
    }

    /// Returns whether the caller can use memory of PCI devices. C: `FOLL_PCI_P2PDMA`.
    #[inline]
    pub(crate) const fn allows_p2pdma(self) -> bool {
        self.0 & bindings::FOLL_PCI_P2PDMA != 0
    }
}

/// Returns what one reference, or one pin if `PIN`, adds to the count of a folio of one page.
#[inline(always)]
pub(crate) const fn refs_of_small_folio<const PIN: bool>() -> i32 {
    match PIN {
        true => bindings::GUP_PIN_COUNTING_BIAS as i32,
        false => 1,
    }
}

/// The caller's array of pages, filled from its beginning.
///
/// # Invariants
///
/// `first` points to `capacity` entries that only this value writes to during `'a`. The first `len`
/// of them are pages to which the caller of GUP owns references. `len <= capacity`.
pub(crate) struct PageArray<'a> {
    first: NonNull<*mut bindings::page>,
    capacity: usize,
    len: usize,
    _array: PhantomData<&'a mut ()>,
}

impl PageArray<'_> {
    /// Creates an empty array.
    ///
    /// # Safety
    ///
    /// `first` must point to `capacity` entries that nothing else accesses during `'a`.
    #[inline]
    pub(crate) unsafe fn new(first: NonNull<*mut bindings::page>, capacity: usize) -> Self {
        // INVARIANT: The caller promises that the entries are only accessed here; `len` is 0.
        Self {
            first,
            capacity,
            len: 0,
            _array: PhantomData,
        }
    }

    /// Returns the number of pages in the array.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether `pages` more pages fit into the array.
    #[inline]
    fn has_room(&self, pages: usize) -> bool {
        pages <= self.capacity.wrapping_sub(self.len)
    }

    /// Appends `pages` consecutive pages. C: `record_subpages()`.
    ///
    /// # Safety
    ///
    /// They must fit into the array, and the caller must own a reference to each page, which it
    /// hands to the caller of GUP.
    #[doc(alias = "record_subpages")]
    #[inline]
    unsafe fn push(&mut self, first: PageRef<'_>, pages: usize) {
        // SAFETY: By the caller's promise `len + pages <= capacity`, so the entry is in the array or
        // one past its end, and its address is not null.
        let slot = unsafe { NonNull::new_unchecked(self.first.as_ptr().add(self.len)) };
        match pages {
            // SAFETY: The entry is in the array, since one page fits, and only this value writes to
            // it.
            1 => unsafe { slot.as_ptr().write(first.as_raw()) },
            // SAFETY: So many entries from `slot` on are in the array, which only this value writes
            // to.
            _ => unsafe { record_pages(slot, first.as_raw(), pages) },
        }
        // INVARIANT: These entries are pages to which the caller of GUP now owns references.
        self.len = self.len.wrapping_add(pages);
    }
}

/// Writes the addresses of `pages` consecutive pages, the first of which is `first`, to the entries
/// from `slot` on. C: `record_subpages()`.
///
/// The memmap of x86-64 is one array (SPARSEMEM_VMEMMAP), so these addresses have the same distance
/// from each other also where a section of memory ends. Of sixteen pages each takes an addition and a store.
///
/// # Safety
///
/// `slot` must point to `pages` entries that nothing else accesses during the call.
#[doc(alias = "record_subpages")]
#[inline(never)]
pub(crate) unsafe fn record_pages(
    slot: NonNull<*mut bindings::page>,
    first: *mut bindings::page,
    pages: usize,
) {
    // SAFETY: The caller promises that only this call accesses these entries, and what they contain
    // is not read.
    let entries =
        unsafe { core::slice::from_raw_parts_mut(slot.as_ptr().cast::<MaybeUninit<_>>(), pages) };
    let (entries, next) = record_by::<16>(entries, first);
    let (entries, next) = record_by::<4>(entries, next);
    record_by::<1>(entries, next);
}

/// Writes consecutive pages, `STEP` at a time. Returns the less than `STEP` entries that are left,
/// and the page for the first of them.
#[inline(always)]
fn record_by<const STEP: usize>(
    entries: &mut [MaybeUninit<*mut bindings::page>],
    first: *mut bindings::page,
) -> (&mut [MaybeUninit<*mut bindings::page>], *mut bindings::page) {
    let mut next = first;
    let mut steps = entries.chunks_exact_mut(STEP);
    for step in &mut steps {
        for (n, entry) in step.iter_mut().enumerate() {
            entry.write(next.wrapping_add(n));
        }
        next = next.wrapping_add(STEP);
    }
    (steps.into_remainder(), next)
}

/// References to a folio that is mapped as ordinary memory. Drop puts them.
///
/// `PIN` says whether they are pins. It is the same for a whole walk, and decided once there.
///
/// # Invariants
///
/// Unless `zero_page`, the value owns `refs` references to `folio`, counted as `flags` say, so the
/// folio is neither freed nor split nor merged. `refs` is 1 if the folio has one page.
pub(crate) struct GrabbedFolio<'irq, const PIN: bool> {
    folio: FolioRef<'irq>,
    refs: i32,
    flags: GupFlags,
    zero_page: bool,
    irq: LocalInterruptDisabled<'irq>,
}

impl<'irq, const PIN: bool> GrabbedFolio<'irq, PIN> {
    /// Takes `refs` references to the folio of `page`, one for each of as many pages. C:
    /// `try_grab_folio_fast()`. A full memory barrier on success.
    ///
    /// Returns `None` if the folio is being freed, if its count is about to overflow, if it cannot
    /// be taken in this way, or if it has one page and `refs` is not 1.
    ///
    /// # Safety
    ///
    /// `refs` must be the number of pages from `page` on, at least 1, that a page table entry
    /// mapped when it was read.
    #[doc(alias = "try_grab_folio_fast")]
    #[inline(always)]
    pub(crate) unsafe fn try_grab(
        page: PageRef<'irq>,
        refs: i32,
        flags: GupFlags,
        irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        if !flags.allows_p2pdma() && page.is_pci_p2pdma_page() {
            return None;
        }
        if PIN && page.is_zero_page() {
            if refs != 1 {
                return None;
            }
            // Pins of the zero page are not counted: it is never freed, and its count would
            // overflow because so many mappings use it.
            return Some(Self {
                folio: page.folio(),
                refs,
                flags,
                zero_page: true,
                irq,
            });
        }
        let folio = try_get_folio::<PIN>(page, refs)?;
        // INVARIANT: The references were just taken to the folio that the page is part of.
        let grabbed = Self {
            folio,
            refs,
            flags,
            zero_page: false,
            irq,
        };
        if PIN && flags.is_longterm() && !is_longterm_pinnable(folio) {
            return None;
        }
        Some(grabbed)
    }

    /// Returns the folio.
    #[inline]
    pub(crate) fn folio(&self) -> FolioRef<'irq> {
        self.folio
    }

    /// Returns whether a walk that does not know the VMA can take the folio. If not, the slow path
    /// decides. C: `gup_fast_folio_allowed()`.
    ///
    /// The kernel must not access secret memory. A filesystem that tracks dirty pages must know
    /// when a page of its files is written, so such a page cannot be pinned for long to write to
    /// it.
    ///
    /// # Safety
    ///
    /// The entry that mapped the page which the references were taken for must have been read again
    /// unchanged since.
    #[doc(alias = "gup_fast_folio_allowed")]
    #[inline(always)]
    pub(crate) unsafe fn is_allowed(&self) -> bool {
        let refuse_file = PIN && self.flags.is_longterm() && self.flags.is_write();
        // The folios of secret memory have one page.
        let may_be_secret = cfg!(CONFIG_SECRETMEM) && !self.folio.is_large();
        if !refuse_file && !may_be_secret {
            return true;
        }
        if self.folio.is_slab() {
            return warn_slab();
        }
        if self.folio.is_hugetlb() {
            return true;
        }
        // Read once, because it may change.
        let mapping = self.folio.mapping(self.irq);
        // SAFETY: By the type invariants this value owns references to the folio, unless that is the
        // zero page, which is never freed; by the caller's promise an entry of ordinary memory has
        // mapped it since; and it is not of the slab allocator.
        match unsafe { mapping.file() } {
            // The folio is anonymous, was truncated meanwhile, or is neither anonymous nor a
            // file's.
            None => mapping.is_anon(),
            Some(file) if may_be_secret && file.is_secretmem() => false,
            Some(file) => !refuse_file || file.is_shmem(),
        }
    }

    /// Returns whether a read-only mapping of `page` must be made exclusive to the process before
    /// the page is pinned, which the slow path does. To be asked only if the entry does not permit
    /// writing. C: `gup_must_unshare()`.
    #[doc(alias = "gup_must_unshare")]
    #[inline(always)]
    pub(crate) fn must_unshare(&self, page: PageRef<'irq>) -> bool {
        if !PIN || self.flags.is_write() {
            return false;
        }
        if !self.folio.mapping(self.irq).is_anon() {
            // A long-term pin of a private mapping must see what the process writes later. Only the
            // VMA says whether the mapping is private, and it is not known here.
            return self.flags.is_longterm();
        }
        // The references are taken before the flag is read. This pairs with the barrier between
        // clearing the flag and reading the count in `folio_try_share_anon_rmap_pte()`. x86 does
        // not reorder these; the compiler must not either.
        compiler_fence(Ordering::SeqCst);
        !page.is_anon_exclusive()
    }

    /// Writes the pages from `first` on, one for each reference, into the caller's array, and hands
    /// the references to the caller of GUP with them. Returns `false`, and puts them, if the array
    /// has no room.
    ///
    /// # Safety
    ///
    /// `first` must be the page that the references were taken for, and the entry that mapped it
    /// must have been read again unchanged since. So these pages belong to the folio.
    #[inline(always)]
    pub(crate) unsafe fn into_pages(
        self,
        first: PageRef<'irq>,
        array: &mut PageArray<'_>,
        stat: &mut FollPinStat<'_>,
    ) -> bool {
        let pages = self.refs as usize;
        if !array.has_room(pages) {
            return false;
        }
        let this = ManuallyDrop::new(self);
        if PIN && !this.zero_page {
            stat.add(first, pages);
        }
        // SAFETY: By the type invariants this value owned references to the folio, which the caller
        // of GUP gets below, unless it is the zero page, which is never freed.
        unsafe { this.folio.set_referenced() };
        // SAFETY: The pages fit. By the caller's promise they belong to the folio, and by the type
        // invariants this value owned a reference for each, which it does not put any more.
        unsafe { array.push(first, pages) };
        true
    }
}

impl<const PIN: bool> Drop for GrabbedFolio<'_, PIN> {
    #[inline]
    fn drop(&mut self) {
        if !self.zero_page {
            // SAFETY: By the type invariants this value owns the references, and it ends here.
            unsafe { put_grabbed(self.folio, self.refs, PIN) };
        }
    }
}

/// Takes `refs` references, or pins, to the folio that `page` belongs to, and checks that it still
/// does. C: `try_get_folio()`.
#[inline(always)]
fn try_get_folio<const PIN: bool>(page: PageRef<'_>, refs: i32) -> Option<FolioRef<'_>> {
    loop {
        let folio = page.folio();
        let large = folio.is_large();
        let amount = match large {
            true => refs,
            // The entry mapped more pages than this folio has, so it has changed.
            false if refs != 1 => return None,
            false => refs_of_small_folio::<PIN>(),
        };
        // SAFETY: A range of addresses of one call of GUP has less than 2^18 pages per folio, and 2^10
        // references are a pin. What is taken is put below, or by the returned folio's owner.
        if let Err(count) = unsafe { folio.ref_try_add(amount) } {
            warn_overflow(count);
            return None;
        }
        // Between the look at the page and the addition the folio may have been freed and become
        // part of another folio, or have been split. From here on the references prevent that.
        if page.folio() == folio && folio.is_large() == large {
            if PIN && large {
                // SAFETY: The folio is large, and a reference for each pin was just taken.
                unsafe { folio.pincount_add(refs) };
            }
            return Some(folio);
        }
        // SAFETY: The references were just taken and are not used.
        unsafe { put_unused(folio, amount) };
    }
}

/// Warns if a reference count, which is not positive, has overflowed.
#[cold]
#[inline(never)]
fn warn_overflow(count: i32) {
    if count < 0 {
        kernel::warn_once!("gup: page reference count overflowed");
    }
}

/// Warns that a process maps a page of the slab allocator. Returns `false`.
#[cold]
fn warn_slab() -> bool {
    kernel::warn_once!("gup: page of the slab allocator is mapped by a process");
    false
}

/// Returns whether a folio can be pinned for long. C: `folio_is_longterm_pinnable()`.
#[doc(alias = "folio_is_longterm_pinnable")]
#[inline]
fn is_longterm_pinnable(folio: FolioRef<'_>) -> bool {
    // The zone decides, unless the memory is that of a device or may be an area of the contiguous
    // memory allocator. The zero page is not asked about.
    if !cfg!(CONFIG_CMA) && !folio.is_zone_device() {
        return !folio.first_page().is_zone_movable();
    }
    // SAFETY: The caller owns a reference, so the folio is valid.
    unsafe { bindings::folio_is_longterm_pinnable(folio.as_raw()) }
}

/// Puts what [`try_get_folio`] took. C: `gup_put_folio()`, without the vmstat counter, in which the
/// pins are not yet.
///
/// # Safety
///
/// The caller must own `refs` references, or pins if `pin`, which it loses.
#[doc(alias = "gup_put_folio")]
#[cold]
#[inline(never)]
unsafe fn put_grabbed(folio: FolioRef<'_>, refs: i32, pin: bool) {
    let amount = match folio.is_large() {
        true => {
            if pin {
                // SAFETY: The folio is large. The caller owns the pins, and their references are
                // dropped below.
                unsafe { folio.pincount_sub(refs) };
            }
            refs
        }
        false if pin => refs_of_small_folio::<true>(),
        false => refs_of_small_folio::<false>(),
    };
    // SAFETY: `amount` is what the caller's references have added to the count.
    unsafe { put_folio_refs(folio, amount) };
}

/// Drops references that were taken to a folio that turned out to be another one.
///
/// # Safety
///
/// The caller must own `refs` references, which it loses.
#[cold]
#[inline(never)]
unsafe fn put_unused(folio: FolioRef<'_>, refs: i32) {
    // SAFETY: The caller owns the references.
    unsafe { put_folio_refs(folio, refs) };
}

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
