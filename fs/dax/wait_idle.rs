// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Waiting until the pages of a file are not pinned, before the file loses blocks ("breaking
//! layouts").
//!
//! The task that waits has no reference to the page, and the device may be unbound meanwhile. What
//! it may do with the page depends on `invalidate_lock` of the file:
//!
//! | the task | may read the page | because |
//! |---|---|---|
//! | holds the lock, and has found the page | yes | the file has an entry for it, and only a holder of the lock removes it |
//! | sleeps | no | the pages may be [revoked](crate::revoke), and teardown may remove the memmap |
//! | holds the lock again | no | it starts from scratch, and looks for a busy page |
//!
//! A [`BusyPage`] borrows the lock, so releasing the lock ends its use. What is left for the sleep
//! is a [`Waiter`], which knows the page by its address only: a key that is compared and never
//! dereferenced. So a pgmap can be torn down while tasks wait for its pages, whenever they get the
//! CPU again, and teardown need not know them.
//!
//! In C the filesystems sleep in `___wait_var_event()`, which reads the count of the page again
//! after it has slept.
//!
//! # Wake-ups
//!
//! | event | wakes |
//! |---|---|
//! | the last reference is put | by `put_page()` and GUP; `folio_put()` wakes nothing |
//! | the page is revoked | yes: the file does not have it any more |
//! | a second has passed | yes, in case that a reference was put by `folio_put()` |
//!
//! This file encapsulates the wait queue of a page, and a task in it.

use crate::{
    evicted_pins, invalidate,
    owner::{FilePage, RefcountKey},
};
use core::marker::PhantomPinned;
use kernel::{
    bindings,
    error::{to_result, Result},
    fs::address_space::InvalidateLock,
    init::PinInit,
    prelude::*,
    types::Opaque,
};

/// Waits until none of the pages from `first` to `last`, inclusive, is pinned. Sleeps; releases
/// `invalidate_lock` meanwhile. The pages are unmapped, and stay so while the lock is held after
/// that.
///
/// # Errors
///
/// `ERESTARTSYS` if a signal is pending while a page is pinned.
pub(crate) fn break_layout(lock: &mut InvalidateLock<'_>, first: usize, last: usize) -> Result {
    loop {
        while let Some(page) = BusyPage::find(lock, first, last) {
            kernel::stack_pin_init!(let waiter = Waiter::new(page.page.refcount_key()));
            waiter.as_mut().enter()?;
            // The page may have become idle before the waiter was in the queue.
            if page.page.is_busy() {
                lock.while_unlocked(sleep);
            }
        }
        // A pin may be older than the inode.
        let Some(busy) = evicted_pins::busy_pages(lock.mapping().inode(), first, last) else {
            return Ok(());
        };
        kernel::stack_pin_init!(let waiter = Waiter::new(busy.key));
        waiter.as_mut().enter()?;
        // If the page has become idle before this, the sleep ends after a second.
        lock.while_unlocked(sleep);
    }
}

/// A page of a file that was pinned when it was found.
///
/// # Invariants
///
/// `invalidate_lock` of the file is held during `'l`, so the file keeps its entry for the page.
struct BusyPage<'l> {
    page: FilePage<'l>,
}

impl<'l> BusyPage<'l> {
    /// Unmaps the pages from `first` to `last`, inclusive, and finds the first one that is pinned.
    /// Sleeps.
    fn find(lock: &'l InvalidateLock<'_>, first: usize, last: usize) -> Option<Self> {
        invalidate::busy_page(lock.mapping(), first, last).map(|page| {
            // SAFETY: The page was found while the lock was held, which is borrowed for `'l` and
            // excludes that the entry is removed.
            let page = unsafe { FilePage::from_raw(page) };
            // INVARIANT: `lock` is borrowed for `'l`.
            Self { page }
        })
    }
}

/// The task in the queue of those that wait for a page. Dropping it leaves the queue. C:
/// `___wait_var_event()`.
///
/// # Invariants
///
/// `entry` is initialised, and is in no queue but `queue`, which is never freed.
#[doc(alias = "___wait_var_event")]
#[pin_data(PinnedDrop)]
struct Waiter {
    queue: *mut bindings::wait_queue_head,
    #[pin]
    entry: Opaque<bindings::wait_bit_queue_entry>,
    #[pin]
    _pin: PhantomPinned,
}

impl Waiter {
    /// Creates a waiter for the page with this key, which is not in the queue yet.
    fn new(key: RefcountKey) -> impl PinInit<Self> {
        // INVARIANT: `init_wait_var_entry` initialises the entry, which is in no queue then. The
        // queue is an element of a static table.
        pin_init!(Self {
            // SAFETY: The function only computes with the address.
            queue: unsafe { bindings::__var_waitqueue(key.as_ptr()) },
            // SAFETY: `slot` is valid for writes, and the key is only stored.
            entry <- unsafe {
                Opaque::ffi_init(move |slot| {
                    bindings::init_wait_var_entry(slot, key.as_ptr(), 0)
                })
            },
            _pin: PhantomPinned,
        })
    }

    /// Enters the queue: from now on a wake-up ends a [`sleep`], or prevents it.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` if a signal is pending; the waiter is not in the queue then.
    fn enter(self: Pin<&mut Self>) -> Result {
        let interrupted = {
            // SAFETY: By the type invariants the queue is valid and the entry is initialised. The
            // value is pinned, and its drop removes the entry from the queue.
            unsafe {
                bindings::prepare_to_wait_event(
                    self.queue,
                    &raw mut (*self.entry.get()).wq_entry,
                    bindings::TASK_INTERRUPTIBLE as _,
                )
            }
        };
        // CAST: 0 or an errno.
        to_result(interrupted as _)
    }
}

#[pinned_drop]
impl PinnedDrop for Waiter {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the queue is valid, and the entry is in this queue or in
        // none.
        unsafe { bindings::finish_wait(self.queue, &raw mut (*self.entry.get()).wq_entry) };
    }
}

/// Sleeps until the task is woken, but for at most one second.
fn sleep() {
    // CAST: A small number.
    // SAFETY: The filesystem has released its lock, and holds only those with which a task may
    // sleep, as it does where it sleeps itself.
    unsafe { bindings::schedule_timeout(bindings::HZ as _) };
}
