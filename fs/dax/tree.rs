// SPDX-License-Identifier: GPL-2.0

//! The entries of a mapping, and their lock.
//!
//! A [`Walk`] is a place in the array. It can be there without the lock, and then knows its index
//! only. [`Walk::lock`] takes the lock of the entries (a spinlock, interrupts off) and gives a
//! [`Tree`], through which they are read and changed.
//!
//! This is the lock of the *array*, and held for a few instructions. A single entry is locked for
//! longer, by a bit in it; what that means is the matter of `fs/dax/lock.rs`. What is replaced in
//! place here is a word for a word, so it needs no more than the slot: no way down from the top.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use crate::{
    entry::{Entry, Size},
    mapping::DaxMapping,
    wait::{self, How, Key, Wake},
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

/// The slots of a node, as a power of two. C: `XA_CHUNK_SHIFT`.
const CHUNK_SHIFT: u32 = {
    // SAFETY: Integers, pointers and arrays of these: all zeroes are a value.
    let node: bindings::xa_node = unsafe { core::mem::zeroed() };
    node.slots.len().trailing_zeros()
};

/// `xa_node` of a walk that has not begun. C: `XAS_RESTART`.
const RESTART: *mut bindings::xa_node = 3 as *mut bindings::xa_node;

/// After how many entries a scan lets others have the lock. C: `XA_CHECK_SCHED`.
pub(crate) const CHECK: usize = bindings::XA_CHECK_SCHED as usize;

/// What fsync asks about. C: `PAGECACHE_TAG_*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Somebody may have written to it since it was flushed.
    Dirty,
    /// It was dirty when an fsync began.
    ToWrite,
}

impl Mark {
    #[inline]
    const fn as_raw(self) -> bindings::xa_mark_t {
        match self {
            Self::Dirty => bindings::PAGECACHE_TAG_DIRTY,
            Self::ToWrite => bindings::PAGECACHE_TAG_TOWRITE,
        }
    }
}

/// How long to wait for memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as is usual; then without. C: `GFP_KERNEL`.
    Some,
    /// Until there is some. C: `__GFP_NOFAIL`.
    Endless,
}

/// What there is at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// An entry.
    Entry(Entry),
    /// Something that is no entry: the mapping has been damaged.
    Foreign,
}

impl Found {
    /// The entry, if it is one.
    #[inline]
    pub(crate) const fn entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Nothing | Self::Foreign => None,
        }
    }
}

/// A place among the entries of a mapping. C: `struct xa_state`.
///
/// # Invariants
///
/// `state` is one of the array of `mapping`, for entries of a certain size. It names a node only
/// since the array was locked.
pub(crate) struct Walk<'a> {
    state: bindings::xa_state,
    mapping: &'a DaxMapping,
}

impl<'a> Walk<'a> {
    /// At the entry of this size that has the page `index`. C: `XA_STATE_ORDER()`.
    #[doc(alias = "XA_STATE_ORDER")]
    #[inline(always)]
    pub(crate) fn new(mapping: &'a DaxMapping, index: usize, size: Size) -> Self {
        let order = size.order();
        // INVARIANT: Not begun.
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

    /// The mapping.
    #[inline]
    pub(crate) fn mapping(&self) -> &'a DaxMapping {
        self.mapping
    }

