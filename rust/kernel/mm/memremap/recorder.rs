// SPDX-License-Identifier: GPL-2.0

//! The recorder of pins: which task took pages of device memory last, and by which path.
//!
//! A pin has no name: the kernel counts it in the page, and forgets the task that asked. As long as
//! that task lives, its rings, memory regions and stack say what it holds (`daxstat holders`). Pages in a pipe
//! or in a socket, and those of a task that has passed them on and ended, say nothing. For these,
//! `CONFIG_RUST_DEV_PAGEMAP_RECORDER` keeps a table of the last calls of GUP that took device memory,
//! which teardown and debugfs read. It is for debugging: without the option there is no code for it.
//!
//! The table has a fixed size, and forgets. A call is put into the bucket of its first page, where it
//! replaces an older call for the same page, otherwise the oldest one. So a pin that is held for long is
//! forgotten only if four later calls begin in other pages of the same bucket.
//!
//! Calls come with interrupts off, even from an NMI, so nothing waits here: if a bucket is in use,
//! the call is not recorded.
//!
//! The `unsafe` code in this file reads the name of the current task, and its stack.

use crate::{
    bindings, current,
    mm::{
        page::PageRef,
        pfn::{Pfn, PfnRange},
    },
    time::Ktime,
};
use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicUsize, Ordering},
};

/// The number of buckets, and of records in each.
const BUCKETS: usize = 1024;
const WAYS: usize = 4;
/// The number of return addresses that are kept.
const FRAMES: usize = 12;
/// The number of the innermost return addresses that are left out: those of the recorder.
const SKIPPED: u32 = 2;
/// The length of the name of a task, with its final 0. C: `TASK_COMM_LEN`.
const NAME: usize = bindings::TASK_COMM_LEN as usize;

/// Set while calls are recorded.
static ENABLED: AtomicBool = AtomicBool::new(false);

static TABLE: [Bucket; BUCKETS] = {
    // The constant is only copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const EMPTY: Bucket = Bucket::EMPTY;
    [EMPTY; BUCKETS]
};

/// A call that took pages.
#[derive(Clone, Copy)]
pub struct Taker {
    /// The pages that it took for one entry of a page table.
    pub pfns: PfnRange,
    /// The ID of the process that called. (Work of io_uring is done by threads of its process.)
    pub pid: i32,
    name: [u8; NAME],
    /// The time of the call.
    pub at: Ktime,
    frames: [usize; FRAMES],
}

impl Taker {
    /// Returns the return addresses of the call, the innermost first.
    pub fn frames(&self) -> impl Iterator<Item = usize> + '_ {
        self.frames.iter().copied().take_while(|frame| *frame != 0)
    }
}

/// Formats the name and the ID of the process.
impl fmt::Display for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.name.iter().take_while(|byte| **byte != 0) {
            let is_plain = byte.is_ascii_graphic() || *byte == b' ';
            write!(f, "{}", if is_plain { char::from(*byte) } else { '?' })?;
        }
        write!(f, " ({})", self.pid)
    }
}

/// A call, as the table has it. Without pages there is none.
struct Record {
    first: AtomicUsize,
    pages: AtomicUsize,
    pid: AtomicI32,
    name: [AtomicU8; NAME],
    /// The time of the call, in nanoseconds.
    at: AtomicI64,
    frames: [AtomicUsize; FRAMES],
}

impl Record {
    // The constants are only copied into the value.
    #[expect(clippy::declare_interior_mutable_const)]
    const EMPTY: Self = {
        const NUMBER: AtomicUsize = AtomicUsize::new(0);
        const BYTE: AtomicU8 = AtomicU8::new(0);
        Self {
            first: NUMBER,
            pages: NUMBER,
            pid: AtomicI32::new(0),
            name: [BYTE; NAME],
            at: AtomicI64::new(0),
            frames: [NUMBER; FRAMES],
        }
    };

    fn store(&self, taker: &Taker) {
        self.first.store(taker.pfns.first().nr(), Ordering::Relaxed);
        self.pages.store(taker.pfns.len(), Ordering::Relaxed);
        self.pid.store(taker.pid, Ordering::Relaxed);
        for (to, from) in self.name.iter().zip(taker.name) {
            to.store(from, Ordering::Relaxed);
        }
        self.at.store(taker.at.to_ns(), Ordering::Relaxed);
        for (to, from) in self.frames.iter().zip(taker.frames) {
            to.store(from, Ordering::Relaxed);
        }
    }

