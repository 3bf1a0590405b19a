// SPDX-License-Identifier: GPL-2.0-only

//! Taking the memory of a device away from all files, because the device goes.
//!
//! A filesystem may be mounted when the driver of its device is unbound, and stays so until it is
//! unmounted. Its files have entries, whose pages are about to lose their `struct page`, and user
//! space may have them mapped. So each is taken out here: who touches the page later faults, and
//! gets no memory from a device that is dead.
//!
//! A page names its file, and so its filesystem, whose files this goes through. One that files share
//! does not; then it goes through those of all filesystems.
//!
//! Lock order: `s_umount` of the filesystem, `invalidate_lock` of the file, then as for a truncate
//! (see [`lock`]). `invalidate_lock` because who truncates has seen an entry and expects it to be
//! there until he takes it out.

use crate::lock;
use crate::{
    entry::{Entry, Size},
    folio::Owners,
    mapping::DaxMapping,
    tree::{Found, Mark, Tree, Walk, CHECK},
    wait::Wake,
};
use kernel::{
    fs::{inode::Inode, super_block},
    mm::{memremap::DevPagemap, pfn::Pfn},
};

/// Takes the memory of this pgmap out of page tables and from the files of these filesystems.
/// Returns how many entries it took. Sleeps.
///
/// The device is dead: nobody gets new memory from it. An inode that is just being freed loses its
/// entries without this, a moment later.
pub(crate) fn from_files(pgmap: &DevPagemap, owners: Owners) -> usize {
    let is_lost = |pfn| pgmap.covers(pfn);
    let mut removed = 0usize;
    let visit = |inode: &Inode| {
        let Some(mapping) = DaxMapping::of(inode) else {
            return;
        };
        // Who has nothing of it is not waited for, whatever he waits for.
        if has_lost(mapping, is_lost) {
            removed = removed.wrapping_add(from_file(mapping, is_lost));
        }
    };
    match owners {
        Owners::None => {}
        Owners::Filesystem(device) => super_block::for_each_inode_of(device, is_candidate, visit),
        Owners::Several => super_block::for_each_inode(is_candidate, visit),
    }
    removed
}

/// Whether a file may have memory of a device.
fn is_candidate(inode: &Inode) -> bool {
    inode.is_dax() && !inode.is_char_device() && !inode.mapping().is_empty()
}

/// Whether a file has an entry with such memory, locked or not.
fn has_lost(mapping: &DaxMapping, is_lost: impl Fn(Pfn) -> bool) -> bool {
    let mut walk = Walk::new(mapping, 0, Size::Page);
    let mut tree = walk.lock();
    let mut scanned = 0usize;
    loop {
        match tree.find(usize::MAX) {
            Found::Nothing => return false,
            Found::Entry(entry) if entry.pfn().is_some_and(&is_lost) => return true,
            Found::Entry(_) | Found::Foreign => {}
        }
        scanned = scanned.wrapping_add(1);
        if scanned % CHECK == 0 {
            tree.pause();
        }
    }
}

fn from_file(mapping: &DaxMapping, is_lost: impl Fn(Pfn) -> bool) -> usize {
    let _kept_out = mapping.lock_invalidate();
    let mut walk = Walk::new(mapping, 0, Size::Page);
    let mut tree = walk.lock();
    let (mut scanned, mut removed) = (0usize, 0usize);
    loop {
        match tree.find(usize::MAX) {
            Found::Nothing => return removed,
            Found::Foreign => {
                kernel::warn_once!("fs_dax: a page in the mapping of a DAX file");
            }
            // One that is locked and has no such memory gets none: nobody faults it in.
            Found::Entry(entry) if entry.pfn().is_some_and(&is_lost) => {
                if let Some(entry) = lock::wait_unlocked(&mut tree, entry) {
                    remove(&mut tree, entry);
                    removed = removed.wrapping_add(1);
                }
            }
            Found::Entry(_) => {}
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
