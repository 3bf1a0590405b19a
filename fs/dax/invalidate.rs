// SPDX-License-Identifier: GPL-2.0-only

//! Taking entries out.

use crate::lock::{self, LockedEntry, Unlocked};
use crate::{
    entry::{page_of, Entry, Size},
    mapping::DaxMapping,
    tree::{Found, Mark, Patience, Tree, Walk, CHECK},
    wait::Wake,
};
use kernel::{error::Result, fs::address_space::AddressSpace};

/// When an entry is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The file is truncated: always.
    Truncated,
    /// The memory is to be read anew: unless somebody may have written to it.
    Clean,
}

/// Takes the entry out that has the page `index`, once it is not locked. Sleeps. Returns whether it
/// has.
pub(crate) fn remove(mapping: &DaxMapping, index: usize, when: When) -> bool {
    let mut walk = Walk::new(mapping, index, Size::Page);
    let mut tree = walk.lock();
    let Unlocked::Entry(entry) = lock::find_unlocked(&mut tree, Size::Page) else {
        return false;
    };
    let kept = when == When::Clean && (tree.has(Mark::Dirty) || tree.has(Mark::ToWrite));
    if !kept {
        entry.disassociate(mapping, when == When::Truncated);
        tree.remove();
        tree.remove_pages(entry.size());
    }
    lock::put(&tree, entry, Wake::All);
    !kept
}

/// The bytes from `first` to `end`, not included, get blocks of their own, where they had some that
/// are shared: their entries go. Entries that are dirty would not; but these have a copy from now on.
/// Sleeps.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn shared(mapping: &AddressSpace, first: i64, end: i64) -> Result {
    let (first, last) = (page_of(first), page_of(end.wrapping_sub(1)));
    if let Some(mapping) = DaxMapping::new(mapping) {
        clear_dirty(mapping, first, last)?;
    }
    mapping.invalidate(first, last);
    Ok(())
}

/// The pages from `first` to `end`, not included, are about to be taken out: an entry of 2 MiB with
/// memory on both sides of a bound is split. Sleeps.
///
/// The pages that stay may be dirty, mapped and pinned. C takes the whole entry out and forgets
/// that: a later fsync does not write them back. It has to be done before, because
/// `truncate_inode_pages_range()` goes on behind a large entry that it found: if only the page that it
/// asked for went, the rest of the range would keep entries of blocks that are not the file's.
pub(crate) fn split_bounds(mapping: &DaxMapping, first: usize, end: usize) {
    for bound in [first, end] {
        // All ones is the end of every file.
        if bound & Size::Huge.colour() != 0 && bound != usize::MAX {
            split_at(mapping, bound);
        }
    }
}

fn split_at(mapping: &DaxMapping, index: usize) {
    let mut walk = Walk::new(mapping, index, Size::Page);
    let mut tree = walk.lock();
    let Unlocked::Entry(entry) = lock::find_unlocked(&mut tree, Size::Page) else {
        return;
    };
    if entry.size() == Size::Page || !entry.has_frames() {
        lock::put(&tree, entry, Wake::Next);
        return;
    }
    tree.replace(entry.locked());
    drop(tree);
    // Who truncates cannot go back.
    let split = LockedEntry::new(&mut walk, entry).split(Patience::Endless);
    if split.is_err() {
        kernel::warn_once!("fs_dax: an entry of 2 MiB cannot be split");
    }
}

/// Says that nobody has written to any page from `first` to `last`, both included. What is around
/// them keeps its marks: an entry of 2 MiB with memory on both sides of a bound is split. Sleeps.
///
/// # Errors
///
/// `ENOMEM`.
fn clear_dirty(mapping: &DaxMapping, first: usize, last: usize) -> Result {
    let mut walk = Walk::new(mapping, first, Size::Page);
    loop {
        let mut tree = walk.lock();
        let Some(entry) = clear_until_bound(&mut tree, first, last) else {
            return Ok(());
        };
        tree.replace(entry.locked());
        drop(tree);
        LockedEntry::new(&mut walk, entry).split(Patience::Some)?;
    }
}

/// The same until an entry that has to be split, which is returned, and where the walk is then, not
/// before `first`.
fn clear_until_bound(tree: &mut Tree<'_, '_>, first: usize, last: usize) -> Option<Entry> {
    let mut scanned = 0usize;
    loop {
        let entry = match tree.find(last) {
            Found::Nothing => return None,
            Found::Foreign => None,
            Found::Entry(entry) => lock::wait_unlocked(tree, entry),
        };
        if let Some(entry) = entry {
            let start = entry.size().align(tree.index());
            let end = start | entry.size().colour();
            if entry.has_frames() && (start < first || end > last) {
                tree.set(tree.index().max(first));
                return Some(entry);
            }
            tree.unmark(Mark::Dirty);
            tree.unmark(Mark::ToWrite);
            lock::put(tree, entry, Wake::Next);
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK == 0 {
            tree.pause();
        }
    }
}
