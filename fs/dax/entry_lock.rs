// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! The lock of a DAX entry, and waiting for it.
//!
//! A fault takes long: the filesystem may allocate blocks, and data may be copied. Meanwhile the
//! entry for the page or the 2 MiB is locked by a bit in it, so that faults of other pages can
//! proceed. A task that wants to fault the same page in, to write it back or to truncate it waits
//! for the bit.
//!
//! ```text
//!                    grab()                          LockedEntry dropped
//!   no entry ----------------------> empty, locked ----+--------------> empty
//!   unlocked entry ----------------> same, locked      |                same
//!                                          | insert    |
//!                                          v           |
//!                                    memory, locked ---+--------------> memory
//! ```
//!
//! # Lock order
//!
//! 1. The lock of the filesystem that excludes truncation (`invalidate_lock`).
//! 2. The lock bit of the entry.
//! 3. What a fault needs: locks of the filesystem for allocation, `i_mmap_rwsem`, page table locks.
//!
//! Only the lock of a wait queue is taken inside the lock of the array (`i_pages.xa_lock`). It is
//! held to look up an entry, and to change a word and the owner of its folio, or of up to 512 pages.
//!
//! # Sizes
//!
//! An entry has one size. PTE entries take precedence: a PMD fault that finds one falls back, and a
//! PTE fault that finds a PMD entry for a hole, or an empty one, removes it. A PMD entry with
//! memory stays, and PTE faults lock it as a whole, until one of its pages gets another block or a
//! part of it is truncated.
//!
//! # Waiting
//!
//! An entry has no room for a wait queue, so all entries share one table of queues, as pages do.
//! The key is the mapping and the index. The index of a PMD entry is aligned, so that a waiter for
//! any of its pages is found.
//!
//! A task that wants to lock the entry waits *exclusively*: unlocking wakes one such waiter, and
//! that task has to wake the next, whether or not it locks the entry. A task that only waits until
//! the entry is unlocked, and then starts from scratch, waits *shared*: it may never come back to
//! the queue, so a wake-up must not be spent on it alone. When an entry is removed or changes its
//! size, all waiters are woken, for the next one may wait for nothing, or in another queue.
//!
//! No wake-up is lost. A waiter enters the queue before it releases the lock of the array under
//! which it saw the entry locked, and the task that unlocks the entry takes that lock.
//!
//! # Types
//!
//! | type | the array | the entry |
//! |---|---|---|
//! | [`Entry`] | | a word, and no evidence of anything |
//! | [`EntryRef`] | locked, or: | is in the array; locked by this task, if the array is not |
//! | [`UnlockedEntry`] | locked | is at the cursor, and not locked |
//! | [`HeldEntry`] | locked | is at the cursor, locked by this task |
//! | [`LockedEntry`] | unlocked | is at the cursor, locked by this task |
//!
//! Only the last three change or remove an entry, and they keep the owners of its pages in step. So
//! the pages of an [`EntryRef`] exist.
//!
//! This file encapsulates the wait queues, and when a word of the array may be changed.

use crate::{
    entry::{Entry, NewEntry, Size},
    entry_array::{Cursor, EntryArray, Gfp, Mark, Slot},
    mapping::DaxMapping,
    owner::EntryRef,
};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut, eq},
};
use kernel::{
    bindings,
    error::{code::ENOMEM, Result},
    ffi::{c_int, c_uint, c_void},
    mm::fault::VmFaultResult,
};

/// An entry that this task has locked, with the array unlocked. Dropping it unlocks the entry and
/// wakes the next waiter. C: `dax_lock_entry()`, `dax_unlock_entry()`.
///
/// # Invariants
///
/// The mapping has `entry`, locked, at the position of `cursor`, and this task has locked it. The
/// mapping is an owner of the pages of the entry.
#[doc(alias = "dax_lock_entry")]
#[doc(alias = "dax_unlock_entry")]
#[must_use = "the entry is unlocked at once when this is dropped"]
pub(crate) struct LockedEntry<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    entry: Entry,
}

