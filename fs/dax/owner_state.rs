// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! The owner of a page as one state, and how entries change it; and the size of folios.
//!
//! ```text
//!                 entry added            entry added             entry added: n + 1
//!   no owner ----------------> one file ------------> n entries ----+
//!    |    ^ <-----------------  (index)               (2, 3, ..)    |  removed: n - 1
//!    |    |   entry removed                             | ^ <-------+
//!    |    +---------------------------------------------+ |
//!    |                last entry removed                  |
//!    +----------------------------------------------------+
//!       entry added for a block that files share: 1 entry
//! ```
//!
//! The state is in the words `mapping`, `index` and `private` of the first page of a folio. It changes
//! under the lock of the page, and not under that of the array of the file: files that share a block
//! have an array each. So each entry is counted, whichever files add and remove entries at the same
//! time, and whatever the filesystem says about the block. (erofs lets files share chunks without
//! saying so; so does a damaged filesystem.)
//!
//! Teardown of the pgmap reads the first word without the lock. If that is [`NONE`], no file
//! accesses the page any more, and its memmap may be freed. So `NONE` is stored last, with release
//! semantics: it is the last access of a file to a page.
//!
//! # Folios
//!
//! The pages of an aligned range of 2 MiB are either 512 folios of one page, or one folio:
//!
//! ```text
//!                      a PMD entry is added; no page has an owner, a pin or bad memory
//!            512 pages ----------------------------------------------------------------> 1 folio
//!              ^  ^         a PTE entry is added; the folio has no owner and no pin         |  |
//!              |  +-------------------------------------------------------------------------+  |
//!              |            a PMD entry is split into PTE entries; the folio has no pin,        |
//!              +------------ and all of its entries are PMD entries ---------------------------+
//! ```
//!
//! So a folio stays one over faults, truncation and other files, until its parts are used one by
//! one. Where the folio cannot be merged, each page of a PMD entry has the owner. Where it cannot be
//! split, the folio has the owner of its parts, and counts the PTE entries that name them:
//!
//! | state of a folio of 512 pages | `mapping` | `index` | `private` |
//! |---|---|---|---|
//! | no owner | [`NONE`] | 0 | 0 |
//! | one file: a PMD entry | the mapping | that of the first page | 0 |
//! | one file: PTE entries, at the offsets of one range of the file | the mapping | that of the first page | their number |
//! | anything else | [`SHARED`] | the number of PMD entries | the number of PTE entries |
//!
//! A page changes its folio only while the count of the folio is 0 ([`OwnedPage::freeze`]), so no
//! task takes a reference meanwhile; and only in a fault, or with an owner. So teardown meets no folio
//! without owner that changes.
//!
//! This file uses nothing of the kernel, so that `tools/testing/owner` can explore all interleavings
//! of it on the host.

/// The value of `page->mapping` for a page that has no owner.
pub(crate) const NONE: usize = 0;

/// The value of `page->mapping` for a page whose entries are counted. C: `PAGE_MAPPING_DAX_SHARED`,
/// `dax_page_is_shared()`.
pub(crate) const SHARED: usize = 1;

/// The words of a page that say which entries name it, and its place in a folio.
pub(crate) trait OwnedPage: Copy {
    /// Returns `page->mapping`. Of a tail page this is something else, but never an owner.
    fn mapping(self) -> usize;

    /// Sets `page->mapping`, with release semantics.
    fn set_mapping(self, mapping: usize);

    /// Returns `page->index`, which is the number of entries of a page that is [`SHARED`].
    fn index(self) -> usize;

    /// Sets `page->index`.
    fn set_index(self, index: usize);

    /// Returns `page->private`, which is the number of PTE entries that name parts of a folio.
    fn parts(self) -> usize;

    /// Sets `page->private`.
    fn set_parts(self, parts: usize);

    /// Returns whether the page is the first of a folio of several pages.
    fn is_head(self) -> bool;

    /// Returns whether the page belongs to a folio of which it is not the first page.
    fn is_tail(self) -> bool;

    /// Returns whether the memory of the page has failed.
    fn is_poisoned(self) -> bool;

    /// Sets the count of an idle page to 0. Returns `false` if it is not idle.
    fn freeze(self) -> bool;

    /// Adds 1 to the count of a page that is frozen.
    fn unfreeze(self);
}

/// The pages of an aligned range that a PMD entry names.
pub(crate) trait PageRange: Copy {
    /// A page of the range.
    type Page: OwnedPage;

    /// The number of pages.
    const PAGES: usize;

    /// Whether folios of that many pages are made at all.
    const MERGES: bool;

    /// Returns page `n` of the range, which is less than [`PAGES`](Self::PAGES).
    fn page(self, n: usize) -> Self::Page;

