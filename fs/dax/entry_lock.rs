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
//! held to look up an entry, and to change a word and the owner of up to 512 pages.
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
//! This file encapsulates the wait queues.

use crate::{
    entry::{Entry, Size},
    entry_array::{Cursor, EntryArray, Gfp, Slot},
    mapping::DaxMapping,
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

/// An entry that this task has locked. Dropping it unlocks the entry and wakes the next waiter. C:
/// `dax_lock_entry()`, `dax_unlock_entry()`.
///
/// # Invariants
///
/// The mapping has `entry`, locked, at the position of `cursor`, and this task has locked it.
#[doc(alias = "dax_lock_entry")]
#[doc(alias = "dax_unlock_entry")]
#[must_use = "the entry is unlocked at once when this is dropped"]
pub(crate) struct LockedEntry<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    entry: Entry,
}

impl<'c, 'a> LockedEntry<'c, 'a> {
    /// Creates the guard for the entry at the position of `cursor`, which this task has locked or
    /// has taken over from the task that locked it.
    pub(crate) fn new(cursor: &'c mut Cursor<'a>, entry: Entry) -> Self {
        Self {
            cursor,
            entry: entry.unlocked(),
        }
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
        self.cursor.prepare_split(ours.locked(), gfp)?;
        let mut array = self.cursor.lock();
        array.split();
        for page in (0..pmd.size().pages()).map(|n| first.wrapping_add(n)) {
            array.set(page);
            if let (Some(entry), true) = (part(page), page != index) {
                array.replace(entry);
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

    /// Records that `entry` has been stored in the place of this entry, locked.
    pub(crate) fn replaced_by(&mut self, entry: Entry) {
        self.entry = entry;
    }
}

impl Drop for LockedEntry<'_, '_> {
    fn drop(&mut self) {
        let entry = self.entry;
        let old = self.array().replace(entry);
        if !old.entry().is_some_and(Entry::is_locked) {
            kernel::warn_once!("fs_dax: locked entry was unlocked by other code");
        }
        self.cursor.wake(entry, WakeMode::Next);
    }
}

/// The result of looking for an unlocked entry.
pub(crate) enum UnlockedSlot {
    /// There is no entry.
    Empty,
    /// An entry that is not locked, and may be larger than requested.
    Entry(Entry),
    /// An entry that is smaller than requested. C: `dax_is_conflict()`.
    Conflict,
    /// A pointer, which is no DAX entry: the mapping is corrupted.
    Foreign,
}

/// Returns the first entry that overlaps one of this size at the cursor, once it is not locked.
/// Sleeps; the array is unlocked meanwhile. C: `get_unlocked_entry()`.
///
/// The caller locks the entry that is returned, or calls [`put_unlocked`] for it.
// With a constant `size` the first look is a few instructions, and it is nearly always the only
// one.
#[doc(alias = "get_unlocked_entry")]
#[inline(always)]
pub(crate) fn get_unlocked(array: &mut EntryArray<'_, '_>, size: Size) -> UnlockedSlot {
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
            return UnlockedSlot::Entry(entry);
        }
        array.wait(entry);
    }
}

/// Waits until the entry that a scan has found at the cursor is unlocked, and returns the entry
/// that is there then. Sleeps; the array is unlocked meanwhile.
///
/// A scan has to wait at *this* index. If it looked for the next entry from here on instead, it
/// would skip an entry that another task holds locked, as C does wherever it scans.
///
/// The caller locks the entry that is returned, or calls [`put_unlocked`] for it.
pub(crate) fn wait_unlocked(array: &mut EntryArray<'_, '_>, mut entry: Entry) -> Option<Entry> {
    while entry.is_locked() {
        array.wait(entry);
        entry = array.load().entry()?;
    }
    Some(entry)
}

/// Passes the wake-up for an unlocked entry on, because the caller does not lock the entry. C:
/// `put_unlocked_entry()`.
#[doc(alias = "put_unlocked_entry")]
pub(crate) fn put_unlocked(array: &EntryArray<'_, '_>, entry: Entry, mode: WakeMode) {
    array.wake(entry, mode);
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
            UnlockedSlot::Entry(entry)
                if size == Size::Pte && entry.size() == Size::Pmd && !entry.has_memory() =>
            {
                remove_hole(&mut array, entry);
                None
            }
            UnlockedSlot::Entry(entry) => Some(entry),
        };
        if let Some(entry) = found {
            array.replace(entry.locked());
            break entry;
        }
        let entry = Entry::empty(size);
        array.store(entry.locked());
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

/// Removes the PMD entry at the cursor, which is for a hole or empty and not locked, to make room
/// for PTE entries. Sleeps; the array is unlocked meanwhile.
fn remove_hole(array: &mut EntryArray<'_, '_>, entry: Entry) {
    let index = array.index();
    // The entry stays locked while the array is not.
    array.replace(entry.locked());
    if entry.is_zero() {
        array.while_unlocked(|mapping| {
            mapping.unmap(entry.size().align(index), entry.size().pages());
        });
    }
    // Neither a hole nor an empty entry has pages that the file owns, so there is no ownership to
    // clear.
    array.remove();
    array.wake(entry, WakeMode::All);
    array.remove_pages(entry.size());
    array.set(index);
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