impl<'c, 'a> LockedEntry<'c, 'a> {
    /// Locks the entry at the cursor of a locked array, and unlocks the array. Returns `None` if
    /// there is no entry or another task has it locked.
    pub(crate) fn lock(mut array: EntryArray<'c, 'a>) -> Option<Self> {
        let entry = array.load().entry().filter(|entry| !entry.is_locked())?;
        // SAFETY: No task has the entry locked, and the pages stay the same.
        unsafe { array.replace(entry.locked()) };
        let cursor = array.unlock();
        // INVARIANT: The entry has just been locked.
        Some(Self { cursor, entry })
    }

    /// Creates the guard for an entry from [`forget`](Self::forget).
    ///
    /// # Safety
    ///
    /// `entry` must be locked at the position of `cursor`, and its lock must not belong to another
    /// value: it was given up by [`forget`](Self::forget).
    pub(crate) unsafe fn from_raw(cursor: &'c mut Cursor<'a>, entry: Entry) -> Self {
        // INVARIANT: The caller promises that the entry is locked there, and gives the lock up.
        Self {
            cursor,
            entry: entry.unlocked(),
        }
    }

    /// Gives the lock up without unlocking the entry, which is returned as it is once it is
    /// unlocked.
    #[must_use = "the entry stays locked"]
    pub(crate) fn forget(self) -> Entry {
        core::mem::ManuallyDrop::new(self).entry
    }

    /// Returns a reference to the entry, whose pages exist as long as it is locked.
    pub(crate) fn entry_ref(&self) -> EntryRef<'_> {
        // SAFETY: By the type invariants this task has the entry locked.
        unsafe { EntryRef::new(self.entry) }
    }

    /// Returns the entry as it will be once it is unlocked.
    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// Returns the mapping that contains the entry.
    pub(crate) fn mapping(&self) -> &'a DaxMapping {
        self.cursor.mapping()
    }

    /// Returns the index of the page that the entry was locked for. A PMD entry may begin before
    /// it.
    pub(crate) fn index(&self) -> usize {
        self.cursor.index()
    }

    /// Locks the array for access to this entry.
    pub(crate) fn array(&mut self) -> EntryArray<'_, 'a> {
        self.cursor.lock()
    }

    /// Splits a PMD entry with memory into PTE entries, and keeps the one locked that this entry
    /// was locked for. Does nothing for other entries. Sleeps.
    ///
    /// If files share blocks, one page of a PMD entry may get a block of its own. C then replaces
    /// the PMD entry by a PTE entry that stands for 2 MiB and counts as one page. A file may also
    /// lose some of these pages and keep others.
    ///
    /// # Errors
    ///
    /// Returns `ENOMEM` if there is no memory, with [`Gfp::Kernel`] only.
    pub(crate) fn split(&mut self, gfp: Gfp) -> Result {
        let (pmd, index) = (self.entry, self.index());
        let first = pmd.size().align(index);
        let part = |page: usize| pmd.part(page.wrapping_sub(first));
        let (Size::Pmd, Some(ours)) = (pmd.size(), part(index)) else {
            return Ok(());
        };
        // SAFETY: By the type invariants there is this PMD entry at the cursor, locked by this task.
        // The entries of its pages are stored below.
        let mut array = unsafe { self.cursor.split(ours.locked(), gfp) }?;
        // SAFETY: The array had the PMD entry until now, and the PTE entries are stored below.
        unsafe { pmd.split_owner(&array) };
        for page in (0..pmd.size().pages()).map(|n| first.wrapping_add(n)) {
            array.set(page);
            if let (Some(entry), true) = (part(page), page != index) {
                // SAFETY: The slot is a part of the entry that this task had locked. The mapping is
                // the owner of its page, which is the same as before.
                unsafe { array.replace(entry) };
            }
        }
        array.set(index);
        // Waiters for the PMD entry and waiters for its PTE entries hash to different queues.
        array.wake(pmd, WakeMode::All);
        drop(array);
        // INVARIANT: The array has this PTE entry, locked, at the same index.
        self.entry = ours;
        Ok(())
    }

    /// Replaces the entry by another one, which stays locked, and makes the mapping an owner of the
    /// pages of the new one instead of the old one. `shared` says whether the filesystem has marked
    /// the blocks as shared. Returns the locked array.
    #[inline]
    pub(crate) fn replace(&mut self, new: NewEntry<'_>, shared: bool) -> EntryArray<'_, 'a> {
        let (old, new, index) = (self.entry, *new, self.index());
        // INVARIANT: The entry is stored below, before the array is unlocked.
        self.entry = new;
        let mut array = self.cursor.lock();
        // SAFETY: By the type invariants the array has the old entry, and it is replaced below.
        unsafe { old.disassociate(&array, false) };
        // SAFETY: By the invariants of `NewEntry` the pages exist. The entry is stored below.
        unsafe { new.associate(&array, new.size().align(index), shared) };
        // SAFETY: By the type invariants this task has the entry locked. The mapping is an owner of
        // the pages of the new entry, and not of those of the old one any more.
        let replaced = unsafe { array.replace(new.locked()) };
        if replaced.entry() != Some(old.locked()) {
            kernel::warn_once!("fs_dax: locked entry was changed by other code");
        }
        array
    }
}

