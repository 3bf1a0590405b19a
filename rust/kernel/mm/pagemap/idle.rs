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
//! A drained page map gets no new pins: who pins takes a live reference first. So its pages can only
//! become idle, and one pass over them is enough, which stops at each page that somebody has. It
//! looks again now and then, because not every way to put a page wakes who waits for it.
//!
//! Nothing can be done to somebody's pin, and a signal does not end the wait: the memory of the page
//! map is its driver's, who frees it next. What it waits for is in the log after a second, then at
//! growing intervals, and in debugfs (`dev_pagemap/ranges`).

use super::{life::counts_pages, DevicePage, MemoryType, Pagemap};
use crate::{
    bindings, pr_info, pr_warn,
    time::{ktime_ms_delta, msecs_to_jiffies, Ktime},
};
use core::{
    ptr::{eq, null_mut, NonNull},
    sync::atomic::{fence, AtomicPtr, AtomicUsize, Ordering},
};

/// After how many pages a pass lets others have the CPU.
const CHECK: usize = 4096;

/// The longest time between two looks at a page, in milliseconds.
const LONGEST_PAUSE: u32 = 64;

/// After how many milliseconds the log is told first; each time after twice as long.
const FIRST_REPORT: i64 = 1000;

/// Waits until nobody has a page of this page map. Sleeps, and no signal ends that.
///
/// # Safety
///
/// The ranges of the page map are mapped and stay so for the call. Nobody can get a reference to a
/// page who has none.
pub(super) unsafe fn wait(pagemap: &Pagemap) {
    // Pages that are allocated hold the page map itself.
    if counts_pages(pagemap) {
        return;
    }
    let mut waiting: Option<Waiting<'_>> = None;
    // SAFETY: The caller's promise.
    for page in unsafe { DevicePage::all(pagemap) } {
        while let Some(who) = Who::has(page) {
            waiting
                .get_or_insert_with(|| Waiting::begin(pagemap))
                .pause(who);
        }
    }
    // Whatever was done to a page before it was given back is done.
    fence(Ordering::Acquire);
}

/// Takes its pages from files.
fn revoke(_pagemap: &Pagemap) {
    // SAFETY: A page map that is mapped; who tears it down holds no lock of a filesystem.
    #[cfg(CONFIG_RUST_FS_DAX)]
    unsafe {
        bindings::dax_revoke_pagemap(_pagemap.as_raw())
    };
}

/// How many pages of a page map its teardown has last seen that somebody had, if it waits for any.
pub fn busy_pages(pagemap: &Pagemap) -> Option<usize> {
    let place = PLACES.iter().find(|place| place.is_of(pagemap))?;
    match place.pages.load(Ordering::Relaxed) {
        0 => None,
        pages => Some(pages),
    }
}

/// Who has a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Somebody who has it pinned.
    Pinner,
    /// A file, or several.
    File,
}

impl Who {
    #[inline]
    fn has(page: DevicePage<'_>) -> Option<Self> {
        if page.ref_count() > 1 {
            Some(Self::Pinner)
        } else if cfg!(CONFIG_RUST_FS_DAX)
            && page.has_mapping()
            && page.pagemap().memory_type() == Some(MemoryType::FsDax)
        {
            // The mapping of device-dax is named by its pages as well, and looks at none of them.
            Some(Self::File)
        } else {
            None
        }
    }
}

/// A teardown that waits.
struct Waiting<'m> {
    pagemap: &'m Pagemap,
    place: Option<&'static Place>,
    since: Ktime,
    /// The time until the next look, in milliseconds.
    pause: u32,
    /// When the log is told next, in milliseconds of waiting.
    report: i64,
}

impl<'m> Waiting<'m> {
    fn begin(pagemap: &'m Pagemap) -> Self {
        Self {
            pagemap,
            place: PLACES.iter().find(|place| place.take(pagemap)),
            since: Ktime::ktime_get(),
            pause: 1,
            report: FIRST_REPORT,
        }
    }

    /// Does what can be done for a page that somebody has. Sleeps for a moment.
    fn pause(&mut self, who: Who) {
        if who == Who::File {
            revoke(self.pagemap);
            if self.pause == 1 {
                // That was it, nearly always.
                self.pause = 2;
                return;
            }
        }
        // SAFETY: Teardown may sleep.
        unsafe { bindings::schedule_timeout_idle(msecs_to_jiffies(self.pause) as _) };
        self.pause = LONGEST_PAUSE.min(self.pause.saturating_mul(2));
        let waited = self.milliseconds();
        if waited >= self.report {
            self.report = waited.saturating_mul(2);
            self.tell(waited);
        }
    }

