// SPDX-License-Identifier: GPL-2.0

//! The pages of a pgmap.
//!
//! What a count means depends on the pgmap's [`MemoryType`] (6.12; later kernels differ):
//!
//! | type | idle | taken by | idle again |
//! |---|---|---|---|
//! | private, coherent | 0 | [`DevicePage::init`], by the owner | the owner's `page_free` is called and the page's live reference put |
//! | FS DAX | 1 | pins only: being mapped does not count | whoever waits for the page is woken |
//! | generic, P2PDMA | 1 | pins only | nothing; dropped to 0 the owner's `page_free`, and back at 1 |

use super::{DevPagemap, LiveRef, MemoryType};
use crate::{bindings, mm::pfn::Pfn, sync::wait_var::Waiters};
use core::{
    ptr::{addr_of, addr_of_mut, null_mut, NonNull},
    sync::atomic::{AtomicI32, AtomicPtr, Ordering},
};

/// A page of a pgmap. C: `struct page` in ZONE_DEVICE.
///
/// # Invariants
///
/// The page is in ZONE_DEVICE, its memmap is initialised, and the pgmap that it points back to
/// stays valid for `'a`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct DevicePage<'a>(
    NonNull<bindings::page>,
    core::marker::PhantomData<&'a DevPagemap>,
);

impl<'a> DevicePage<'a> {
    /// The page that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr, core::marker::PhantomData)
    }

    /// The page of the frame `pfn`, if that is one of the pgmap's own. C: `pfn_to_page()`.
    #[doc(alias = "pfn_to_page")]
    pub fn at(live: &'a LiveRef, pfn: Pfn) -> Option<Self> {
        if !live.has_data_page(pfn) {
            return None;
        }
        // SAFETY: A frame of a pgmap that is mapped has a page.
        let page = NonNull::new(unsafe { bindings::pfn_to_page(pfn.nr()) })?;
        // INVARIANT: In the pgmap, behind its memmap, and `live` keeps that for `'a`.
        Some(Self(page, core::marker::PhantomData))
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// The frame that it describes. C: `page_to_pfn()`.
    #[doc(alias = "page_to_pfn")]
    pub fn pfn(self) -> Pfn {
        // SAFETY: A valid page, by the invariant.
        // CAST: `unsigned long` is `usize`.
        Pfn::new(unsafe { bindings::page_to_pfn(self.as_raw()) } as usize)
    }

    /// The pgmap that it belongs to.
    #[inline]
    pub fn pgmap(self) -> &'a DevPagemap {
        self.folio().pgmap()
    }

    /// The folio that it is a page of. C: `page_folio()`.
    #[doc(alias = "page_folio")]
    #[inline]
    fn folio(self) -> DeviceFolio<'a> {
        // SAFETY: A valid page. All members of the union are words. Volatile, because it may become
        // another pgmap.
        let word = unsafe {
            let words = addr_of!((*self.as_raw()).__bindgen_anon_1);
            addr_of!((*words).__bindgen_anon_3.compound_head).read_volatile()
        };
        // The tails of a compound page have the address of its first page in the place of the page
        // map, with the lowest bit set.
        let first = (word & 1 != 0)
            .then(|| NonNull::new((word & !1) as *mut bindings::page))
            .flatten();
        // INVARIANT: The first page of a compound page of this pgmap, or the page itself.
        DeviceFolio(first.map_or(self, |first| Self(first, core::marker::PhantomData)))
    }

    /// The count of references. C: `page_ref_count()`.
    #[doc(alias = "page_ref_count")]
    #[inline]
    pub fn ref_count(self) -> i32 {
        self.count().load(Ordering::Relaxed)
    }

    /// Whether it says which mapping it belongs to. C: `page->mapping`.
    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    #[inline]
    pub(super) fn has_mapping(self) -> bool {
        // SAFETY: A valid page, by the invariant; a word that is changed as a whole.
        let mapping = unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1.mapping).read_volatile()
        };
        !mapping.is_null()
    }

    /// Makes it, the first page of its folio, belong to another pgmap, and to no mapping: that of
    /// device-dax goes with its device.
    ///
    /// # Safety
    ///
    /// Nobody takes a first reference to the page. `to` points to a copy of its pgmap, which stays
    /// as long as the page does. What the page has led to before, pgmap and mapping, stays for who
    /// has looked just before: until a grace period of tasks after this.
    #[cfg(CONFIG_RUST_DEV_PAGEMAP)]
    pub(super) unsafe fn hand_over(self, to: NonNull<bindings::dev_pagemap>) {
        // SAFETY: A valid page, by the invariant, and words that are changed as a whole.
        let (pgmap, mapping) = unsafe {
            let words = addr_of_mut!((*self.as_raw()).__bindgen_anon_1);
            (
                AtomicPtr::from_ptr(addr_of_mut!((*words).__bindgen_anon_4.pgmap)),
                AtomicPtr::from_ptr(addr_of_mut!((*words).__bindgen_anon_1.mapping)),
            )
        };
        // The copy was written before.
        pgmap.store(to.as_ptr(), Ordering::Release);
        if self.pgmap().memory_type() == Some(MemoryType::Generic) {
            mapping.store(null_mut(), Ordering::Relaxed);
        }
    }

    #[inline]
    fn count(&self) -> &AtomicI32 {
        // SAFETY: `_refcount` is an `atomic_t`: four aligned bytes that everybody accesses
        // atomically, valid as long as the page.
        unsafe { AtomicI32::from_ptr(addr_of_mut!((*self.as_raw())._refcount.counter)) }
    }

    /// Hands out an idle page of a pgmap whose pages are allocated, with one reference, locked.
    /// C: `zone_device_page_init()`.
    ///
    /// Returns `false` if the pgmap was being torn down; the page is initialised all the same,
    /// as C does, because its caller cannot fail.
    ///
    /// Sleeps if the page is locked, which an idle page is not.
    ///
    /// # Safety
    ///
    /// The page is one of those that are allocated, and idle: nobody has a reference, and the
    /// caller alone hands it out. Who gets it unlocks it, and gives the reference up.
    #[doc(alias = "zone_device_page_init")]
    #[must_use = "a page handed out during teardown is a bug of the driver, to be reported"]
    pub unsafe fn init(self) -> bool {
        // The allocated page's own live reference; `DeviceFolio::free` puts it.
        // SAFETY: The pgmap is mapped, by the invariant, so its count is initialised.
        let live = unsafe {
            bindings::percpu_ref_tryget_live(addr_of_mut!((*self.pgmap().as_raw()).ref_))
        };
        // SAFETY: By the caller's promise the page is idle, so that nobody else changes its count.
        unsafe { bindings::set_page_count(self.as_raw(), 1) };
        // SAFETY: A valid page to which we hold a reference.
        unsafe { bindings::lock_page(self.as_raw()) };
        live
    }
}