impl Drop for LockedEntry<'_, '_> {
    fn drop(&mut self) {
        let entry = self.entry;
        // SAFETY: By the type invariants this task has the entry locked, and the mapping is an owner
        // of its pages.
        let old = unsafe { self.array().replace(entry) };
        if !old.entry().is_some_and(Entry::is_locked) {
            kernel::warn_once!("fs_dax: locked entry was unlocked by other code");
        }
        self.cursor.wake(entry, WakeMode::Next);
    }
}

/// An entry at the cursor of a locked array, which no task has locked. C: what
/// `get_unlocked_entry()` returns.
///
/// # Invariants
///
/// The array has `entry`, not locked, at its cursor, and the mapping is an owner of the pages of it.
pub(crate) struct UnlockedEntry<'x, 'c, 'a> {
    array: &'x mut EntryArray<'c, 'a>,
    entry: Entry,
}

impl<'x, 'c, 'a> UnlockedEntry<'x, 'c, 'a> {
    /// Returns the entry.
    #[inline]
    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// Returns a reference to the entry, whose pages exist as long as the array is locked.
    #[inline]
    pub(crate) fn entry_ref(&self) -> EntryRef<'_> {
        // SAFETY: By the type invariants the array, which is locked, has the entry.
        unsafe { EntryRef::new(self.entry) }
    }

    /// Returns the index of the page that the cursor is at.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.array.index()
    }

    /// Returns whether the memory may have been written to since it was flushed.
    #[inline]
    pub(crate) fn is_dirty(&self) -> bool {
        self.has_mark(Mark::Dirty) || self.has_mark(Mark::ToWrite)
    }

    /// Returns whether the entry has the mark.
    #[inline]
    pub(crate) fn has_mark(&self, mark: Mark) -> bool {
        self.array.has_mark(mark)
    }

    /// Marks the entry.
    #[inline]
    pub(crate) fn set_mark(&mut self, mark: Mark) {
        self.array.set_mark(mark);
    }

    /// Passes the wake-up for the entry on, because the caller does not lock it. C:
    /// `put_unlocked_entry()`.
    #[doc(alias = "put_unlocked_entry")]
    #[inline]
    pub(crate) fn put(self, mode: WakeMode) {
        self.array.wake(self.entry, mode);
    }

    /// Removes the entry, and wakes all waiters. If the file is `truncated`, warns about pages that
    /// are pinned. C: `dax_disassociate_entry()`, `xas_store()`.
    #[inline(always)]
    pub(crate) fn remove(self, truncated: bool) {
        // SAFETY: By the type invariants the array has the entry, not locked, and the mapping is an
        // owner of its pages until `disassociate` has removed it from them.
        unsafe {
            self.entry.disassociate(self.array, truncated);
            self.array.remove();
        }
        self.array.remove_pages(self.entry.size());
        self.array.wake(self.entry, WakeMode::All);
    }

    /// Locks the entry. The array stays locked.
    #[inline]
    pub(crate) fn lock(self) -> HeldEntry<'x, 'c, 'a> {
        // SAFETY: By the type invariants no task has the entry locked, and the pages stay the same.
        unsafe { self.array.replace(self.entry.locked()) };
        // INVARIANT: The entry has just been locked.
        HeldEntry(self)
    }
}

