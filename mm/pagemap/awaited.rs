// SPDX-License-Identifier: GPL-2.0

//! Pages that somebody waits for.
//!
//! Who frees blocks of a file waits until the count of each page is back at 1. Whoever puts the last
//! reference wakes him; but `folio_put()` does not ask what it puts, and the futex code and
//! `access_remote_vm()` put the pages that GUP gave them with it. Then nobody wakes the one who waits.
//!
//! To ask there would cost every user of every folio. Here it costs only who waits: `fs/dax.c` says
//! which page is about to be waited for, and as long as it is busy a worker looks at it now and then.
//!
//! ```text
//!   free --awaited()--> frame + 1 --the page is idle, or its page map gone: wake--> free
//! ```

use core::{
    ptr::addr_of,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use kernel::{
    alloc::flags::GFP_ATOMIC,
    bindings,
    mm::{
        pagemap::{DevicePage, Pagemap},
        pfn::Pfn,
    },
    sync::wait_var::Waiters,
    time::msecs_to_jiffies,
    workqueue,
};

/// How long a lost wake-up may go unnoticed, in milliseconds.
const INTERVAL: u32 = 50;

/// The frames that are waited for, each plus 1; 0 if the place is free.
///
/// Who finds no free place is not looked after; the worst is what C does.
static AWAITED: [AtomicUsize; 64] = {
    // Only ever copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const FREE: AtomicUsize = AtomicUsize::new(0);
    [FREE; 64]
};

/// Whether a worker looks at them.
static LOOKING: AtomicBool = AtomicBool::new(false);

/// Sees that who waits for this page is woken when it is idle, whoever puts it. Any context.
pub(crate) fn add(page: DevicePage<'_>) {
    let wanted = page.pfn().nr().wrapping_add(1);
    let is_there = |place: &AtomicUsize| place.load(Ordering::SeqCst) == wanted;
    let take = |place: &AtomicUsize| {
        place
            .compare_exchange(0, wanted, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    };
    if AWAITED.iter().any(is_there) || AWAITED.iter().any(take) {
        start();
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
    while AWAITED
        .iter()
        .fold(false, |any, place| settle(place) || any)
    {
        // SAFETY: A work item may sleep.
        unsafe { bindings::schedule_timeout_uninterruptible(msecs_to_jiffies(INTERVAL) as _) };
    }
    LOOKING.store(false, Ordering::SeqCst);
    // A page that came after the last look and before the store has no worker yet.
    if AWAITED
        .iter()
        .any(|place| place.load(Ordering::SeqCst) != 0)
    {
        start();
    }
}

/// Wakes who waits for the page of this place if it is idle by now, and frees the place. Returns
/// whether it is still busy.
fn settle(place: &AtomicUsize) -> bool {
    let Some(pfn) = place.load(Ordering::SeqCst).checked_sub(1).map(Pfn::new) else {
        return false;
    };
    // What was a page may be none by now; then nobody waits for it, either.
    let live = Pagemap::lookup(pfn, None);
    let Some(page) = live.as_ref().and_then(|live| DevicePage::at(live, pfn)) else {
        place.store(0, Ordering::SeqCst);
        return false;
    };
    if page.ref_count() > 1 {
        return true;
    }
    // Free first: who finds the page busy after this has to be able to come back.
    place.store(0, Ordering::SeqCst);
    // SAFETY: A valid page; only the address is taken.
    let count = unsafe { addr_of!((*page.as_raw())._refcount) };
    Waiters::look().wake_up(count.cast());
    false
}
