// SPDX-License-Identifier: GPL-2.0

//! Waiting until nobody has a page any more.
//!
//! | who has a page | how it is seen | what teardown does |
//! |---|---|---|
//! | who pinned it: I/O under way, a pipe, an RDMA device | its count is above 1 | waits |
//! | a file of a filesystem that is still mounted | it says whose it is | fs/dax takes it from the file |
//!
//! A file counts because its mapping looks at the page once more, to say that it is nobody's, when
//! the filesystem is unmounted or the file is truncated.
//!
//! A drained pgmap gets no new pins: who pins takes a live reference first, or looks at the count
//! with interrupts off, and what ended the count has waited for that. So its pages can only become
//! idle, and one pass over them is enough, which stops at each page that somebody has. It looks
//! again now and then, because not every way to put a page wakes who waits for it. Files lose all
//! that they have in a pass before, so that no pin of one page leaves others mapped.
//!
//! Nothing can be done to somebody's pin. Who waits may be killed; then a worker waits on
//! (`life/abandon.rs`). What it waits for is in the log after a second, then at growing intervals,
//! and in debugfs (`dev_pagemap/ranges`).

use super::{life::counts_pages, DevPagemap, MemoryType, ZoneDevicePage};
use crate::{
    bindings, pr_info, pr_warn, signal,
    sync::completion::Completion,
    time::{msecs_to_jiffies, Ktime, NSEC_PER_MSEC},
};
use core::{
    ptr::{eq, null_mut, NonNull},
    sync::atomic::{fence, AtomicPtr, AtomicUsize, Ordering},
};

/// After how many pages a pass lets others have the CPU.
const CHECK: usize = 4096;

/// The longest time between two looks at a page that is pinned, and at one of a file, in
/// milliseconds.
const LONGEST_PAUSE: u32 = 64;
const LONGEST_PAUSE_OF_FILE: u32 = 1024;

/// After how many pages whose files could not be helped the pass over files gives up: these are being
/// freed.
const FUTILE: u32 = 64;

/// After how many milliseconds the log is told first; each time after twice as long.
const FIRST_REPORT: u32 = 1000;

/// Waits until the last reference of a pgmap was put. Sleeps, and no signal ends that.
pub(super) fn wait_for_references(pgmap: &DevPagemap, done: &Completion) {
    let (since, mut pause) = (Ktime::ktime_get(), FIRST_REPORT);
    while !done.wait_for(msecs_to_jiffies(pause)) {
        pr_warn!(
            "memremap: unmapping {:?} waits since {} s for references to it\n",
            Ranges(pgmap),
            milliseconds_since(since) / 1000,
        );
        pause = pause.saturating_mul(2);
    }
}

fn milliseconds_since(time: Ktime) -> i64 {
    let now = Ktime::ktime_get().to_ns();
    now.saturating_sub(time.to_ns()) / NSEC_PER_MSEC
}

/// Waits until nobody has a page of this pgmap or, if it is `killable`, the task is killed.
/// Returns whether nobody has one. Sleeps.
///
/// # Safety
///
/// The ranges of the pgmap are mapped and stay so for the call. Nobody can get a reference to a
/// page who has none. The caller holds no lock of a filesystem.
pub(super) unsafe fn wait(pgmap: &DevPagemap, killable: bool) -> bool {
    // Pages that are allocated hold the pgmap itself.
    if counts_pages(pgmap) {
        return true;
    }
    let uses = Uses::of(pgmap);
    // SAFETY: The caller's promise, here and below.
    if unsafe { ZoneDevicePage::any(pgmap, |page| uses.who_has(page).is_some()) } {
        let mut futile = 0u32;
        // SAFETY: As above.
        unsafe {
            ZoneDevicePage::any(pgmap, |page| {
                if uses.by_files && page.has_mapping() && !revoke(page) {
                    futile = futile.saturating_add(1);
                }
                futile == FUTILE
            });
        }
        // SAFETY: As above.
        let mut waiting = unsafe { Waiting::begin(pgmap, uses) };
        // SAFETY: As above.
        waiting.is_abandoned = unsafe {
            ZoneDevicePage::any(pgmap, |page| {
                let mut is_killed = false;
                while let Some(who) = uses.who_has(page) {
                    if is_killed {
                        return true;
                    }
                    waiting.pause(page, who);
                    is_killed = killable && signal::is_fatal_pending();
                }
                false
            })
        };
        if waiting.is_abandoned {
            return false;
        }
    }
    // Whatever was done to a page before it was given back is done.
    fence(Ordering::Acquire);
    true
}