/// An entry at the cursor of a locked array that this task has locked. Dropping it unlocks the entry
/// and wakes the next waiter.
///
/// # Invariants
///
/// As for [`UnlockedEntry`], but this task has the entry locked.
#[must_use = "the entry is unlocked at once when this is dropped"]
pub(crate) struct HeldEntry<'x, 'c, 'a>(UnlockedEntry<'x, 'c, 'a>);

impl HeldEntry<'_, '_, '_> {
    /// Unlocks the array while `work` runs, which may sleep. The entry stays locked.
    pub(crate) fn while_unlocked<R>(
        &mut self,
        work: impl FnOnce(&DaxMapping, EntryRef<'_>) -> R,
    ) -> R {
        // SAFETY: By the type invariants this task has the entry locked.
        let entry = unsafe { EntryRef::new(self.0.entry) };
        let result = self.0.array.while_unlocked(|mapping| work(mapping, entry));
        // INVARIANT: A locked entry stays at its index.
        self.0.array.load();
        result
    }

    /// Clears the mark of the entry.
    pub(crate) fn clear_mark(&mut self, mark: Mark) {
        self.0.array.clear_mark(mark);
    }

    /// Removes the entry, and wakes all waiters.
    pub(crate) fn remove(self) {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: The value is not dropped, so this is the only use of the borrow from here on.
        let entry = unsafe { core::ptr::read(&this.0) };
        // INVARIANT: This task has the entry locked, and the lock ends with the entry.
        entry.remove(false);
    }
}

impl Drop for HeldEntry<'_, '_, '_> {
    fn drop(&mut self) {
        let entry = self.0.entry;
        // SAFETY: By the type invariants this task has the entry locked, and the mapping is an owner
        // of its pages.
        unsafe { self.0.array.replace(entry) };
        self.0.array.wake(entry, WakeMode::Next);
    }
}

/// The result of looking for an unlocked entry.
pub(crate) enum UnlockedSlot<'x, 'c, 'a> {
    /// There is no entry.
    Empty,
    /// An entry that is not locked, and may be larger than requested.
    Entry(UnlockedEntry<'x, 'c, 'a>),
    /// An entry that is smaller than requested. C: `dax_is_conflict()`.
    Conflict,
    /// A pointer, which is no DAX entry: the mapping is corrupted.
    Foreign,
}

/// Returns the first entry that overlaps one of this size at the cursor, once it is not locked.
/// Sleeps; the array is unlocked meanwhile. C: `get_unlocked_entry()`.
///
/// The caller locks the entry that is returned, removes it, or [puts](UnlockedEntry::put) it.
// With a constant `size` the first look is a few instructions, and it is nearly always the only
// one.
#[doc(alias = "get_unlocked_entry")]
#[inline(always)]
pub(crate) fn get_unlocked<'x, 'c, 'a>(
    array: &'x mut EntryArray<'c, 'a>,
    size: Size,
) -> UnlockedSlot<'x, 'c, 'a> {
    loop {
        let entry = match array.find_conflict() {
            Slot::Empty => return UnlockedSlot::Empty,
            Slot::Entry(entry) => entry,
            Slot::Foreign => {
                kernel::warn_once!("fs_dax: page cache page in the mapping of a DAX file");
                return UnlockedSlot::Foreign;
            }
        };
        if size == Size::Pmd && entry.size() == Size::Pte {
            return UnlockedSlot::Conflict;
        }
        if !entry.is_locked() {
            // INVARIANT: The array has just been found to have this entry.
            return UnlockedSlot::Entry(UnlockedEntry { array, entry });
        }
        array.wait(entry);
    }
}

/// What a scan has found.
pub(crate) enum Scanned<'x, 'c, 'a> {
    /// Nothing: the scan has ended.
    End,
    /// An entry that is skipped: it is not wanted, or was removed while another task had it locked.
    Skipped,
    /// An entry.
    Entry(UnlockedEntry<'x, 'c, 'a>),
    /// A pointer, which is no DAX entry: the mapping is corrupted.
    Foreign,
}

