// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/gup.c`.

//! The caller's array of pages.
//!
//! The `unsafe` code here writes to that array.
//!
//! C: `record_subpages()`

use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{bindings, mm::page::PageRef};

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
    pub(crate) fn has_room(&self, pages: usize) -> bool {
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
    pub(crate) unsafe fn push(&mut self, first: PageRef<'_>, pages: usize) {
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