    /// Makes one folio of the pages, which are frozen and have no owner.
    fn join(self);

    /// Makes page `n` of the folio, which is frozen, a folio of its own with this owner, and
    /// unfreezes it. The pages behind it are folios of their own already.
    fn leave(self, n: usize, mapping: usize, index: usize);

    /// Makes the first page, which all others have left, a folio of its own.
    fn end(self);

    /// Counts what has happened to the range.
    fn count(self, event: FolioEvent);
}

/// What happens to a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum FolioEvent {
    /// One folio was made of the pages.
    Merged,
    /// The folio was taken apart.
    Split,
    /// A PMD entry names single pages: one of them has an owner.
    UnmergedOwned,
    /// A PMD entry names single pages: one of them is pinned.
    UnmergedPinned,
    /// A PMD entry names single pages: the memory of one has failed.
    UnmergedBad,
    /// A PTE entry names a part of a folio, of which another file has a part.
    UnsplitOwned,
    /// PTE entries name parts of a folio, because it is pinned.
    UnsplitPinned,
}

/// The lock of the pages of a range.
pub(crate) trait OwnerLock {
    /// Calls `change` with the lock held.
    fn with<R>(&self, change: impl FnOnce() -> R) -> R;

    /// Calls `change` with the lock held, or returns `None` if another task holds it.
    fn try_with<R>(&self, change: impl FnOnce() -> R) -> Option<R> {
        Some(self.with(change))
    }
}

/// Returns whether a page belongs to a folio of several pages.
#[inline(always)]
fn is_in_folio<P: OwnedPage>(page: P, n: usize) -> bool {
    page.is_tail() || (n == 0 && page.is_head())
}

/// Counts a PTE entry of `mapping` as an owner of page `n` of a range, whose index in the file this
/// is. Returns `false` if the block is not `shared`, but another entry names it: then the filesystem
/// has not told that files share it.
#[inline(always)]
pub(crate) fn add_page<R: PageRange>(
    lock: &impl OwnerLock,
    range: R,
    n: usize,
    mapping: usize,
    index: usize,
    shared: bool,
) -> bool {
    lock.with(|| {
        let page = range.page(n);
        // The first two pages of a folio may have 0 in the place of the mapping, other tail pages never.
        if n > 1 && !shared && page.mapping() == NONE {
            take(page, mapping, index);
            return true;
        }
        if is_in_folio(page, n) {
            add_part(range, n, mapping, index, shared);
            // Which of its pages other entries name is not known.
            return true;
        }
        add_to_page(page, mapping, index, shared)
    })
}

/// Counts a PMD entry of `mapping` as an owner of a range, whose first page has this index in the
/// file. Returns what [`add_page`] returns.
#[inline(always)]
pub(crate) fn add_range<R: PageRange>(
    lock: &impl OwnerLock,
    range: R,
    mapping: usize,
    index: usize,
    shared: bool,
) -> bool {
    lock.with(|| {
        let head = range.page(0);
        if !head.is_head() && !merge(range) {
            return add_to_pages(range, mapping, index, shared);
        }
        if !shared && head.mapping() == NONE {
            take(head, mapping, index);
            return true;
        }
        count_range(head) | shared
    })
}

/// Counts an entry as an owner of a page that is a folio of its own.
#[inline(always)]
fn add_to_page<P: OwnedPage>(page: P, mapping: usize, index: usize, shared: bool) -> bool {
    if !shared && page.mapping() == NONE {
        take(page, mapping, index);
        return true;
    }
    count_entry(page) | shared
}

/// Gives a page without owner to one file.
#[inline(always)]
fn take<P: OwnedPage>(page: P, mapping: usize, index: usize) {
    page.set_mapping(mapping);
    page.set_index(index);
}

/// Counts a PMD entry as an owner of each page of a range that cannot be one folio.
#[cold]
#[inline(never)]
fn add_to_pages<R: PageRange>(range: R, mapping: usize, index: usize, shared: bool) -> bool {
    (0..R::PAGES).fold(true, |expected, n| {
        let index = index.wrapping_add(n);
        expected & add_to_page(range.page(n), mapping, index, shared)
    })
}

/// Counts one more entry that names the page. Returns whether it is the only one. C:
/// `dax_page_share_get()`.
#[cold]
#[inline(never)]
fn count_entry<P: OwnedPage>(page: P) -> bool {
    let entries = match page.mapping() {
        NONE => 0,
        SHARED => page.index(),
        // The entry of the owner is the only one.
        _ => 1,
    };
    page.set_mapping(SHARED);
    // OVERFLOW: There are fewer entries than bytes of memory.
    page.set_index(entries.wrapping_add(1));
    entries == 0
}

