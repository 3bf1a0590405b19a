// SPDX-License-Identifier: GPL-2.0-only

//! The walk of `get_user_pages_fast()` for x86-64: pages of a process, without locks.
//!
//! C calls in once per range of addresses, with interrupts off, and does what is left over in the
//! slow path: a walk may end early at any entry, and never says why. What is safe to take, and how,
//! is in `rust/kernel/mm/gup.rs`; how the tables are read in [`tables`] and [`walk`]; here is what
//! is done with each leaf. The slow path is C's, but for its leaves of device memory: [`slow`].
//!
//! Device memory is taken a leaf at a time, ptes side by side as one: one lookup of its pgmap for
//! as long as the walk stays inside that, one look at its type and range, one addition per folio. C
//! asks all of this again for each page.
//!
//! C: the lower half of [`mm/gup.c`](srctree/mm/gup.c)

use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::{c_int, c_uint, c_ulong},
    irq::LocalInterruptDisabled,
    macros::export,
    mm::{
        gup::{DeviceRun, Grabbed, PinKind, PinStatistics, Request, Taken, WalkedPgmap},
        pfn::Pfn,
    },
};

mod pte;
mod slow;
mod tables;
mod walk;

use pte::Access;
use tables::UserTables;
use walk::{Kind, Leaf, Root, Visitor};

const __LOG_PREFIX: &[u8] = b"gup\0";

/// Takes references to the pages of this process from `start` to `end`, as far as that goes without
/// locks. Returns how many were taken. C: `gup_fast_pgd_range()`. Interrupts are off.
///
/// # Safety
///
/// Interrupts are off. `pgd` is the first page table of the process that runs; `start` and `end`
/// are multiples of the page size and addresses of user space; `array` has an entry for each page
/// between them.
#[export]
pub unsafe extern "C" fn gup_fast_walk(
    pgd: *mut bindings::pgd_t,
    start: c_ulong,
    end: c_ulong,
    flags: c_uint,
    array: *mut *mut bindings::page,
) -> c_int {
    let Some(request) = Request::from_flags(flags) else {
        kernel::warn_once!("gup: flags {flags:#x} do not say how to take pages");
        return 0;
    };
    let Some(array) = NonNull::new(array) else {
        return 0;
    };
    // SAFETY: The caller's promise.
    let irq = unsafe { LocalInterruptDisabled::assume() };
    // SAFETY: The caller's promise.
    let tables = unsafe { UserTables::new(pgd, irq) };
    let range = (start as u64, end as u64);
    let one = range.1.wrapping_sub(range.0) == bindings::PAGE_SIZE as u64;
    // What can be decided once is no question per page: a walk is for pins or for plain references,
    // and for one page or for more.
    let take = match (request.kind(), one) {
        (PinKind::Get, true) => take::<false, true>,
        (PinKind::Get, false) => take::<false, false>,
        (PinKind::Pin | PinKind::LongTerm, true) => take::<true, true>,
        (PinKind::Pin | PinKind::LongTerm, false) => take::<true, false>,
    };
    // SAFETY: The caller's promise.
    let taken = unsafe { take(tables, range, request, array, irq) };
    // CAST: C counts pages in an `int` from the start.
    taken as c_int
}

/// Walks over a range of addresses and takes what is mapped there. It is one page if `ONE`. Returns
/// how many were taken.
///
/// # Safety
///
/// `array` has an entry for each page of the range.
#[inline(never)]
unsafe fn take<'irq, const PIN: bool, const ONE: bool>(
    (tables, root): (UserTables<'irq>, Root),
    range: (u64, u64),
    request: Request,
    array: NonNull<*mut bindings::page>,
    irq: LocalInterruptDisabled<'irq>,
) -> usize {
    let access = Access::user(request.is_write(), tables::protection_key_rights(irq));
    let pages = match ONE {
        true => 1,
        false => (range.1.wrapping_sub(range.0) >> bindings::PAGE_SHIFT) as usize,
    };
    let mut taker = Taker::<'_, '_, PIN> {
        request,
        // SAFETY: The caller's promise.
        taken: unsafe { Taken::new(array, pages) },
        statistics: PinStatistics::acquired(irq),
        live: None,
        irq,
    };
    match ONE {
        true => walk::walk_page(&tables, root, range.0, access, &mut taker),
        false => walk::walk(&tables, root, range, access, &mut taker),
    }
    taker.taken.len()
}

