// SPDX-License-Identifier: GPL-2.0-only

//! Inodes whose last reference is put later, because pages of them are pinned.
//!
//! With the last reference to a removed inode its blocks are freed, and a block must not become part
//! of another file while its page is pinned. But the task that puts the reference cannot wait. It
//! may hold the pin itself: the read end of a pipe, or I/O that it has to complete. It may hold locks
//! that others need: `rename()` puts the inode that it replaces with both directories locked.
//!
//! So the reference becomes one of a worker:
//!
//! ```text
//!   iput()                                    worker, one per filesystem
//!   1. last reference, a page is pinned       1. is a page still pinned? sleep, look again
//!   2. active reference to the superblock     2. iput(): as 1. on the left, then eviction
//!   3. add(): returns at once                 3. deactivate_super()
//! ```
//!
//! The filesystem treats the inode as one that was removed and is open. Unmounting returns at once
//! and shuts the filesystem down later; mounting the device again meanwhile finds the same
//! superblock. After a crash the list of orphans frees the blocks. If the device is removed, its
//! pages are revoked from the inode as from any other; then no page is pinned, as far as the file is
//! concerned.
//!
//! A new pin can be had after all, through a file handle (`open_by_handle_at()`). So what decides is
//! the look of the last `iput()`, during which no reference can be taken; the look of the worker only
//! says when it is worth trying.
//!
//! A frozen filesystem evicts no inode, so the worker leaves it alone until it is thawed. A filesystem
//! whose device hangs blocks its own worker only.
//!
//! An inode that is put with the filesystem being shut down has no active reference to get. If it has
//! a name, its blocks are not freed, and the page goes without its owner. The pin is
//! [remembered](crate::evicted_pins) for the case that the filesystem is mounted again, and the memory
//! stays until the pin is gone ([`wait_idle`](kernel::mm::memremap) of the pgmap). An inode without a
//! name is put before that, because an open file of it keeps the filesystem active.
//!
//! The files are listed in debugfs (`fs_dax/delayed_iputs`), and reported to the log after a second,
//! then at doubling intervals.
//!
//! The `unsafe` code in this file encapsulates the sleep between two looks.

use crate::{
    evicted_pins::{self, BusyPages},
    invalidate::{count_pinned, next_pinned, PinnedPages},
    mapping::DaxMapping,
};
use kernel::{
    alloc::{
        flags::{GFP_KERNEL, GFP_NOFS, __GFP_NOFAIL},
        Flags,
    },
    bindings,
    fs::{
        inode::{device_numbers, Inode},
        super_block::ActiveInode,
    },
    impl_has_work, new_mutex, new_work, pr_warn,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{Mutex, SetOnce},
    time::{msecs_to_jiffies, Ktime, NSEC_PER_MSEC},
    workqueue::{self, Work, WorkItem},
};

/// The shortest and the longest pause between two looks at the inodes of a filesystem, in
/// milliseconds.
const MIN_PAUSE: u32 = 10;
const MAX_PAUSE: u32 = 1000;

/// The age of the oldest inode at which it is first reported, in milliseconds; each further report
/// comes after twice the time.
const FIRST_REPORT: i64 = 1000;

/// A reference is put in any context that may sleep, also by reclaim, and cannot fail to be put.
fn flags() -> Flags {
    GFP_NOFS | __GFP_NOFAIL
}

/// What is shown of an inode.
#[derive(Clone, Copy)]
struct Info {
    device: u32,
    filesystem: [u8; 16],
    ino: usize,
    /// Set if the inode has no name.
    is_removed: bool,
    /// The number of pinned pages as last counted; 0 if they were not counted yet.
    pages: usize,
    /// The physical address of the first of them.
    first: u64,
    since: Ktime,
}

impl Info {
    /// Creates the value for an inode whose last reference is put now.
    fn new(inode: &Inode) -> Self {
        let mut filesystem = [0; 16];
        for (to, from) in filesystem
            .iter_mut()
            .zip(inode.filesystem_name().as_bytes())
        {
            *to = *from;
        }
        Self {
            device: inode.device(),
            filesystem,
            ino: inode.ino(),
            is_removed: inode.link_count() == 0,
            pages: 0,
            first: 0,
            since: Ktime::ktime_get(),
        }
    }