/// A folio of a pgmap: what references are counted on. C: `struct folio` in ZONE_DEVICE.
///
/// # Invariants
///
/// As for [`DevicePage`], of its first page.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct DeviceFolio<'a>(DevicePage<'a>);

impl<'a> DeviceFolio<'a> {
    /// The folio that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::folio>) -> Self {
        // SAFETY: The first member of a folio is its first page; the rest is the caller's promise.
        Self(unsafe { DevicePage::from_raw(ptr.cast()) })
    }

    #[inline]
    fn as_raw(self) -> *mut bindings::folio {
        self.0.as_raw().cast()
    }

    /// The pgmap that it belongs to.
    #[inline]
    pub fn pgmap(self) -> &'a DevPagemap {
        // SAFETY: Of the first page of a folio in ZONE_DEVICE this member of the union is the one in
        // use, and by the invariant it points to a pgmap that is valid for `'a`. Volatile, because
        // it may become another.
        unsafe {
            let pgmap = addr_of!((*self.0.as_raw()).__bindgen_anon_1.__bindgen_anon_4.pgmap);
            DevPagemap::from_raw(pgmap.read_volatile())
        }
    }

    /// Drops `refs` references of an FS DAX folio, and wakes who waits for it if it is idle then.
    /// C: `__put_devmap_managed_folio_refs()`. Any context.
    ///
    /// Returns `false`, and does nothing, for other types: their references are ordinary ones.
    ///
    /// # Safety
    ///
    /// The caller owns so many references, and gives them up if the answer is `true`.
    #[doc(alias = "__put_devmap_managed_folio_refs")]
    #[inline]
    pub unsafe fn put_managed_refs(self, refs: i32) -> bool {
        if self.pgmap().memory_type() != Some(MemoryType::FsDax) {
            return false;
        }
        // SAFETY: The caller's promise; just looked at the type.
        unsafe { self.put_fsdax_refs(refs, &Waiters::look()) };
        true
    }

    /// Drops `refs` references of a folio that is known to be FS DAX.
    ///
    /// # Safety
    ///
    /// It is, and the caller owns so many references, and gives them up.
    #[inline(always)]
    pub(crate) unsafe fn put_fsdax_refs(self, refs: i32, waiters: &Waiters) {
        // SAFETY: The caller's promise.
        if unsafe { self.sub_return(refs) } == 1 {
            self.wake(waiters);
        }
    }

    /// Subtracts from the count and returns what is left. C: `folio_ref_sub_return()`.
    ///
    /// # Safety
    ///
    /// The caller owns so many references, and gives them up.
    #[inline]
    unsafe fn sub_return(self, refs: i32) -> i32 {
        if cfg!(CONFIG_DEBUG_PAGE_REF) {
            // The C inline has a tracepoint in it then.
            // SAFETY: A valid folio; the caller owns the references.
            return unsafe { bindings::folio_ref_sub_return(self.as_raw(), refs) };
        }
        // Fully ordered, as `atomic_sub_return()` is: what the holder did with the page comes
        // before the wake-up.
        self.0
            .count()
            .fetch_sub(refs, Ordering::SeqCst)
            .wrapping_sub(refs)
    }

    /// Wakes who waits until the page is idle: the key is the address of the count.
    #[inline(always)]
    fn wake(self, waiters: &Waiters) {
        // SAFETY: A valid folio; only the address is taken.
        let count = unsafe { addr_of!((*self.0.as_raw())._refcount) };
        // The subtraction was a full barrier.
        waiters.wake_up(count.cast());
    }

    /// Takes back a folio whose last reference was dropped. C: `free_zone_device_folio()`.
    ///
    /// Any context that may drop a page's last reference. The owner's `page_free` is called.
    ///
    /// # Errors
    ///
    /// [`NotFreeable`] if the owner has no `page_free`: the pages of FS DAX and generic memory are
    /// idle at 1 and may not drop to 0. Nothing is done then.
    ///
    /// # Safety
    ///
    /// The caller has dropped the last reference to the folio, and nobody takes one. If its pages
    /// are allocated, this was handed out by [`DevicePage::init`], and is freed once for that.
    #[doc(alias = "free_zone_device_folio")]
    pub unsafe fn free(self) -> Result<(), NotFreeable> {
        let pgmap = self.pgmap();
        // SAFETY: The owner set up `ops` before the pgmap was mapped; null or valid.
        let ops = unsafe { (*pgmap.as_raw()).ops.as_ref() };
        let page_free = ops.and_then(|ops| ops.page_free).ok_or(NotFreeable)?;

        // SAFETY: A valid folio, by the caller's promise without references. This takes the charge
        // off, drops the anonymous page's mark, and clears `mapping`, which may hold a stale value
        // of the last user's.
        unsafe { bindings::zone_device_folio_reset(self.as_raw()) };
        let allocated = pgmap
            .memory_type()
            .is_some_and(MemoryType::pages_are_allocated);
        // SAFETY: The owner's method, with a page of its pgmap that nobody uses, as it is
        // declared to expect.
        unsafe { page_free(self.0.as_raw()) };

        if allocated {
            // SAFETY: By the caller's promise the page had this reference from `DevicePage::init`.
            // The pgmap may be gone after it, so it is the last thing that is done.
            unsafe { pgmap.percpu_ref().put() };
        } else {
            // Idle again, ready to be handed out. The owner may have put the pgmap's last
            // reference: teardown waits for this store, and it is the last thing that is done.
            // SAFETY: Nobody has a reference, so nobody else changes the count.
            unsafe { bindings::set_page_count(self.0.as_raw(), 1) };
        }
        Ok(())
    }
}

/// The owner of a pgmap does not take pages back.
#[derive(Debug)]
pub struct NotFreeable;
