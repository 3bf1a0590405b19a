// SPDX-License-Identifier: GPL-2.0-only

//! `fsync()` of what was stored through mappings.
//!
//! A store is not seen; the write fault before it is, and marks the entry dirty. To write an entry
//! back is to make the page table entries clean and read-only, and then to flush the CPU's caches:
//! the next store is a fault again, which waits until this is done, because the entry is locked.

use crate::lock;
use crate::{
    direct_access::DaxDeviceRef,
    entry::{page_of, Entry, Size},
    mapping::DaxMapping,
    trace,
    tree::{Found, Mark, Tree, Walk, CHECK},
    wait::Wake,
};
use kernel::{
    error::{code::EIO, Result},
    page::PAGE_SHIFT,
};

/// Writes back what has bytes from `first` to `last`, both included; nothing unless somebody waits
/// for `all` of it. Sleeps.
///
/// # Errors
///
/// `EIO` for what cannot be: the mapping is damaged then, or the filesystem has small blocks.
pub(crate) fn range(
    mapping: &DaxMapping,
    device: DaxDeviceRef<'_>,
    first: i64,
    last: i64,
    all: bool,
) -> Result {
    let inode = mapping.inode();
    if inode.block_bits() as usize != PAGE_SHIFT {
        kernel::warn_once!("fs_dax: a filesystem whose blocks are no pages");
        return Err(EIO);
    }
    if mapping.is_empty() || !all {
        return Ok(());
    }
    let (first, last) = (page_of(first), page_of(last));
    trace::writeback_range(inode, first, last);
    // What becomes dirty from now on is the matter of the next fsync, or this would never end.
    mapping.tag_for_writeback(first, last);

    let mut walk = Walk::new(mapping, first, Size::Page);
    let result = marked(&mut walk.lock(), device, last);
    if let Err(error) = result {
        mapping.set_error(error);
    }
    trace::writeback_range_done(inode, walk.index(), last);
    result
}

fn marked(tree: &mut Tree<'_, '_>, device: DaxDeviceRef<'_>, last: usize) -> Result {
    let mut scanned = 0usize;
    loop {
        match tree.find_marked(last, Mark::ToWrite) {
            Found::Nothing => return Ok(()),
            Found::Foreign => {
                kernel::warn_once!("fs_dax: a dirty page in the mapping of a DAX file");
                return Err(EIO);
            }
            Found::Entry(entry) => one(tree, device, entry)?,
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK == 0 {
            tree.pause();
        }
    }
}

/// Writes an entry back. The entries of the mapping are unlocked meanwhile; the walk stays here.
fn one(tree: &mut Tree<'_, '_>, device: DaxDeviceRef<'_>, found: Entry) -> Result {
    let mut entry = found;
    if found.is_locked() {
        match lock::wait_unlocked(tree, found) {
            // Somebody has taken it out.
            None => return Ok(()),
            Some(now) => entry = now,
        }
        // Another fsync was faster. What is there now need not be what was found: a fault may have
        // split it, and then this page of it is still to be written.
        if !tree.has(Mark::ToWrite) {
            lock::put(tree, entry, Wake::Next);
            return Ok(());
        }
    }
    let Some(pfn) = entry.pfn() else {
        kernel::warn_once!("fs_dax: a hole that is dirty");
        lock::put(tree, entry, Wake::Next);
        return Err(EIO);
    };

    // Another fsync looks at the entry under the lock that we have now, so it sees that it is not
    // marked, or that it is locked, and waits. It does not return before the flush.
    tree.replace(entry.locked());
    tree.unmark(Mark::ToWrite);
    let (first, pages) = (entry.size().align(tree.index()), entry.size().pages());
    tree.unlocked(|mapping| mapping.clean(device, pfn, first, pages));

    // Nobody has stored anything since: a fault waits for the entry.
    tree.replace(entry);
    tree.unmark(Mark::Dirty);
    tree.wake(entry, Wake::Next);
    trace::writeback_one(tree.mapping().inode(), first, pages);
    Ok(())
}