    fn milliseconds(&self) -> i64 {
        ktime_ms_delta(Ktime::ktime_get(), self.since)
    }

    /// Tells the log what it waits for.
    #[cold]
    fn tell(&self, waited: i64) {
        let (mut pinned, mut of_files, mut first) = (0usize, 0usize, None);
        // SAFETY: The ranges are mapped as long as this value is there.
        for page in unsafe { DevicePage::all(self.pagemap) } {
            let count = match Who::has(page) {
                Some(Who::Pinner) => &mut pinned,
                Some(Who::File) => &mut of_files,
                None => continue,
            };
            *count = count.saturating_add(1);
            first = first.or(page.pfn().phys());
        }
        if let Some(place) = self.place {
            let pages = pinned.saturating_add(of_files);
            place.pages.store(pages, Ordering::Relaxed);
        }
        pr_warn!(
            "pagemap: unmapping {:?} waits since {} s for {} pinned pages and {} of files, the first at {:#x}\n",
            Ranges(self.pagemap),
            waited / 1000,
            pinned,
            of_files,
            first.unwrap_or(0),
        );
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.report > FIRST_REPORT {
            pr_info!(
                "pagemap: unmapping {:?} goes on after {} s\n",
                Ranges(self.pagemap),
                self.milliseconds() / 1000,
            );
        }
        if let Some(place) = self.place {
            place.pages.store(0, Ordering::Relaxed);
            place.pagemap.store(null_mut(), Ordering::Relaxed);
        }
    }
}

/// The ranges of a page map, for a message.
struct Ranges<'m>(&'m Pagemap);

impl core::fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (n, range) in self.0.ranges().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{range:?}")?;
        }
        Ok(())
    }
}

/// A teardown that waits, for who asks. Of one that finds no free place only the log tells.
struct Place {
    /// Null if the place is free. Only ever compared.
    pagemap: AtomicPtr<bindings::dev_pagemap>,
    /// How many pages it was seen to wait for.
    pages: AtomicUsize,
}

static PLACES: [Place; 16] = {
    // Only ever copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: Place = Place {
        pagemap: AtomicPtr::new(null_mut()),
        pages: AtomicUsize::new(0),
    };
    [FREE; 16]
};

impl Place {
    fn is_of(&self, pagemap: &Pagemap) -> bool {
        eq(self.pagemap.load(Ordering::Relaxed), pagemap.as_raw())
    }

    fn take(&self, pagemap: &Pagemap) -> bool {
        let (free, taken) = (null_mut(), pagemap.as_raw());
        self.pagemap
            .compare_exchange(free, taken, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

impl<'a> DevicePage<'a> {
    /// The pages of a page map that have a count of their own: each page, or the first of each
    /// compound page. Sleeps between some of them.
    ///
    /// # Safety
    ///
    /// All ranges of the page map that are mapped stay so during `'a`.
    unsafe fn all(pagemap: &'a Pagemap) -> impl Iterator<Item = Self> {
        let step = 1usize.checked_shl(pagemap.vmemmap_shift()).unwrap_or(0);
        pagemap
            .ranges()
            .enumerate()
            .flat_map(move |(index, range)| {
                let first = pagemap.first_pfn(index, range);
                let units = pagemap.nr_units(index, range).unwrap_or(0);
                // SAFETY: By the caller's promise the range has a memmap.
                let page = first.map(|first| unsafe { bindings::pfn_to_page(first.nr()) });
                (0..units).filter_map(move |n| {
                    if n % CHECK == 0 {
                        // SAFETY: The caller's caller may sleep.
                        unsafe { bindings::cond_resched() };
                    }
                    // The memmap is one array (SPARSEMEM_VMEMMAP). OVERFLOW: There are that many.
                    let page = NonNull::new(page?.wrapping_add(n.wrapping_mul(step)))?;
                    // SAFETY: One of the range, which has a memmap during `'a`.
                    Some(unsafe { Self::from_raw(page) })
                })
            })
    }
}
