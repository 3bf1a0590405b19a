// SPDX-License-Identifier: GPL-2.0

//! Waiting until no page of a pgmap is in use.
//!
//! | user of a page | seen by | what teardown does |
//! |---|---|---|
//! | the holder of a pin: I/O in progress, a pipe, an RDMA device | the count is above 1, or has overflowed | waits |
//! | a file of a mounted filesystem | `page->mapping` is set | fs/dax removes the page from the file |
//!
//! A file is a user because its inode accesses the page once more, to clear `page->mapping`, when
//! the filesystem is unmounted or the file is truncated.
//!
//! A task that waits until a page is idle, before it truncates a file, is no user: it reads the
//! page only while its file has an entry for it, and sleeps on the address as a mere key
//! (`fs/dax/wait_idle.rs`). Revoking the entry wakes the task, which then finds that its file has
//! no such page any more.
//!
//! In a drained pgmap no page that is idle gets a pin: taking the first one needs a live reference,
//! or interrupts off while the count is seen alive, and the drain has waited for both. So pages can
//! only become idle, and one pass over them is enough, which stops at each page in use. It checks
//! that page again at intervals, because a page may also be put in ways that wake no waiter. An
//! earlier pass revokes the pages of all files, so that a pin of one page does not leave others
//! mapped.
//!
//! A pin cannot be revoked. If the waiting task is killed, a worker takes over the wait
//! ([`detach`]). The reason for the wait is logged after a second, then at growing intervals, and
//! is shown in debugfs (`dev_pagemap/ranges`).
//!
//! C does not wait in 6.12.
//!
//! The `unsafe` code in this file encapsulates the passes over the memmap and the sleep between
//! them.
//!
//! [`detach`]: crate::detach

#[cfg(CONFIG_RUST_DEV_PAGEMAP_RECORDER)]
use crate::takers::FirstTakers;
use crate::{
    page::{any_page, BlockBits},
    state::counts_pages,
};
use core::{
    fmt,
    ptr::{eq, null_mut},
    sync::atomic::{fence, AtomicPtr, AtomicUsize, Ordering},
};
use kernel::{
    bindings,
    mm::memremap::{revoke_hook, DevPagemap, MemoryType, RevokeHook, ZoneDevicePage},
    pr_info, pr_warn, signal,
    sync::completion::Completion,
    time::{msecs_to_jiffies, Ktime, NSEC_PER_MSEC},
};

/// The longest pause before a pinned page is checked again, in milliseconds.
const MAX_PAUSE: u32 = 64;

/// The longest pause before a page of a file is checked again, in milliseconds.
const MAX_PAUSE_OF_FILE: u32 = 1024;

/// The number of pages for which revoking may fail before the pass over files ends: these files are
/// being freed.
const MAX_FAILED_REVOKES: u32 = 64;

/// The time after which a wait is first reported, in milliseconds; each further report comes after
/// twice the time.
const FIRST_REPORT: u32 = 1000;

/// Waits until the last reference of a killed pgmap is put. Sleeps; signals do not end the wait.
pub(crate) fn wait_for_references(pgmap: &DevPagemap, done: &Completion) {
    let (since, mut pause) = (Ktime::ktime_get(), FIRST_REPORT);
    while !done.wait_for_completion_timeout(msecs_to_jiffies(pause)) {
        pr_warn!(
            "{:?}: waiting for references ({} s)\n",
            Ranges(pgmap),
            milliseconds_since(since) / 1000,
        );
        pause = pause.saturating_mul(2);
    }
}

/// Returns the milliseconds that have passed since `time`.
fn milliseconds_since(time: Ktime) -> i64 {
    let now = Ktime::ktime_get().to_ns();
    now.saturating_sub(time.to_ns()) / NSEC_PER_MSEC
}

/// Waits until no page of this pgmap is in use or, if `killable`, the task is killed. Returns
/// whether no page is in use. Sleeps.
///
/// # Safety
///
/// The ranges of the pgmap that are mapped must stay mapped for the call, and no task may be able
/// to take the first reference to one of its pages. The caller must not hold a lock of a
/// filesystem.
pub(crate) unsafe fn wait(pgmap: &DevPagemap, killable: bool) -> bool {
    // Allocated pages hold references to the pgmap itself, which is drained.
    if counts_pages(pgmap) {
        return true;
    }
    let check = UseCheck::new(pgmap);
    // SAFETY: The caller promises that the ranges stay mapped.
    if unsafe { is_used(pgmap, check) } {
        if let Some(revoke) = check.revoke {
            let mut failed = 0u32;
            // SAFETY: The caller promises that the ranges stay mapped.
            unsafe {
                any_page(
                    pgmap,
                    |bits| bits.mappings != 0,
                    |page| {
                        if page.has_mapping() && !revoke(page) {
                            failed = failed.saturating_add(1);
                        }
                        failed == MAX_FAILED_REVOKES
                    },
                )
            };
        }
        // SAFETY: The caller promises that the ranges stay mapped, longer than this value exists.
        let mut wait = unsafe { Wait::begin(pgmap, check) };
        // SAFETY: The caller promises that the ranges stay mapped.
        wait.is_killed = unsafe {
            any_page(
                pgmap,
                move |bits| check.may_be_used(bits),
                |page| {
                    let mut is_killed = false;
                    while let Some(user) = check.user_of(page) {
                        if is_killed {
                            return true;
                        }
                        wait.pause(page, user);
                        is_killed = killable && signal::is_fatal_pending();
                    }
                    false
                },
            )
        };
        if wait.is_killed {
            return false;
        }
    }
    // All accesses of a page by its last user come before its memory is removed.
    fence(Ordering::Acquire);
    true
}

