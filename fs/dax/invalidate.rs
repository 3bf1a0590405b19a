// SPDX-License-Identifier: GPL-2.0-only

//! Taking entries out.

use crate::lock::{self, Unlocked};
use kernel::dax::{
    entry::Size,
    mapping::Mapping,
    tree::{Found, Mark, Walk, CHECK},
    wait::Wake,
};

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
pub(crate) fn remove(mapping: &Mapping, index: usize, when: When) -> bool {
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

/// Says that nobody has written to any page from `first` to `last`, both included. Sleeps.
pub(crate) fn clear_dirty(mapping: &Mapping, first: usize, last: usize) {
    let mut walk = Walk::new(mapping, first, Size::Page);
    let mut tree = walk.lock();
    let mut scanned = 0usize;
    loop {
        match tree.find(last) {
            Found::Nothing => return,
            Found::Foreign => (),
            Found::Entry(entry) => {
                if let Some(entry) = lock::wait_unlocked(&mut tree, entry) {
                    tree.unmark(Mark::Dirty);
                    tree.unmark(Mark::ToWrite);
                    lock::put(&tree, entry, Wake::Next);
                }
            }
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK == 0 {
            tree.pause();
        }
    }
}
