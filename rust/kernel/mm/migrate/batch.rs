// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/migrate_device.c`.

//! Pages in transit, and the new pages that take their places.
//!
//! The `unsafe` code in this file encapsulates `struct migrate_vma` and the words in which C names pages.

use crate::{
    bindings,
    error::to_result,
    ffi::{c_ulong, c_void},
    mm::{memremap::PrivateFault, page::PageRef, pfn::Pfn, virt::VmaRef},
    page::PAGE_SIZE,
    prelude::*,
};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};

use super::PageBytes;

/// The number of pages that are migrated at once.
pub(super) const BATCH: usize = 64;

/// Pages in transit: isolated, locked, and without entries. Dropping it restores the entries, of those
/// pages for which a new one was provided with that.
///
/// # Invariants
///
/// The first `pages` words of `sources` are what C has stored there. Of `targets` they are 0, or name
/// pages that are locked, and to which this value owns a reference. If `args` is set, its VMA is locked
/// for `'a`.
pub(super) struct Batch<'a> {
    /// Set for pages of a VMA, not set for those of a device.
    args: Option<bindings::migrate_vma>,
    sources: [c_ulong; BATCH],
    targets: [c_ulong; BATCH],
    pages: usize,
    is_finished: bool,
    _vma: PhantomData<VmaRef<'a>>,
}

/// Bits of a word. C: `MIGRATE_PFN_*`.
const VALID: c_ulong = bindings::MIGRATE_PFN_VALID as c_ulong;
const MIGRATE: c_ulong = bindings::MIGRATE_PFN_MIGRATE as c_ulong;

impl<'a> Batch<'a> {
    /// Takes pages out of the page tables: anonymous ones between two addresses of a VMA, at most
    /// [`BATCH`], or the one at which a fault happened. C: `migrate_vma_setup()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for addresses outside the VMA, and for a VMA that cannot be migrated.
    #[doc(alias = "migrate_vma_setup")]
    pub(super) fn of_vma(
        vma: VmaRef<'a>,
        start: usize,
        end: usize,
        owner: *mut c_void,
        fault_page: *mut bindings::page,
    ) -> Result<Self> {
        let pages = end.saturating_sub(start) / PAGE_SIZE;
        if pages > BATCH {
            return Err(EINVAL);
        }
        let select = match fault_page.is_null() {
            true => bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM,
            false => bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
        };
        let (mut sources, mut targets) = ([0; BATCH], [0; BATCH]);
        let mut args = bindings::migrate_vma {
            vma: vma.as_raw(),
            src: sources.as_mut_ptr(),
            dst: targets.as_mut_ptr(),
            cpages: 0,
            npages: 0,
            start,
            end,
            pgmap_owner: owner,
            flags: select as _,
            fault_page,
        };
        // SAFETY: The VMA is locked, and the arrays have room for the pages. C checks the addresses.
        to_result(unsafe { bindings::migrate_vma_setup(&mut args) })?;
        // INVARIANT: C has stored the words, and the VMA stays locked for `'a`.
        Ok(Self {
            args: Some(args),
            sources,
            targets,
            pages,
            is_finished: false,
            _vma: PhantomData,
        })
    }

    /// Takes the page out of the page tables at which a fault happened. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is impossible.
    pub(super) fn of_fault(fault: PrivateFault<'a>) -> Result<Self> {
        let page = fault.page().ok_or(EINVAL)?;
        let raw = fault.as_raw();
        // SAFETY: By the type invariants the fault is valid, and its VMA is locked for `'a`.
        let (vma, address) = unsafe {
            let fields = &(*raw).__bindgen_anon_1;
            (VmaRef::from_raw(fields.vma), fields.address)
        };
        let start = address / PAGE_SIZE * PAGE_SIZE;
        let end = start.checked_add(PAGE_SIZE).ok_or(EINVAL)?;
        Self::of_vma(vma, start, end, page.pgmap().owner(), page.as_raw())
    }

    /// Takes pages of a device out of all page tables, at most [`BATCH`]. Idle ones, and those that
    /// another task has locked, are left out. C: `migrate_device_range()`. Sleeps.
    ///
    /// # Safety
    ///
    /// These must be pages of a pgmap of device-private memory that stays mapped for `'a`.
    #[doc(alias = "migrate_device_range")]
    pub(super) unsafe fn of_device(first: Pfn, pages: usize) -> Self {
        let pages = pages.min(BATCH);
        let mut sources = [0; BATCH];
        // SAFETY: The caller promises the pages, and the array has room for them. It always returns 0.
        unsafe { bindings::migrate_device_range(sources.as_mut_ptr(), first.nr(), pages) };
        // INVARIANT: C has stored the words.
        Self {
            args: None,
            sources,
            targets: [0; BATCH],
            pages,
            is_finished: false,
            _vma: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pages
    }

    /// Returns the `n`th page, or `None` if it stays where it is. An address at which nothing is mapped
    /// yet has no page.
    pub(super) fn source(&self, n: usize) -> Option<Option<PageRef<'_>>> {
        let words = self.sources.get(..self.pages)?;
        let word = words.get(n).filter(|word| *word & MIGRATE != 0)?;
        if word & VALID == 0 {
            return Some(None);
        }
        // SAFETY: C has stored the PFN of a page; the function only computes its address.
        let page = unsafe { bindings::pfn_to_page(*word >> bindings::MIGRATE_PFN_SHIFT) };
        // SAFETY: By the type invariants C has locked the page, and holds a reference until the batch is
        // finished.
        NonNull::new(page).map(|page| Some(unsafe { PageRef::from_raw(page) }))
    }