/// Returns whether a page of this pgmap is in use. Sleeps.
///
/// # Safety
///
/// The ranges of the pgmap that are mapped must stay mapped for the call.
pub(crate) unsafe fn is_used(pgmap: &DevPagemap, check: UseCheck) -> bool {
    // SAFETY: The caller promises that the ranges stay mapped.
    unsafe {
        any_page(
            pgmap,
            move |bits| check.may_be_used(bits),
            |page| check.user_of(page).is_some(),
        )
    }
}

/// Returns how many pages the teardown of a pgmap waits for, as last reported, or `None` if it does
/// not wait. A compound page counts with all its pages if one of them is in use.
pub(crate) fn busy_pages(pgmap: &DevPagemap) -> Option<usize> {
    let slot = SLOTS.iter().find(|slot| slot.is_of(pgmap))?;
    match slot.pages.load(Ordering::Relaxed) {
        0 => None,
        pages => Some(pages),
    }
}

/// A user of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum User {
    /// The holder of a pin, or an owner that is just freeing the page.
    Pinner,
    /// One file or several.
    File,
}

/// The way to tell whether a page of a pgmap is in use.
#[derive(Clone, Copy)]
pub(crate) struct UseCheck {
    /// Set if pages name their files, and fs/dax can remove them from these. (The pages of
    /// device-dax name a mapping as well, which never accesses them.)
    revoke: Option<RevokeHook>,
    /// Set if the owner frees pages: their count is 0 meanwhile, and 1 after that.
    is_freed_by_owner: bool,
}

impl UseCheck {
    /// Creates the check for the pages of this pgmap.
    pub(crate) fn new(pgmap: &DevPagemap) -> Self {
        let is_fsdax = pgmap.memory_type() == Some(MemoryType::FsDax);
        Self {
            revoke: revoke_hook().filter(|_| is_fsdax),
            is_freed_by_owner: pgmap.operations().frees_pages && !is_fsdax,
        }
    }

    /// Returns whether a page of a block may be in use.
    #[inline(always)]
    fn may_be_used(self, bits: BlockBits) -> bool {
        // Without branches, because this decides about all pages of a device.
        (bits.counts > 1) | self.is_freed_by_owner | (self.revoke.is_some() & (bits.mappings != 0))
    }

    /// Returns the user of a page, or `None` if the page is idle.
    #[inline]
    fn user_of(self, page: ZoneDevicePage<'_>) -> Option<User> {
        // CAST: A count that has overflowed is negative, and such a page has many users.
        let count = page.ref_count() as u32;
        if count > 1 || (self.is_freed_by_owner && count == 0) {
            Some(User::Pinner)
        } else if self.revoke.is_some() && page.has_mapping() {
            Some(User::File)
        } else {
            None
        }
    }
}

/// A teardown that waits for pages.
///
/// # Invariants
///
/// The mapped ranges of the pgmap stay mapped while the value exists.
struct Wait<'m> {
    pgmap: &'m DevPagemap,
    check: UseCheck,
    slot: Option<&'static Slot>,
    since: Ktime,
    /// The pause before the next check, in milliseconds.
    pause: u32,
    /// The waiting time at which the next report is due, in milliseconds.
    next_report: i64,
    /// Set if the waiting task was killed.
    is_killed: bool,
}

impl<'m> Wait<'m> {
    /// Begins a wait.
    ///
    /// # Safety
    ///
    /// The mapped ranges of the pgmap must stay mapped while the value exists.
    unsafe fn begin(pgmap: &'m DevPagemap, check: UseCheck) -> Self {
        // INVARIANT: The caller promises that the ranges stay mapped.
        Self {
            pgmap,
            check,
            slot: SLOTS.iter().find(|slot| slot.try_claim(pgmap)),
            since: Ktime::ktime_get(),
            pause: 1,
            next_report: FIRST_REPORT.into(),
            is_killed: false,
        }
    }

