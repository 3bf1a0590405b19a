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
//! 2 MiB that PMD entries name are one folio, whose first page has the owner and the count of all.
//! It is merged and taken apart under the same lock. While a mapping has an entry for a page, the
//! page may leave its folio, but never becomes part of one.
//!
//! An entry holds no reference to its pages, and neither does a page table entry: the reference
//! count of a folio that is not pinned is 1.
//!
//! Only RCU keeps the mapping that a page names. Once the array of that mapping is locked, and the
//! page still names the mapping, the mapping cannot be freed: freeing an inode takes that lock
//! after its last entry has been removed.
//!
//! [`owner_state`]: crate::owner_state
//!
//! This file encapsulates changes of the owner and of the folio, and the way from an entry to its
//! pages.

use crate::{
    debugfs,
    entry::{Entry, Size},
    entry_array::EntryArray,
    mapping::DaxMapping,
    owner_state::{self, FolioEvent, OwnedPage, OwnerLock, PageRange},
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

    #[inline(always)]
    fn try_with<R>(&self, change: impl FnOnce() -> R) -> Option<R> {
        if self.0.swap(true, Ordering::Acquire) {
            return None;
        }
        let result = change();
        self.0.store(false, Ordering::Release);
        Some(result)
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

/// A page that an entry names, or the first page of its folio.
///
/// # Invariants
///
/// The `struct page` is initialised and stays valid for `'t`, because a mapping has an entry for a
/// page of its folio as long.
#[derive(Clone, Copy)]
pub(crate) struct FilePage<'t>(NonNull<bindings::page>, PhantomData<&'t ()>);

impl FilePage<'_> {
    /// Creates a value from a C pointer.
    ///
    /// # Safety
    ///
    /// A mapping must have an entry for a page of the folio for the lifetime of the value: the caller
    /// must hold the lock of the array, or have the entry locked, or exclude its removal by
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

    /// Returns whether the page, which is the first of its folio, has more references than an idle
    /// page: the folio is pinned. C: `page_ref_count() > 1`.
    #[inline]
    pub(crate) fn is_busy(self) -> bool {
        self.pins() != 0
    }

    /// Returns how many references the page, which is the first of its folio, has more than an idle
    /// page.
    #[inline]
    fn pins(self) -> usize {
        // CAST: A count that has overflowed is negative, and such a page has many holders. A count of
        // 0 is that of an idle folio that changes.
        (self.get().ref_count() as u32).saturating_sub(1) as usize
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
            Some(pfn) => (page_address(pfn), self.size().pages()),
            None => (NonNull::dangling(), 0),
        };
        addresses(first, count)
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
        let (range, n) = unsafe { FileRange::around(pfn) };
        let lock = PageLock::of(pfn);
        let expected = match self.size() {
            Size::Pte => owner_state::add_page(lock, range, n, owner, index, shared),
            Size::Pmd => owner_state::add_range(lock, range, owner, index, shared),
        };
        if !expected {
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
    #[inline(always)]
    pub(crate) unsafe fn disassociate(self, array: &EntryArray<'_, '_>, truncated: bool) {
        let Some(pfn) = self.pfn() else {
            return;
        };
        if self.size() == Size::Pte {
            let owner = array.mapping().as_raw() as usize;
            // SAFETY: By the caller's promise the mapping is an owner of the pages, so they exist
            // until it has been removed from the owners; the last access to each folio does that.
            let (range, n) = unsafe { FileRange::around(pfn) };
            let is_pinned = move |page: FilePage<'_>| truncated && page.is_busy();
            if owner_state::try_remove_page(PageLock::of(pfn), range, n, owner, is_pinned) {
                return;
            }
        }
        // SAFETY: As the caller promises. Nothing was changed above.
        unsafe { self.disassociate_slow(pfn, array, truncated) };
    }

    /// Does what [`disassociate`](Self::disassociate) does, for an entry of any size and pages of any
    /// owner.
    ///
    /// # Safety
    ///
    /// As for `disassociate`. `pfn` must be that of the entry.
    #[inline(never)]
    unsafe fn disassociate_slow(self, pfn: Pfn, array: &EntryArray<'_, '_>, truncated: bool) {
        let mapping = array.mapping();
        let owner = mapping.as_raw() as usize;
        // SAFETY: By the caller's promise the mapping is an owner of the pages, so they exist until
        // it has been removed from the owners; the last access to each folio does that.
        let (range, n) = unsafe { FileRange::around(pfn) };
        let lock = PageLock::of(pfn);
        let is_pinned = move |page: FilePage<'_>| truncated && page.is_busy();
        let removed = match self.size() {
            Size::Pte => owner_state::remove_page(lock, range, n, owner, is_pinned),
            Size::Pmd => owner_state::remove_range(lock, range, owner, is_pinned),
        };
        if removed.was_pinned {
            warn_pinned(mapping);
        }
        if !removed.was_owner {
            kernel::warn_once!("fs_dax: removed page does not belong to the file");
        }
    }

    /// Makes the mapping of the array, which has this PMD entry, an owner of the pages by PTE entries
    /// in its place.
    ///
    /// # Safety
    ///
    /// The array must have had this entry since it was locked. The caller must store PTE entries for
    /// all of its pages before it unlocks the array.
    pub(crate) unsafe fn split_owner(self, array: &EntryArray<'_, '_>) {
        let Some(pfn) = self.pfn() else {
            return;
        };
        let owner = array.mapping().as_raw() as usize;
        // SAFETY: By the caller's promise the mapping is an owner of the pages, and stays one, so they
        // exist.
        let (range, _) = unsafe { FileRange::around(pfn) };
        if !owner_state::split_range(PageLock::of(pfn), range, owner) {
            kernel::warn_once!("fs_dax: split entry does not belong to the file");
        }
    }

    /// Wakes the tasks that wait until pages of the entry are idle, because the entry was removed.
    pub(crate) fn wake_waiters(self) {
        let Some(pfn) = self.pfn() else {
            return;
        };
        // Waiters for a part of a folio wait for its first page.
        let head = page_address(Pfn::new(Size::Pmd.align(pfn.nr())));
        for page in self.page_addresses().chain([head]) {
            // SAFETY: The pages may be gone. Only the address of the count is computed, which is
            // the key of the waiters; nothing is read. The lock under which the entry was removed
            // is the one that a waiter takes before it looks again.
            wake_up_var(unsafe { FilePage::from_raw(page) }.refcount_key().as_ptr());
        }
    }
}

/// Returns the address of the page with this PFN, of which nothing is read.
#[inline(always)]
fn page_address(pfn: Pfn) -> NonNull<bindings::page> {
    // SAFETY: Only an address is computed here, and nothing is read. The memmap is one array
    // (SPARSEMEM_VMEMMAP), in which a PFN has an element or room for one, so it is not null.
    unsafe { NonNull::new_unchecked(PageRef::from_pfn(pfn).as_raw()) }
}

/// Returns the addresses of `count` pages from `first` on.
#[inline(always)]
fn addresses(
    first: NonNull<bindings::page>,
    count: usize,
) -> impl Iterator<Item = NonNull<bindings::page>> {
    let first = first.as_ptr();
    // SAFETY: As above, the address is not null.
    (0..count).map(move |n| unsafe { NonNull::new_unchecked(first.wrapping_add(n)) })
}

/// The pages of an aligned range of 2 MiB, some of which entries name.
///
/// # Invariants
///
/// For `'t` all of the pages that are used through this value exist: those that the entry of the
/// caller names, and all of them if they are one folio, of which a mapping then names a page, or if
/// the caller's entry is a PMD entry.
#[derive(Clone, Copy)]
struct FileRange<'t>(FilePage<'t>);