/// Gives back one pin for each of `npages` pages of an array, null entries passed over. Any context
/// that may drop the last reference to a page. C: `unpin_user_pages()`.
///
/// # Safety
///
/// The array has so many entries, and the caller gives up one pin of each.
#[export]
pub unsafe extern "C" fn gup_unpin_pages(pages: *mut *mut bindings::page, npages: c_ulong) {
    if pages.is_null() {
        return;
    }
    // SAFETY: The caller's promise.
    unsafe { kernel::mm::gup::unpin(core::slice::from_raw_parts(pages, npages)) };
}

/// Takes what the leaves of a walk map; pins it if `PIN`.
struct Taker<'a, 'irq, const PIN: bool> {
    request: Request,
    taken: Taken<'a>,
    statistics: PinStatistics<'irq>,
    /// The pgmap of the last leaf of a device: the next is in the same one nearly always.
    live: Option<WalkedPgmap<'irq>>,
    irq: LocalInterruptDisabled<'irq>,
}

impl<'irq, const PIN: bool> Visitor<UserTables<'irq>> for Taker<'_, 'irq, PIN> {
    #[inline(always)]
    fn visit(&mut self, leaf: &Leaf<'_, UserTables<'irq>>) -> bool {
        match leaf.kind() {
            Kind::Normal => self.take_normal(leaf),
            Kind::Device => self.take_device(leaf),
        }
    }
}

impl<'a, 'irq, const PIN: bool> Taker<'a, 'irq, PIN> {
    /// Pages of a folio that is mapped as such: anonymous memory, files, hugetlb.
    #[inline(always)]
    fn take_normal(&mut self, leaf: &Leaf<'_, UserTables<'irq>>) -> bool {
        let Some(page) = tables::page_of(leaf, self.irq) else {
            return false;
        };
        // CAST: At most 2^18.
        let refs = leaf.pages() as i32;
        // SAFETY: So many pages the leaf mapped when it was read.
        let grabbed = unsafe { Grabbed::<PIN>::try_new(page, refs, self.request, self.irq) };
        let Some(grabbed) = grabbed else {
            return false;
        };
        if !leaf.unchanged() || !grabbed.is_allowed() {
            return false;
        }
        if !leaf.is_writable() {
            // A huge page that is mapped as one has the mark in its first page.
            let marked = match leaf.is_pte() {
                true => page,
                false => grabbed.folio().first_page(),
            };
            if grabbed.must_unshare(marked) {
                return false;
            }
        }
        // SAFETY: The leaf was unchanged after its pages were grabbed.
        unsafe { grabbed.keep(page, &mut self.taken, &mut self.statistics) }
    }

    /// Pages of a pgmap.
    ///
    /// None of them is anonymous, secret, or in a file that user space could not write for long:
    /// what is asked of other folios at this place is answered by the type of the pgmap.
    #[inline(always)]
    fn take_device(&mut self, leaf: &Leaf<'_, UserTables<'irq>>) -> bool {
        // CAST: A frame number has at most 40 bits.
        let pfn = Pfn::new(leaf.pfn() as usize);
        self.live = WalkedPgmap::lookup(pfn, self.live.take(), self.irq);
        let Some(live) = &self.live else {
            return false;
        };
        // SAFETY: An entry mapped the frame when it was read, and the pgmap was looked up for it
        // since; interrupts are off.
        let run =
            unsafe { DeviceRun::<PIN>::try_new(live, pfn, leaf.pages(), self.request, self.irq) };
        let Some(run) = run else {
            return false;
        };
        // A leaf may go on in another range, nearly never; the slow path does that.
        let whole = run.pages() == leaf.pages();
        leaf.unchanged() && run.keep(&mut self.taken, &mut self.statistics) && whole
    }
}
