// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! The array of the entries of a mapping, and its lock.
//!
//! A [`Cursor`] is a position in the array. While the array is not locked, it knows its index and
//! nothing else. [`Cursor::lock`] takes the lock of the array (`xa_lock`, a spinlock, with
//! interrupts disabled) and returns an [`EntryArray`], through which entries are read and changed.
//!
//! The lock of the *array* is held to look up an entry, and to change a word and the owner of its
//! folio, or of up to 512 pages. Only the lock of a wait queue, and that of the pages of an entry, are
//! taken inside it. A single *entry* is locked for
//! longer, by a bit in it: see [`entry_lock`](crate::entry_lock).
//!
//! [`EntryArray::replace`] stores a word to the slot that the cursor has found, which C does by
//! walking down the tree a second time (`xas_store()`). A value entry replaces a value entry there,
//! so the counts and marks of the nodes stay correct. Everything else is done by the functions of
//! the XArray.
//!
//! The words that are read here are numbers ([`Entry`]). What changes them is `unsafe`: the states of
//! [`entry_lock`](crate::entry_lock) say when it may be done.
//!
//! This file encapsulates the use of `struct xa_state`.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use crate::{
    entry::{Entry, Size},
    entry_lock::{self, WaitKey, WaitMode, WakeMode},
    mapping::DaxMapping,
    owner::EntryRef,
};
use core::{
    ffi::c_void,
    ptr::{addr_of_mut, null_mut},
    sync::atomic::{AtomicUsize, Ordering},
};
use kernel::{
    bindings,
    error::{code::ENOMEM, Error, Result},
};

/// The number of slots of a node, as a binary logarithm. C: `XA_CHUNK_SHIFT`.
const CHUNK_SHIFT: u32 = {
    // SAFETY: A node consists of integers, pointers and arrays of these, for which all zeroes are a
    // valid value.
    let node: bindings::xa_node = unsafe { core::mem::zeroed() };
    node.slots.len().trailing_zeros()
};

/// The `xa_node` of a cursor that has not looked anything up. C: `XAS_RESTART`.
const RESTART: *mut bindings::xa_node = 3 as *mut bindings::xa_node;

/// After this many entries a scan releases the lock of the array for a moment. C: `XA_CHECK_SCHED`.
pub(crate) const CHECK_SCHED: usize = bindings::XA_CHECK_SCHED as usize;

/// A mark of an entry, for writeback. C: `PAGECACHE_TAG_*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The memory may have been written to since the last flush. C: `PAGECACHE_TAG_DIRTY`.
    Dirty,
    /// The entry was dirty when a writeback began. C: `PAGECACHE_TAG_TOWRITE`.
    ToWrite,
}

impl Mark {
    /// Returns the mark for C.
    #[inline]
    const fn as_raw(self) -> bindings::xa_mark_t {
        match self {
            Self::Dirty => bindings::PAGECACHE_TAG_DIRTY,
            Self::ToWrite => bindings::PAGECACHE_TAG_TOWRITE,
        }
    }
}

/// How memory is allocated for splitting an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gfp {
    /// The allocation may fail. C: `GFP_KERNEL`.
    Kernel,
    /// The allocation is repeated until it succeeds. C: `GFP_KERNEL | __GFP_NOFAIL`.
    NoFail,
}

/// The content of a slot of the array.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing.
    Empty,
    /// A DAX entry.
    Entry(Entry),
    /// A pointer, which is no DAX entry: the mapping is corrupted.
    Foreign,
}

impl Slot {
    /// Returns the entry, if there is one.
    #[inline]
    pub(crate) const fn entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Empty | Self::Foreign => None,
        }
    }
}

/// A position among the entries of a mapping. C: `struct xa_state`.
///
/// # Invariants
///
/// `state` refers to the array of `mapping` and is for entries of one size. If it refers to a node,
/// the array has been locked since that node was looked up.
#[doc(alias = "xa_state")]
pub(crate) struct Cursor<'a> {
    state: bindings::xa_state,
    mapping: &'a DaxMapping,
}

impl<'a> Cursor<'a> {
    /// Creates a cursor at the entry of this size that contains the page `index`. C:
    /// `XA_STATE_ORDER()`.
    #[doc(alias = "XA_STATE_ORDER")]
    #[inline(always)]
    pub(crate) fn new(mapping: &'a DaxMapping, index: usize, size: Size) -> Self {
        let order = size.order();
        // INVARIANT: The state refers to no node.
        Self {
            state: bindings::xa_state {
                xa: mapping.i_pages(),
                xa_index: size.align(index) as _,
                xa_shift: (order - order % CHUNK_SHIFT) as _,
                xa_sibs: ((1u32 << (order % CHUNK_SHIFT)) - 1) as _,
                xa_offset: 0,
                xa_pad: 0,
                xa_node: RESTART,
                xa_alloc: null_mut(),
                xa_update: None,
                xa_lru: null_mut(),
            },
            mapping,
        }
    }

