// SPDX-License-Identifier: GPL-2.0-only

//! Locking an entry.
//!
//! A fault takes long: the filesystem may allocate blocks, data may be copied. For that time the
//! entry of the page, or of the 2 MiB, is locked: by a bit in it, so that faults of other pages go
//! on. Whoever wants to fault it in, write it back or truncate it waits for the bit.
//!
//! ```text
//!                    grab()                          LockedEntry dropped
//!   nothing -----------------------> empty, locked ----+--------------> empty
//!   unlocked entry ----------------> the same, locked  |                the same
//!                                          | insert    |
//!                                          v           |
//!                                    frames, locked ---+--------------> frames
//! ```
//!
//! Lock order: the filesystem's lock that keeps truncate out (`invalidate_lock`), the bit, and
//! under it all that a fault needs: locks of the filesystem for allocation, the lock of `i_mmap`,
//! page table locks. The lock of the array (`i_pages`) is a leaf, and is held to look and to change
//! a word only.
//!
//! An entry has one size. Small ones win: a huge fault that finds a small entry falls back, and a
//! small fault that finds a huge hole splits it. A huge entry with memory stays, and small faults
//! of it lock it as a whole, until a page of it gets another block, or a part of it is truncated.

use crate::{
    entry::{Entry, Size},
    mapping::DaxMapping,
    tree::{Found, Patience, Tree, Walk},
    wait::Wake,
};
use kernel::{
    error::{code::ENOMEM, Result},
    mm::fault::VmFaultResult,
};

/// An entry that we have locked. Dropping it unlocks it, and wakes who waits next.
///
/// # Invariants
///
/// What is in the mapping where `walk` is, is `entry`, locked, and we have locked it.
#[must_use = "the entry is unlocked at once when it is dropped"]
pub(crate) struct LockedEntry<'w, 'a> {
    walk: &'w mut Walk<'a>,
    entry: Entry,
}

impl<'w, 'a> LockedEntry<'w, 'a> {
    /// The entry that was found in `walk`'s place, and locked there: by us, or for us.
    pub(crate) fn new(walk: &'w mut Walk<'a>, entry: Entry) -> Self {
        Self {
            walk,
            entry: entry.unlocked(),
        }
    }

    /// The entry, as it will be when it is unlocked.
    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// The mapping that it is in.
    pub(crate) fn mapping(&self) -> &'a DaxMapping {
        self.walk.mapping()
    }

    /// The page that it was locked for. A huge entry may begin before it.
    pub(crate) fn index(&self) -> usize {
        self.walk.index()
    }

    /// Locks the entries of the mapping, for looking at this one.
    pub(crate) fn tree(&mut self) -> Tree<'_, 'a> {
        self.walk.lock()
    }

    /// If it is huge memory: makes it as many small entries, and has that locked which it was locked
    /// for. Sleeps.
    ///
    /// Where a file shares its blocks, one page of a huge entry may get a block of its own. C puts a
    /// small entry in the place of the huge one then, which stands for 2 MiB and counts as a page.
    /// And a file may lose some of these pages, and keep others.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, unless the patience is endless.
    pub(crate) fn split(&mut self, patience: Patience) -> Result {
        let (huge, index) = (self.entry, self.index());
        let first = huge.size().align(index);
        let part = |page: usize| huge.part(page.wrapping_sub(first));
        let (Size::Huge, Some(ours)) = (huge.size(), part(index)) else {
            return Ok(());
        };
        self.walk.prepare_split(ours.locked(), patience)?;
        let mut tree = self.walk.lock();
        tree.split();
        for page in (0..huge.size().pages()).map(|n| first.wrapping_add(n)) {
            tree.set(page);
            if let (Some(entry), true) = (part(page), page != index) {
                tree.replace(entry);
            }
        }
        tree.set(index);
        // Who waits for the huge entry waits in another queue than who will wait for the small.
        tree.wake(huge, Wake::All);
        drop(tree);
        // INVARIANT: In its place, locked.
        self.entry = ours;
        Ok(())
    }

    /// Says that `entry` has been put in its place, locked.
    pub(crate) fn replaced_by(&mut self, entry: Entry) {
        self.entry = entry;
    }
}

impl Drop for LockedEntry<'_, '_> {
    fn drop(&mut self) {
        let entry = self.entry;
        let old = self.tree().replace(entry);
        if !old.entry().is_some_and(Entry::is_locked) {
            kernel::warn_once!("fs_dax: an entry that was locked is not locked any more");
        }
        self.walk.wake(entry, Wake::Next);
    }
}