/// Moves the cursor to the first entry from here to the page `last`, inclusive, with the mark if one
/// is given, and returns it once it is not locked, if it is `wanted`. Sleeps; the array is unlocked
/// meanwhile.
///
/// A scan has to wait at *this* index. If it looked for the next entry from here on instead, it
/// would skip an entry that another task holds locked, as C does wherever it scans.
///
/// The caller locks the entry that is returned, removes it, or [puts](UnlockedEntry::put) it.
#[inline]
pub(crate) fn scan<'x, 'c, 'a>(
    array: &'x mut EntryArray<'c, 'a>,
    last: usize,
    mark: Option<Mark>,
    wanted: impl Fn(Entry) -> bool,
) -> Scanned<'x, 'c, 'a> {
    let found = match mark {
        None => array.find(last),
        Some(mark) => array.find_marked(last, mark),
    };
    let mut entry = match found {
        Slot::Empty => return Scanned::End,
        Slot::Foreign => {
            kernel::warn_once!("fs_dax: page cache page in the mapping of a DAX file");
            return Scanned::Foreign;
        }
        Slot::Entry(entry) => entry,
    };
    if !wanted(entry) {
        return Scanned::Skipped;
    }
    while entry.is_locked() {
        array.wait(entry);
        match array.load().entry() {
            Some(now) => entry = now,
            None => return Scanned::Skipped,
        }
    }
    // INVARIANT: The array has just been found to have this entry.
    Scanned::Entry(UnlockedEntry { array, entry })
}

/// The reason why an entry could not be locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrabError {
    /// There are smaller entries.
    Conflict,
    /// There is no memory for the entry.
    NoMemory,
    /// The mapping is corrupted.
    Corrupted,
}

impl GrabError {
    /// Returns the result of the fault.
    pub(crate) fn fault_result(self) -> VmFaultResult {
        match self {
            Self::Conflict => VmFaultResult::FALLBACK,
            Self::NoMemory => VmFaultResult::OOM,
            Self::Corrupted => VmFaultResult::SIGBUS,
        }
    }
}

/// Locks the entry for a fault of this size. If there is none, stores an empty one. Sleeps. C:
/// `grab_mapping_entry()`.
///
/// A PMD entry for a hole, or an empty one, is removed if a PTE fault finds it.
///
/// # Errors
///
/// Returns why the entry could not be locked.
#[doc(alias = "grab_mapping_entry")]
pub(crate) fn grab<'c, 'a>(
    cursor: &'c mut Cursor<'a>,
    size: Size,
) -> Result<LockedEntry<'c, 'a>, GrabError> {
    let entry = loop {
        let mut array = cursor.lock();
        let found = match get_unlocked(&mut array, size) {
            UnlockedSlot::Conflict => return Err(GrabError::Conflict),
            UnlockedSlot::Foreign => return Err(GrabError::Corrupted),
            UnlockedSlot::Empty => None,
            UnlockedSlot::Entry(found) => {
                let entry = found.entry();
                if size == Size::Pte && entry.size() == Size::Pmd && !entry.has_memory() {
                    let index = found.index();
                    remove_hole(found);
                    array.set(index);
                    None
                } else {
                    // SAFETY: No task has the entry locked, and the pages stay the same.
                    unsafe { array.replace(entry.locked()) };
                    Some(entry)
                }
            }
        };
        if let Some(entry) = found {
            break entry;
        }
        let entry = Entry::empty(size);
        // SAFETY: No entry overlaps this one, as has just been found, or the one that did has been
        // removed.
        unsafe { array.store(entry.locked()) };
        let error = array.error();
        if error.is_none() {
            array.add_pages(size);
            break entry;
        }
        drop(array);
        match error {
            _ if cursor.allocate() => (),
            Some(error) if error == ENOMEM => return Err(GrabError::NoMemory),
            _ => return Err(GrabError::Corrupted),
        }
    };
    // INVARIANT: The entry has been stored above with the lock bit set.
    Ok(LockedEntry { cursor, entry })
}

/// Removes a PMD entry that is for a hole or empty, to make room for PTE entries. Sleeps; the array
/// is unlocked meanwhile.
fn remove_hole(found: UnlockedEntry<'_, '_, '_>) {
    let index = found.index();
    // The entry stays locked while the array is not.
    let mut held = found.lock();
    held.while_unlocked(|mapping, entry| {
        if entry.is_zero() {
            mapping.unmap(entry.size().align(index), entry.size().pages());
        }
    });
    held.remove();
}

