// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! The owner of a page as one state, and how entries change it.
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
//! The state is in two words, `page->mapping` and `page->index`. It changes under the lock of the
//! page, and not under that of the array of the file: files that share a block have an array each.
//! So each entry is counted, whichever files add and remove entries at the same time, and whatever
//! the filesystem says about the block. (erofs lets files share chunks without saying so; so does a
//! damaged filesystem.)
//!
//! Teardown of the pgmap reads the first word without the lock. If that is [`NONE`], no file
//! accesses the page any more, and its memmap may be freed. So `NONE` is stored last, with release
//! semantics: it is the last access of a file to a page.
//!
//! This file uses nothing of the kernel, so that `tools/testing/owner` can explore all interleavings
//! of it on the host.

/// The value of `page->mapping` for a page that has no owner.
pub(crate) const NONE: usize = 0;

/// The value of `page->mapping` for a page whose entries are counted. C: `PAGE_MAPPING_DAX_SHARED`,
/// `dax_page_is_shared()`.
pub(crate) const SHARED: usize = 1;

/// The two words of a page that say which entries name it.
pub(crate) trait OwnedPage: Copy {
    /// Returns `page->mapping`.
    fn mapping(self) -> usize;

    /// Sets `page->mapping`, with release semantics.
    fn set_mapping(self, mapping: usize);

    /// Returns `page->index`, which is the number of entries of a page that is [`SHARED`].
    fn index(self) -> usize;

    /// Sets `page->index`.
    fn set_index(self, index: usize);
}

/// The lock of the pages of an entry.
pub(crate) trait OwnerLock {
    /// Calls `change` with the lock held.
    fn with<R>(&self, change: impl FnOnce() -> R) -> R;
}

/// Counts an entry of `mapping`, whose first page has this index there, as an owner of its pages.
/// Returns `false` if the block is not `shared`, but another entry names one of the pages: then the
/// filesystem has not told that files share it.
#[inline(always)]
pub(crate) fn add_entry<P: OwnedPage>(
    lock: &impl OwnerLock,
    pages: impl Iterator<Item = P>,
    mapping: usize,
    index: usize,
    shared: bool,
) -> bool {
    lock.with(|| {
        let mut expected = true;
        if shared {
            pages.for_each(|page| {
                count_entry(page);
            });
        } else {
            // `for_each` rather than a loop, and all that is rare in a function of its own, here and
            // below: that compiles to fewer instructions per page.
            let mut index = index;
            pages.for_each(|page| {
                if page.mapping() == NONE {
                    page.set_mapping(mapping);
                    page.set_index(index);
                } else {
                    expected &= count_entry(page);
                }
                index = index.wrapping_add(1);
            });
        }
        expected
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

/// Removes an entry of `mapping` from the owners of its pages. Returns `false` if one of the pages
/// belongs to no file or to another one; its owner stays. C: `dax_page_share_put()`.
#[inline(always)]
pub(crate) fn remove_entry<P: OwnedPage>(
    lock: &impl OwnerLock,
    pages: impl Iterator<Item = P>,
    mapping: usize,
) -> bool {
    lock.with(|| {
        let mut expected = true;
        pages.for_each(|page| {
            if page.mapping() == mapping {
                page.set_index(0);
                page.set_mapping(NONE);
            } else {
                expected &= uncount_entry(page);
            }
        });
        expected
    })
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
