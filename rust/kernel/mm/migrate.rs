// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/migrate_device.c`.

//! Pages of programs that live in memory which the CPU cannot reach, and come back when they are
//! touched: device-private memory, as GPUs have it.
//!
//! A driver has memory of its own, in pages that it numbers ("slots"), and copies a page to a slot and
//! back: [`Store`]. [`PrivateMemory`] does the rest:
//!
//! ```text
//! migrate_current()    RAM -> slot      the entry of the page table names the slot's struct page,
//!                                       which nothing can access
//! access by the CPU    slot -> RAM      the fault waits for it
//! munmap(), exit       slot is free
//! drop                 slots -> RAM     all that are in use
//! ```
//!
//! Between RAM and slot C does four steps, which [`Batch`] keeps in order: it isolates the pages, locks
//! them and replaces all their entries by ones at which an access waits; the owner provides a locked page
//! for each and copies; C moves what the page is (its mapping, index, flags, memory cgroup) to the new
//! page, unless another task has taken a reference meanwhile; and it restores the entries, of the new
//! page or of the old one. A batch that is left in the middle is finished by its drop.
//!
//! A page in transit has no other user: its entries are gone, it is locked, and one with further
//! references (a pin, a pipe) was left out. So its bytes may be borrowed.
//!
//! The `unsafe` code in this file encapsulates `struct migrate_vma`, the pages in transit, and the lock of
//! the current address space.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use super::{
    memremap::{
        MemoryType, Operations, Options, Region, RegisterError, Registration, ZoneDevicePage,
    },
    page::PageRef,
    pfn::Pfn,
    virt::VmaRef,
};
use crate::{
    bindings, current,
    error::to_result,
    ffi::{c_ulong, c_void},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    time::msecs_to_jiffies,
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{null_mut, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

/// The bytes of a page.
pub type PageBytes = [u8; PAGE_SIZE];

/// The number of pages that are migrated at once.
const BATCH: usize = 64;

/// The pause before slots in use are moved to RAM once more, in milliseconds.
const PAUSE: u32 = 10;

/// The memory of a device, in pages that the CPU cannot address.
///
/// Its methods are called with the pages locked, and with the `mmap_lock` of a process held for reading.
/// They may sleep, but must not touch memory of programs, nor wait for a task that does.
pub trait Store: Send + Sync + 'static {
    /// Copies a page to a slot, which is used for nothing else.
    fn write(&self, slot: usize, page: &PageBytes);

    /// Copies a slot to a page. The slot is free after that, or is read again.
    fn read(&self, slot: usize, page: &mut PageBytes);
}

/// Device-private memory, for pages of programs.
///
/// Dropping it moves all pages back to RAM, and waits until it is done (sleeps). It must not be dropped
/// with an `mmap_lock` held.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::migrate::{PageBytes, PrivateMemory, Store},
///     page::PAGE_SIZE,
///     sync::Arc,
/// };
///
/// /// Memory that forgets.
/// struct Forgetful;
///
/// impl Store for Forgetful {
///     fn write(&self, _slot: usize, _page: &PageBytes) {}
///
///     fn read(&self, _slot: usize, page: &mut PageBytes) {
///         page.fill(0);
///     }
/// }
///
/// let memory = PrivateMemory::new(3, Arc::new(Forgetful, GFP_KERNEL)?)?;
/// assert_eq!(memory.used(), 0);
/// // A kernel thread, as this is one, has no pages to move.
/// assert_eq!(memory.migrate_current(0, PAGE_SIZE), Err(EINVAL));
///
/// assert!(PrivateMemory::new(0, Arc::new(Forgetful, GFP_KERNEL)?).is_err());
/// # Ok::<(), Error>(())
/// ```
pub struct PrivateMemory<S: Store> {
    /// The `struct page`s of the slots.
    pages: Registration<Slots<S>>,
}

/// The operations of the slots' pages.
struct Slots<S>(PhantomData<S>);

/// What the operations need.
struct Shared<S> {
    store: Arc<S>,
    /// The PFN of the first slot.
    first: Pfn,
    used: UsedSlots,
}

impl<S: Store> PrivateMemory<S> {
    /// Provides `slots` pages of memory. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for no slot or more than the address space has; `ENOMEM`; the errors of
    /// [`Region::request_free`] and [`Registration::new`].
    pub fn new(slots: usize, store: Arc<S>) -> Result<Self> {
        let bytes = slots.checked_mul(PAGE_SIZE).filter(|bytes| *bytes > 0);
        let region = Region::request_free(bytes.ok_or(EINVAL)? as u64, crate::c_str!("slots"))?;
        let range = region.range();
        let shared = KBox::new(
            Shared {
                store,
                first: range.pfns().first(),
                used: UsedSlots::new(slots)?,
            },
            GFP_KERNEL,
        )?;
        let mut regions = KVec::new();
        regions.push(region, GFP_KERNEL)?;
        let kind = MemoryType::Private;
        let pages = Registration::new(kind, regions, &[range], Options::default(), shared)
            .map_err(|failed: RegisterError<_>| failed.error)?;
        Ok(Self { pages })
    }

    /// Returns the number of slots in use. Any context.
    pub fn used(&self) -> usize {
        self.pages.data().used.count()
    }

    /// Moves pages of the current process to the device: those that begin in the `len` bytes from
    /// `address` on, are anonymous memory, and have no other user. Returns how many were moved; fewer
    /// than asked for is no error, since a page may be in use by others. Sleeps.
    ///
    /// # Errors
    ///
    /// * `EINVAL` if the address is not that of a page, or the current task has no address space;
    /// * `EFAULT` if nothing is mapped there;
    /// * `EINTR` if the task was killed;
    /// * `EINVAL` for a mapping that cannot be migrated: of a file with DAX, of hugetlb, of a device.
    pub fn migrate_current(&self, address: usize, len: usize) -> Result<usize> {
        let end = address
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(EINVAL)?;
        if address % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let shared = self.pages.data();
        let mmap = MmapReadLock::of_current()?;
        let (mut at, mut moved) = (address, 0usize);
        while at < end {
            let vma = mmap.vma_at(at).ok_or(EFAULT)?;
            let until = end.min(vma.range().1);
            let last = until.min(at.saturating_add(BATCH * PAGE_SIZE));
            let mut batch = Batch::of_vma(vma, at, last, self.owner(), null_mut())?;
            for n in 0..batch.len() {
                let Some(source) = batch.source(n) else {
                    continue;
                };
                let Some((slot, page)) = self.allocate() else {
                    break;
                };
                match source {
                    // SAFETY: The page is in transit.
                    Some(page) => shared.store.write(slot, unsafe { bytes(page) }),
                    None => shared.store.write(slot, &[0; PAGE_SIZE]),
                }
                // SAFETY: The page was just allocated, is locked, and nothing else has it.
                unsafe { batch.provide(n, page.pfn()) };
            }
            moved = moved.saturating_add(batch.finish());
            at = last;
        }
        Ok(moved)
    }

    /// Returns what C compares with the owner of a pgmap.
    fn owner(&self) -> *mut c_void {
        self.pages.pgmap().owner()
    }

    /// Allocates a slot, with a reference to its page, which is locked.
    fn allocate(&self) -> Option<(usize, ZoneDevicePage<'_>)> {
        let shared = self.pages.data();
        let slot = shared.used.allocate()?;
        let page = shared
            .first
            .checked_add(slot)
            .and_then(|pfn| self.pages.page(pfn));
        match page {
            Some(page) => {
                // SAFETY: The page is one of device-private memory, and idle: its slot was free, and
                // the bit was set by this call only.
                unsafe { bindings::zone_device_page_init(page.as_raw()) };
                Some((slot, page))
            }
            None => {
                shared.used.free(slot);
                None
            }
        }
    }

    /// Moves all slots to RAM. Slots whose pages are locked, or just being moved by a fault, stay.
    fn evict(&self) {
        let shared = self.pages.data();
        let mut next = 0;
        while let Some(first) = shared.first.checked_add(next) {
            let pages = shared.used.slots().saturating_sub(next).min(BATCH);
            if pages == 0 {
                return;
            }
            // SAFETY: The slots have pages, which stay mapped as long as this value exists.
            let mut batch = unsafe { Batch::of_device(first, pages) };
            for n in 0..pages {
                if batch.source(n).is_none() {
                    continue;
                }
                // Without memory it is tried again later.
                if let Ok(page) = NewPage::allocate() {
                    // OVERFLOW: The sum is less than the number of slots.
                    shared.read_into(next.wrapping_add(n), page, &mut batch, n);
                }
            }
            batch.finish();
            next = next.saturating_add(pages);
        }
    }
}

impl<S: Store> Drop for PrivateMemory<S> {
    fn drop(&mut self) {
        while self.used() != 0 {
            self.evict();
            if self.used() != 0 {
                // SAFETY: The documentation of the type says that dropping it sleeps.
                unsafe { bindings::schedule_timeout_uninterruptible(msecs_to_jiffies(PAUSE) as _) };
            }
        }
    }
}

impl<S: Store> Shared<S> {
    /// Copies a slot to a new page, and provides that for the `n`th page of a batch.
    fn read_into(&self, slot: usize, mut page: NewPage, batch: &mut Batch<'_>, n: usize) {
        self.store.read(slot, page.bytes_mut());
        page.provide(batch, n);
    }
}

// SAFETY: Freeing a slot clears a bit.
unsafe impl<S: Store> Operations for Slots<S> {
    type Data = KBox<Shared<S>>;

    fn page_free(shared: &Shared<S>, page: ZoneDevicePage<'_>) {
        if let Some(slot) = page.pfn().nr().checked_sub(shared.first.nr()) {
            shared.used.free(slot);
        }
    }

    fn migrate_to_ram(shared: &Shared<S>, fault: PrivateFault<'_>) -> Result {
        let mut batch = fault.batch()?;
        // There is none if another task has just moved it, or is about to: the access is tried again.
        if let Some(Some(page)) = batch.source(0) {
            let slot = page.pfn().nr().checked_sub(shared.first.nr());
            shared.read_into(slot.ok_or(EINVAL)?, NewPage::allocate()?, &mut batch, 0);
        }
        batch.finish();
        Ok(())
    }
}

/// The slots, a bit for each that is in use.
struct UsedSlots {
    words: KVec<Word>,
    slots: usize,
}

/// The bits of 64 slots.
struct Word(AtomicU64);

/// Lets a vector be filled.
impl Clone for Word {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl UsedSlots {
    /// The slots of a word.
    const PER_WORD: usize = u64::BITS as usize;

    fn new(slots: usize) -> Result<Self> {
        let mut words = KVec::new();
        let count = slots.div_ceil(Self::PER_WORD);
        words.extend_with(count, Word(AtomicU64::new(0)), GFP_KERNEL)?;
        // What is behind the last slot is in use from the beginning.
        let in_last = slots % Self::PER_WORD;
        if let (Some(Word(last)), 1..) = (words.last(), in_last) {
            last.store(u64::MAX << in_last, Ordering::Relaxed);
        }
        Ok(Self { words, slots })
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn allocate(&self) -> Option<usize> {
        for (n, Word(word)) in self.words.iter().enumerate() {
            let mut used = word.load(Ordering::Relaxed);
            while used != u64::MAX {
                let bit = used.trailing_ones();
                used = word.fetch_or(1 << bit, Ordering::Acquire);
                if used & (1 << bit) == 0 {
                    // OVERFLOW: The bit is that of a slot.
                    return Some(n.wrapping_mul(Self::PER_WORD).wrapping_add(bit as usize));
                }
            }
        }
        None
    }

    fn free(&self, slot: usize) {
        if let Some(Word(word)) = self.words.get(slot / Self::PER_WORD) {
            word.fetch_and(!(1 << (slot % Self::PER_WORD)), Ordering::Release);
        }
    }

    fn count(&self) -> usize {
        let set = self.words.iter().fold(0, |set: usize, Word(word)| {
            // OVERFLOW: There are as many bits as slots, and fewer than 64 more.
            set.wrapping_add(word.load(Ordering::Relaxed).count_ones() as usize)
        });
        // The bits behind the last slot are set.
        let all = self.words.len().saturating_mul(Self::PER_WORD);
        set.saturating_sub(all.saturating_sub(self.slots))
    }
}

/// A fault at an entry that names a page of device-private memory. C: `struct vm_fault`.
///
/// # Invariants
///
/// C has called `migrate_to_ram()` with this fault, and has not yet returned from it.
pub struct PrivateFault<'a>(NonNull<bindings::vm_fault>, PhantomData<&'a mut ()>);

impl<'a> PrivateFault<'a> {
    /// Creates a value from a C pointer.
    ///
    /// # Safety
    ///
    /// C must have called `migrate_to_ram()` with it, and must not return from that during `'a`.
    pub(super) unsafe fn from_raw(ptr: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: The caller promises it.
        Self(ptr, PhantomData)
    }

    /// Takes the page out of the page tables.
    fn batch(self) -> Result<Batch<'a>> {
        let fault = self.0.as_ptr();
        // SAFETY: By the type invariants the fault is being handled, so its VMA is locked.
        let (vma, address, page) = unsafe {
            let fields = &(*fault).__bindgen_anon_1;
            (VmaRef::from_raw(fields.vma), fields.address, (*fault).page)
        };
        // SAFETY: By the type invariants C has called the owner of this page, to which it holds a
        // reference.
        let owner = unsafe { ZoneDevicePage::from_raw(NonNull::new(page).ok_or(EINVAL)?) }
            .pgmap()
            .owner();
        let start = address / PAGE_SIZE * PAGE_SIZE;
        let end = start.checked_add(PAGE_SIZE).ok_or(EINVAL)?;
        Batch::of_vma(vma, start, end, owner, page)
    }
}

/// Pages in transit: isolated, locked, and without entries. Dropping it restores the entries, of those
/// pages for which a new one was provided with that.
///
/// # Invariants
///
/// The first `pages` words of `sources` are what C has stored there. Of `targets` they are 0, or name
/// pages that are locked, and to which this value owns a reference. If `args` is set, its VMA is locked
/// for `'a`.
struct Batch<'a> {
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
    fn of_vma(
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

    /// Takes pages of a device out of all page tables, at most [`BATCH`]. Idle ones, and those that
    /// another task has locked, are left out. C: `migrate_device_range()`. Sleeps.
    ///
    /// # Safety
    ///
    /// These must be pages of a pgmap of device-private memory that stays mapped for `'a`.
    #[doc(alias = "migrate_device_range")]
    unsafe fn of_device(first: Pfn, pages: usize) -> Self {
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

    fn len(&self) -> usize {
        self.pages
    }

    /// Returns the `n`th page, or `None` if it stays where it is. An address at which nothing is mapped
    /// yet has no page.
    fn source(&self, n: usize) -> Option<Option<PageRef<'_>>> {
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
    unsafe fn provide(&mut self, n: usize, pfn: Pfn) {
        if let Some(word) = self.targets.get_mut(n) {
            // INVARIANT: The caller hands over a locked page with its reference.
            *word = (pfn.nr() << bindings::MIGRATE_PFN_SHIFT) | VALID;
        }
    }

    /// Moves what can be moved, and restores the entries. Returns how many pages were moved. C:
    /// `migrate_vma_pages()`, `migrate_vma_finalize()`.
    #[doc(alias = "migrate_vma_pages")]
    #[doc(alias = "migrate_vma_finalize")]
    fn finish(mut self) -> usize {
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
unsafe fn bytes<'p>(page: PageRef<'p>) -> &'p PageBytes {
    // SAFETY: Pages of RAM are in the linear mapping. The caller promises that nothing writes to it.
    unsafe { &*bindings::page_to_virt(page.as_raw()).cast::<PageBytes>() }
}

/// A new page of RAM, locked.
///
/// # Invariants
///
/// The value owns the only reference to the page, and its lock.
struct NewPage(NonNull<bindings::page>);

impl NewPage {
    /// Sleeps.
    fn allocate() -> Result<Self> {
        // SAFETY: The flags allow sleeping, and so does the caller.
        let page = unsafe { bindings::alloc_pages_noprof(bindings::GFP_HIGHUSER_MOVABLE, 0) };
        let page = NonNull::new(page).ok_or(ENOMEM)?;
        // SAFETY: The page was just allocated.
        unsafe { bindings::lock_page(page.as_ptr()) };
        // INVARIANT: Nothing else has the page.
        Ok(Self(page))
    }

    fn bytes_mut(&mut self) -> &mut PageBytes {
        // SAFETY: By the type invariants nothing else has the page, which is in the linear mapping.
        unsafe { &mut *bindings::page_to_virt(self.0.as_ptr()).cast::<PageBytes>() }
    }

    /// Provides it for the `n`th page of a batch, which must have a source.
    fn provide(self, batch: &mut Batch<'_>, n: usize) {
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

/// The address space of the current task, locked for reading. C: `mmap_read_lock()`.
///
/// # Invariants
///
/// The lock is held. The task has the address space until it returns to user space.
struct MmapReadLock(NonNull<bindings::mm_struct>);

impl MmapReadLock {
    /// Takes the lock. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` in a task without address space; `EINTR` if the task was killed.
    #[doc(alias = "mmap_read_lock_killable")]
    fn of_current() -> Result<Self> {
        let task = current!().0.get();
        // SAFETY: The current task exists, and only it changes this field.
        let mm = NonNull::new(unsafe { (*task).mm }).ok_or(EINVAL)?;
        // SAFETY: The task has the address space for this call.
        to_result(unsafe { bindings::mmap_read_lock_killable(mm.as_ptr()) })?;
        // INVARIANT: The lock was just taken.
        Ok(Self(mm))
    }

    /// Returns the VMA at an address. C: `vma_lookup()`.
    #[doc(alias = "vma_lookup")]
    fn vma_at(&self, address: usize) -> Option<VmaRef<'_>> {
        // SAFETY: By the type invariants the lock is held.
        let vma = NonNull::new(unsafe { bindings::find_vma(self.0.as_ptr(), address) })?;
        // SAFETY: The VMA was just found, and stays as long as the lock is held.
        Some(unsafe { VmaRef::from_raw(vma.as_ptr()) }).filter(|vma| vma.contains(address))
    }
}

impl Drop for MmapReadLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held.
        unsafe { bindings::mmap_read_unlock(self.0.as_ptr()) };
    }
}
