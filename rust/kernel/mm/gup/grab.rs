// SPDX-License-Identifier: GPL-2.0

//! References to folios of the page allocator, and to any page that is mapped like one.
//!
//! C: `try_grab_folio_fast()`, `gup_put_folio()`, `gup_fast_folio_allowed()`, `gup_must_unshare()`

use super::{small_amount, PinStatistics, Request, Taken};
use crate::{
    bindings,
    irq::LocalInterruptDisabled,
    mm::{folio::FolioRef, page::PageRef},
};
use core::{mem::ManuallyDrop, sync::atomic::Ordering};

/// References to a folio that were taken and not yet kept. Dropped, it gives them back.
///
/// `PIN` says whether they are pins: it is the same for a whole walk, and decided once there.
///
/// # Invariants
///
/// Unless `zero_page`, the value owns `refs` references to `folio`, counted as `request` says. So
/// the folio is neither freed nor split nor merged. `refs` is 1 if it has one page.
pub struct Grabbed<'irq, const PIN: bool> {
    folio: FolioRef<'irq>,
    refs: i32,
    request: Request,
    zero_page: bool,
    irq: LocalInterruptDisabled<'irq>,
}

impl<'irq, const PIN: bool> Grabbed<'irq, PIN> {
    /// Takes `refs` references to the folio of `page`, for as many of its pages. C:
    /// `try_grab_folio_fast()`.
    ///
    /// `None` if the folio is being freed, if its count is about to overflow, or if it may not be
    /// taken in this way; also if it has one page and `refs` is not 1. A full memory barrier
    /// otherwise.
    ///
    /// # Safety
    ///
    /// `refs` is how many pages from `page` on an entry of a page table mapped when it was read: at
    /// least 1.
    #[doc(alias = "try_grab_folio_fast")]
    #[inline(always)]
    pub unsafe fn try_new(
        page: PageRef<'irq>,
        refs: i32,
        request: Request,
        irq: LocalInterruptDisabled<'irq>,
    ) -> Option<Self> {
        if !request.allows_p2pdma() && page.is_pci_p2pdma_page() {
            return None;
        }
        if PIN && page.is_zero_page() {
            if refs != 1 {
                return None;
            }
            // It goes nowhere, and would overflow: it is used in very many places.
            return Some(Self {
                folio: page.folio(),
                refs,
                request,
                zero_page: true,
                irq,
            });
        }
        let folio = add_refs::<PIN>(page, refs)?;
        // INVARIANT: They were just taken, and belong to the folio that the page is still part of.
        let grabbed = Self {
            folio,
            refs,
            request,
            zero_page: false,
            irq,
        };
        if PIN && request.is_longterm() && !is_longterm_pinnable(folio) {
            return None;
        }
        Some(grabbed)
    }