    /// The page, in the file, that it is at.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.state.xa_index
    }

    /// Forgets all but the index. C: `xas_reset()`.
    #[inline]
    fn reset(&mut self) {
        self.state.xa_node = RESTART;
    }

    /// Locks the entries. C: `xas_lock_irq()`.
    ///
    /// Nodes come and go while they are not locked, so nothing is left of a walk but its index.
    #[doc(alias = "xas_lock_irq")]
    #[inline]
    pub(crate) fn lock<'w>(&'w mut self) -> Tree<'w, 'a> {
        self.reset();
        lock(self.state.xa);
        // INVARIANT: Just locked.
        Tree { walk: self }
    }

    /// Why storing has failed. C: `xas_error()`.
    #[doc(alias = "xas_error")]
    #[inline]
    pub(crate) fn error(&self) -> Option<Error> {
        let word = self.state.xa_node as isize;
        // An errno is shifted left by two, with `10` below; all are negative.
        if word & 3 == 2 && word < 0 {
            // CAST: An errno fits.
            Some(Error::from_errno((word >> 2) as _))
        } else {
            None
        }
    }

    /// If there was no memory for storing: gets some, and returns `true` if there is hope now.
    /// Sleeps. C: `xas_nomem()`.
    #[doc(alias = "xas_nomem")]
    #[inline]
    pub(crate) fn allocate(&mut self) -> bool {
        self.error() == Some(ENOMEM) && self.allocate_slow()
    }

    #[cold]
    #[inline(never)]
    fn allocate_slow(&mut self) -> bool {
        let gfp = self.mapping.gfp_mask() & !bindings::__GFP_HIGHMEM;
        // SAFETY: By the invariant the state is valid; the array is not locked.
        unsafe { bindings::xas_nomem(&mut self.state, gfp) }
    }

    /// Gets the memory that it takes to [split](Tree::split) a huge entry, with `into` in every place
    /// of it. Sleeps. C: `xas_split_alloc()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, unless the patience is endless.
    #[doc(alias = "xas_split_alloc")]
    pub(crate) fn prepare_split(&mut self, into: Entry, patience: Patience) -> Result {
        self.reset();
        let order = Size::Huge.order();
        let gfp = match patience {
            Patience::Some => bindings::GFP_KERNEL,
            Patience::Endless => bindings::GFP_KERNEL | bindings::__GFP_NOFAIL,
        };
        let word = into.into_word() as *mut c_void;
        // SAFETY: By the invariant the state is valid; the array is not locked.
        unsafe { bindings::xas_split_alloc(&mut self.state, word, order, gfp) };
        self.error().map_or(Ok(()), Err)
    }

    /// Wakes who waits for the entry here. C: `dax_wake_entry()`.
    #[inline]
    pub(crate) fn wake(&self, entry: Entry, whom: Wake) {
        wait::wake(self.mapping, self.index(), entry, whom);
    }
}

impl Drop for Walk<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.state.xa_alloc.is_null() {
            // SAFETY: By the invariant the state is valid.
            unsafe { bindings::xas_destroy(&mut self.state) };
        }
    }
}

#[inline]
fn lock(array: *mut bindings::xarray) {
    if cfg!(CONFIG_SMP) {
        // SAFETY: An initialised array; the first member of its lock is what this takes.
        unsafe { bindings::_raw_spin_lock_irq(addr_of_mut!((*array).xa_lock).cast()) };
    } else {
        // SAFETY: An initialised array.
        unsafe { bindings::xa_lock_irq(array) };
    }
}

/// The entries of a mapping, locked. Dropping it unlocks them.
///
/// # Invariants
///
/// The array that `walk` is a place in is locked, with interrupts off.
#[must_use = "the entries are unlocked at once when it is dropped"]
pub(crate) struct Tree<'w, 'a> {
    walk: &'w mut Walk<'a>,
}

impl Drop for Tree<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant it is locked.
        unsafe { bindings::xa_unlock_irq(self.walk.state.xa) };
    }
}

impl Tree<'_, '_> {
    #[inline]
    fn found(word: *mut c_void) -> Found {
        // SAFETY: By the invariant of a mapping the numbers in it are entries.
        match unsafe { Entry::from_word(word as usize) } {
            Some(entry) => Found::Entry(entry),
            None if word.is_null() => Found::Nothing,
            None => Found::Foreign,
        }
    }

    /// The mapping.
    #[inline]
    pub(crate) fn mapping(&self) -> &DaxMapping {
        self.walk.mapping
    }

