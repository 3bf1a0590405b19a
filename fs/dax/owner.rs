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
//! The two words are one state, which changes under a lock of its own: see [`owner_state`]. (C
//! changes them under the lock of the array of whichever file it is, and files that share a page
//! have an array each.) The lock of the page is taken inside that of the array, and none inside it.
//!
//! An entry holds no reference to its pages, and neither does a page table entry: the reference
//! count of a page that is not pinned is 1.
//!
//! Only RCU keeps the mapping that a page names. Once the array of that mapping is locked, and the
//! page still names the mapping, the mapping cannot be freed: freeing an inode takes that lock
//! after its last entry has been removed.
//!
//! [`owner_state`]: crate::owner_state
//!
//! This file encapsulates changes of the owner, and the way from an entry to its pages.

use crate::{
    entry::{Entry, Size},
    entry_array::EntryArray,
    mapping::DaxMapping,
    owner_state::{self, OwnedPage, OwnerLock},
};
use core::{
    hint::spin_loop,
    marker::PhantomData,
    ops::Deref,
    ptr::{addr_of, eq, NonNull},
    sync::atomic::{AtomicBool, Ordering},
};
use kernel::{
    bindings,
    ffi::c_void,
    fs::address_space::AddressSpace,
    mm::{page::PageRef, pfn::Pfn},
    sync::{rcu, wait_var::wake_up_var},
};

// The mark of a page that files share is that of C.
const _: () = assert!(owner_state::SHARED == bindings::PAGE_MAPPING_ANON as usize);

/// A lock for the owners of the pages of some ranges of 2 MiB. C: `bit_spin_lock()`.
///
/// It is held for a few instructions, with interrupts disabled. A spinlock would cost the two calls
/// that it consists of for each fault. Each lock has a cache line, so that CPUs which handle faults
/// of different memory do not disturb each other.
#[repr(align(64))]
struct PageLock(AtomicBool);

/// The number of locks.
const LOCKS: usize = 256;

/// The locks, by the number of the 2 MiB that a page lies in.
static PAGE_LOCKS: [PageLock; LOCKS] = [const { PageLock(AtomicBool::new(false)) }; LOCKS];

impl PageLock {
    /// Returns the lock for the pages of an entry that begins at `pfn`: no entry crosses a boundary
    /// of 2 MiB.
    #[inline(always)]
    fn of(pfn: Pfn) -> &'static Self {
        &PAGE_LOCKS[(pfn.nr() >> Size::Pmd.order()) % LOCKS]
    }

    /// Waits until the lock is released and takes it.
    #[cold]
    #[inline(never)]
    fn lock_slow(&self) {
        loop {
            while self.0.load(Ordering::Relaxed) {
                spin_loop();
            }
            if !self.0.swap(true, Ordering::Acquire) {
                break;
            }
        }
    }
}

impl OwnerLock for PageLock {
    /// Calls `change` with the lock held. Spins; the caller has disabled interrupts.
    #[inline(always)]
    fn with<R>(&self, change: impl FnOnce() -> R) -> R {
        if self.0.swap(true, Ordering::Acquire) {
            self.lock_slow();
        }
        let result = change();
        self.0.store(false, Ordering::Release);
        result
    }
}

/// The key of the tasks that wait until a page is idle: an address that is compared and never
/// dereferenced, so it can outlive the page. C: `&page->_refcount`.
#[derive(Clone, Copy)]
pub(crate) struct RefcountKey(*mut c_void);

impl RefcountKey {
    /// Returns the key as C takes it.
    #[inline]
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0
    }

    /// Returns the key of the tasks that wait for a page.
    #[inline]
    pub(crate) fn of(page: PageRef<'_>) -> Self {
        Self(page.refcount_key().cast_mut())
    }
}

/// A page that an entry names.
///
/// # Invariants
///
/// The `struct page` is initialised and stays valid for `'t`, because a mapping has an entry for it
/// as long.
#[derive(Clone, Copy)]
pub(crate) struct FilePage<'t>(NonNull<bindings::page>, PhantomData<&'t ()>);

impl FilePage<'_> {
    /// Creates a value from a C pointer.
    ///
    /// # Safety
    ///
    /// A mapping must have an entry for the page for the lifetime of the value: the caller must
    /// hold the lock of the array, or have the entry locked, or exclude its removal by
    /// `invalidate_lock`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: A pgmap is torn down only when no mapping has an entry for its pages. The
        // caller promises that a mapping has one.
        Self(page, PhantomData)
    }

    /// Returns a reference to the page.
    #[inline(always)]
    fn get(&self) -> PageRef<'_> {
        // SAFETY: By the type invariants the page is initialised and valid.
        unsafe { PageRef::from_raw(self.0) }
    }

    /// Returns the C pointer.
    #[inline]
    pub(crate) fn as_raw(self) -> NonNull<bindings::page> {
        self.0
    }

    /// Returns whether the page has more references than an idle page: it is pinned. C:
    /// `page_ref_count() > 1`.
    #[inline]
    pub(crate) fn is_busy(self) -> bool {
        // CAST: A count that has overflowed is negative, and such a page has many holders.
        self.get().ref_count() as u32 > 1
    }

    /// Returns the key of the tasks that wait until the page is idle.
    #[inline]
    pub(crate) fn refcount_key(self) -> RefcountKey {
        RefcountKey::of(self.get())
    }
}