/// The number of wait queues, as a binary logarithm. C: `DAX_WAIT_TABLE_BITS`.
const WAIT_TABLE_BITS: u32 = 12;
/// The number of wait queues. C: `DAX_WAIT_TABLE_ENTRIES`.
const WAIT_TABLE_ENTRIES: usize = 1 << WAIT_TABLE_BITS;

/// The table of wait queues.
///
/// # Invariants
///
/// The queues are initialised by [`init`] before the first filesystem with DAX is mounted, so
/// before there is a [`DaxMapping`]. After that they are only accessed by C functions that take
/// their locks, and by the look of [`wake`] at a list head.
struct WaitTable(UnsafeCell<MaybeUninit<[bindings::wait_queue_head; WAIT_TABLE_ENTRIES]>>);

// SAFETY: By the type invariants accesses are synchronised by the lock of each queue.
unsafe impl Sync for WaitTable {}

/// The wait queues of all entries. C: `wait_table`.
static WAIT_TABLE: WaitTable = WaitTable(UnsafeCell::new(MaybeUninit::uninit()));

impl WaitTable {
    /// Returns the queue with this number, modulo the number of queues.
    #[inline]
    fn queue(&self, number: usize) -> *mut bindings::wait_queue_head {
        let first = self.0.get().cast::<bindings::wait_queue_head>();
        first.wrapping_add(number % WAIT_TABLE_ENTRIES)
    }
}

/// Initialises the wait queues. C: `init_dax_wait_table()`.
///
/// # Safety
///
/// The function must be called once, at boot, before the first filesystem with DAX is mounted.
#[doc(alias = "init_dax_wait_table")]
pub(crate) unsafe fn init() {
    for number in 0..WAIT_TABLE_ENTRIES {
        // SAFETY: This is valid memory for a queue of the table, which by the caller's promise no
        // other code uses yet.
        unsafe { bindings::init_waitqueue_head(WAIT_TABLE.queue(number)) };
    }
}

/// The key that waiters for an entry are found by. C: `struct exceptional_entry_key`.
#[doc(alias = "exceptional_entry_key")]
#[derive(Clone, Copy)]
pub(crate) struct WaitKey {
    array: *const bindings::xarray,
    index: usize,
}

impl WaitKey {
    /// Creates the key for the entry that contains the page `index`.
    #[inline]
    pub(crate) fn new(mapping: &DaxMapping, index: usize, entry: Entry) -> Self {
        Self {
            array: mapping.i_pages(),
            index: entry.size().align(index),
        }
    }

    /// Returns the queue for the key. C: `dax_entry_waitqueue()`, `hash_long()`.
    #[doc(alias = "dax_entry_waitqueue")]
    #[inline]
    fn queue(&self) -> *mut bindings::wait_queue_head {
        const GOLDEN_RATIO: usize = bindings::GOLDEN_RATIO_64 as usize;
        let word = self.array as usize ^ self.index;
        WAIT_TABLE.queue(word.wrapping_mul(GOLDEN_RATIO) >> (usize::BITS - WAIT_TABLE_BITS))
    }
}

/// A task in a wait queue. C: `struct wait_exceptional_entry_queue`.
///
/// `entry` is the first field, so that the C entry has the address of the value.
#[doc(alias = "wait_exceptional_entry_queue")]
#[repr(C)]
struct Waiter {
    entry: bindings::wait_queue_entry,
    key: WaitKey,
}

/// How a task waits: see the documentation of the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// The task wants to lock the entry, and passes the wake-up on if it does not.
    Exclusive,
    /// The task only waits until the entry is unlocked.
    Shared,
}

