// SPDX-License-Identifier: GPL-2.0-only

//! Blocks that cannot be freed yet, because somebody has pinned their pages.
//!
//! Who does I/O on a mapping has a reference to its pages: for a while, and also when the mapping
//! is gone. A filesystem that takes blocks away from a file asks here first, and waits.
//!
//! ```text
//!   who takes a page                          who frees blocks
//!   1. takes a reference                      1. takes it out of the page tables
//!   2. looks whether it is still mapped       2. looks at the references
//! ```
//!
//! So one of the two sees the other. New mappings are kept out by the filesystem's lock.

use crate::lock;
use crate::{
    entry::Size,
    mapping::DaxMapping,
    pages::Page,
    tree::{Found, Walk, CHECK},
    wait::Wake,
};

/// The first page, of those from `first` to `last`, both included, that somebody has. All of them
/// are taken out of the page tables first. Sleeps.
///
/// Somebody may have a page that nobody maps any more, and one whose entry is locked just now: C
/// passes over both.
pub(crate) fn busy_page(mapping: &DaxMapping, first: usize, last: usize) -> Option<Page> {
    if !mapping.inode().is_dax() || mapping.is_empty() {
        return None;
    }
    // The whole of a file has no end; the number of its pages is 0 then, which means that.
    let count = last.wrapping_sub(first).wrapping_add(1);
    mapping.unmap(first, count);

    let mut walk = Walk::new(mapping, first, Size::Page);
    let mut tree = walk.lock();
    let mut scanned = 0usize;
    loop {
        match tree.find(last) {
            Found::Nothing => return None,
            Found::Foreign => {
                kernel::warn_once!("fs_dax: a page in the mapping of a DAX file");
            }
            Found::Entry(entry) => {
                if let Some(entry) = lock::wait_unlocked(&mut tree, entry) {
                    let busy = entry.busy_page();
                    lock::put(&tree, entry, Wake::Next);
                    if busy.is_some() {
                        return busy;
                    }
                }
            }
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK == 0 {
            tree.pause();
        }
    }
}

/// Waits until nobody has a page of the file, which is about to be freed. Sleeps, and no signal ends
/// that: the blocks will be another file's. When it takes long, the log says what it waits for.
pub(crate) fn wait_all_idle(mapping: &DaxMapping) {
    const LONG: u32 = 8;

    let mut seconds = 0u32;
    while let Some(page) = busy_page(mapping, 0, usize::MAX) {
        page.wait_idle();
        seconds = seconds.saturating_add(1);
        if seconds >= LONG && seconds.is_power_of_two() {
            let inode = mapping.inode();
            let (major, minor) = inode.device_numbers();
            kernel::pr_warn!(
                "{} {major}:{minor}: inode {} is to be freed and somebody has its pages pinned\n",
                inode.filesystem_name(),
                inode.number(),
            );
        }
    }
}