impl Entry {
    /// Returns the addresses of the pages of the entry in order; none unless it is device memory.
    /// C: `for_each_mapped_pfn()`, `dax_end_pfn()`.
    #[doc(alias = "dax_end_pfn")]
    #[inline(always)]
    fn page_addresses(self) -> impl Iterator<Item = NonNull<bindings::page>> {
        let (first, count) = match self.pfn() {
            // SAFETY: Only an address is computed here, and nothing is read.
            Some(pfn) => unsafe { (PageRef::from_pfn(pfn).as_raw(), self.size().pages()) },
            None => (NonNull::dangling().as_ptr(), 0),
        };
        // SAFETY: The memmap is one array (SPARSEMEM_VMEMMAP), in which a PFN has an element or
        // room for one, so the address is not null.
        (0..count).map(move |n| unsafe { NonNull::new_unchecked(first.wrapping_add(n)) })
    }

    /// Adds the mapping of the array to the owners of the pages of the entry; `index` is the index
    /// of the first. `shared` says whether the filesystem has marked the blocks as shared. C:
    /// `dax_associate_entry()`.
    ///
    /// # Safety
    ///
    /// The pages must exist. The caller must store the entry to the array before it unlocks it.
    #[doc(alias = "dax_associate_entry")]
    #[inline]
    pub(crate) unsafe fn associate(self, array: &EntryArray<'_, '_>, index: usize, shared: bool) {
        let Some(pfn) = self.pfn() else {
            return;
        };
        let owner = array.mapping().as_raw() as usize;
        // SAFETY: By the caller's promise the pages exist, and get an entry that keeps them.
        let pages = unsafe { EntryRef::new(self) }.pages();
        if !owner_state::add_entry(PageLock::of(pfn), pages, owner, index, shared) {
            report_unmarked(array.mapping());
        }
    }

    /// Removes the mapping of the array from the owners of the pages of the entry. If the pages are
    /// `truncated`, warns about those that are pinned. C: `dax_disassociate_entry()`.
    ///
    /// # Safety
    ///
    /// The array must have had this entry since it was locked, and the caller must remove or
    /// replace it before it unlocks the array.
    #[doc(alias = "dax_disassociate_entry")]
    #[inline]
    pub(crate) unsafe fn disassociate(self, array: &EntryArray<'_, '_>, truncated: bool) {
        let Some(pfn) = self.pfn() else {
            return;
        };
        let mapping = array.mapping();
        // SAFETY: By the caller's promise the mapping is an owner of the pages, so they exist until
        // it has been removed from the owners; the last access to each page does that.
        let pages = unsafe { EntryRef::new(self) }.pages().inspect(|page| {
            if truncated && page.is_busy() {
                warn_pinned(mapping);
            }
        });
        if !owner_state::remove_entry(PageLock::of(pfn), pages, mapping.as_raw() as usize) {
            kernel::warn_once!("fs_dax: removed page does not belong to the file");
        }
    }

    /// Wakes the tasks that wait until pages of the entry are idle, because the entry was removed.
    pub(crate) fn wake_waiters(self) {
        for page in self.page_addresses() {
            // SAFETY: The pages may be gone. Only the address of the count is computed, which is
            // the key of the waiters; nothing is read. The lock under which the entry was removed
            // is the one that a waiter takes before it looks again.
            wake_up_var(unsafe { FilePage::from_raw(page) }.refcount_key().as_ptr());
        }
    }
}

/// An entry that the array of a mapping has, so that its pages exist.
///
/// # Invariants
///
/// For `'t` a mapping has the entry: the array is locked, or the holder has the entry locked. If it
/// is device memory, its PFNs have `struct page`s, of which the mapping is an owner: so teardown of
/// the pgmap waits until the entry is removed.
#[derive(Clone, Copy)]
pub(crate) struct EntryRef<'t>(Entry, PhantomData<&'t ()>);

impl Deref for EntryRef<'_> {
    type Target = Entry;

    #[inline(always)]
    fn deref(&self) -> &Entry {
        &self.0
    }
}

impl<'t> EntryRef<'t> {
    /// Creates a reference to an entry.
    ///
    /// # Safety
    ///
    /// A mapping must have the entry for `'t`, because the caller holds the lock of the array or
    /// has the entry locked; or else the pages of the entry must exist for `'t`.
    #[inline(always)]
    pub(crate) unsafe fn new(entry: Entry) -> Self {
        // INVARIANT: The caller promises that the mapping has the entry. Entries are stored by
        // `LockedEntry::replace`, which makes the mapping an owner of the pages.
        Self(entry, PhantomData)
    }

