// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/gup.c`.

//! GUP for x86-64: references to pages that a process has mapped.
//!
//! C calls `gup_fast_walk()` once per range of addresses, with interrupts off, and takes what is
//! left over in the slow path. So the walk may end early at any entry, and never says why. The slow
//! path is C's, except for its leaves of device memory ([`slow`]).
//!
//! # The protocol of the walk
//!
//! The walk takes no lock. With interrupts off ([`LocalInterruptDisabled`]), it does the following
//! for each entry that maps pages:
//!
//! 1. It reads the entry, once, and checks that the entry permits the access ([`walk`]).
//! 2. It takes the references ([`GrabbedFolio`] for ordinary memory, [`DeviceRun`] for device
//!    memory). This is a full memory barrier.
//! 3. It reads the entry again, and the entry above it if the page table itself can be freed. If
//!    they are unchanged, a task that changes them from now on sees the references; if not, the
//!    references are put.
//! 4. It checks that the folio can be taken at all, and only then hands the references to the
//!    caller with the pages ([`PageArray`]).
//!
//! One value carries the references through steps 2 to 4. Drop puts exactly the references that
//! were taken for this entry, unless `into_pages()` writes the pages into the caller's array. So no
//! error path can forget to undo.
//!
//! In the slow path the page table lock is held, so the entry does not change and step 3 is not
//! needed. Device memory is taken by step 2 alone, still with interrupts off, which keeps the
//! pgmap, and C writes the array ([`DeviceRun::into_raw`]).
//!
//! # What a reference adds to the counts
//!
//! | | `FOLL_GET` | `FOLL_PIN` |
//! |---|---|---|
//! | folio of one page | 1 | 1,024 (`GUP_PIN_COUNTING_BIAS`) |
//! | large folio, `n` pages of it | `n` | `n`, and `n` to the pin count |
//! | the zero page | 1 | nothing |
//!
//! # Device memory
//!
//! Device memory is taken a leaf at a time, with neighbouring ptes as one leaf: one lookup of the
//! pgmap for as long as the walk stays inside it, one check of its type and range, and one addition
//! per folio. C does all of this again for each page.
//!
//! # What stays in C
//!
//! * `gup_fast_fallback()` checks the range and calls `gup_fast()` and then the slow path.
//!   `gup_fast()` asks `gup_fast_permitted()`, disables interrupts and calls `gup_fast_walk()`. If
//!   a fork write-protected pages meanwhile, it unpins what was taken
//!   (`gup_fast_unpin_user_pages()`).
//! * `unpin_user_pages()` calls `gup_unpin_pages()`. `unpin_user_page()` is C's, and so are
//!   `unpin_user_folio()`, by which the end of a bio unpins, and `unpin_user_pages_dirty_lock()`
//!   for pages to be marked dirty, which asks `gup_folio_run()` how many pages a large folio has in
//!   the array. They drop the references by `gup_put_folio()` of C.
//! * `__get_user_pages()` has more than one page written by `gup_record_pages()`.
//!
//! `gup_fast_pgd_leaf()` has no counterpart, because x86 has no leaves in a pgd.
//!
//! The `unsafe` code in this file is that of the entry points: it converts C's arguments.
//!
//! C: [`mm/gup.c`](srctree/mm/gup.c)

use core::ptr::NonNull;
use kernel::{
    arch::x86::pgtable,
    bindings,
    ffi::{c_int, c_uint, c_ulong},
    interrupt::LocalInterruptDisabled,
    macros::export,
    mm::{folio::FolioRef, pfn::Pfn},
};

mod device_run;
mod flags;
mod grabbed_folio;
mod page_array;
mod pte;
mod put;
mod slow;
mod tables;
mod vmstat;
mod walk;

use device_run::{DeviceRun, WalkedPgmap};
use flags::{GupFlags, PinKind};
use grabbed_folio::GrabbedFolio;
use page_array::PageArray;
use pgtable::LeafKind;
use pte::Access;
use tables::UserTables;
use vmstat::FollPinStat;
use walk::{Leaf, Root, Visitor};

const __LOG_PREFIX: &[u8] = b"gup\0";

/// Converts the flags of a call, and warns if they do not say how references are counted.
#[inline(always)]
fn gup_flags(flags: c_uint) -> Option<GupFlags> {
    let converted = GupFlags::new(flags);
    if converted.is_none() {
        kernel::warn_once!("gup: neither FOLL_GET nor FOLL_PIN in flags {flags:#x}");
    }
    converted
}

