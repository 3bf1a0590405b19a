// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! The owner of a page of a DAX device: the file, or files, with an entry for it.
//!
//! The entry of a file names pages, and each of these pages names its owner. Memory failure and the
//! teardown of a pgmap start with a page and look for the file.
//!
//! | owner | `page->mapping` | `page->index`, `page->share` |
//! |---|---|---|
//! | none | `NULL` | 0 |
//! | one file | its mapping | the index in the file |
//! | several files | `PAGE_MAPPING_DAX_SHARED` | the number of entries |
//! | device-dax | the mapping of the device | the index in the device |
//!
//! The owner changes under the locks of the entry and of the array. Files that share a page have
//! locks of their own, so the number of entries is atomic. (In C it is not.) The step from one
//! owner to several is not: see `FilePage::share()`.
//!
//! An entry holds no reference to its pages, and neither does a page table entry: the reference
//! count of a page that is not pinned is 1.
//!
//! Only RCU keeps the mapping that a page names. Once the array of that mapping is locked, and the
//! page still names the mapping, the mapping cannot be freed: freeing an inode takes that lock
//! after its last entry has been removed.
//!
//! This file encapsulates changes of the owner, and the way from an entry to its pages.

use crate::{entry::Entry, entry_array::EntryArray, mapping::DaxMapping};
use core::{
    mem::MaybeUninit,
    ptr::{addr_of, eq, null_mut, NonNull},
    sync::atomic::Ordering,
};
use kernel::{
    bindings,
    fs::address_space::AddressSpace,
    mm::{page::PageRef, pfn::Pfn},
    sync::rcu,
};

/// The value of `page->mapping` for a page that several files share. C: `PAGE_MAPPING_DAX_SHARED`,
/// `dax_page_is_shared()`.
const SHARED: *mut bindings::address_space =
    bindings::PAGE_MAPPING_ANON as usize as *mut bindings::address_space;

/// A page that an entry names.
///
/// # Invariants
///
/// The `struct page` is initialised and stays valid while a mapping has an entry for it. The holder
/// of the value keeps that entry while it accesses the page: it holds the lock of the array, or has
/// the entry locked, or excludes its removal (by `invalidate_lock`, or because it evicts the inode,
/// which revoking skips).
#[derive(Clone, Copy)]
pub(crate) struct FilePage(NonNull<bindings::page>);