/// Takes from files what they have of this page's pgmap, on the filesystem that has the page.
/// Returns whether there was something. Sleeps.
///
/// # Safety
///
/// The pgmap is mapped. The caller holds no lock of a filesystem.
unsafe fn revoke(_page: ZoneDevicePage<'_>) -> bool {
    #[cfg(CONFIG_RUST_FS_DAX)]
    // SAFETY: The caller's promise.
    return unsafe { bindings::dax_revoke_pages(_page.as_raw()) };
    #[cfg(not(CONFIG_RUST_FS_DAX))]
    false
}

/// How many pages of a pgmap its teardown has last seen that somebody had, if it waits for any; of
/// compound pages all of each that somebody has a page of.
pub fn busy_pages(pgmap: &DevPagemap) -> Option<usize> {
    let place = PLACES.iter().find(|place| place.is_of(pgmap))?;
    match place.pages.load(Ordering::Relaxed) {
        0 => None,
        pages => Some(pages),
    }
}

/// Who has a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Somebody who has it pinned, or is just giving it back.
    Pinner,
    /// A file, or several.
    File,
}

/// How the use of pages of a pgmap is seen.
#[derive(Clone, Copy)]
struct Uses {
    /// They say whose file they belong to. (The mapping of device-dax is named by its pages as well,
    /// and looks at none of them.)
    by_files: bool,
    /// The owner takes them back: the count is 0 for that time, and who gave the page up sets it
    /// to 1 after that.
    taken_back: bool,
}

impl Uses {
    fn of(pgmap: &DevPagemap) -> Self {
        let is_fsdax = pgmap.memory_type() == Some(MemoryType::FsDax);
        Self {
            by_files: cfg!(CONFIG_RUST_FS_DAX) && is_fsdax,
            taken_back: pgmap.operations().frees_pages && !is_fsdax,
        }
    }

    #[inline]
    fn who_has(self, page: ZoneDevicePage<'_>) -> Option<Who> {
        let count = page.ref_count();
        if count > 1 || (self.taken_back && count == 0) {
            Some(Who::Pinner)
        } else if self.by_files && page.has_mapping() {
            Some(Who::File)
        } else {
            None
        }
    }
}

/// A teardown that waits.
///
/// # Invariants
///
/// The ranges of the pgmap are mapped as long as the value is there. Who has it holds no lock of a
/// filesystem.
struct Waiting<'m> {
    pgmap: &'m DevPagemap,
    uses: Uses,
    place: Option<&'static Place>,
    since: Ktime,
    /// The time until the next look, in milliseconds.
    pause: u32,
    /// When the log is told next, in milliseconds of waiting.
    report: i64,
    /// Who waited was killed.
    is_abandoned: bool,
}