/// What is at a place when nobody has it locked.
pub(crate) enum Unlocked {
    /// Nothing.
    Nothing,
    /// An entry, perhaps larger than the one that was asked for.
    Entry(Entry),
    /// An entry that is smaller.
    Conflict,
    /// Something that is no entry.
    Foreign,
}

/// Looks for the first entry at a place for one of this size, and waits until it is not locked.
/// Sleeps; the entries of the mapping are unlocked meanwhile.
///
/// The caller locks what is found, or [puts](put) it.
// Where `size` is known the first look is a few instructions, and it is nearly always the last.
#[inline(always)]
pub(crate) fn find_unlocked(tree: &mut Tree<'_, '_>, size: Size) -> Unlocked {
    loop {
        let entry = match tree.find_conflict() {
            Found::Nothing => return Unlocked::Nothing,
            Found::Entry(entry) => entry,
            Found::Foreign => {
                kernel::warn_once!("fs_dax: a page in the mapping of a DAX file");
                return Unlocked::Foreign;
            }
        };
        if size == Size::Huge && entry.size() == Size::Page {
            return Unlocked::Conflict;
        }
        if !entry.is_locked() {
            return Unlocked::Entry(entry);
        }
        tree.wait(entry);
    }
}

/// Waits until the entry that was found here by a scan is not locked, and returns what it is then.
/// Sleeps; the entries of the mapping are unlocked meanwhile.
///
/// A scan has to wait for *this* place: who looked for the next entry of the place from here on
/// would find none, and pass over one that somebody holds. C does, wherever it scans.
///
/// The caller locks what is found, or [puts](put) it.
pub(crate) fn wait_unlocked(tree: &mut Tree<'_, '_>, mut entry: Entry) -> Option<Entry> {
    while entry.is_locked() {
        tree.wait(entry);
        entry = tree.load().entry()?;
    }
    Some(entry)
}

/// Passes a wake-up on to whom it serves, because the entry was not locked.
pub(crate) fn put(tree: &Tree<'_, '_>, entry: Entry, whom: Wake) {
    tree.wake(entry, whom);
}

/// Why an entry could not be locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There are smaller entries.
    Conflict,
    /// No memory for it.
    NoMemory,
    /// The mapping is damaged.
    Damaged,
}

impl Refused {
    /// What becomes of the fault.
    pub(crate) fn answer(self) -> VmFaultResult {
        match self {
            Self::Conflict => VmFaultResult::FALLBACK,
            Self::NoMemory => VmFaultResult::OOM,
            Self::Damaged => VmFaultResult::SIGBUS,
        }
    }
}

/// Locks the entry for a fault of this size; one that is empty if there is none. Sleeps.
///
/// A huge hole is split for a small fault.
pub(crate) fn grab<'w, 'a>(
    walk: &'w mut Walk<'a>,
    size: Size,
) -> Result<LockedEntry<'w, 'a>, Refused> {
    let entry = loop {
        let mut tree = walk.lock();
        let found = match find_unlocked(&mut tree, size) {
            Unlocked::Conflict => return Err(Refused::Conflict),
            Unlocked::Foreign => return Err(Refused::Damaged),
            Unlocked::Nothing => None,
            Unlocked::Entry(entry)
                if size == Size::Page && entry.size() == Size::Huge && !entry.has_frames() =>
            {
                split(&mut tree, entry);
                None
            }
            Unlocked::Entry(entry) => Some(entry),
        };
        if let Some(entry) = found {
            tree.replace(entry.locked());
            break entry;
        }
        let entry = Entry::empty(size);
        tree.store(entry.locked());
        let error = tree.error();
        if error.is_none() {
            tree.add_pages(size);
            break entry;
        }
        drop(tree);
        match error {
            _ if walk.allocate() => (),
            Some(error) if error == ENOMEM => return Err(Refused::NoMemory),
            _ => return Err(Refused::Damaged),
        }
    };
    // INVARIANT: Locked just now.
    Ok(LockedEntry { walk, entry })
}

/// Takes a huge hole out, so that there is room for small entries.
fn split(tree: &mut Tree<'_, '_>, entry: Entry) {
    let index = tree.index();
    // For the time that the entries of the mapping are not locked.
    tree.replace(entry.locked());
    if entry.is_zero() {
        tree.unlocked(|mapping| {
            mapping.unmap(entry.size().align(index), entry.size().pages());
        });
    }
    // It has no pages that belong to the file.
    tree.remove();
    tree.wake(entry, Wake::All);
    tree.remove_pages(entry.size());
    tree.set(index);
}