/// Takes references to the pages of this process from `start` to `end` (exclusive), up to the first
/// that cannot be taken without locks. Returns their number. Interrupts are off. C:
/// `gup_fast_pgd_range()`.
///
/// # Safety
///
/// Interrupts must be off. `pgd` must be the top page table of the current process; `start` and
/// `end` must be multiples of the page size and user addresses; `array` must have an entry for each
/// page between them, which nothing else accesses during the call.
#[doc(alias = "gup_fast_pgd_range")]
#[export]
pub unsafe extern "C" fn gup_fast_walk(
    pgd: *mut bindings::pgd_t,
    start: c_ulong,
    end: c_ulong,
    flags: c_uint,
    array: *mut *mut bindings::page,
) -> c_int {
    let Some(flags) = gup_flags(flags) else {
        return 0;
    };
    let Some(array) = NonNull::new(array) else {
        return 0;
    };
    // SAFETY: The caller promises that interrupts are off, and they stay off until it returns.
    let irq = unsafe { LocalInterruptDisabled::assume() };
    // SAFETY: By the caller's promise `pgd` is the top page table of the current process, and the
    // range is of user addresses.
    let tables = unsafe { UserTables::new(pgd, irq) };
    let range = (start as u64, end as u64);
    let one = range.1.wrapping_sub(range.0) == bindings::PAGE_SIZE as u64;
    // What is the same for all pages is decided once per call: whether these are pins or plain
    // references, and whether it is one page or more.
    // Each arm is a direct call: a call by a variable would go through a retpoline.
    // SAFETY: By the caller's promise the array has an entry for each page of the range.
    let taken = unsafe {
        match (flags.kind(), one) {
            (PinKind::Get, true) => take::<false, true>(tables, range, flags, array, irq),
            (PinKind::Get, false) => take::<false, false>(tables, range, flags, array, irq),
            (PinKind::Pin | PinKind::LongTerm, true) => {
                take::<true, true>(tables, range, flags, array, irq)
            }
            (PinKind::Pin | PinKind::LongTerm, false) => {
                take::<true, false>(tables, range, flags, array, irq)
            }
        }
    };
    // CAST: C counts the pages of the range in an `int`.
    taken as c_int
}

/// Walks over a range of addresses and takes what is mapped there. The range is one page if `ONE`.
/// Returns the number of pages taken.
///
/// # Safety
///
/// `array` must have an entry for each page of the range, which nothing else accesses during the
/// call.
#[inline(never)]
unsafe fn take<'irq, const PIN: bool, const ONE: bool>(
    (tables, root): (UserTables<'irq>, Root),
    range: (u64, u64),
    flags: GupFlags,
    array: NonNull<*mut bindings::page>,
    irq: LocalInterruptDisabled<'irq>,
) -> usize {
    let access = Access::user(flags.is_write(), tables::read_pkru(irq));
    let pages = match ONE {
        true => 1,
        false => (range.1.wrapping_sub(range.0) >> bindings::PAGE_SHIFT) as usize,
    };
    let mut taker = Taker::<'_, '_, PIN> {
        flags,
        // SAFETY: By the caller's promise `array` has that many entries, for this call alone.
        array: unsafe { PageArray::new(array, pages) },
        stat: FollPinStat::acquired(irq),
        pgmap: None,
        irq,
    };
    match ONE {
        true => walk::walk_page(&tables, root, range.0, access, &mut taker),
        false => walk::walk(&tables, root, range, access, &mut taker),
    }
    taker.array.len()
}

/// Unpins each of the `npages` pages of an array; null entries are skipped. Any context that may
/// drop the last reference to a page. C: `unpin_user_pages()`.
///
/// # Safety
///
/// `pages` must be null or point to `npages` entries that do not change during the call. The caller
/// must own a pin of each page, which it loses.
#[doc(alias = "unpin_user_pages")]
#[export]
pub unsafe extern "C" fn gup_unpin_pages(pages: *mut *mut bindings::page, npages: c_ulong) {
    if pages.is_null() {
        return;
    }
    // SAFETY: By the caller's promise the array has `npages` entries that do not change, and the
    // caller owns a pin of each page.
    unsafe { put::unpin(core::slice::from_raw_parts(pages, npages)) };
}

/// Writes the addresses of `pages` consecutive pages to an array. Any context. C: the loop of
/// `__get_user_pages()`.
///
/// # Safety
///
/// `array` must be null or point to `pages` entries that nothing else accesses during the call.
#[export]
pub unsafe extern "C" fn gup_record_pages(
    array: *mut *mut bindings::page,
    page: *mut bindings::page,
    pages: c_ulong,
) {
    let Some(array) = NonNull::new(array) else {
        return;
    };
    // SAFETY: By the caller's promise the array has `pages` entries that nothing else accesses.
    unsafe { page_array::record_pages(array, page, pages) };
}