    /// The folio.
    #[inline]
    pub fn folio(&self) -> FolioRef<'irq> {
        self.folio
    }

    /// Whether a walk without the VMA may pin the folio. If not, the slow path decides. C:
    /// `gup_fast_folio_allowed()`.
    ///
    /// Secret memory may not be reached by the kernel; and a file whose filesystem tracks dirty
    /// pages may not be written for long without its knowing.
    #[doc(alias = "gup_fast_folio_allowed")]
    #[inline(always)]
    pub fn is_allowed(&self) -> bool {
        let file_refused = PIN && self.request.is_longterm() && self.request.is_write();
        // Secret memory comes in folios of one page.
        let may_be_secret = cfg!(CONFIG_SECRETMEM) && !self.folio.is_large();
        if !file_refused && !may_be_secret {
            return true;
        }
        if self.folio.is_slab() {
            return slab_page_mapped();
        }
        if self.folio.is_hugetlb() {
            return true;
        }
        // Read once: it may be changing.
        let mapping = self.folio.mapping(self.irq);
        match mapping.file() {
            // Truncated meanwhile, or something other than anonymous memory and files.
            None => mapping.is_anon(),
            Some(file) if may_be_secret && file.is_secretmem() => false,
            Some(file) => !file_refused || file.is_shmem(),
        }
    }

    /// Whether a read-only mapping of `page` has to become the process's own before it is pinned;
    /// the slow path does that. To be asked only if the entry does not permit writing. C:
    /// `gup_must_unshare()`.
    #[doc(alias = "gup_must_unshare")]
    #[inline(always)]
    pub fn must_unshare(&self, page: PageRef<'irq>) -> bool {
        if !PIN || self.request.is_write() {
            return false;
        }
        if !self.folio.mapping(self.irq).is_anon() {
            // Of a private mapping a long-term pin has to see the process's later writes. Whether
            // it is private says the VMA, which is not at hand.
            return self.request.is_longterm();
        }
        // The references come before the mark: it pairs with the barrier of whoever clears it and
        // then looks at the references. x86 does not reorder these; the compiler must not either.
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        !page.is_anon_exclusive()
    }

    /// Keeps the references: the pages from `first` on, one for each, are the caller's now.
    ///
    /// # Safety
    ///
    /// `first` is the page that the value was made for, and the entry that mapped it was seen
    /// unchanged since. So these pages belong to the folio.
    #[inline(always)]
    pub unsafe fn keep(
        self,
        first: PageRef<'irq>,
        taken: &mut Taken<'_>,
        statistics: &mut PinStatistics<'_>,
    ) -> bool {
        let pages = self.refs as usize;
        if !taken.has_room(pages) {
            return false;
        }
        let this = ManuallyDrop::new(self);
        if PIN && !this.zero_page {
            statistics.count(first, pages);
        }
        this.folio.set_referenced();
        // SAFETY: There is room. By the caller's promise these pages belong to the folio, so by the
        // type's invariant there is a reference for each. It goes over to the caller of GUP.
        unsafe { taken.push(first, pages) };
        true
    }
}

impl<const PIN: bool> Drop for Grabbed<'_, PIN> {
    #[inline]
    fn drop(&mut self) {
        if !self.zero_page {
            put_back(self.folio, self.refs, PIN);
        }
    }
}

/// Raises the count of the folio that `page` belongs to, and sees that it still does. C:
/// `try_get_folio()`.
#[inline(always)]
fn add_refs<const PIN: bool>(page: PageRef<'_>, refs: i32) -> Option<FolioRef<'_>> {
    loop {
        let folio = page.folio();
        let large = folio.is_large();
        let amount = match large {
            true => refs,
            // The entry mapped more than this folio has: it is not the same any more.
            false if refs != 1 => return None,
            false => small_amount::<PIN>(),
        };
        if let Err(count) = folio.ref_try_add(amount) {
            refused_count(count);
            return None;
        }
        // Between these two steps the folio may have been freed and become part of another one, or
        // have been split. From here on it stays as it is.
        if page.folio() == folio && folio.is_large() == large {
            if PIN && large {
                // SAFETY: The folio is large, and the references were just taken.
                unsafe { folio.pincount_add(refs) };
            }
            return Some(folio);
        }
        put_refs(folio, amount);
    }
}

/// A folio whose count is `count` gives out no more references.
#[cold]
#[inline(never)]
pub(super) fn refused_count(count: i32) -> bool {
    if count < 0 {
        crate::warn_once!("gup: count of a page has overflown");
    }
    false
}

#[cold]
fn slab_page_mapped() -> bool {
    crate::warn_once!("gup: page of the slab allocator is mapped by a process");
    false
}

fn is_longterm_pinnable(folio: FolioRef<'_>) -> bool {
    // SAFETY: We have a reference to the folio.
    unsafe { bindings::folio_is_longterm_pinnable(folio.as_raw()) }
}

/// Gives back what [`add_refs`] took. C: `gup_put_folio()`, but that nothing was written into the
/// books yet.
#[cold]
#[inline(never)]
fn put_back(folio: FolioRef<'_>, refs: i32, pin: bool) {
    let amount = match folio.is_large() {
        true => {
            if pin {
                // SAFETY: The folio is large, and the pins are ours.
                unsafe { folio.pincount_sub(refs) };
            }
            refs
        }
        false if pin => small_amount::<true>(),
        false => small_amount::<false>(),
    };
    put_refs(folio, amount);
}

/// Drops references, and the folio if these were the last. C: `folio_put_refs()`, or
/// `put_devmap_managed_folio_refs()`.
#[cold]
fn put_refs(folio: FolioRef<'_>, amount: i32) {
    // SAFETY: The references are ours.
    unsafe { bindings::gup_put_refs(folio.as_raw(), amount) };
}
