// SPDX-License-Identifier: GPL-2.0

//! Waiting for a locked entry.
//!
//! There is no room for a wait queue in an entry, so there is one table of queues for all, as for
//! pages. The key is the mapping and the index; that of a huge entry is aligned, so that whoever
//! waits for any page of it is found.
//!
//! Who wants to lock the entry waits *exclusively*: one of these is woken when it is unlocked, and
//! has to wake the next, whether he locks the entry or not. Who only wants to see it unlocked and
//! looks for it again from scratch waits *shared*: he may never come back to the queue, so he must
//! not be the one that a wake-up is spent on. When an entry goes, or changes its size, all are
//! woken, for the next may be waiting for nothing, or in another queue.
//!
//! That somebody waits is written down before the lock of the entries is dropped under which the
//! entry was seen locked, and whoever unlocks it takes that lock. So nobody is missed.

use crate::{entry::Entry, mapping::DaxMapping};
use core::{
    cell::UnsafeCell,
    ffi::{c_int, c_uint, c_void},
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut, eq},
};
use kernel::bindings;

const BITS: u32 = 12;
const QUEUES: usize = 1 << BITS;

/// The queues.
///
/// # Invariants
///
/// Initialised by [`init`] before the first filesystem is mounted; C's own locks after that.
struct Table(UnsafeCell<MaybeUninit<[bindings::wait_queue_head; QUEUES]>>);

// SAFETY: Each queue has its lock.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(MaybeUninit::uninit()));

impl Table {
    #[inline]
    fn queue(&self, number: usize) -> *mut bindings::wait_queue_head {
        let first = self.0.get().cast::<bindings::wait_queue_head>();
        first.wrapping_add(number % QUEUES)
    }
}

/// Prepares the queues. C: `init_waitqueue_head()`.
///
/// # Safety
///
/// To be called once, at boot, before the first filesystem is mounted.
pub(crate) unsafe fn init() {
    for number in 0..QUEUES {
        // SAFETY: A place for a queue that by the caller's promise nobody uses yet.
        unsafe { bindings::dax_wait_queue_init(TABLE.queue(number)) };
    }
}

/// Whose queue it is.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    array: *const bindings::xarray,
    index: usize,
}

impl Key {
    #[inline]
    pub(crate) fn new(mapping: &DaxMapping, index: usize, entry: Entry) -> Self {
        Self {
            array: mapping.i_pages(),
            index: entry.size().align(index),
        }
    }

    /// C: `hash_long()`.
    #[inline]
    fn queue(&self) -> *mut bindings::wait_queue_head {
        const GOLDEN_RATIO: usize = bindings::GOLDEN_RATIO_64 as usize;
        let word = self.array as usize ^ self.index;
        TABLE.queue(word.wrapping_mul(GOLDEN_RATIO) >> (usize::BITS - BITS))
    }
}

/// Who waits.
///
/// `entry` comes first, so that its address is the value's.
#[repr(C)]
struct Waiter {
    entry: bindings::wait_queue_entry,
    key: Key,
}

/// How somebody waits: see the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Exclusive,
    Shared,
}

/// Sleeps until the entry is unlocked. `unlock` drops the lock of the entries; the mapping may be
/// gone as soon as it has.
#[cold]
#[inline(never)]
pub(crate) fn sleep(key: Key, how: How, unlock: impl FnOnce()) {
    let queue = key.queue();
    let mut waiter = Waiter {
        entry: bindings::wait_queue_entry::default(),
        key,
    };
    let wait = addr_of_mut!(waiter);
    // SAFETY: The value is ours, and stays where it is until it is out of the queue below.
    unsafe {
        bindings::init_wait_entry(addr_of_mut!((*wait).entry), 0);
        (*wait).entry.func = Some(woken);
    }
    // SAFETY: A queue of the table, and an initialised waiter.
    unsafe {
        let entry = addr_of_mut!((*wait).entry);
        let state = bindings::TASK_UNINTERRUPTIBLE as _;
        match how {
            How::Exclusive => {
                bindings::prepare_to_wait_exclusive(queue, entry, state);
            }
            How::Shared => bindings::prepare_to_wait(queue, entry, state),
        }
    };
    unlock();
    // SAFETY: Nothing that forbids to sleep is held any more.
    unsafe { bindings::schedule() };
    // SAFETY: As above.
    unsafe { bindings::finish_wait(queue, addr_of_mut!((*wait).entry)) };
}

/// Wakes a waiter if it is his entry that is unlocked.
///
/// # Safety
///
/// C calls it with a waiter of this kind, and the key that [`wake`] has given.
unsafe extern "C" fn woken(
    entry: *mut bindings::wait_queue_entry,
    mode: c_uint,
    flags: c_int,
    key: *mut c_void,
) -> c_int {
    // SAFETY: The first field of a waiter, who is in the queue; and the key of the wake-up.
    let (waiting, unlocked) = unsafe { (&(*entry.cast::<Waiter>()).key, &*key.cast::<Key>()) };
    if !eq(waiting.array, unlocked.array) || waiting.index != unlocked.index {
        return 0;
    }
    // SAFETY: The caller's promise.
    unsafe { bindings::autoremove_wake_function(entry, mode, flags, core::ptr::null_mut()) }
}

/// Who is woken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// All: the entry is gone, or has another size.
    All,
    /// One of those who want to lock it, and those who only wait for it to be unlocked.
    Next,
}

/// Wakes who waits for the entry. It may be gone from the mapping: what counts is its size.
///
/// Whoever has seen it locked is in the queue, because the entries were locked since.
#[inline]
pub(crate) fn wake(mapping: &DaxMapping, index: usize, entry: Entry, whom: Wake) {
    let mut key = Key::new(mapping, index, entry);
    let queue = key.queue();
    // SAFETY: A queue of the table. A volatile read, for it changes under a lock we do not hold.
    let first = unsafe { addr_of!((*queue).head.next).read_volatile() };
    // SAFETY: Only the address is taken.
    if !eq(first, unsafe { addr_of!((*queue).head) }) {
        wake_queue(queue, &mut key, whom);
    }
}

#[cold]
#[inline(never)]
fn wake_queue(queue: *mut bindings::wait_queue_head, key: &mut Key, whom: Wake) {
    let exclusive = match whom {
        Wake::All => 0,
        Wake::Next => 1,
    };
    let key: *mut Key = key;
    // SAFETY: A queue of the table, all of whose waiters take a key of this type.
    unsafe { bindings::__wake_up(queue, bindings::TASK_NORMAL, exclusive, key.cast()) };
}
