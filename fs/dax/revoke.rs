// SPDX-License-Identifier: GPL-2.0-only

//! Taking the memory of a device away from all files, because the device goes.
//!
//! A filesystem may be mounted when the driver of its device is unbound, and stays so until it is
//! unmounted. Its files have entries, whose pages are about to lose their `struct page`, and user
//! space may have them mapped. So each is taken out here: who touches the page later faults, and
//! gets no memory from a device that is dead.
//!
//! A page names its file, but one that files share does not, so this goes through the files.

use crate::lock;
use kernel::{
    dax::{
        entry::{Entry, Size},
        mapping::Mapping,
        tree::{Found, Mark, Tree, Walk, CHECK},
        wait::Wake,
    },
    fs::super_block,
    mm::{pagemap::Pagemap, pfn::Pfn},
};

/// Takes all memory of this page map out of page tables and from files. Sleeps.
///
/// The device is dead: nobody gets new memory from it. An inode that is just being freed loses its
/// entries without this, a moment later.
pub(crate) fn from_files(pagemap: &Pagemap) {
    super_block::for_each_inode(
        |inode| inode.is_dax() && !inode.is_char_device() && !inode.mapping().is_empty(),
        |inode| from_file(inode.mapping(), |pfn| pagemap.covers(pfn)),
    );
}

fn from_file(mapping: &Mapping, is_lost: impl Fn(Pfn) -> bool) {
    let mut walk = Walk::new(mapping, 0, Size::Page);
    let mut tree = walk.lock();
    let mut scanned = 0usize;
    loop {
        match tree.find(usize::MAX) {
            Found::Nothing => return,
            Found::Foreign => {
                kernel::warn_once!("fs_dax: a page in the mapping of a DAX file");
            }
            Found::Entry(entry) => {
                if let Some(entry) = lock::wait_unlocked(&mut tree, entry) {
                    if entry.pfn().is_some_and(&is_lost) {
                        remove(&mut tree, entry);
                    } else {
                        lock::put(&tree, entry, Wake::Next);
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

/// Takes out the entry here, which is not locked, and goes behind it.
fn remove(tree: &mut Tree<'_, '_>, entry: Entry) {
    let (first, pages) = (entry.size().align(tree.index()), entry.size().pages());
    let dirty = tree.has(Mark::Dirty) || tree.has(Mark::ToWrite);
    // Locked, so that nobody maps it again between the two.
    tree.replace(entry.locked());
    tree.unlocked(|mapping| {
        mapping.unmap(first, pages);
        if dirty {
            // An fsync that comes later does not find it.
            entry.write_back();
        }
    });
    tree.load();
    entry.disassociate(tree.mapping(), false);
    tree.remove();
    tree.remove_pages(entry.size());
    lock::put(tree, entry, Wake::All);
    // OVERFLOW: Entries end within the file.
    tree.set(first.wrapping_add(pages));
}
