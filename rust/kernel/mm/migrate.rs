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
//! Between RAM and slot C does four steps, which `Batch` keeps in order: it isolates the pages, locks
//! them and replaces all their entries by ones at which an access waits; the owner provides a locked page
//! for each and copies; C moves what the page is (its mapping, index, flags, memory cgroup) to the new
//! page, unless another task has taken a reference meanwhile; and it restores the entries, of the new
//! page or of the old one. A batch that is left in the middle is finished by its drop.
//!
//! A page in transit has no other user: its entries are gone, it is locked, and one with further
//! references (a pin, a pipe) was left out. So its bytes may be borrowed.
//!
//! The `unsafe` code in this file hands pages that it has just allocated to a batch, and borrows the bytes
//! of pages that a batch has.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

mod batch;
mod slots;

use self::{
    batch::{bytes, Batch, NewPage, BATCH},
    slots::UsedSlots,
};
use super::{
    memremap::{
        MemoryType, Operations, Options, PrivateFault, Region, RegisterError, Registration,
        ZoneDevicePage,
    },
    mmap_lock::MmapReadLock,
    pfn::Pfn,
};
use crate::{
    bindings, ffi::c_void, page::PAGE_SIZE, prelude::*, sync::Arc, time::msecs_to_jiffies,
};
use core::{marker::PhantomData, ptr::null_mut};

/// The bytes of a page.
pub type PageBytes = [u8; PAGE_SIZE];

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
        let mut batch = Batch::of_fault(fault)?;
        // There is none if another task has just moved it, or is about to: the access is tried again.
        if let Some(Some(page)) = batch.source(0) {
            let slot = page.pfn().nr().checked_sub(shared.first.nr());
            shared.read_into(slot.ok_or(EINVAL)?, NewPage::allocate()?, &mut batch, 0);
        }
        batch.finish();
        Ok(())
    }
}