    /// Provides the page that takes the place of the `n`th, which has the same bytes.
    ///
    /// # Safety
    ///
    /// The `n`th must be one that [`source`](Self::source) returned, and have none yet. The page must be
    /// a new one, locked, with one reference, which this value takes over.
    pub(super) unsafe fn provide(&mut self, n: usize, pfn: Pfn) {
        if let Some(word) = self.targets.get_mut(n) {
            // INVARIANT: The caller hands over a locked page with its reference.
            *word = (pfn.nr() << bindings::MIGRATE_PFN_SHIFT) | VALID;
        }
    }

    /// Moves what can be moved, and restores the entries. Returns how many pages were moved. C:
    /// `migrate_vma_pages()`, `migrate_vma_finalize()`.
    #[doc(alias = "migrate_vma_pages")]
    #[doc(alias = "migrate_vma_finalize")]
    pub(super) fn finish(mut self) -> usize {
        self.finish_once()
    }

    fn finish_once(&mut self) -> usize {
        if core::mem::replace(&mut self.is_finished, true) {
            return 0;
        }
        let (sources, targets) = (self.sources.as_mut_ptr(), self.targets.as_mut_ptr());
        if let Some(args) = &mut self.args {
            // The value may have moved since.
            args.src = sources;
            args.dst = targets;
        }
        // SAFETY: By the type invariants the words are those of a batch that is set up and not finished,
        // with new pages as C expects them; the VMA, if there is one, is locked.
        unsafe {
            match &mut self.args {
                Some(args) => bindings::migrate_vma_pages(args),
                None => bindings::migrate_device_pages(sources, targets, self.pages),
            }
        }
        let pairs = self.sources.iter().zip(&self.targets).take(self.pages);
        let is_moved =
            |(source, target): &(&c_ulong, &c_ulong)| **source & MIGRATE != 0 && **target != 0;
        // OVERFLOW: There are at most as many as pages.
        let moved = pairs
            .filter(is_moved)
            .fold(0, |moved: usize, _| moved.wrapping_add(1));
        // SAFETY: As before; this is the last step.
        unsafe {
            match &mut self.args {
                Some(args) => bindings::migrate_vma_finalize(args),
                None => bindings::migrate_device_finalize(sources, targets, self.pages),
            }
        }
        moved
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.finish_once();
    }
}

/// Borrows the bytes of a page.
///
/// # Safety
///
/// No other code may write to the page for `'p`.
pub(super) unsafe fn bytes<'p>(page: PageRef<'p>) -> &'p PageBytes {
    // SAFETY: Pages of RAM are in the linear mapping. The caller promises that nothing writes to it.
    unsafe { &*bindings::page_to_virt(page.as_raw()).cast::<PageBytes>() }
}

/// A new page of RAM, locked.
///
/// # Invariants
///
/// The value owns the only reference to the page, and its lock.
pub(super) struct NewPage(NonNull<bindings::page>);

impl NewPage {
    /// Sleeps.
    pub(super) fn allocate() -> Result<Self> {
        // SAFETY: The flags allow sleeping, and so does the caller.
        let page = unsafe { bindings::alloc_pages_noprof(bindings::GFP_HIGHUSER_MOVABLE, 0) };
        let page = NonNull::new(page).ok_or(ENOMEM)?;
        // SAFETY: The page was just allocated.
        unsafe { bindings::lock_page(page.as_ptr()) };
        // INVARIANT: Nothing else has the page.
        Ok(Self(page))
    }

    pub(super) fn bytes_mut(&mut self) -> &mut PageBytes {
        // SAFETY: By the type invariants nothing else has the page, which is in the linear mapping.
        unsafe { &mut *bindings::page_to_virt(self.0.as_ptr()).cast::<PageBytes>() }
    }

    /// Provides it for the `n`th page of a batch, which must have a source.
    pub(super) fn provide(self, batch: &mut Batch<'_>, n: usize) {
        if batch.source(n).is_none() {
            return;
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariants the page is a new one, with one reference, and valid.
        let pfn = unsafe { PageRef::from_raw(this.0) }.pfn();
        // SAFETY: By the type invariants it is locked, and its only reference is handed over. The batch
        // has a source there.
        unsafe { batch.provide(n, pfn) };
    }
}

impl Drop for NewPage {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value owns the lock and the reference.
        unsafe {
            bindings::unlock_page(self.0.as_ptr());
            bindings::put_page(self.0.as_ptr());
        }
    }
}