    /// Revokes a page of a file, and sleeps before the page is checked again.
    fn pause(&mut self, page: ZoneDevicePage<'_>, user: User) {
        let longest = match user {
            User::Pinner => MAX_PAUSE,
            User::File => {
                if let Some(revoke) = self.check.revoke {
                    revoke(page);
                }
                MAX_PAUSE_OF_FILE
            }
        };
        // SAFETY: Teardown runs in process context and holds no spinlock, so it may sleep.
        unsafe { bindings::schedule_timeout_idle(msecs_to_jiffies(self.pause) as _) };
        self.pause = longest.min(self.pause.saturating_mul(2));
        let waited = milliseconds_since(self.since);
        if waited >= self.next_report {
            self.next_report = waited.saturating_mul(2);
            self.report(waited);
        }
    }

    /// Logs what the teardown waits for, and publishes it for debugfs.
    #[cold]
    fn report(&self, waited: i64) {
        let check = self.check;
        let (mut pinned, mut of_files, mut first) = (0usize, 0usize, None);
        let mut takers = FirstTakers::default();
        let count = |page: ZoneDevicePage<'_>| {
            let count = match check.user_of(page) {
                Some(User::Pinner) => {
                    takers.add(page);
                    &mut pinned
                }
                Some(User::File) => &mut of_files,
                None => return false,
            };
            *count = count.saturating_add(page.nr_pages());
            first = first.or(page.pfn().phys());
            false
        };
        // SAFETY: By the type invariants the mapped ranges stay mapped during this call.
        unsafe { any_page(self.pgmap, move |bits| check.may_be_used(bits), count) };
        pr_warn!(
            "{:?}: waiting for {} pinned pages, {} file pages ({} s), first at {:#x}{}\n",
            Ranges(self.pgmap),
            pinned,
            of_files,
            waited / 1000,
            first.unwrap_or(0),
            takers,
        );
        if let Some(slot) = self.slot {
            let pages = pinned.saturating_add(of_files);
            slot.pages.store(pages, Ordering::Relaxed);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let (ranges, waited) = (Ranges(self.pgmap), milliseconds_since(self.since) / 1000);
        if self.is_killed {
            pr_info!(
                "{:?}: waiter killed after {} s, teardown continues in the background\n",
                ranges,
                waited
            );
        } else if self.next_report > FIRST_REPORT.into() {
            pr_info!(
                "{:?}: no page in use after {} s, teardown continues\n",
                ranges,
                waited
            );
        }
        if let Some(slot) = self.slot {
            slot.release();
        }
    }
}

/// The tasks that a message names: none without the recorder.
#[cfg(not(CONFIG_RUST_DEV_PAGEMAP_RECORDER))]
#[derive(Default)]
struct FirstTakers(());

#[cfg(not(CONFIG_RUST_DEV_PAGEMAP_RECORDER))]
impl FirstTakers {
    fn add(&mut self, _page: ZoneDevicePage<'_>) {}
}

#[cfg(not(CONFIG_RUST_DEV_PAGEMAP_RECORDER))]
impl fmt::Display for FirstTakers {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// The ranges of a pgmap, formatted for a message.
pub(crate) struct Ranges<'m>(pub(crate) &'m DevPagemap);

impl fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for range in self.0.ranges() {
            write!(f, "{separator}{range:?}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// The state of one waiting teardown, for debugfs.
///
/// `struct dev_pagemap`, which C defines, has no field for it. There are few teardowns at a time:
/// one that finds no free slot is reported in the log only.
struct Slot {
    /// The pgmap, or null if the slot is free. Only compared, not dereferenced.
    pgmap: AtomicPtr<bindings::dev_pagemap>,
    /// The number of pages in use, as last reported.
    pages: AtomicUsize,
}

static SLOTS: [Slot; 16] = {
    // The constant is only copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: Slot = Slot {
        pgmap: AtomicPtr::new(null_mut()),
        pages: AtomicUsize::new(0),
    };
    [FREE; 16]
};

impl Slot {
    /// Returns whether the slot belongs to this pgmap.
    fn is_of(&self, pgmap: &DevPagemap) -> bool {
        eq(self.pgmap.load(Ordering::Relaxed), pgmap.as_raw())
    }

    /// Claims the slot for a pgmap. Returns whether it was free.
    fn try_claim(&self, pgmap: &DevPagemap) -> bool {
        let (free, claimed) = (null_mut(), pgmap.as_raw());
        self.pgmap
            .compare_exchange(free, claimed, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Frees the slot.
    fn release(&self) {
        self.pages.store(0, Ordering::Relaxed);
        self.pgmap.store(null_mut(), Ordering::Relaxed);
    }
}