    /// Stores which pages are pinned.
    fn set_pinned(&mut self, pinned: &PinnedPages) {
        self.pages = pinned.count;
        self.first = pinned.first.unwrap_or(0);
    }

    /// Returns the name of the filesystem type.
    fn filesystem(&self) -> &str {
        let name = self.filesystem.split(|&byte| byte == 0).next();
        name.and_then(|name| core::str::from_utf8(name).ok())
            .unwrap_or("?")
    }

    /// Returns the milliseconds since the reference was to be put.
    fn age(&self) -> i64 {
        let now = Ktime::ktime_get().to_ns();
        now.saturating_sub(self.since.to_ns()) / NSEC_PER_MSEC
    }
}

/// An inode with pinned pages.
struct DelayedIput {
    /// `None` once it is put.
    inode: Option<ActiveInode>,
    info: Info,
    /// The index at which the next look begins: pages before it were not pinned.
    index: usize,
    next: Option<KBox<DelayedIput>>,
}

impl DelayedIput {
    /// Returns whether a page is still pinned. Sleeps.
    fn look(&mut self) -> bool {
        let Some(mapping) = self.inode.as_deref().and_then(DaxMapping::of) else {
            return false;
        };
        if let Some(index) = next_pinned(mapping, self.index) {
            if index != self.index || self.info.pages == 0 {
                self.info.set_pinned(&count_pinned(mapping));
                self.index = index;
            }
            return true;
        }
        let Some(busy) = pinned_since_eviction(mapping.inode()) else {
            return false;
        };
        self.info.set_pinned(&busy.pinned);
        true
    }
}

/// A list of inodes.
#[derive(Default)]
struct List(Option<KBox<DelayedIput>>);

impl List {
    fn push(&mut self, mut delayed: KBox<DelayedIput>) {
        delayed.next = self.0.take();
        self.0 = Some(delayed);
    }

    fn pop(&mut self) -> Option<KBox<DelayedIput>> {
        let mut delayed = self.0.take()?;
        self.0 = delayed.next.take();
        Some(delayed)
    }

    fn iter(&self) -> impl Iterator<Item = &Info> {
        core::iter::successors(self.0.as_deref(), |delayed| delayed.next.as_deref())
            .map(|delayed| &delayed.info)
    }
}

/// The inodes of one filesystem, which has a worker as long as this exists.
struct Filesystem {
    /// [`ActiveInode::super_block_id`]
    id: usize,
    /// The inodes that the worker has still to look at in this round.
    to_visit: List,
    /// The inode that the worker is looking at or putting.
    current: Option<Info>,
    /// The inodes of the next round.
    visited: List,
    /// Set if an inode was added or put since the last pause.
    is_changed: bool,
    next: Option<KBox<Filesystem>>,
}

impl Filesystem {
    fn iter(&self) -> impl Iterator<Item = &Info> {
        let Self {
            to_visit,
            current,
            visited,
            ..
        } = self;
        // `prelude` has another `chain()`.
        let of_round = Iterator::chain(to_visit.iter(), current);
        Iterator::chain(of_round, visited.iter())
    }
}

/// All filesystems with such inodes.
#[derive(Default)]
struct Filesystems(Option<KBox<Filesystem>>);

impl Filesystems {
    /// Returns the filesystem with this number.
    fn find(&mut self, id: usize) -> Option<&mut Filesystem> {
        let mut next = self.0.as_deref_mut();
        while let Some(filesystem) = next {
            if filesystem.id == id {
                return Some(filesystem);
            }
            next = filesystem.next.as_deref_mut();
        }
        None
    }