/// Counts one more PMD entry that names a folio. Returns whether it is the only entry.
#[cold]
#[inline(never)]
fn count_range<P: OwnedPage>(head: P) -> bool {
    let owner = head.mapping();
    let entries = match owner {
        NONE => 0,
        SHARED => head.index(),
        _ => usize::from(head.parts() == 0),
    };
    head.set_mapping(SHARED);
    // OVERFLOW: As above.
    head.set_index(entries.wrapping_add(1));
    owner == NONE
}

/// Counts a PTE entry that names page `n` of a folio.
#[cold]
#[inline(never)]
fn add_part<R: PageRange>(range: R, n: usize, mapping: usize, index: usize, shared: bool) {
    let (head, first) = (range.page(0), index.wrapping_sub(n));
    let (owner, parts) = (head.mapping(), head.parts());
    if owner == NONE {
        if split(range, |_| (NONE, 0)) {
            add_to_page(range.page(n), mapping, index, shared);
            return;
        }
        range.count(FolioEvent::UnsplitPinned);
        let (owner, index) = match shared {
            true => (SHARED, 0),
            false => (mapping, first),
        };
        head.set_mapping(owner);
        head.set_index(index);
        head.set_parts(1);
        return;
    }
    // OVERFLOW: There are fewer entries than bytes of memory.
    head.set_parts(parts.wrapping_add(1));
    if owner == mapping && parts != 0 && head.index() == first && !shared {
        return;
    }
    range.count(FolioEvent::UnsplitOwned);
    if owner != SHARED {
        head.set_mapping(SHARED);
        head.set_index(usize::from(parts == 0));
    }
}

/// Makes one folio of the pages of a range, if they have no owner, are idle and are not bad. Returns
/// whether it did.
#[cold]
#[inline(never)]
fn merge<R: PageRange>(range: R) -> bool {
    if !R::MERGES {
        return false;
    }
    for n in 0..R::PAGES {
        let page = range.page(n);
        let obstacle = if page.mapping() != NONE {
            FolioEvent::UnmergedOwned
        } else if page.is_poisoned() {
            FolioEvent::UnmergedBad
        } else if !page.freeze() {
            FolioEvent::UnmergedPinned
        } else {
            continue;
        };
        for n in 0..n {
            range.page(n).unfreeze();
        }
        range.count(obstacle);
        return false;
    }
    range.join();
    range.page(0).unfreeze();
    range.count(FolioEvent::Merged);
    true
}

/// Takes a folio apart if it is not pinned. Its pages get the owner that `owner` returns, as mapping
/// and index; the first page keeps that of the folio. Returns whether it did.
#[inline(always)]
fn split<R: PageRange>(range: R, owner: impl Fn(usize) -> (usize, usize)) -> bool {
    let head = range.page(0);
    if !head.freeze() {
        return false;
    }
    for n in (1..R::PAGES).rev() {
        let (mapping, index) = owner(n);
        range.leave(n, mapping, index);
    }
    range.end();
    head.unfreeze();
    range.count(FolioEvent::Split);
    true
}

/// Replaces a PMD entry of `mapping` among the owners of a range by PTE entries of the same pages.
/// Takes the folio apart if it can. Returns `false` if the PMD entry was no owner.
#[inline]
pub(crate) fn split_range<R: PageRange>(lock: &impl OwnerLock, range: R, mapping: usize) -> bool {
    lock.with(|| {
        let head = range.page(0);
        if !head.is_head() {
            return true;
        }
        let (owner, index, parts) = (head.mapping(), head.index(), head.parts());
        let is_owner = match owner {
            SHARED => index != 0,
            owner => owner == mapping && parts == 0,
        };
        if !is_owner {
            return false;
        }
        // Which pages PTE entries name is not known, so with these the folio stays.
        let part = |n| match owner {
            SHARED => (SHARED, index),
            owner => (owner, index.wrapping_add(n)),
        };
        if parts == 0 && split(range, part) {
            return true;
        }
        range.count(match parts {
            0 => FolioEvent::UnsplitPinned,
            _ => FolioEvent::UnsplitOwned,
        });
        // OVERFLOW: There are fewer entries than bytes of memory.
        head.set_parts(parts.wrapping_add(R::PAGES));
        if owner == SHARED {
            head.set_index(index.wrapping_sub(1));
        }
        true
    })
}

/// What was found when an entry was removed from the owners of its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Removed {
    /// Whether the mapping was an owner. If not, each page has kept the owner it had.
    pub(crate) was_owner: bool,
    /// Whether a page was pinned.
    pub(crate) was_pinned: bool,
}

