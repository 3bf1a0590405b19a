// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/gup.c`.

//! References to a folio of the page allocator, which an entry maps: taken, and then put or handed to
//! the caller of GUP.
//!
//! [`GrabbedFolio`] has them. Drop puts exactly the references that this entry took. `into_pages()`
//! writes the pages into the caller's array instead.
//!
//! The `unsafe` code here takes references that it owns from then on.
//!
//! C: `try_grab_folio_fast()`, `try_grab_folio()`, `gup_put_folio()`, `gup_fast_folio_allowed()`,
//! `gup_must_unshare()`

use crate::{
    flags::{refs_of_small_folio, GupFlags},
    page_array::PageArray,
    put::put_folio_refs,
    vmstat::FollPinStat,
};
use core::{
    mem::ManuallyDrop,
    sync::atomic::{compiler_fence, Ordering},
};
use kernel::{
    bindings,
    interrupt::LocalInterruptDisabled,
    mm::{folio::FolioRef, page::PageRef},
};

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
pub(crate) fn warn_overflow(count: i32) {
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
pub(crate) unsafe fn put_grabbed(folio: FolioRef<'_>, refs: i32, pin: bool) {
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