    /// Returns the mapping.
    #[inline]
    pub(crate) fn mapping(&self) -> &'a DaxMapping {
        self.mapping
    }

    /// Returns the index of the page that the cursor is at.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.state.xa_index
    }

    /// Resets the cursor to its index. C: `xas_reset()`.
    #[doc(alias = "xas_reset")]
    #[inline]
    fn reset(&mut self) {
        self.state.xa_node = RESTART;
    }

    /// Locks the array. Spins, and disables interrupts. C: `xas_lock_irq()`.
    ///
    /// Nodes are added and freed while the array is not locked, so only the index of the cursor is
    /// kept.
    #[doc(alias = "xas_lock_irq")]
    #[inline]
    pub(crate) fn lock<'c>(&'c mut self) -> EntryArray<'c, 'a> {
        self.reset();
        // SAFETY: By the type invariants this is the array of `mapping`, which is valid, and this
        // task does not hold the lock, because an `EntryArray` would borrow the cursor.
        unsafe { lock(self.state.xa) };
        // INVARIANT: The array has just been locked.
        EntryArray { cursor: self }
    }

    /// Returns the error of a store. C: `xas_error()`.
    #[doc(alias = "xas_error")]
    #[inline]
    pub(crate) fn error(&self) -> Option<Error> {
        let word = self.state.xa_node as isize;
        // An errno, which is negative, is shifted left by two, with `10` in the low bits.
        if word & 3 == 2 && word < 0 {
            // CAST: An errno fits into 32 bits.
            Some(Error::from_errno((word >> 2) as _))
        } else {
            None
        }
    }

    /// Allocates memory if a store has failed for lack of it. Returns whether the store may succeed
    /// now. Sleeps. C: `xas_nomem()`.
    #[doc(alias = "xas_nomem")]
    #[inline]
    pub(crate) fn allocate(&mut self) -> bool {
        self.error() == Some(ENOMEM) && self.allocate_slow()
    }

    /// Allocates memory after a store has failed for lack of it. Sleeps.
    #[cold]
    #[inline(never)]
    fn allocate_slow(&mut self) -> bool {
        let gfp = self.mapping.gfp_mask() & !bindings::__GFP_HIGHMEM;
        // SAFETY: By the type invariants the state is valid. The array is not locked by this task,
        // because an `EntryArray` would borrow the cursor, so the function may sleep.
        unsafe { bindings::xas_nomem(&mut self.state, gfp) }
    }

    /// Splits the PMD entry at the cursor: stores `into` to each of its slots. Marks are kept.
    /// Returns the locked array. Sleeps. C: `xas_split_alloc()`, `xas_split()`.
    ///
    /// # Errors
    ///
    /// Returns `ENOMEM` if there is no memory, with [`Gfp::Kernel`] only.
    ///
    /// # Safety
    ///
    /// The array must have a PMD entry at the cursor, which this task has locked. The caller must
    /// store the right PTE entries before it unlocks the array.
    #[doc(alias = "xas_split_alloc")]
    #[doc(alias = "xas_split")]
    pub(crate) unsafe fn split<'c>(
        &'c mut self,
        into: Entry,
        gfp: Gfp,
    ) -> Result<EntryArray<'c, 'a>> {
        self.reset();
        let order = Size::Pmd.order();
        let gfp = match gfp {
            Gfp::Kernel => bindings::GFP_KERNEL,
            Gfp::NoFail => bindings::GFP_KERNEL | bindings::__GFP_NOFAIL,
        };
        let word = into.into_word() as *mut c_void;
        // SAFETY: By the type invariants the state is valid. The array is not locked by this task,
        // because an `EntryArray` would borrow the cursor, so the function may sleep.
        unsafe { bindings::xas_split_alloc(&mut self.state, word, order, gfp) };
        if let Some(error) = self.error() {
            return Err(error);
        }
        let array = self.lock();
        // SAFETY: By the type invariants the array is locked and the state is valid, and the caller
        // promises that there is a PMD entry at the cursor. The nodes to split into have just been
        // allocated, with the word in every slot.
        unsafe { bindings::xas_split(&mut array.cursor.state, word, order) };
        Ok(array)
    }

    /// Wakes waiters for `entry`, which is or was at the cursor. Any context. C:
    /// `dax_wake_entry()`.
    #[doc(alias = "dax_wake_entry")]
    #[inline]
    pub(crate) fn wake(&self, entry: Entry, mode: WakeMode) {
        entry_lock::wake(self.mapping, self.index(), entry, mode);
    }
}