impl FilePage {
    /// Returns a reference to the page.
    #[inline(always)]
    fn get(&self) -> PageRef<'_> {
        // SAFETY: By the type invariants the page is initialised, and the holder of `self` keeps an
        // entry for it, so it is valid while `self` is borrowed.
        unsafe { PageRef::from_raw(self.0) }
    }

    /// Returns the C pointer.
    #[inline]
    pub(crate) fn as_raw(self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Returns whether the page has more references than an idle page: it is pinned. C:
    /// `page_ref_count() > 1`.
    #[inline]
    pub(crate) fn is_busy(self) -> bool {
        self.get().ref_count() > 1
    }

    /// Sleeps uninterruptibly until the page has no more references than an idle page, but for at
    /// most one second. C: `wait_var_event()`.
    ///
    /// Not every function that puts a page wakes the waiters for it, so the caller checks again.
    #[doc(alias = "wait_var_event")]
    pub(crate) fn wait_idle(self) {
        let page = self.get();
        let key = page.refcount_key().cast_mut();
        let mut waiter = MaybeUninit::<bindings::wait_bit_queue_entry>::uninit();
        // SAFETY: `waiter` is a local variable that stays in place until `finish_wait` below has
        // removed it from the queue. The queue is C's for this key, and is never freed.
        let (queue, entry) = unsafe {
            bindings::init_wait_var_entry(waiter.as_mut_ptr(), key, 0);
            (
                bindings::__var_waitqueue(key),
                &raw mut (*waiter.as_mut_ptr()).wq_entry,
            )
        };
        loop {
            // SAFETY: The queue and the waiter, which was initialised above, are valid.
            unsafe {
                bindings::prepare_to_wait_event(queue, entry, bindings::TASK_UNINTERRUPTIBLE as _)
            };
            if page.ref_count() == 1 {
                break;
            }
            // CAST: A small number. SAFETY: The caller may sleep.
            if unsafe { bindings::schedule_timeout(bindings::HZ as _) } == 0 {
                break;
            }
        }
        // SAFETY: The waiter was added to this queue above.
        unsafe { bindings::finish_wait(queue, entry) };
    }

    /// Sets the mapping that owns the page, and the index in it.
    ///
    /// # Safety
    ///
    /// The caller must hold the lock of the array that has, gets or loses an entry for this page,
    /// and no other array may have one. `mapping` must be null or the mapping with that array.
    #[inline(always)]
    unsafe fn set_owner(self, mapping: *mut bindings::address_space, index: usize) {
        // SAFETY: By its promise the caller is the only one that changes the owner: it holds the
        // lock of the only array with an entry for the page. `mapping` is null or is not freed
        // while it has the entry. Pages of FS DAX are no tail pages.
        unsafe {
            self.get().set_mapping(mapping);
            self.get().index_field().store(index, Ordering::Relaxed);
        }
    }

    /// Adds an entry to those that share the page. C: `dax_page_share_get()`.
    ///
    /// # Safety
    ///
    /// The caller must hold the lock of the array that gets the entry, and must store the entry
    /// before it releases the lock.
    #[doc(alias = "dax_page_share_get")]
    #[inline]
    unsafe fn share(self) {
        let page = self.get();
        let mapping = page.mapping();
        // SAFETY: Pages of FS DAX are no tail pages, and the field is changed as a number of
        // entries.
        let entries = unsafe { page.index_field() };
        if mapping != SHARED {
            // The page had one owner so far, whose entry counts.
            if !mapping.is_null() {
                entries.store(1, Ordering::Relaxed);
            }
            // SAFETY: The value is a flag without an address, so a task that reads it follows no
            // pointer, and the store is atomic. A known gap: the lock of the array does not exclude
            // other files. If two files fault in a block at once that was not marked as shared
            // before, both may get here, and one entry is not counted, as in C.
            unsafe { page.set_mapping(SHARED) };
        }
        entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes an entry from those that share the page. Returns whether others still do. C:
    /// `dax_page_share_put()`.
    ///
    /// # Safety
    ///
    /// The page must be shared, and the caller must remove the entry.
    #[doc(alias = "dax_page_share_put")]
    #[inline]
    unsafe fn unshare(self) -> bool {
        // SAFETY: Pages of FS DAX are no tail pages, and by the caller's promise the field is the
        // number of entries, of which one is removed.
        unsafe { self.get().index_field() }.fetch_sub(1, Ordering::Relaxed) > 1
    }
}

impl Entry {
    /// Returns the pages of the entry in order; none unless it is device memory. C:
    /// `for_each_mapped_pfn()`, `dax_end_pfn()`.
    #[doc(alias = "dax_end_pfn")]
    #[inline(always)]
    fn pages(self) -> impl Iterator<Item = FilePage> {
        let (first, count) = match self.pfn() {
            Some(pfn) => {
                // SAFETY: By the invariants of `Entry` its PFNs have `struct page`s that stay
                // valid.
                let first = unsafe { PageRef::from_pfn(pfn) };
                (first.as_raw(), self.size().pages())
            }
            None => (null_mut(), 0),
        };
        (0..count).map(move |n| {
            // INVARIANT: By the invariants of `Entry` all its PFNs have `struct page`s that stay
            // valid.
            // SAFETY: The memmap is one array (SPARSEMEM_VMEMMAP), which has these elements, so the
            // address is not null.
            FilePage(unsafe { NonNull::new_unchecked(first.wrapping_add(n)) })
        })
    }

    /// Makes the mapping the owner of the pages of the entry; `index` is the index of the first. If
    /// the blocks are `shared`, counts the entry instead. The caller stores the entry to `array`
    /// before it unlocks it. C: `dax_associate_entry()`.
    #[doc(alias = "dax_associate_entry")]
    #[inline]
    pub(crate) fn associate(self, array: &EntryArray<'_, '_>, index: usize, shared: bool) {
        let owner = array.mapping().as_raw();
        for (n, page) in self.pages().enumerate() {
            if shared {
                // SAFETY: `array` is the evidence that its lock is held. The caller stores the
                // entry that it associates before it releases the lock.
                unsafe { page.share() };
                continue;
            }
            if !page.get().mapping().is_null() {
                kernel::warn_once!("fs_dax: page already belongs to a file");
            }
            // SAFETY: `array` is the evidence that its lock is held, and `owner` is its mapping.
            // The filesystem gives a block that is not shared to one file, so no other array has an
            // entry for the page. (If another file were named, the warning above would say so.)
            unsafe { page.set_owner(owner, index.wrapping_add(n)) };
        }
    }

    /// Removes the mapping, whose locked array is given as evidence, from the owners of the pages
    /// of the entry. If the pages are `truncated`, warns about those that are pinned. C:
    /// `dax_disassociate_entry()`.
    #[doc(alias = "dax_disassociate_entry")]
    #[inline]
    pub(crate) fn disassociate(
        self,
        mapping: &DaxMapping,
        _array: &EntryArray<'_, '_>,
        truncated: bool,
    ) {
        let owner = mapping.as_raw();
        for page in self.pages() {
            if truncated && page.is_busy() {
                kernel::warn_once!("fs_dax: pinned page is truncated");
            }
            let current = page.get().mapping();
            if current == owner {
                // Nearly always.
            } else if current == SHARED {
                // SAFETY: The page is shared, and this entry of it is removed.
                if unsafe { page.unshare() } {
                    continue;
                }
            } else if !current.is_null() {
                kernel::warn_once!("fs_dax: removed page belongs to another file");
            }
            // SAFETY: `_array` is the evidence that the lock of the array with this entry is held.
            // No other array has an entry for the page: it is not shared, and the filesystem gives
            // such a block to one file; or this was the last entry that shared it.
            unsafe { page.set_owner(null_mut(), 0) };
        }
    }

    /// Returns the first page of the entry that is pinned. C: `dax_busy_page()`.
    #[doc(alias = "dax_busy_page")]
    #[inline]
    #[expect(clippy::manual_find, reason = "`find` compiles to one more comparison")]
    pub(crate) fn busy_page(self) -> Option<FilePage> {
        for page in self.pages() {
            if page.is_busy() {
                return Some(page);
            }
        }
        None
    }

    /// Writes back the CPU caches for the memory of the entry. Any context. C:
    /// `arch_wb_cache_pmem()`.
    #[doc(alias = "arch_wb_cache_pmem")]
    pub(crate) fn write_back(self) {
        #[cfg(all(CONFIG_ARCH_HAS_PMEM_API, CONFIG_LIBNVDIMM))]
        if let Some(phys) = self.pfn().and_then(Pfn::phys) {
            // SAFETY: By the invariants of `Entry` its PFNs have `struct page`s, so they are in the
            // linear mapping.
            unsafe { bindings::arch_wb_cache_pmem(bindings::__va(phys), self.size().bytes()) };
        }
    }

    /// Returns the first page of the entry, if it is device memory.
    #[inline]
    pub(crate) fn first_page(self) -> Option<FilePage> {
        self.pages().next()
    }
}

/// The owner of a page.
pub(crate) enum Owner<'m> {
    /// No file, or several files.
    None,
    /// A device that is used without a filesystem: device-dax.
    Device,
    /// One file.
    File(&'m DaxMapping),
}

impl Owner<'_> {
    /// Returns the owner of a page at this moment.
    ///
    /// # Safety
    ///
    /// The caller must keep the mapping that the page names, if any, from being freed while the
    /// result is used: by an RCU read-side section, and after that by the lock of the mapping's
    /// array.
    pub(crate) unsafe fn of(page: PageRef<'_>) -> Self {
        let mapping = page.mapping();
        // The value for shared pages is a flag without an address.
        if mapping.is_null() || mapping as usize & bindings::PAGE_MAPPING_FLAGS as usize != 0 {
            return Self::None;
        }
        // SAFETY: The caller keeps the mapping from being freed. `host` is read once.
        if unsafe { addr_of!((*mapping).host).read_volatile() }.is_null() {
            return Self::None;
        }
        // SAFETY: The caller keeps the mapping from being freed, and it has an inode.
        let mapping = unsafe { AddressSpace::from_raw(mapping) };
        match DaxMapping::new(mapping) {
            None => Self::None,
            Some(mapping) if mapping.inode().is_char_device() => Self::Device,
            Some(mapping) => Self::File(mapping),
        }
    }

    /// Returns whether `mapping` is the one that the page names at this moment.
    pub(crate) fn is_file(page: PageRef<'_>, mapping: &DaxMapping) -> bool {
        eq(page.mapping(), mapping.as_raw())
    }
}

/// The filesystems whose files own a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerFilesystems {
    /// None: no file owns the page, or a device does.
    None,
    /// The filesystem with this device number.
    One(u32),
    /// Unknown: files share the page, and it cannot name them.
    Any,
}

impl OwnerFilesystems {
    /// Returns the filesystems whose files own a page at this moment. Any context.
    pub(crate) fn of(page: PageRef<'_>) -> Self {
        let _guard = rcu::read_lock();
        if eq(page.mapping(), SHARED) {
            return Self::Any;
        }
        // SAFETY: Inodes and superblocks are freed a grace period after their last entry has been
        // removed, and the read-side section is open while the result is used.
        match unsafe { Owner::of(page) } {
            Owner::File(mapping) => Self::One(mapping.inode().device()),
            Owner::None | Owner::Device => Self::None,
        }
    }
}