/// Returns how many entries at the beginning of an array are pages of the large folio of the first
/// one. Any context. C: `gup_folio_next()`.
///
/// # Safety
///
/// `folio` must be large, and the caller must own a reference to it. `pages` must point to `npages`
/// entries, at least 1, that do not change during the call. The first must be a page of `folio`.
#[doc(alias = "gup_folio_next")]
#[export]
pub unsafe extern "C" fn gup_folio_run(
    folio: *mut bindings::folio,
    pages: *mut *mut bindings::page,
    npages: c_ulong,
) -> c_ulong {
    let (Some(folio), false) = (NonNull::new(folio), pages.is_null()) else {
        return 1;
    };
    // SAFETY: By the caller's promise the folio is referenced, so it stays valid.
    let folio = unsafe { FolioRef::from_raw(folio) };
    // SAFETY: By the caller's promise the array has `npages` entries that do not change.
    let pages = unsafe { core::slice::from_raw_parts(pages, npages) };
    match pages.split_first() {
        Some((&first, behind)) => put::run_in_folio(folio, first, behind).wrapping_add(1),
        None => 1,
    }
}

/// The visitor of the walk: takes what each leaf maps. It pins if `PIN`.
struct Taker<'a, 'irq, const PIN: bool> {
    flags: GupFlags,
    array: PageArray<'a>,
    stat: FollPinStat<'irq>,
    /// The pgmap of the last leaf of device memory; the next leaf is nearly always in the same one.
    pgmap: Option<WalkedPgmap<'irq>>,
    irq: LocalInterruptDisabled<'irq>,
}

impl<'irq, const PIN: bool> Visitor<UserTables<'irq>> for Taker<'_, 'irq, PIN> {
    #[inline(always)]
    fn visit(&mut self, leaf: &Leaf<'_, UserTables<'irq>>) -> bool {
        match leaf.kind() {
            LeafKind::Normal => self.take_normal(leaf),
            LeafKind::Devmap => self.take_device(leaf),
            LeafKind::Special => false,
        }
    }
}

impl<'a, 'irq, const PIN: bool> Taker<'a, 'irq, PIN> {
    /// Takes pages of a folio that is mapped as ordinary memory: anonymous memory, files, hugetlb.
    /// Returns whether all were taken. C: `gup_fast_pte_range()`, `gup_fast_pmd_leaf()`,
    /// `gup_fast_pud_leaf()`.
    #[doc(alias = "gup_fast_pte_range")]
    #[doc(alias = "gup_fast_pmd_leaf")]
    #[doc(alias = "gup_fast_pud_leaf")]
    #[inline(always)]
    fn take_normal(&mut self, leaf: &Leaf<'_, UserTables<'irq>>) -> bool {
        let Some(page) = tables::page_of(leaf, self.irq) else {
            return false;
        };
        // CAST: A leaf maps at most 2^18 pages.
        let refs = leaf.pages() as i32;
        // SAFETY: The leaf mapped that many pages when it was read.
        let grabbed = unsafe { GrabbedFolio::<PIN>::try_grab(page, refs, self.flags, self.irq) };
        let Some(grabbed) = grabbed else {
            return false;
        };
        // SAFETY: The leaf was unchanged after the references were taken.
        if !leaf.unchanged() || !unsafe { grabbed.is_allowed() } {
            return false;
        }
        if !leaf.is_writable() {
            // If a huge page is mapped by one entry, its first page has the flag.
            let flagged = match leaf.is_pte() {
                true => page,
                false => grabbed.folio().first_page(),
            };
            if grabbed.must_unshare(flagged) {
                return false;
            }
        }
        // SAFETY: The references were taken for `page`, and the leaf was unchanged after that.
        unsafe { grabbed.into_pages(page, &mut self.array, &mut self.stat) }
    }

    /// Takes pages of a pgmap. Returns whether all were taken. C: `gup_fast_devmap_pmd_leaf()`,
    /// `gup_fast_devmap_pud_leaf()`.
    ///
    /// None of them is anonymous, secret, or in a file that user space must not write to for long:
    /// the type of the pgmap answers what [`GrabbedFolio::is_allowed`] asks of other folios.
    #[doc(alias = "gup_fast_devmap_leaf")]
    #[doc(alias = "gup_fast_devmap_pmd_leaf")]
    #[doc(alias = "gup_fast_devmap_pud_leaf")]
    #[inline(always)]
    fn take_device(&mut self, leaf: &Leaf<'_, UserTables<'irq>>) -> bool {
        // CAST: A PFN has at most 40 bits.
        let pfn = Pfn::new(leaf.pfn() as usize);
        self.pgmap = WalkedPgmap::lookup(pfn, self.pgmap.take(), self.irq);
        let Some(pgmap) = &self.pgmap else {
            return false;
        };
        // SAFETY: An entry mapped the PFN when it was read, and the pgmap was looked up for it
        // since, with interrupts off.
        let run =
            unsafe { DeviceRun::<PIN>::try_grab(pgmap, pfn, leaf.pages(), self.flags, self.irq) };
        let Some(run) = run else {
            return false;
        };
        // A leaf that goes on in another range is rare, and left to the slow path.
        let whole = run.pages() == leaf.pages();
        leaf.unchanged() && run.into_pages(&mut self.array, &mut self.stat) && whole
    }
}
