// SPDX-License-Identifier: GPL-2.0-only

//! Pages that were pinned when their inode was evicted, though it has a name.
//!
//! The last unmount evicts inodes whose blocks are not freed, so nothing waits for their pages. But
//! a pin can last longer than the filesystem is away:
//!
//! ```text
//!   holder of a pin        filesystem
//!   pins page 5 of F
//!                          unmount: F is evicted, with its entries      record (F, 5, PFN)
//!                          mount
//!                          truncate F: no entry; is there a record      still pinned: wait
//!                          of F whose page is pinned?                   idle: go on
//! ```
//!
//! So truncation, and the last `iput()` of a removed inode, ask for records after they have asked
//! for entries. A record names the file as it is on the medium, because inode and superblock are new
//! ones. It does not keep the page: if the device was removed meanwhile, or the page is idle, the
//! record is dropped by the next task that asks. A page with an owner is mapped by a file in memory,
//! whose entry is what counts; its record is kept, because that inode may be evicted as well.
//!
//! | | |
//! |---|---|
//! | records are added | by eviction, before the entries are removed |
//! | read and dropped | by truncation and `iput()` of any DAX file, if there are records at all |
//! | the list is locked | by nothing that sleeps or allocates |
//!
//! A folio of 2 MiB has one count. If it is pinned, all of its pages that the file had count as pinned.
//!
//! A filesystem that is mounted from another device, or that was repaired meanwhile so that another
//! file has the block, is not protected.
//!
//! The `unsafe` code in this file encapsulates reading a page through a live pgmap.

use crate::{
    invalidate::{next_pinned_page, PinnedPages},
    mapping::DaxMapping,
    owner::RefcountKey,
};
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::{
    alloc::flags::{GFP_KERNEL, GFP_NOFS, __GFP_NOFAIL},
    fs::inode::{Inode, PersistentId},
    mm::{
        memremap::{DevPagemap, LiveRef, MemoryType},
        page::PageRef,
        pfn::Pfn,
    },
    new_mutex, pr_warn,
    prelude::*,
    sync::{Mutex, SetOnce},
};

/// Pages of one folio, which was pinned when their inode was evicted.
struct Record {
    file: PersistentId,
    /// The index of the first one in the file.
    index: usize,
    pages: usize,
    /// The PFN of the first one.
    pfn: Pfn,
    next: Option<KBox<Record>>,
}

impl Record {
    /// Returns whether one of the pages is one of those from `first` to `last`, inclusive.
    fn overlaps(&self, first: usize, last: usize) -> bool {
        // OVERFLOW: An index is that of a page in a file.
        self.index <= last && first < self.index.wrapping_add(self.pages)
    }
}

/// A list of records.
#[derive(Default)]
struct List(Option<KBox<Record>>);

/// All records.
static RECORDS: SetOnce<Pin<KBox<Mutex<List>>>> = SetOnce::new();

/// The number of records. It is read without the lock: what is asked for was added before the
/// filesystem was mounted again.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Creates the list, at boot, before the first filesystem with DAX is mounted.
pub(crate) fn init() {
    let list = new_mutex!(List::default(), "fs_dax::evicted_pins");
    match KBox::pin_init(list, GFP_KERNEL | __GFP_NOFAIL) {
        Ok(list) => {
            RECORDS.populate(list);
        }
        Err(error) => pr_warn!("no list of evicted pins ({:?})\n", error),
    }
}

/// Records the pinned pages of an inode that is being evicted and has a name. Sleeps.
#[cold]
pub(crate) fn record(mapping: &DaxMapping) {
    let Some(records) = RECORDS.as_ref() else {
        return;
    };
    let file = mapping.inode().persistent_id();
    let mut next = 0;
    while let Some((index, pinned)) = next_pinned_page(mapping, next) {
        // Eviction cannot fail. The allocation does not, and the list is unlocked.
        let Ok(mut record) = KBox::new(
            Record {
                file,
                index,
                pages: pinned.pages,
                pfn: pinned.pfn,
                next: None,
            },
            GFP_NOFS | __GFP_NOFAIL,
        ) else {
            return;
        };
        let mut list = records.lock();
        record.next = list.0.take();
        list.0 = Some(record);
        COUNT.fetch_add(1, Ordering::Relaxed);
        drop(list);
        // OVERFLOW: An index is that of a page in a file.
        next = index.wrapping_add(pinned.pages);
    }
}

/// Pages of a file that have been pinned since its inode was evicted.
pub(crate) struct BusyPages {
    /// The key of the tasks that wait for one of them.
    pub(crate) key: RefcountKey,
    /// Their number, and the physical address of the first one.
    pub(crate) pinned: PinnedPages,
}

/// Returns those of the pages from `first` to `last`, inclusive, of the file that have been pinned since
/// the inode was evicted; `None` if there are none. Sleeps.
#[inline]
pub(crate) fn busy_pages(inode: &Inode, first: usize, last: usize) -> Option<BusyPages> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    find(inode, first, last)
}

/// Does the work of [`busy_pages`], and drops the records of all pages that are idle or gone.
#[cold]
fn find(inode: &Inode, first: usize, last: usize) -> Option<BusyPages> {
    let file = inode.persistent_id();
    let (mut live, mut idle) = (None, List::default());
    let (mut found, mut lowest): (Option<BusyPages>, _) = (None, usize::MAX);
    let mut list = RECORDS.as_ref()?.lock();
    let mut link = &mut list.0;
    while let Some(mut record) = link.take() {
        let pinned;
        (pinned, live) = look(record.pfn, live);
        let Some(pinned) = pinned else {
            *link = record.next.take();
            record.next = idle.0.take();
            idle.0 = Some(record);
            COUNT.fetch_sub(1, Ordering::Relaxed);
            continue;
        };
        if record.file == file && record.overlaps(first, last) && !pinned.is_owned {
            let count = found.map_or(0, |found| found.pinned.count);
            lowest = lowest.min(record.pfn.nr());
            found = Some(BusyPages {
                key: pinned.key,
                pinned: PinnedPages {
                    count: count.saturating_add(pinned.pins.min(record.pages)),
                    first: Pfn::new(lowest).phys(),
                },
            });
        }
        link = &mut link.insert(record).next;
    }
    drop(list);
    while let Some(mut record) = idle.0.take() {
        idle.0 = record.next.take();
    }
    found
}

/// A folio that is pinned.
struct PinnedFolio {
    key: RefcountKey,
    /// How many pins it has, if it has several pages.
    pins: usize,
    /// Set if a file in memory has an entry for it.
    is_owned: bool,
}

/// Returns what is known of the folio of a page if it is pinned, and the live reference for the next call. Any
/// context.
fn look(pfn: Pfn, live: Option<LiveRef>) -> (Option<PinnedFolio>, Option<LiveRef>) {
    let live = DevPagemap::lookup(pfn, live);
    let is_data =
        |live: &&LiveRef| live.memory_type() == Some(MemoryType::FsDax) && live.has_data_page(pfn);
    let pinned = live.as_ref().filter(is_data).and_then(|_live| {
        // SAFETY: It is a data page of the pgmap, to which there is a live reference while the page
        // is read.
        let page = unsafe { PageRef::from_pfn(pfn) }.folio().first_page();
        // CAST: A count that has overflowed is negative, and such a page has many holders.
        let pins = (page.ref_count() as u32).saturating_sub(1) as usize;
        (pins != 0).then(|| PinnedFolio {
            key: RefcountKey::of(page),
            pins,
            is_owned: !page.mapping().is_null(),
        })
    });
    (pinned, live)
}