impl Drop for Cursor<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.state.xa_alloc.is_null() {
            // SAFETY: By the type invariants the state is valid; it owns the nodes in `xa_alloc`,
            // which are in no array.
            unsafe { bindings::xas_destroy(&mut self.state) };
        }
    }
}

/// Locks an array. C: `xa_lock_irq()`.
///
/// # Safety
///
/// `array` must point to an initialised array that stays valid while it is locked.
#[doc(alias = "xa_lock_irq")]
#[inline]
unsafe fn lock(array: *mut bindings::xarray) {
    if cfg!(CONFIG_SMP) {
        // SAFETY: The caller promises an initialised array. The first member of its lock is the raw
        // lock, which is what the function takes.
        unsafe { bindings::_raw_spin_lock_irq(addr_of_mut!((*array).xa_lock).cast()) };
    } else {
        // SAFETY: The caller promises an initialised array.
        unsafe { bindings::xa_lock_irq(array) };
    }
}

/// The locked array of the entries of a mapping, at a position. Dropping it unlocks the array.
///
/// # Invariants
///
/// This task holds the lock of the array that `cursor` refers to, with interrupts disabled.
#[must_use = "the array is unlocked at once when this is dropped"]
pub(crate) struct EntryArray<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
}

impl<'c, 'a> EntryArray<'c, 'a> {
    /// Unlocks the array and returns the cursor.
    #[inline]
    pub(crate) fn unlock(self) -> &'c mut Cursor<'a> {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: By the type invariants this task holds the lock. It is not released a second
        // time, because the value is not dropped. The field is read once.
        unsafe {
            bindings::xa_unlock_irq(this.cursor.state.xa);
            core::ptr::read(&this.cursor)
        }
    }
}

impl Drop for EntryArray<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants this task holds the lock.
        unsafe { bindings::xa_unlock_irq(self.cursor.state.xa) };
    }
}

impl EntryArray<'_, '_> {
    /// Converts a word of the array.
    #[inline]
    fn slot(word: *mut c_void) -> Slot {
        match Entry::from_word(word as usize) {
            Some(entry) => Slot::Entry(entry),
            None if word.is_null() => Slot::Empty,
            None => Slot::Foreign,
        }
    }

    /// Returns the mapping.
    #[inline]
    pub(crate) fn mapping(&self) -> &DaxMapping {
        self.cursor.mapping
    }

