// SPDX-License-Identifier: GPL-2.0

//! Pages that somebody waits for.
//!
//! Who frees blocks of a file waits until the count of each page is back at 1. Whoever puts the last
//! reference wakes him; but `folio_put()` does not ask what it puts, and the futex code and
//! `access_remote_vm()` put the pages that GUP gave them with it. Then nobody wakes the one who waits.
//!
//! To ask there would cost every user of every folio. Here it costs only who waits: fs/dax says
//! which page is about to be waited for, and as long as it is busy a worker looks at it now and then.
//!
//! ```text
//!   free --add()--> watched: woken at every look that finds the page idle
//!     ^                |
//!     +---- the page was idle at twenty looks in a row, or its pgmap is gone
//! ```
//!
//! Once is not enough: until the one who waits has run, another may have taken the page again, and
//! given it back without a word.

use core::{
    ptr::addr_of,
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};
use kernel::{
    alloc::flags::GFP_ATOMIC,
    bindings,
    mm::{
        memremap::{DevPagemap, ZoneDevicePage},
        pfn::Pfn,
    },
    sync::wait_var::Waiters,
    time::msecs_to_jiffies,
    workqueue,
};

/// How long a lost wake-up may go unnoticed, in milliseconds.
const INTERVAL: u32 = 50;

/// After how many looks in a row that find a page idle nobody waits for it any more.
const QUIET: u32 = 20;

/// A page that is waited for.
struct Place {
    /// Its frame plus 1; 0 if the place is free.
    frame: AtomicUsize,
    /// How many looks in a row found it idle.
    quiet: AtomicU32,
}

/// The pages that are waited for.
///
/// Who finds no free place is not looked after; the worst is what C does.
static AWAITED: [Place; 64] = {
    // Only ever copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: Place = Place {
        frame: AtomicUsize::new(0),
        quiet: AtomicU32::new(0),
    };
    [FREE; 64]
};

/// Whether a worker looks at them.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// Sees that who waits for this page is woken when it is idle, whoever puts it. Any context.
pub(crate) fn add(page: ZoneDevicePage<'_>) {
    let frame = page.pfn().nr().wrapping_add(1);
    if AWAITED.iter().any(|place| place.keep(frame))
        || AWAITED.iter().any(|place| place.take(frame))
    {
        start();
    }
}

impl Place {
    /// Keeps watching if it is this frame that is watched.
    fn keep(&self, frame: usize) -> bool {
        if self.frame.load(Ordering::SeqCst) != frame {
            return false;
        }
        self.quiet.store(0, Ordering::SeqCst);
        // If it was given up meanwhile, either it is seen here, or the other sees the 0.
        self.frame.load(Ordering::SeqCst) == frame
    }

    /// Watches this frame, if the place is free.
    fn take(&self, frame: usize) -> bool {
        let taken = self
            .frame
            .compare_exchange(0, frame, Ordering::SeqCst, Ordering::Relaxed);
        if taken.is_ok() {
            self.quiet.store(0, Ordering::SeqCst);
        }
        taken.is_ok()
    }

    /// Looks at the page, and wakes who waits for it if it is idle. Returns whether to look again.
    fn look(&self) -> bool {
        let frame = self.frame.load(Ordering::SeqCst);
        let Some(pfn) = frame.checked_sub(1).map(Pfn::new) else {
            return false;
        };
        // What was a page may be none by now; then nobody waits for it, either.
        let live = DevPagemap::lookup(pfn, None);
        let Some(page) = live.as_ref().and_then(|live| ZoneDevicePage::at(live, pfn)) else {
            self.frame.store(0, Ordering::SeqCst);
            return false;
        };
        if page.ref_count() > 1 {
            self.quiet.store(0, Ordering::SeqCst);
            return true;
        }
        // SAFETY: A valid page; only the address is taken.
        let count = unsafe { addr_of!((*page.as_raw())._refcount) };
        Waiters::look().wake_up(count.cast());
        if self.quiet.fetch_add(1, Ordering::SeqCst) < QUIET {
            return true;
        }
        self.frame.store(0, Ordering::SeqCst);
        // Somebody came to wait at the last moment.
        self.quiet.load(Ordering::SeqCst) == 0 && self.take(frame)
    }
}

/// Starts the worker, unless there is one.
fn start() {
    if LOOKING.swap(true, Ordering::SeqCst) {
        return;
    }
    if workqueue::system_unbound()
        .try_spawn(GFP_ATOMIC, look)
        .is_err()
    {
        // Whoever waits next tries again.
        LOOKING.store(false, Ordering::SeqCst);
    }
}

/// Looks until nobody waits any more.
fn look() {
    while AWAITED.iter().fold(false, |any, place| place.look() || any) {
        // SAFETY: A work item may sleep.
        unsafe { bindings::schedule_timeout_uninterruptible(msecs_to_jiffies(INTERVAL) as _) };
    }
    LOOKING.store(false, Ordering::SeqCst);
    // A page that came after the last look and before the store has no worker yet.
    if AWAITED
        .iter()
        .any(|place| place.frame.load(Ordering::SeqCst) != 0)
    {
        start();
    }
}