    /// Adds an inode to the filesystem with this number, if that has a worker; else returns it.
    fn push(&mut self, id: usize, delayed: KBox<DelayedIput>) -> Option<KBox<DelayedIput>> {
        let Some(filesystem) = self.find(id) else {
            return Some(delayed);
        };
        filesystem.is_changed = true;
        filesystem.visited.push(delayed);
        None
    }

    /// Removes the filesystem with this number, and returns it.
    fn remove(&mut self, id: usize) -> Option<KBox<Filesystem>> {
        let mut link = &mut self.0;
        while link.as_ref()?.id != id {
            link = &mut link.as_mut()?.next;
        }
        let mut removed = link.take()?;
        *link = removed.next.take();
        Some(removed)
    }

    fn iter(&self) -> impl Iterator<Item = &Filesystem> {
        core::iter::successors(self.0.as_deref(), |filesystem| filesystem.next.as_deref())
    }
}

/// The list of all inodes. No memory is allocated with it locked, and no inode put, so reclaim may
/// lock it.
static DELAYED: SetOnce<Pin<KBox<Mutex<Filesystems>>>> = SetOnce::new();

/// Creates the list, at boot, before the first filesystem with DAX is mounted.
pub(crate) fn init() {
    let list = new_mutex!(Filesystems::default(), "fs_dax::delayed_iputs");
    match KBox::pin_init(list, GFP_KERNEL | __GFP_NOFAIL) {
        Ok(list) => {
            DELAYED.populate(list);
        }
        Err(error) => pr_warn!("no list of delayed iputs ({:?})\n", error),
    }
}

/// Returns whether a page of an inode to which there is no reference is pinned. If so, an active
/// reference to its superblock has been taken, for [`add`]. Sleeps.
pub(crate) fn is_busy(inode: &Inode) -> bool {
    DELAYED.as_ref().is_some()
        && (DaxMapping::of(inode).is_some_and(|mapping| next_pinned(mapping, 0).is_some())
            || pinned_since_eviction(inode).is_some())
        && ActiveInode::activate(inode)
}

/// Returns the pages of an inode that have been pinned since before the filesystem was mounted, if its
/// blocks are about to be freed. Sleeps.
fn pinned_since_eviction(inode: &Inode) -> Option<BusyPages> {
    match inode.link_count() {
        0 => evicted_pins::busy_pages(inode, 0, usize::MAX),
        _ => None,
    }
}

/// Leaves it to the worker of the filesystem to put an inode. Sleeps, but not until a page is
/// unpinned.
pub(crate) fn add(inode: ActiveInode) {
    if try_add(inode).is_err() {
        kernel::warn_once!("fs_dax: inode with pinned pages cannot be left to a worker");
    }
}

/// Leaves it to the worker of the filesystem to put an inode.
///
/// # Errors
///
/// None: the allocations do not fail.
fn try_add(inode: ActiveInode) -> Result {
    let id = inode.super_block_id();
    let info = Info::new(&inode);
    let delayed = KBox::new(
        DelayedIput {
            inode: Some(inode),
            info,
            index: 0,
            next: None,
        },
        flags(),
    )?;
    let list = DELAYED.as_ref().ok_or(ENODEV)?;
    // The worker and its list are allocated with the list unlocked.
    let Some(delayed) = list.lock().push(id, delayed) else {
        return Ok(());
    };
    let worker = KBox::pin_init(
        pin_init!(Worker {
            work <- new_work!("fs_dax::delayed_iput"),
            id,
        }),
        flags(),
    )?;
    let mut new = KBox::new(
        Filesystem {
            id,
            to_visit: List::default(),
            current: None,
            visited: List::default(),
            is_changed: true,
            next: None,
        },
        flags(),
    )?;
    let mut filesystems = list.lock();
    let Some(delayed) = filesystems.push(id, delayed) else {
        drop(filesystems);
        return Ok(());
    };
    new.visited.push(delayed);
    new.next = filesystems.0.take();
    filesystems.0 = Some(new);
    drop(filesystems);
    workqueue::system_unbound().enqueue(worker);
    Ok(())
}

/// The worker of one filesystem.
#[pin_data]
struct Worker {
    #[pin]
    work: Work<Self>,
    /// [`ActiveInode::super_block_id`]
    id: usize,
}