    /// Returns the index of the page that the cursor is at.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.cursor.index()
    }

    /// Moves the cursor to the page `index`. C: `xas_set()`.
    #[doc(alias = "xas_set")]
    #[inline]
    pub(crate) fn set(&mut self, index: usize) {
        self.cursor.state.xa_index = index as _;
        self.cursor.reset();
    }

    /// Returns the error of a store. C: `xas_error()`.
    #[inline]
    pub(crate) fn error(&self) -> Option<Error> {
        self.cursor.error()
    }

    /// Returns the content of the slot at the cursor. C: `xas_load()`.
    #[doc(alias = "xas_load")]
    #[inline]
    pub(crate) fn load(&mut self) -> Slot {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        Self::slot(unsafe { bindings::xas_load(&mut self.cursor.state) })
    }

    /// Moves the cursor to the first slot from here to the page `last`, inclusive, that is not
    /// empty, and returns its content. C: `xas_find()`.
    #[doc(alias = "xas_find")]
    #[inline]
    pub(crate) fn find(&mut self, last: usize) -> Slot {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        Self::slot(unsafe { bindings::xas_find(&mut self.cursor.state, last as _) })
    }

    /// Moves the cursor to the first slot with the mark from here to the page `last`, inclusive,
    /// and returns its content. C: `xas_find_marked()`.
    #[doc(alias = "xas_find_marked")]
    #[inline]
    pub(crate) fn find_marked(&mut self, last: usize, mark: Mark) -> Slot {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        Self::slot(unsafe {
            bindings::xas_find_marked(&mut self.cursor.state, last as _, mark.as_raw())
        })
    }

    /// Returns the first entry, of any size, that overlaps the entry that the cursor is for. C:
    /// `xas_find_conflict()`.
    ///
    /// Nothing may have been looked up since the array was locked or the cursor was
    /// [set](Self::set).
    #[doc(alias = "xas_find_conflict")]
    #[inline]
    pub(crate) fn find_conflict(&mut self) -> Slot {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        Self::slot(unsafe { bindings::xas_find_conflict(&mut self.cursor.state) })
    }

    /// Moves the cursor to the first slot from here to the page `last`, inclusive, that is not
    /// empty, and calls `visit` with the index and the entry there, locked or not. Returns its
    /// result, or `None` if there is no entry.
    pub(crate) fn visit_next<R: Default>(
        &mut self,
        last: usize,
        visit: impl FnOnce(usize, EntryRef<'_>) -> R,
    ) -> Option<R> {
        match self.find(last) {
            Slot::Empty => None,
            Slot::Foreign => {
                kernel::warn_once!("fs_dax: page cache page in the mapping of a DAX file");
                Some(R::default())
            }
            // SAFETY: The array, which is locked during the call, has this entry.
            Slot::Entry(entry) => Some(visit(self.index(), unsafe { EntryRef::new(entry) })),
        }
    }

    /// Stores an entry of the size that the cursor is for to an empty slot. If there was no memory,
    /// the cursor has an [error](Cursor::error) and nothing is stored. C: `xas_store()`.
    ///
    /// # Safety
    ///
    /// The slots of the entry must be empty. The entry must be no device memory.
    #[doc(alias = "xas_store")]
    #[inline]
    pub(crate) unsafe fn store(&mut self, entry: Entry) {
        let word = entry.into_word() as *mut c_void;
        // SAFETY: By the type invariants the array is locked and the state is valid. A DAX entry
        // keeps the invariants of the mapping.
        unsafe { bindings::xas_store(&mut self.cursor.state, word) };
    }

    /// Removes the entry at the cursor. C: `xas_store()` of `NULL`.
    ///
    /// # Safety
    ///
    /// No other task may have the entry locked. The mapping must not be an owner of its pages any
    /// more when the array is unlocked.
    #[inline]
    pub(crate) unsafe fn remove(&mut self) {
        // SAFETY: By the type invariants the array is locked and the state is valid. Storing `NULL`
        // needs no memory, so it cannot fail.
        unsafe { bindings::xas_store(&mut self.cursor.state, null_mut()) };
    }

    /// Replaces the entry at the cursor by another of the same size. Returns the content of the
    /// slot before, and stores nothing if that was no entry.
    ///
    /// The nodes count value entries and carry their marks. A value entry takes the place of
    /// another, so only the word has to change.
    ///
    /// # Safety
    ///
    /// No other task may have the entry at the cursor locked. The mapping must be an owner of the
    /// pages of the new entry, and of no others, when the array is unlocked.
    #[inline]
    pub(crate) unsafe fn replace(&mut self, entry: Entry) -> Slot {
        let old = self.load();
        if let Slot::Entry(_) = old {
            let state = &self.cursor.state;
            let slot = if state.xa_node.is_null() {
                // SAFETY: The array is initialised. Without nodes its only entry, at index 0, is in
                // the head.
                unsafe { addr_of_mut!((*state.xa).xa_head) }
            } else {
                // SAFETY: `load` has found an entry, and the array has been locked since, so the
                // state refers to a node, and `xa_offset` is less than its number of slots.
                unsafe {
                    addr_of_mut!((*state.xa_node).slots)
                        .cast::<*mut c_void>()
                        .add(usize::from(state.xa_offset))
                }
            };
            // SAFETY: The slot is valid, as found above. It is an aligned word, which readers
            // without the lock read as a whole.
            unsafe { AtomicUsize::from_ptr(slot.cast()) }
                .store(entry.into_word(), Ordering::Release);
        }
        old
    }

    /// Returns whether the entry at the cursor has the mark. C: `xas_get_mark()`.
    #[doc(alias = "xas_get_mark")]
    #[inline]
    pub(crate) fn has_mark(&self, mark: Mark) -> bool {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        unsafe { bindings::xas_get_mark(&self.cursor.state, mark.as_raw()) }
    }

    /// Marks the entry at the cursor. C: `xas_set_mark()`.
    #[doc(alias = "xas_set_mark")]
    #[inline]
    pub(crate) fn set_mark(&mut self, mark: Mark) {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        unsafe { bindings::xas_set_mark(&self.cursor.state, mark.as_raw()) };
    }

    /// Clears the mark of the entry at the cursor. C: `xas_clear_mark()`.
    #[doc(alias = "xas_clear_mark")]
    #[inline]
    pub(crate) fn clear_mark(&mut self, mark: Mark) {
        // SAFETY: By the type invariants the array is locked and the state is valid.
        unsafe { bindings::xas_clear_mark(&self.cursor.state, mark.as_raw()) };
    }

    /// Adds the pages of an entry of this size to `nrpages` of the mapping.
    #[inline]
    pub(crate) fn add_pages(&mut self, size: Size) {
        self.change_pages(size.pages());
    }

    /// Subtracts the pages of an entry of this size from `nrpages` of the mapping.
    #[inline]
    pub(crate) fn remove_pages(&mut self, size: Size) {
        self.change_pages(size.pages().wrapping_neg());
    }

    /// Adds to `nrpages` of the mapping, modulo 2^64.
    #[inline]
    fn change_pages(&mut self, by: usize) {
        let pages = self.cursor.mapping.nrpages();
        // SAFETY: The mapping is valid, so the field is. It is written under the lock of the array
        // only, which this task holds. The write is volatile because the field is read without the
        // lock.
        unsafe { pages.write_volatile(pages.read().wrapping_add(by as _)) };
    }

    /// Wakes waiters for `entry`, which is or was at the cursor. C: `dax_wake_entry()`.
    #[inline]
    pub(crate) fn wake(&self, entry: Entry, mode: WakeMode) {
        self.cursor.wake(entry, mode);
    }

    /// Sleeps until the entry at the cursor, which is locked, is unlocked, as an exclusive waiter.
    /// The array is unlocked meanwhile. On return the cursor is at the same index, and the caller
    /// looks the entry up again. C: `get_unlocked_entry()`.
    ///
    /// The caller has to lock the entry that it finds, or to [wake](Self::wake) the next waiter.
    #[cold]
    pub(crate) fn wait(&mut self, entry: Entry) {
        let array = self.cursor.state.xa;
        self.cursor.reset();
        entry_lock::sleep(
            WaitKey::new(self.cursor.mapping, self.cursor.index(), entry),
            WaitMode::Exclusive,
            // SAFETY: By the type invariants this task holds the lock; it takes it again below.
            || unsafe { bindings::xa_unlock_irq(array) },
        );
        // SAFETY: This is the array of `mapping`, which is borrowed and so valid.
        unsafe { lock(array) };
    }

    /// Unlocks the array and sleeps until the entry at the cursor, which is locked, is unlocked, as
    /// a shared waiter. C: `wait_entry_unlocked()`.
    ///
    /// The mapping may be freed meanwhile, unless the caller holds it. So this does not access the
    /// mapping after it has unlocked the array.
    #[doc(alias = "wait_entry_unlocked")]
    #[cold]
    pub(crate) fn unlock_and_wait(self, entry: Entry) {
        let this = core::mem::ManuallyDrop::new(self);
        let array = this.cursor.state.xa;
        entry_lock::sleep(
            WaitKey::new(this.cursor.mapping, this.cursor.index(), entry),
            WaitMode::Shared,
            // SAFETY: By the type invariants this task holds the lock. It is not released a second
            // time, because the value is not dropped.
            || unsafe { bindings::xa_unlock_irq(array) },
        );
    }

    /// Unlocks the array while `work` runs, which may sleep. After it the cursor is at the same
    /// index, and the caller looks up again what it needs.
    #[inline]
    pub(crate) fn while_unlocked<R>(&mut self, work: impl FnOnce(&DaxMapping) -> R) -> R {
        let array = self.cursor.state.xa;
        self.cursor.reset();
        // SAFETY: By the type invariants this task holds the lock; it takes it again below.
        unsafe { bindings::xa_unlock_irq(array) };
        let result = work(self.cursor.mapping);
        // SAFETY: This is the array of `mapping`, which is borrowed and so valid.
        unsafe { lock(array) };
        result
    }

    /// Unlocks the array for a moment in the middle of a scan, and reschedules if needed. The scan
    /// continues behind this entry. Sleeps. C: `xas_pause()`, `cond_resched()`.
    #[doc(alias = "xas_pause")]
    #[cold]
    pub(crate) fn pause(&mut self) {
        let array = self.cursor.state.xa;
        // SAFETY: By the type invariants the array is locked and the state is valid.
        unsafe { bindings::xas_pause(&mut self.cursor.state) };
        // SAFETY: By the type invariants this task holds the lock; it takes it again below.
        unsafe { bindings::xa_unlock_irq(array) };
        // SAFETY: The lock has been released, so this task may sleep.
        unsafe { bindings::cond_resched() };
        // SAFETY: This is the array of `mapping`, which is borrowed and so valid.
        unsafe { lock(array) };
    }
}