    /// Returns the pages of the entry in order; none unless it is device memory.
    #[inline(always)]
    fn pages(self) -> impl Iterator<Item = FilePage<'t>> {
        self.page_addresses().map(|page| {
            // SAFETY: By the type invariants the mapping has an entry for the pages for `'t`.
            unsafe { FilePage::from_raw(page) }
        })
    }

    /// Returns the first page of the entry that is pinned. C: `dax_busy_page()`.
    #[doc(alias = "dax_busy_page")]
    #[inline]
    #[expect(clippy::manual_find, reason = "`find` compiles to one more comparison")]
    pub(crate) fn busy_page(self) -> Option<FilePage<'t>> {
        for page in self.pages() {
            if page.is_busy() {
                return Some(page);
            }
        }
        None
    }

    /// Returns the first page of the entry that is pinned, of those from page `skip` on: its number
    /// in the entry, and its PFN.
    pub(crate) fn pinned_page_from(self, skip: usize) -> Option<(usize, Pfn)> {
        let (n, _) = self
            .pages()
            .enumerate()
            .skip(skip)
            .find(|(_, page)| page.is_busy())?;
        Some((n, self.pfn()?.checked_add(n)?))
    }

    /// Returns how many pages of the entry are pinned, and the first of them.
    pub(crate) fn pinned_pages(self) -> (usize, Option<Pfn>) {
        let (mut count, mut first) = (0usize, None);
        for (n, page) in self.pages().enumerate() {
            if page.is_busy() {
                count = count.saturating_add(1);
                first = first.or_else(|| self.pfn()?.checked_add(n));
            }
        }
        (count, first)
    }

    /// Writes back the CPU caches for the memory of the entry. Any context. C:
    /// `arch_wb_cache_pmem()`.
    #[doc(alias = "arch_wb_cache_pmem")]
    pub(crate) fn write_back(self) {
        #[cfg(all(CONFIG_ARCH_HAS_PMEM_API, CONFIG_LIBNVDIMM))]
        if let Some(phys) = self.pfn().and_then(Pfn::phys) {
            // SAFETY: By the type invariants the PFNs have `struct page`s, so they are in the
            // linear mapping.
            unsafe { bindings::arch_wb_cache_pmem(bindings::__va(phys), self.size().bytes()) };
        }
    }

    /// Returns the page of the entry that has this index in the file, if the entry is device memory.
    #[inline]
    pub(crate) fn page_at(self, index: usize) -> Option<FilePage<'t>> {
        self.pages().nth(index & self.size().colour())
    }
}

impl OwnedPage for FilePage<'_> {
    #[inline(always)]
    fn mapping(self) -> usize {
        self.get().mapping() as usize
    }

    #[inline(always)]
    fn set_mapping(self, mapping: usize) {
        // SAFETY: `owner_state` changes the owner under the lock of the page, so the caller is the
        // only one that does. `mapping` is a flag without an address, or a mapping which is not
        // freed while it has an entry for the page.
        unsafe {
            self.get()
                .set_mapping(mapping as *mut bindings::address_space)
        };
    }

    #[inline(always)]
    fn index(self) -> usize {
        self.get().index()
    }

    #[inline(always)]
    fn set_index(self, index: usize) {
        // SAFETY: Pages of FS DAX are no tail pages, and `owner_state` changes the field as that of
        // the owner or as the number of entries, under the lock of the page.
        unsafe { self.get().index_field() }.store(index, Ordering::Relaxed);
    }
}

/// Warns that files share a block which their filesystem has not marked as shared. A filesystem
/// that cannot be written to may do that: erofs shares equal chunks.
#[cold]
fn report_unmarked(mapping: &DaxMapping) {
    if !mapping.inode().is_read_only() {
        kernel::warn_once!("fs_dax: page already belongs to a file");
    }
}

/// Warns that a pinned page is truncated, unless its inode is evicted with a name: then its blocks
/// are not freed, and the holder of the pin has no less of the file than before.
#[cold]
fn warn_pinned(mapping: &DaxMapping) {
    if mapping.inode().link_count() == 0 || !mapping.inode().is_freeing() {
        kernel::warn_once!("fs_dax: pinned page is truncated");
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

    /// Returns the index of the page in the mapping with this locked array, if that is the owner.
    pub(crate) fn index_in(page: PageRef<'_>, array: &EntryArray<'_, '_>) -> Option<usize> {
        // Another file may add an entry for the page at this moment, so mapping and index are read
        // under the lock of the page.
        PageLock::of(page.pfn())
            .with(|| eq(page.mapping(), array.mapping().as_raw()).then(|| page.index()))
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
        // SAFETY: Nothing sleeps until the guard is dropped: the fields of the page, the mapping
        // and the inode are only read.
        let _guard = unsafe { rcu::read_lock() };
        if page.mapping() as usize == owner_state::SHARED {
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