/// Sleeps until the entry with this key is unlocked. `unlock` releases the lock of the array; the
/// mapping may be freed as soon as it has.
#[cold]
#[inline(never)]
pub(crate) fn sleep(key: WaitKey, mode: WaitMode, unlock: impl FnOnce()) {
    let queue = key.queue();
    let mut waiter = Waiter {
        entry: bindings::wait_queue_entry::default(),
        key,
    };
    let wait = addr_of_mut!(waiter);
    // SAFETY: `waiter` is a local variable that stays in place until `finish_wait` below has
    // removed it from the queue.
    unsafe {
        bindings::init_wait_entry(addr_of_mut!((*wait).entry), 0);
        (*wait).entry.func = Some(wake_entry_function);
    }
    // SAFETY: The queue is one of the table, which is initialised, and so is the waiter.
    unsafe {
        let entry = addr_of_mut!((*wait).entry);
        let state = bindings::TASK_UNINTERRUPTIBLE as _;
        match mode {
            WaitMode::Exclusive => {
                bindings::prepare_to_wait_exclusive(queue, entry, state);
            }
            WaitMode::Shared => bindings::prepare_to_wait(queue, entry, state),
        }
    };
    unlock();
    // SAFETY: `unlock` has released the spinlock, so this task may sleep.
    unsafe { bindings::schedule() };
    // SAFETY: The waiter was added to this queue above.
    unsafe { bindings::finish_wait(queue, addr_of_mut!((*wait).entry)) };
}

/// Wakes a waiter if it waits for the entry with the key of the wake-up. C:
/// `wake_exceptional_entry_func()`.
///
/// # Safety
///
/// `entry` must be the entry of a [`Waiter`] that is in a queue, and `key` must point to a
/// [`WaitKey`].
#[doc(alias = "wake_exceptional_entry_func")]
unsafe extern "C" fn wake_entry_function(
    entry: *mut bindings::wait_queue_entry,
    mode: c_uint,
    flags: c_int,
    key: *mut c_void,
) -> c_int {
    // SAFETY: `entry` is the first field of a `Waiter`, which stays in place while it is in the
    // queue. The caller promises that `key` points to a `WaitKey`.
    let (waiting, unlocked) = unsafe { (&(*entry.cast::<Waiter>()).key, &*key.cast::<WaitKey>()) };
    if !eq(waiting.array, unlocked.array) || waiting.index != unlocked.index {
        return 0;
    }
    // SAFETY: The caller, `__wake_up()`, holds the lock of the queue that the entry is in.
    unsafe { bindings::autoremove_wake_function(entry, mode, flags, core::ptr::null_mut()) }
}

/// Which waiters are woken. C: `enum dax_wake_mode`.
#[doc(alias = "dax_wake_mode")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeMode {
    /// All waiters: the entry has been removed or has another size. C: `WAKE_ALL`.
    All,
    /// All shared waiters, and one exclusive waiter. C: `WAKE_NEXT`.
    Next,
}

/// Wakes waiters for an entry, which need not be in the mapping any more: only its size counts. Any
/// context. C: `dax_wake_entry()`.
///
/// A task that has seen the entry locked is in the queue: it entered the queue under the lock of
/// the array, and the caller has taken that lock since.
#[doc(alias = "dax_wake_entry")]
#[inline]
pub(crate) fn wake(mapping: &DaxMapping, index: usize, entry: Entry, mode: WakeMode) {
    let mut key = WaitKey::new(mapping, index, entry);
    let queue = key.queue();
    // SAFETY: The queue is one of the table, which is initialised. The pointer is a word that other
    // CPUs change under a lock that this task does not hold, so it is read once, by a volatile
    // read.
    let first = unsafe { addr_of!((*queue).head.next).read_volatile() };
    // SAFETY: The queue is valid; only the address of a field is computed.
    if !eq(first, unsafe { addr_of!((*queue).head) }) {
        // SAFETY: The queue is one of the table, which is initialised.
        unsafe { wake_queue(queue, &mut key, mode) };
    }
}

/// Wakes the waiters of a queue that have this key.
///
/// # Safety
///
/// `queue` must be a queue of the table, which must be initialised.
#[cold]
#[inline(never)]
unsafe fn wake_queue(queue: *mut bindings::wait_queue_head, key: &mut WaitKey, mode: WakeMode) {
    let exclusive = match mode {
        WakeMode::All => 0,
        WakeMode::Next => 1,
    };
    let key: *mut WaitKey = key;
    // SAFETY: By the caller's promise the queue is one of the table, whose waiters all have
    // `wake_entry_function`, which takes a key of this type.
    unsafe { bindings::__wake_up(queue, bindings::TASK_NORMAL, exclusive, key.cast()) };
}