    fn load(&self) -> Option<Taker> {
        let pages = self.pages.load(Ordering::Relaxed).checked_sub(1)?;
        let first = Pfn::new(self.first.load(Ordering::Relaxed));
        Some(Taker {
            pfns: PfnRange::new(first, first.checked_add(pages)?)?,
            pid: self.pid.load(Ordering::Relaxed),
            name: self
                .name
                .each_ref()
                .map(|byte| byte.load(Ordering::Relaxed)),
            at: Ktime::from_raw(self.at.load(Ordering::Relaxed)),
            frames: self
                .frames
                .each_ref()
                .map(|frame| frame.load(Ordering::Relaxed)),
        })
    }
}

/// Records whose first pages have the same hash.
struct Bucket {
    is_used: AtomicBool,
    records: [Record; WAYS],
}

impl Bucket {
    // The constant is only copied into the array.
    #[expect(clippy::declare_interior_mutable_const)]
    const EMPTY: Self = Self {
        is_used: AtomicBool::new(false),
        records: [Record::EMPTY; WAYS],
    };

    /// Calls `work` with the records, unless another task, or what this one has interrupted, uses
    /// them.
    fn with<R>(&self, work: impl FnOnce(&[Record; WAYS]) -> R) -> Option<R> {
        if self.is_used.swap(true, Ordering::Acquire) {
            return None;
        }
        let result = work(&self.records);
        self.is_used.store(false, Ordering::Release);
        Some(result)
    }
}

/// Returns the bucket of the calls whose first page is `pfn`.
fn bucket(pfn: Pfn) -> Option<&'static Bucket> {
    // The multiplier of `hash_long()`, which spreads what differs in a few bits.
    let hash = pfn.nr().wrapping_mul(0x61c8_8646_80b5_83eb);
    TABLE.get((hash >> 32) % BUCKETS)
}

/// Starts or stops recording. Any context. What was recorded stays.
pub fn enable(is_enabled: bool) {
    ENABLED.store(is_enabled, Ordering::Relaxed);
}

/// Returns whether calls are recorded. Any context.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Records that the current task takes `pages` pages from `first` on. Any context.
#[inline]
pub fn record(first: PageRef<'_>, pages: usize) {
    if is_enabled() {
        record_now(first.pfn(), pages);
    }
}

#[cold]
#[inline(never)]
fn record_now(first: Pfn, pages: usize) {
    let last = pages.checked_sub(1).and_then(|n| first.checked_add(n));
    let Some(pfns) = last.and_then(|last| PfnRange::new(first, last)) else {
        return;
    };
    let mut frames = [0; FRAMES];
    // SAFETY: The array has the length that is passed, and its elements are those of C.
    unsafe { bindings::stack_trace_save(frames.as_mut_ptr().cast(), FRAMES as u32, SKIPPED) };
    let task = current!().0.get();
    // SAFETY: The current task exists during this call. Its name may be changed meanwhile, and is
    // then read half and half, as everywhere in the kernel.
    let (pid, name) = unsafe { ((*task).tgid, (*task).comm) };
    let taker = Taker {
        pfns,
        pid,
        name,
        at: Ktime::ktime_get(),
        frames,
    };
    if let Some(bucket) = bucket(first) {
        bucket.with(|records| {
            let same = |record: &&Record| record.first.load(Ordering::Relaxed) == first.nr();
            let oldest = || records.iter().min_by_key(|r| r.at.load(Ordering::Relaxed));
            if let Some(record) = records.iter().find(same).or_else(oldest) {
                record.store(&taker);
            }
        });
    }
}

/// Calls `visit` with each recorded call that took a page of `pfns`, in no order. Any context, but not
/// from within `visit`.
pub fn for_each_taker(pfns: PfnRange, mut visit: impl FnMut(Taker)) {
    for bucket in &TABLE {
        // A call at a time, because `visit` may take long, and calls are not recorded meanwhile.
        for way in 0..WAYS {
            let taker = bucket.with(|records| records.get(way).and_then(Record::load));
            let touches =
                |t: &Taker| t.pfns.first() <= pfns.last() && pfns.first() <= t.pfns.last();
            if let Some(taker) = taker.flatten().filter(touches) {
                visit(taker);
            }
        }
    }
}

/// Returns the last recorded call that took one of these pages. Any context.
pub fn last_taker_of(pfns: PfnRange) -> Option<Taker> {
    let mut found: Option<Taker> = None;
    for_each_taker(pfns, |taker| {
        if found.map_or(true, |found| found.at.to_ns() < taker.at.to_ns()) {
            found = Some(taker);
        }
    });
    found
}