impl<'m> Waiting<'m> {
    /// # Safety
    ///
    /// As the invariants say.
    unsafe fn begin(pgmap: &'m DevPagemap, uses: Uses) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            pgmap,
            uses,
            place: PLACES.iter().find(|place| place.take(pgmap)),
            since: Ktime::ktime_get(),
            pause: 1,
            report: FIRST_REPORT.into(),
            is_abandoned: false,
        }
    }

    /// Does what can be done for a page that somebody has. Sleeps for a moment.
    fn pause(&mut self, page: ZoneDevicePage<'_>, who: Who) {
        let longest = match who {
            Who::Pinner => LONGEST_PAUSE,
            Who::File => {
                // SAFETY: By the invariant.
                unsafe { revoke(page) };
                LONGEST_PAUSE_OF_FILE
            }
        };
        // SAFETY: Teardown may sleep.
        unsafe { bindings::schedule_timeout_idle(msecs_to_jiffies(self.pause) as _) };
        self.pause = longest.min(self.pause.saturating_mul(2));
        let waited = milliseconds_since(self.since);
        if waited >= self.report {
            self.report = waited.saturating_mul(2);
            self.tell(waited);
        }
    }

    /// Tells the log what it waits for.
    #[cold]
    fn tell(&self, waited: i64) {
        let unit = 1usize.checked_shl(self.pgmap.vmemmap_shift()).unwrap_or(1);
        let (mut pinned, mut of_files, mut first) = (0usize, 0usize, None);
        let count = |page: ZoneDevicePage<'_>| {
            let count = match self.uses.who_has(page) {
                Some(Who::Pinner) => &mut pinned,
                Some(Who::File) => &mut of_files,
                None => return false,
            };
            *count = count.saturating_add(unit);
            first = first.or(page.pfn().phys());
            false
        };
        // SAFETY: By the invariant.
        unsafe { ZoneDevicePage::any(self.pgmap, count) };
        pr_warn!(
            "memremap: unmapping {:?} waits since {} s for {} pinned pages and {} of files, the first at {:#x}\n",
            Ranges(self.pgmap),
            waited / 1000,
            pinned,
            of_files,
            first.unwrap_or(0),
        );
        if let Some(place) = self.place {
            let pages = pinned.saturating_add(of_files);
            place.pages.store(pages, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_abandoned || self.report > FIRST_REPORT.into() {
            pr_info!(
                "memremap: unmapping {:?} goes on after {} s{}\n",
                Ranges(self.pgmap),
                milliseconds_since(self.since) / 1000,
                if self.is_abandoned {
                    ", by itself, because who waited was killed"
                } else {
                    ""
                },
            );
        }
        if let Some(place) = self.place {
            place.pages.store(0, Ordering::Relaxed);
            place.pgmap.store(null_mut(), Ordering::Relaxed);
        }
    }
}

/// The ranges of a pgmap, for a message.
pub(super) struct Ranges<'m>(pub(super) &'m DevPagemap);

impl core::fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut separator = "";
        for range in self.0.ranges() {
            write!(f, "{separator}{range:?}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// A teardown that waits, for who asks. Of one that finds no free place only the log tells.
struct Place {
    /// Null if the place is free. Only ever compared.
    pgmap: AtomicPtr<bindings::dev_pagemap>,
    /// How many pages it was seen to wait for.
    pages: AtomicUsize,
}

static PLACES: [Place; 16] = {
    // Only ever copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: Place = Place {
        pgmap: AtomicPtr::new(null_mut()),
        pages: AtomicUsize::new(0),
    };
    [FREE; 16]
};

impl Place {
    fn is_of(&self, pgmap: &DevPagemap) -> bool {
        eq(self.pgmap.load(Ordering::Relaxed), pgmap.as_raw())
    }

    fn take(&self, pgmap: &DevPagemap) -> bool {
        let (free, taken) = (null_mut(), pgmap.as_raw());
        self.pgmap
            .compare_exchange(free, taken, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

impl<'a> ZoneDevicePage<'a> {
    /// Whether this holds for a page of a pgmap, of those that have a count of their own: each
    /// page, or the first of each compound page. They are asked one after the other until one says
    /// yes. Sleeps between some of them.
    ///
    /// # Safety
    ///
    /// All ranges of the pgmap that are mapped stay so during `'a`.
    // All memory of a device goes through this loop when it is unbound.
    #[inline(always)]
    pub(super) unsafe fn any(pgmap: &'a DevPagemap, mut holds: impl FnMut(Self) -> bool) -> bool {
        let step = 1usize.checked_shl(pgmap.vmemmap_shift()).unwrap_or(0);
        for index in 0..pgmap.nr_ranges() {
            let Some(range) = pgmap.range(index) else {
                continue;
            };
            let Some(first) = pgmap.first_pfn(index, range) else {
                continue;
            };
            let mut left = pgmap.nr_units(index, range).unwrap_or(0);
            // SAFETY: By the caller's promise the range has a memmap.
            let mut page = unsafe { bindings::pfn_to_page(first.nr()) };
            while left != 0 {
                let now = left.min(CHECK);
                for _ in 0..now {
                    // SAFETY: One of the range, which has a memmap during `'a`; that is one array
                    // (SPARSEMEM_VMEMMAP) with an element for each.
                    if holds(unsafe { Self::from_raw(NonNull::new_unchecked(page)) }) {
                        return true;
                    }
                    page = page.wrapping_add(step);
                }
                left = left.wrapping_sub(now);
                // SAFETY: The caller's caller may sleep.
                unsafe { bindings::cond_resched() };
            }
        }
        false
    }
}