impl FileRange<'_> {
    /// Creates the range that a page lies in. Returns it, and the number of the page in it.
    ///
    /// # Safety
    ///
    /// A mapping must have, or get, an entry that names the page, for the lifetime of the value.
    #[inline(always)]
    unsafe fn around(pfn: Pfn) -> (Self, usize) {
        let first = page_address(Pfn::new(Size::Pmd.align(pfn.nr())));
        // INVARIANT: The caller promises that an entry names the page.
        // SAFETY: As above: the first page is used if the entry names it, or if the pages are one
        // folio.
        let range = Self(unsafe { FilePage::from_raw(first) });
        (range, pfn.nr() & Size::Pmd.colour())
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

    /// Returns the first pages of the folios of the entry in order, which have the references to
    /// them; none unless it is device memory. The first one may lie before the entry.
    ///
    /// If there are several, or the first is that of a single page, they stay what they are. One folio
    /// may be taken apart at any time, because other files have it, but only when it is idle.
    ///
    /// Also returns whether it is one folio of 2 MiB, of which the entry is all or a part.
    #[inline(always)]
    fn folios(self) -> (bool, impl Iterator<Item = FilePage<'t>>) {
        let (is_large, first, count) = match self.pfn() {
            None => (false, NonNull::dangling(), 0),
            Some(pfn) => {
                // SAFETY: By the type invariants the page exists.
                let page = unsafe { PageRef::from_pfn(pfn) };
                match page.is_tail() || page.is_head() {
                    true => (true, page_address(Pfn::new(Size::Pmd.align(pfn.nr()))), 1),
                    false => (false, page_address(pfn), self.size().pages()),
                }
            }
        };
        let folios = addresses(first, count).map(|page| {
            // SAFETY: By the type invariants the mapping has an entry for the pages for `'t`, or for
            // pages of the folio.
            unsafe { FilePage::from_raw(page) }
        });
        (is_large, folios)
    }

    /// Returns the first page of the first folio of the entry that is pinned. C: `dax_busy_page()`.
    #[doc(alias = "dax_busy_page")]
    #[inline]
    #[expect(clippy::manual_find, reason = "`find` compiles to one more comparison")]
    pub(crate) fn busy_page(self) -> Option<FilePage<'t>> {
        // Of a page with one reference it need not be known whether it is a folio: it is idle. (The
        // count of a tail page is 0.)
        if let (Size::Pte, Some(page)) = (self.size(), self.page_at(0)) {
            if page.get().ref_count() == 1 {
                return None;
            }
        }
        let (_, folios) = self.folios();
        for page in folios {
            if page.is_busy() {
                return Some(page);
            }
        }
        None
    }

    /// Returns the first page of the entry that is pinned, of those from page `skip` on: its number
    /// in the entry, and its PFN. If the folio of the entry is pinned, it is not known by which page:
    /// then all pages of the entry count as pinned, and the result is the first one.
    pub(crate) fn pinned_page_from(self, skip: usize) -> Option<PinnedPage> {
        let (is_large, folios) = self.folios();
        let (skip, pages) = match is_large {
            true => (0, self.size().pages()),
            false => (skip, 1),
        };
        let mut folios = folios.enumerate().skip(skip);
        let (n, _) = folios.find(|(_, page)| page.is_busy())?;
        let pfn = self.pfn()?.checked_add(n)?;
        Some(PinnedPage { n, pages, pfn })
    }

    /// Returns how many pages of the entry are pinned, and the first of them. Of a folio this is the
    /// number of its references, and its first page.
    pub(crate) fn pinned_pages(self) -> (usize, Option<Pfn>) {
        let (mut count, mut first) = (0usize, None);
        let (is_large, folios) = self.folios();
        let most = match is_large {
            true => self.size().pages(),
            false => 1,
        };
        for (n, page) in folios.enumerate() {
            if page.is_busy() {
                count = count.saturating_add(page.pins().min(most));
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
        let page = self.page_addresses().nth(index & self.size().colour())?;
        // SAFETY: By the type invariants the mapping has an entry for the page for `'t`.
        Some(unsafe { FilePage::from_raw(page) })
    }
}

/// Pages of an entry that are pinned, or belong to a folio that is.
pub(crate) struct PinnedPage {
    /// The number of the first one in the entry.
    pub(crate) n: usize,
    /// How many there are.
    pub(crate) pages: usize,
    /// The PFN of the first one.
    pub(crate) pfn: Pfn,
}

impl OwnedPage for FilePage<'_> {
    #[inline(always)]
    fn mapping(self) -> usize {
        // The second page of a folio has two numbers of pins and mappings here, of which the one in
        // the upper half is not negative; the others have `TAIL_MAPPING`.
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
        // SAFETY: `owner_state` does this with no tail page, and changes the field as that of the
        // owner or as the number of entries, under the lock of the page.
        unsafe { self.get().index_field() }.store(index, Ordering::Relaxed);
    }

    #[inline(always)]
    fn parts(self) -> usize {
        // SAFETY: `owner_state` does this with no tail page. The field is only read.
        unsafe { self.get().private_field() }.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn set_parts(self, parts: usize) {
        // SAFETY: `owner_state` does this with no tail page, and changes the field as that of the
        // owner, under the lock of the page.
        unsafe { self.get().private_field() }.store(parts, Ordering::Relaxed);
    }

    #[inline(always)]
    fn is_head(self) -> bool {
        self.get().is_head()
    }

    #[inline(always)]
    fn is_tail(self) -> bool {
        self.get().is_tail()
    }

    #[inline(always)]
    fn is_poisoned(self) -> bool {
        self.get().is_hwpoison()
    }

    #[inline(always)]
    fn freeze(self) -> bool {
        // SAFETY: fs/dax is the owner of the pages of FS DAX. They are idle at 1, and nothing frees
        // them. `owner_state` unfreezes each page that it does not make a tail.
        unsafe { self.get().ref_freeze() }
    }

    #[inline(always)]
    fn unfreeze(self) {
        // SAFETY: `owner_state` calls this for a page that it has frozen, or that has left a folio.
        unsafe { self.get().ref_unfreeze() };
    }
}

impl<'t> PageRange for FileRange<'t> {
    type Page = FilePage<'t>;

    const PAGES: usize = Size::Pmd.pages();

    // The walk of GUP in C takes no notice of a count of 0 in its slow path, and teardown in C
    // accesses no page at all.
    const MERGES: bool = cfg!(CONFIG_RUST_X86_GUP) && cfg!(CONFIG_RUST_DEV_PAGEMAP);

    #[inline(always)]
    fn page(self, n: usize) -> FilePage<'t> {
        let first = self.0 .0.as_ptr();
        // SAFETY: The page is one that may be used by the type invariants, and the memmap is one array
        // (SPARSEMEM_VMEMMAP), so its address is not null.
        unsafe { FilePage::from_raw(NonNull::new_unchecked(first.wrapping_add(n))) }
    }

    #[inline(always)]
    fn join(self) {
        let head = self.page(0);
        for n in 1..Self::PAGES {
            // SAFETY: `owner_state` calls this for pages that are frozen and have no owner. A PMD
            // entry names them, so they lie in one range of a pgmap.
            unsafe { self.page(n).get().become_tail(head.get()) };
        }
        // SAFETY: As above. The other pages are tails now.
        unsafe { head.get().become_head(Size::Pmd.order()) };
    }

    #[inline(always)]
    fn leave(self, n: usize, mapping: usize, index: usize) {
        let (head, page) = (self.page(0), self.page(n));
        if n == 1 {
            // SAFETY: `owner_state` calls this while the head is frozen.
            unsafe { page.get().clear_order() };
        }
        let pgmap = head.get().pgmap_word();
        // SAFETY: `owner_state` calls this for the tails of a folio whose head is frozen, and the
        // owner is that of the folio, or none.
        unsafe {
            page.get()
                .become_single(pgmap, mapping as *mut bindings::address_space, index);
        }
        page.unfreeze();
    }

    fn end(self) {
        let first = self.page(0);
        let head = first.get();
        // The pgmap that the last tail was given, which was the first to leave.
        let given = self.page(Self::PAGES - 1).get().pgmap_word();
        // SAFETY: `owner_state` calls this when all tails have left the folio, whose head is frozen.
        unsafe { head.end_head() };
        // A teardown that is detached moves the pages to another pgmap: the first page of the folio,
        // and after that, if this is no head any more, each of the others. What it does before that
        // look is seen here, because both have a full barrier in between.
        let moved = head.pgmap_word();
        if let (true, Some(moved)) = (moved != given, NonNull::new(moved as *mut _)) {
            for n in 1..Self::PAGES {
                // SAFETY: The page is a folio of its own in the range of the pgmap that the first page
                // has been moved to. Teardown is the only one that changes it as well, and stores the
                // same.
                unsafe { self.page(n).get().set_pgmap(moved) };
            }
        }
    }

    fn count(self, event: FolioEvent) {
        debugfs::count_folio(event);
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
        let mapping = page.folio().first_page().mapping();
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
        PageLock::of(page.pfn()).with(|| {
            let folio = page.folio();
            let first = folio.first_page();
            eq(first.mapping(), array.mapping().as_raw())
                .then(|| first.index().wrapping_add(folio.page_idx(page)))
        })
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
        if page.folio().first_page().mapping() as usize == owner_state::SHARED {
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
