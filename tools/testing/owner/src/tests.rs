// SPDX-License-Identifier: GPL-2.0

//! Files that share a block of two pages, and the teardown of the pgmap.

use crate::explore::{explore, Failure, Task, Wrong};
use crate::memory::{Access, Memory, Violation, PAGES};
use crate::owner_state::{add_entry, remove_entry, OwnedPage, OwnerLock, NONE, SHARED};

/// What is wrong with a protocol on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The owner changes without the lock of the page.
    Unlocked,
    /// The mapping is not stored with release semantics.
    Relaxed,
    /// The index is cleared after the mapping.
    MappingFirst,
}

#[derive(Clone, Copy)]
struct Page<'a> {
    task: &'a Task,
    number: usize,
    broken: Broken,
}

impl OwnedPage for Page<'_> {
    fn mapping(self) -> usize {
        self.task.access(Access::Mapping(self.number))
    }

    fn set_mapping(self, to: usize) {
        let (page, release) = (self.number, self.broken != Broken::Relaxed);
        self.task.access(Access::SetMapping { page, to, release });
        if self.broken == Broken::MappingFirst && to == NONE {
            self.task.access(Access::SetIndex(page, 0));
        }
    }

    fn index(self) -> usize {
        self.task.access(Access::Index(self.number))
    }

    fn set_index(self, to: usize) {
        self.task.access(Access::SetIndex(self.number, to));
    }
}

struct Lock<'a>(&'a Task, Broken);

impl OwnerLock for Lock<'_> {
    fn with<R>(&self, change: impl FnOnce() -> R) -> R {
        if self.1 == Broken::Unlocked {
            return change();
        }
        self.0.access(Access::Lock);
        let result = change();
        self.0.access(Access::Unlock);
        result
    }
}

/// A file, whose mapping has the address of its task.
struct File<'a>(&'a Task, Broken);

impl<'a> File<'a> {
    /// Returns an address for the mapping of the file of a task.
    fn address(task: usize) -> usize {
        0x1000 * (task + 1)
    }

    fn pages(&self) -> impl Iterator<Item = Page<'a>> {
        let (task, broken) = (self.0, self.1);
        (0..PAGES).map(move |number| Page {
            task,
            number,
            broken,
        })
    }

    /// Handles a fault: replaces the entry, if the file `has` one, by another for the same pages.
    /// Returns whether the file has an entry.
    fn fault(&self, has: bool, shared: bool) -> bool {
        let task = self.0;
        if task.access(Access::BeginFault) == 0 {
            return has;
        }
        if has {
            self.forget();
        }
        let lock = Lock(task, self.1);
        add_entry(&lock, self.pages(), Self::address(task.number()), 7, shared);
        task.access(Access::SetEntry(task.number(), true));
        task.access(Access::EndFault);
        true
    }

    /// Takes the file's entry from the owners. The array is locked, so the entry is not seen to be
    /// there in between: the file has none from the moment at which it no longer accesses the pages.
    fn forget(&self) {
        let (task, lock) = (self.0, Lock(self.0, self.1));
        remove_entry(&lock, self.pages(), Self::address(task.number()));
    }

    /// Removes the entry, as truncation, eviction and revoking do.
    fn remove(&self, has: bool) {
        if has {
            self.0.access(Access::SetEntry(self.0.number(), false));
            self.forget();
        }
    }
}

/// Removes the device: kills it, waits until no page has an owner, and frees the memmap.
fn teardown(task: &Task) {
    task.access(Access::Kill);
    for page in 0..PAGES {
        task.access(Access::WaitUnowned(page));
    }
    task.access(Access::Free);
}

/// Requires that the owner of each page is exactly what the entries say.
fn exact(memory: &Memory) -> Result<(), String> {
    for page in 0..PAGES {
        let (owner, entries) = (memory.owner(page), memory.entries());
        let right = match entries {
            0 => owner == (NONE, 0),
            1 if owner.0 != SHARED => owner.0 != NONE,
            n => owner == (SHARED, n),
        };
        if !right {
            return Err(format!("page {page}: {owner:?}, but {entries} entries"));
        }
    }
    Ok(())
}

/// Returns memory in which the file of task 0 is the only owner.
fn owned_by_first() -> Memory {
    let mut memory = Memory::new(Some((File::address(0), 7)));
    memory.set_entry(0);
    memory
}

/// A fault of F again, beside the first fault of its clone G. Both keep their entries.
fn clone_is_faulted(broken: Broken, marked: bool) -> Result<usize, Failure> {
    explore(
        owned_by_first(),
        &[
            &|task| {
                let _ = File(task, broken).fault(true, true);
            },
            &|task| {
                let _ = File(task, broken).fault(false, marked);
            },
        ],
        exact,
    )
}

/// The same, after which both files lose their entries, beside the removal of the device.
fn device_is_removed(broken: Broken, marked: bool) -> Result<usize, Failure> {
    explore(
        owned_by_first(),
        &[
            &|task| {
                let file = File(task, broken);
                let has = file.fault(true, marked);
                file.remove(has);
            },
            &|task| {
                let file = File(task, broken);
                let has = file.fault(false, marked);
                file.remove(has);
            },
            &teardown,
        ],
        exact,
    )
}

#[test]
fn entries_of_two_files_are_counted() {
    for marked in [true, false] {
        clone_is_faulted(Broken::Nothing, marked).unwrap();
    }
}

#[test]
fn no_page_is_touched_after_teardown() {
    for marked in [true, false] {
        let states = device_is_removed(Broken::Nothing, marked).unwrap();
        assert!(states > 100, "only {states} states were explored");
    }
}

#[test]
fn entries_of_three_files_are_counted() {
    let fault = |task: &Task| {
        let _ = File(task, Broken::Nothing).fault(false, true);
    };
    explore(Memory::new(None), &[&fault, &fault, &fault], exact).unwrap();
}

#[test]
fn a_file_that_shares_with_nothing_leaves_nothing() {
    let only = |task: &Task| {
        let file = File(task, Broken::Nothing);
        let has = file.fault(false, false);
        file.remove(has);
    };
    explore(Memory::new(None), &[&only, &teardown], exact).unwrap();
}

#[test]
fn changes_without_the_lock_are_found_out() {
    let failure = clone_is_faulted(Broken::Unlocked, true).unwrap_err();
    assert!(
        matches!(&failure.wrong, Wrong::End(why) if why.starts_with("page")),
        "{failure:?}"
    );
    device_is_removed(Broken::Unlocked, true).unwrap_err();
}

#[test]
fn a_mapping_cleared_too_early_is_found_out() {
    let failure = device_is_removed(Broken::MappingFirst, true).unwrap_err();
    let Wrong::Violation(
        Violation::UseAfterFree(Access::SetIndex(..)) | Violation::FreedBeforeAccess,
    ) = failure.wrong
    else {
        panic!("{failure:?}");
    };
}

#[test]
fn a_mapping_cleared_without_release_is_found_out() {
    let failure = device_is_removed(Broken::Relaxed, true).unwrap_err();
    assert!(
        matches!(
            failure.wrong,
            Wrong::Violation(Violation::FreedBeforeAccess)
        ),
        "{failure:?}"
    );
}