/// Removes a PTE entry of `mapping` from the owners of page `n` of a range, if the lock is free, the
/// page is a folio of its own that only `mapping` owns, and `is_pinned` says `false`. Returns whether
/// it did; [`remove_page`] does the rest.
///
/// This is what truncation does for each page. It calls nothing, so it saves no registers.
#[inline(always)]
pub(crate) fn try_remove_page<R: PageRange>(
    lock: &impl OwnerLock,
    range: R,
    n: usize,
    mapping: usize,
    is_pinned: impl Fn(R::Page) -> bool,
) -> bool {
    let removed = lock.try_with(|| {
        let page = range.page(n);
        // A tail page has something else in the place of the mapping, which is never one.
        let is_single = page.mapping() == mapping && (n != 0 || !page.is_head());
        let is_usual = is_single && !is_pinned(page);
        if is_usual {
            release(page);
        }
        is_usual
    });
    removed == Some(true)
}

/// Removes a PTE entry of `mapping` from the owners of page `n` of a range. `is_pinned` is asked about
/// the page if it is a folio of its own. C: `dax_page_share_put()`.
pub(crate) fn remove_page<R: PageRange>(
    lock: &impl OwnerLock,
    range: R,
    n: usize,
    mapping: usize,
    is_pinned: impl Fn(R::Page) -> bool,
) -> Removed {
    lock.with(|| {
        let page = range.page(n);
        if is_in_folio(page, n) {
            return Removed {
                was_owner: remove_part(range.page(0), mapping),
                was_pinned: false,
            };
        }
        Removed {
            was_pinned: is_pinned(page),
            was_owner: remove_from_page(page, mapping),
        }
    })
}

/// Removes a PMD entry of `mapping` from the owners of a range. `is_pinned` is asked about the first
/// page of each folio.
pub(crate) fn remove_range<R: PageRange>(
    lock: &impl OwnerLock,
    range: R,
    mapping: usize,
    is_pinned: impl Fn(R::Page) -> bool,
) -> Removed {
    lock.with(|| {
        let head = range.page(0);
        if !head.is_head() {
            return remove_from_pages(range, mapping, is_pinned);
        }
        let was_pinned = is_pinned(head);
        let was_owner = if head.mapping() == mapping && head.parts() == 0 {
            release(head);
            true
        } else {
            uncount_range(head)
        };
        Removed {
            was_owner,
            was_pinned,
        }
    })
}

/// Removes an entry from the owners of a page that is a folio of its own.
#[inline(always)]
fn remove_from_page<P: OwnedPage>(page: P, mapping: usize) -> bool {
    if page.mapping() == mapping {
        release(page);
        return true;
    }
    uncount_entry(page)
}

/// Leaves a page without owner, whose owner is one file.
#[inline(always)]
fn release<P: OwnedPage>(page: P) {
    page.set_index(0);
    page.set_mapping(NONE);
}

/// Removes a PMD entry from the owners of each page of a range that is not one folio.
#[cold]
#[inline(never)]
fn remove_from_pages<R: PageRange>(
    range: R,
    mapping: usize,
    is_pinned: impl Fn(R::Page) -> bool,
) -> Removed {
    let (mut was_owner, mut was_pinned) = (true, false);
    for n in 0..R::PAGES {
        let page = range.page(n);
        was_pinned |= is_pinned(page);
        was_owner &= remove_from_page(page, mapping);
    }
    Removed {
        was_owner,
        was_pinned,
    }
}

/// Removes one of the entries that name the page, if they are counted. Returns whether they are.
#[cold]
#[inline(never)]
fn uncount_entry<P: OwnedPage>(page: P) -> bool {
    if page.mapping() != SHARED {
        return false;
    }
    // OVERFLOW: This entry has been counted.
    let left = page.index().wrapping_sub(1);
    page.set_index(left);
    if left == 0 {
        page.set_mapping(NONE);
    }
    true
}

/// Removes one of the PMD entries that name a folio, if they are counted. Returns whether they are.
#[cold]
#[inline(never)]
fn uncount_range<P: OwnedPage>(head: P) -> bool {
    let entries = head.index();
    if head.mapping() != SHARED || entries == 0 {
        return false;
    }
    let left = entries.wrapping_sub(1);
    head.set_index(left);
    if left == 0 && head.parts() == 0 {
        head.set_mapping(NONE);
    }
    true
}

/// Removes one of the PTE entries that name parts of a folio, if they are counted. Returns whether
/// they are.
#[cold]
#[inline(never)]
fn remove_part<P: OwnedPage>(head: P, mapping: usize) -> bool {
    let (owner, parts) = (head.mapping(), head.parts());
    if parts == 0 || (owner != mapping && owner != SHARED) {
        return false;
    }
    let left = parts.wrapping_sub(1);
    head.set_parts(left);
    if left == 0 {
        if owner == mapping {
            head.set_index(0);
        }
        if head.index() == 0 {
            head.set_mapping(NONE);
        }
    }
    true
}