    /// The page, in the file, that it is at.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.walk.index()
    }

    /// Goes to a page. C: `xas_set()`.
    #[doc(alias = "xas_set")]
    #[inline]
    pub(crate) fn set(&mut self, index: usize) {
        self.walk.state.xa_index = index as _;
        self.walk.reset();
    }

    /// Why storing has failed. C: `xas_error()`.
    #[inline]
    pub(crate) fn error(&self) -> Option<Error> {
        self.walk.error()
    }

    /// What is here. C: `xas_load()`.
    #[doc(alias = "xas_load")]
    #[inline]
    pub(crate) fn load(&mut self) -> Found {
        // SAFETY: A valid state, the array locked.
        Self::found(unsafe { bindings::xas_load(&mut self.walk.state) })
    }

    /// The first entry from here to `last`, included. C: `xas_find()`.
    #[doc(alias = "xas_find")]
    #[inline]
    pub(crate) fn find(&mut self, last: usize) -> Found {
        // SAFETY: A valid state, the array locked.
        Self::found(unsafe { bindings::xas_find(&mut self.walk.state, last as _) })
    }

    /// The first entry with the mark from here to `last`, included. C: `xas_find_marked()`.
    #[doc(alias = "xas_find_marked")]
    #[inline]
    pub(crate) fn find_marked(&mut self, last: usize, mark: Mark) -> Found {
        // SAFETY: A valid state, the array locked.
        Self::found(unsafe {
            bindings::xas_find_marked(&mut self.walk.state, last as _, mark.as_raw())
        })
    }

    /// The first entry of any size that has a page of the one that the walk is for. C:
    /// `xas_find_conflict()`. Only before anything else was looked for, or after [`set`](Self::set).
    #[doc(alias = "xas_find_conflict")]
    #[inline]
    pub(crate) fn find_conflict(&mut self) -> Found {
        // SAFETY: A valid state, the array locked.
        Self::found(unsafe { bindings::xas_find_conflict(&mut self.walk.state) })
    }

    /// Puts an entry of the size that the walk is for here. Returns what was there before; the walk
    /// has an [error](Walk::error) if there was no memory. C: `xas_store()`.
    #[doc(alias = "xas_store")]
    #[inline]
    pub(crate) fn store(&mut self, entry: Entry) -> Found {
        let word = entry.into_word() as *mut c_void;
        // SAFETY: A valid state, the array locked. An entry keeps the invariant of the mapping.
        Self::found(unsafe { bindings::xas_store(&mut self.walk.state, word) })
    }

    /// Removes what is here. C: `xas_store()` of `NULL`.
    #[inline]
    pub(crate) fn remove(&mut self) {
        // SAFETY: A valid state, the array locked. This needs no memory.
        unsafe { bindings::xas_store(&mut self.walk.state, null_mut()) };
    }

    /// Puts one entry in the place of another, here. Returns what was there before, and does
    /// nothing if that was no entry.
    ///
    /// Marks and counts of the array are about whether there is a number; so nothing changes but
    /// the word.
    #[inline]
    pub(crate) fn replace(&mut self, entry: Entry) -> Found {
        let old = self.load();
        if let Found::Entry(_) = old {
            let state = &self.walk.state;
            let slot = if state.xa_node.is_null() {
                // SAFETY: The array is initialised. It has one entry, at 0, in its head.
                unsafe { addr_of_mut!((*state.xa).xa_head) }
            } else {
                // SAFETY: An entry was found just now, under the lock: so this is a node, and the
                // offset is that of a slot.
                unsafe {
                    addr_of_mut!((*state.xa_node).slots)
                        .cast::<*mut c_void>()
                        .add(usize::from(state.xa_offset))
                }
            };
            // SAFETY: A slot is a word, which those who read without the lock read as a whole.
            unsafe { AtomicUsize::from_ptr(slot.cast()) }
                .store(entry.into_word(), Ordering::Release);
        }
        old
    }

    /// Puts what it was [prepared for](Walk::prepare_split) into every place of the huge entry here.
    /// Marks stay. C: `xas_split()`.
    #[doc(alias = "xas_split")]
    pub(crate) fn split(&mut self) {
        if self.walk.state.xa_alloc.is_null() {
            return;
        }
        // What is in the nodes is there already; this only has to be a number, as an entry is.
        let word = Entry::empty(Size::Page).into_word() as *mut c_void;
        // SAFETY: A valid state, the array locked, and nodes to split into.
        unsafe { bindings::xas_split(&mut self.walk.state, word, Size::Huge.order()) };
    }

    /// Whether the entry here has the mark. C: `xas_get_mark()`.
    #[doc(alias = "xas_get_mark")]
    #[inline]
    pub(crate) fn has(&self, mark: Mark) -> bool {
        // SAFETY: A valid state, the array locked.
        unsafe { bindings::xas_get_mark(&self.walk.state, mark.as_raw()) }
    }

    /// Marks the entry here. C: `xas_set_mark()`.
    #[doc(alias = "xas_set_mark")]
    #[inline]
    pub(crate) fn mark(&mut self, mark: Mark) {
        // SAFETY: A valid state, the array locked.
        unsafe { bindings::xas_set_mark(&self.walk.state, mark.as_raw()) };
    }

    /// Takes the mark off the entry here. C: `xas_clear_mark()`.
    #[doc(alias = "xas_clear_mark")]
    #[inline]
    pub(crate) fn unmark(&mut self, mark: Mark) {
        // SAFETY: A valid state, the array locked.
        unsafe { bindings::xas_clear_mark(&self.walk.state, mark.as_raw()) };
    }

    /// The pages of an entry of this size have been added to the mapping.
    #[inline]
    pub(crate) fn add_pages(&mut self, size: Size) {
        self.change_pages(size.pages());
    }

    /// The pages of an entry of this size have been removed from the mapping.
    #[inline]
    pub(crate) fn remove_pages(&mut self, size: Size) {
        self.change_pages(size.pages().wrapping_neg());
    }

    #[inline]
    fn change_pages(&mut self, by: usize) {
        let pages = self.walk.mapping.nrpages();
        // SAFETY: The count is there, and is changed under the lock only. Volatile, for others read
        // it without.
        unsafe { pages.write_volatile(pages.read().wrapping_add(by as _)) };
    }

    /// Wakes who waits for the entry here. C: `dax_wake_entry()`.
    #[inline]
    pub(crate) fn wake(&self, entry: Entry, whom: Wake) {
        self.walk.wake(entry, whom);
    }

    /// Sleeps until the entry here, which is locked, is unlocked, in turn with others who want to
    /// lock it; the entries are not locked meanwhile. Then the walk is at the same index, and
    /// whatever is there now is to be looked for.
    ///
    /// Whoever has waited this way has to lock the entry that he finds, or to
    /// [wake](Self::wake) the next.
    #[cold]
    pub(crate) fn wait(&mut self, entry: Entry) {
        let array = self.walk.state.xa;
        self.walk.reset();
        wait::sleep(
            Key::new(self.walk.mapping, self.walk.index(), entry),
            How::Exclusive,
            // SAFETY: By the invariant it is locked, and it is locked again below.
            || unsafe { bindings::xa_unlock_irq(array) },
        );
        lock(array);
    }

    /// Unlocks the entries and sleeps until the entry here, which is locked, is unlocked. The
    /// mapping may be gone then, unless the caller keeps it; so the one that the walk borrows is not
    /// looked at after it was unlocked.
    #[cold]
    pub(crate) fn wait_and_leave(self, entry: Entry) {
        let this = core::mem::ManuallyDrop::new(self);
        let array = this.walk.state.xa;
        wait::sleep(
            Key::new(this.walk.mapping, this.walk.index(), entry),
            How::Shared,
            // SAFETY: By the invariant it is locked, and is not unlocked again: it is not dropped.
            || unsafe { bindings::xa_unlock_irq(array) },
        );
    }

    /// Unlocks the entries for the time that `work` takes, which may sleep. The walk is at the same
    /// index after it, and whatever is there then is to be looked for.
    #[inline]
    pub(crate) fn unlocked<R>(&mut self, work: impl FnOnce(&DaxMapping) -> R) -> R {
        let array = self.walk.state.xa;
        self.walk.reset();
        // SAFETY: By the invariant it is locked, and it is locked again below.
        unsafe { bindings::xa_unlock_irq(array) };
        let result = work(self.walk.mapping);
        lock(array);
        result
    }

    /// Lets others have the lock and the CPU in the middle of a scan, which goes on behind this
    /// entry. C: `xas_pause()`, `cond_resched()`.
    #[doc(alias = "xas_pause")]
    #[cold]
    pub(crate) fn pause(&mut self) {
        let array = self.walk.state.xa;
        // SAFETY: A valid state, the array locked.
        unsafe { bindings::xas_pause(&mut self.walk.state) };
        // SAFETY: By the invariant it is locked, and it is locked again below.
        unsafe { bindings::xa_unlock_irq(array) };
        // SAFETY: Nothing that forbids to sleep is held.
        unsafe { bindings::cond_resched() };
        lock(array);
    }
}
