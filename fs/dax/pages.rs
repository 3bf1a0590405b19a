// SPDX-License-Identifier: GPL-2.0

//! The pages behind an entry.
//!
//! Each page of the device that a file has an entry for says which file that is, and where: memory
//! failure asks. A page that several files share cannot say that; it counts its entries instead.
//!
//! The count of references of a page is not changed by an entry, nor by a mapping: it is 1 for a
//! page that nobody has pinned.

use crate::{entry::Entry, mapping::DaxMapping, tree::Tree};
use core::{
    ptr::{addr_of_mut, null_mut, NonNull},
    sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering},
};
use kernel::{bindings, mm::pfn::Pfn};

/// The mapping of a page that files share. C: `PAGE_MAPPING_DAX_SHARED`.
pub(crate) const SHARED: *mut bindings::address_space =
    bindings::PAGE_MAPPING_ANON as usize as *mut bindings::address_space;

/// A page of a device that a filesystem uses.
///
/// # Invariants
///
/// The page is initialised and stays while a mapping has an entry for it.
#[derive(Clone, Copy)]
pub(crate) struct Page(NonNull<bindings::page>);

impl Page {
    /// C: `pfn_to_page()`.
    ///
    /// # Safety
    ///
    /// The frame has a page as the type's invariant says.
    #[inline]
    unsafe fn from_pfn(pfn: Pfn) -> Self {
        // INVARIANT: The caller's promise.
        // SAFETY: The caller's promise.
        Self(unsafe { pfn.to_page() })
    }

    /// What C code takes.
    #[inline]
    pub(crate) fn as_raw(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    #[inline]
    fn mapping(&self) -> &AtomicPtr<bindings::address_space> {
        // SAFETY: By the invariant the field is there; a word that is changed as a whole.
        unsafe {
            AtomicPtr::from_ptr(addr_of_mut!(
                (*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1.mapping
            ))
        }
    }

    /// Its index in the file, or how many entries share it.
    #[inline]
    fn index(&self) -> &AtomicUsize {
        // SAFETY: As above.
        unsafe {
            AtomicUsize::from_ptr(
                addr_of_mut!(
                    (*self.as_raw())
                        .__bindgen_anon_1
                        .__bindgen_anon_1
                        .__bindgen_anon_2
                )
                .cast(),
            )
        }
    }

    /// Whether somebody has it besides the mapping. C: `page_ref_count() > 1`.
    #[inline]
    pub(crate) fn is_busy(self) -> bool {
        // SAFETY: As above; `_refcount` is an `atomic_t`.
        let count =
            unsafe { AtomicI32::from_ptr(addr_of_mut!((*self.as_raw())._refcount.counter)) };
        count.load(Ordering::Relaxed) > 1
    }

    /// Sleeps, for a second at most, until nobody has it besides the mapping. No signal ends that.
    ///
    /// Not every way to put a page wakes who waits for it; so the caller looks again.
    pub(crate) fn wait_idle(self) {
        // SAFETY: By the invariant the page is there.
        unsafe { bindings::dax_wait_page_idle(self.as_raw()) };
    }

    /// Another entry shares it.
    ///
    /// Files that share a page have locks of their own, so that the count is atomic. (It is not in
    /// C.)
    #[inline]
    fn share(self) {
        let mapping = self.mapping().load(Ordering::Relaxed);
        if mapping != SHARED {
            // It was the page of one file so far, which counts.
            if !mapping.is_null() {
                self.index().store(1, Ordering::Relaxed);
            }
            self.mapping().store(SHARED, Ordering::Relaxed);
        }
        self.index().fetch_add(1, Ordering::Relaxed);
    }

    /// An entry does not share it any more. Returns whether others do.
    #[inline]
    fn unshare(self) -> bool {
        self.index().fetch_sub(1, Ordering::Relaxed) > 1
    }
}

impl Entry {
    /// The pages, if it is memory of the device, in order.
    #[inline(always)]
    fn pages(self) -> impl Iterator<Item = Page> {
        let (first, count) = match self.pfn() {
            // SAFETY: By the invariant of an entry its frames have pages that stay.
            Some(pfn) => (unsafe { Page::from_pfn(pfn) }.as_raw(), self.size().pages()),
            None => (null_mut(), 0),
        };
        (0..count).map(move |n| {
            // INVARIANT: As that of the first.
            // SAFETY: The memmap is one array (SPARSEMEM_VMEMMAP), which has them all.
            Page(unsafe { NonNull::new_unchecked(first.wrapping_add(n)) })
        })
    }

    /// Its pages belong to the mapping from now on; `index` is that of the first. C:
    /// `dax_associate_entry()`.
    #[inline]
    pub(crate) fn associate(self, tree: &Tree<'_, '_>, index: usize, shared: bool) {
        let owner = tree.mapping().as_raw();
        for (n, page) in self.pages().enumerate() {
            if shared {
                page.share();
                continue;
            }
            if !page.mapping().load(Ordering::Relaxed).is_null() {
                kernel::warn_once!("fs_dax: a page of two files that do not share it");
            }
            page.mapping().store(owner, Ordering::Relaxed);
            page.index().store(index.wrapping_add(n), Ordering::Relaxed);
        }
    }

    /// Its pages do not belong to the mapping any more, which is because the file loses them if
    /// `truncated`. C: `dax_disassociate_entry()`.
    #[inline]
    pub(crate) fn disassociate(self, mapping: &DaxMapping, truncated: bool) {
        let owner = mapping.as_raw();
        for page in self.pages() {
            if truncated && page.is_busy() {
                kernel::warn_once!("fs_dax: a page of a file is truncated while somebody uses it");
            }
            let of = page.mapping().load(Ordering::Relaxed);
            if of == owner {
                // Nearly always.
            } else if of == SHARED {
                if page.unshare() {
                    continue;
                }
            } else if !of.is_null() {
                kernel::warn_once!("fs_dax: a page of another file is removed from this");
            }
            page.mapping().store(null_mut(), Ordering::Relaxed);
            page.index().store(0, Ordering::Relaxed);
        }
    }

    /// The first of its pages that somebody has besides the mapping. C: `dax_busy_page()`.
    #[inline]
    #[expect(clippy::manual_find, reason = "it compares with null besides")]
    pub(crate) fn busy_page(self) -> Option<Page> {
        for page in self.pages() {
            if page.is_busy() {
                return Some(page);
            }
        }
        None
    }

    /// Writes back what CPUs have in their caches of it. Any context. C: `arch_wb_cache_pmem()`.
    #[doc(alias = "arch_wb_cache_pmem")]
    pub(crate) fn write_back(self) {
        #[cfg(all(CONFIG_ARCH_HAS_PMEM_API, CONFIG_LIBNVDIMM))]
        if let Some(phys) = self.pfn().and_then(Pfn::phys) {
            // SAFETY: By the invariant of an entry its frames are memory, which is in the linear
            // mapping.
            unsafe { bindings::arch_wb_cache_pmem(bindings::__va(phys), self.size().bytes()) };
        }
    }

    /// Its first page, if it is memory of the device.
    #[inline]
    pub(crate) fn first_page(self) -> Option<Page> {
        self.pages().next()
    }
}