impl_has_work! {
    impl HasWork<Self> for Worker { self.work }
}

impl WorkItem for Worker {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        let Some(list) = DELAYED.as_ref() else {
            return;
        };
        let (mut pause, mut next_report) = (MIN_PAUSE, FIRST_REPORT);
        loop {
            this.visit_all(list);
            let mut filesystems = list.lock();
            let Some(filesystem) = filesystems.find(this.id) else {
                return;
            };
            let Some(oldest) = filesystem
                .visited
                .iter()
                .min_by_key(|info| info.since.to_ns())
            else {
                // From here on the next inode of this filesystem gets another worker.
                let removed = filesystems.remove(this.id);
                drop(filesystems);
                drop(removed);
                return;
            };
            if oldest.age() >= next_report {
                next_report = oldest.age().saturating_mul(2);
                let others = filesystem
                    .visited
                    .iter()
                    .skip(1)
                    .fold(0, |n: usize, _| n.saturating_add(1));
                report(oldest, others);
            }
            filesystem.to_visit = core::mem::take(&mut filesystem.visited);
            pause = match core::mem::take(&mut filesystem.is_changed) {
                true => MIN_PAUSE,
                false => MAX_PAUSE.min(pause.saturating_mul(2)),
            };
            drop(filesystems);
            // SAFETY: A work item runs in process context, and the list is unlocked, so it may sleep.
            unsafe { bindings::schedule_timeout_idle(msecs_to_jiffies(pause) as _) };
        }
    }
}

impl Worker {
    /// Looks at each inode once, and puts those without pinned pages. Sleeps.
    fn visit_all(&self, list: &Mutex<Filesystems>) {
        loop {
            let Some(mut delayed) = self.with(list, |filesystem| {
                let delayed = filesystem.to_visit.pop()?;
                filesystem.current = Some(delayed.info);
                Some(delayed)
            }) else {
                return;
            };
            let kept = if delayed.look() {
                Some(delayed)
            } else {
                put(delayed)
            };
            self.with(list, |filesystem| {
                filesystem.current = None;
                match kept {
                    Some(delayed) => filesystem.visited.push(delayed),
                    None => filesystem.is_changed = true,
                }
                Some(())
            });
        }
    }

    /// Calls `work` with the filesystem locked.
    fn with<R>(
        &self,
        list: &Mutex<Filesystems>,
        work: impl FnOnce(&mut Filesystem) -> Option<R>,
    ) -> Option<R> {
        list.lock().find(self.id).and_then(work)
    }
}

/// Puts an inode. Returns it if its filesystem is frozen. Sleeps.
fn put(mut delayed: KBox<DelayedIput>) -> Option<KBox<DelayedIput>> {
    let inode = delayed.inode.take()?.try_put().err()?;
    delayed.inode = Some(inode);
    Some(delayed)
}

/// Logs the oldest inode of a filesystem, and the number of others.
#[cold]
fn report(oldest: &Info, others: usize) {
    let (major, minor) = device_numbers(oldest.device);
    pr_warn!(
        "{} {major}:{minor}: inode {}: {}, {} pages still pinned ({} s), first at {:#x}; {others} more inodes\n",
        oldest.filesystem(),
        oldest.ino,
        if oldest.is_removed { "removed" } else { "unused" },
        oldest.pages,
        oldest.age() / 1000,
        oldest.first,
    );
}

/// Prints the content of `fs_dax/delayed_iputs`.
pub(crate) fn show(file: &SeqFile) {
    let Some(list) = DELAYED.as_ref() else {
        return;
    };
    for info in list.lock().iter().flat_map(Filesystem::iter) {
        let (major, minor) = device_numbers(info.device);
        seq_print!(
            file,
            "device={major}:{minor} fstype={} inode={} pages={} first={:#x} seconds={}\n",
            info.filesystem(),
            info.ino,
            info.pages,
            info.first,
            info.age() / 1000,
        );
    }
}
