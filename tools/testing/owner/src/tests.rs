// SPDX-License-Identifier: GPL-2.0

//! Files that share a block of two pages, GUP, and the teardown of the pgmap.

use crate::explore::{explore, Failure, Task, Wrong};
use crate::memory::{Access, Memory, Violation, LARGE, PAGES, TASKS};
use crate::owner_state::{
    add_page, add_range, remove_page, remove_range, split_range, try_remove_page, FolioEvent,
    OwnedPage, OwnerLock, PageRange, NONE, SHARED,
};

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
    /// The end of a freeze stores a count.
    StoredCount,
    /// GUP does not look at the pages again after it has taken them.
    NoLook,
    /// A folio is taken apart while it is pinned.
    NoFreeze,
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

    fn parts(self) -> usize {
        self.task.access(Access::Parts)
    }

    fn set_parts(self, to: usize) {
        self.task.access(Access::SetParts(to));
    }

    fn is_head(self) -> bool {
        self.number == 0 && self.task.access(Access::IsHead) != 0
    }

    fn is_tail(self) -> bool {
        self.number != 0 && self.task.access(Access::IsTail(self.number)) != 0
    }

    fn is_poisoned(self) -> bool {
        false
    }

    fn freeze(self) -> bool {
        if self.broken == Broken::NoFreeze {
            self.task.access(Access::Add(self.number, -1));
            return true;
        }
        self.task.access(Access::Freeze(self.number)) != 0
    }

    fn unfreeze(self) {
        if self.broken == Broken::StoredCount {
            self.task.access(Access::SetCount(self.number, 1));
        } else {
            self.task.access(Access::Add(self.number, 1));
        }
    }
}

/// The pages. They are merged if `MERGES`.
#[derive(Clone, Copy)]
struct Range<'a, const MERGES: bool>(&'a Task, Broken);

impl<'a, const MERGES: bool> PageRange for Range<'a, MERGES> {
    type Page = Page<'a>;

    const PAGES: usize = PAGES;
    const MERGES: bool = MERGES;

    fn page(self, number: usize) -> Page<'a> {
        let (task, broken) = (self.0, self.1);
        Page {
            task,
            number,
            broken,
        }
    }

    fn join(self) {
        for n in 1..PAGES {
            self.0.access(Access::SetTail(n, true));
        }
        self.0.access(Access::SetHead(true));
    }

    fn leave(self, n: usize, mapping: usize, index: usize) {
        self.page(n).set_index(index);
        self.page(n).set_mapping(mapping);
        self.0.access(Access::SetTail(n, false));
        self.page(n).unfreeze();
    }

    fn end(self) {
        self.0.access(Access::SetHead(false));
    }

    fn count(self, _event: FolioEvent) {}
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

/// The index of the first page in each file.
const INDEX: usize = 7;

/// A file, whose mapping has the address of its task.
struct File<'a, const MERGES: bool>(&'a Task, Broken);

impl<'a, const MERGES: bool> File<'a, MERGES> {
    /// Returns an address for the mapping of the file of a task.
    fn address(task: usize) -> usize {
        0x1000 * (task + 1)
    }

    fn range(&self) -> Range<'a, MERGES> {
        Range(self.0, self.1)
    }

    fn set_entries(&self, to: u8) {
        self.0.access(Access::SetEntries(self.0.number(), to));
    }

    fn set_leaf(&self, to: bool) {
        self.0.access(Access::SetLeaf(self.0.number(), to));
    }

    /// Handles a fault of all pages: replaces the entry, if the file `has` one, by another for the same
    /// pages, and maps them. Returns whether the file has an entry.
    fn fault(&self, has: bool, shared: bool) -> bool {
        let task = self.0;
        if task.access(Access::Begin) == 0 {
            return has;
        }
        if has {
            self.forget();
        }
        let (lock, mapping) = (Lock(task, self.1), Self::address(task.number()));
        add_range(&lock, self.range(), mapping, INDEX, shared);
        self.set_entries(LARGE);
        self.set_leaf(true);
        task.access(Access::End);
        true
    }

    /// Handles the first fault of page `n`. Returns whether the file has an entry.
    fn fault_page(&self, n: usize) -> bool {
        let task = self.0;
        if task.access(Access::Begin) == 0 {
            return false;
        }
        let (lock, mapping) = (Lock(task, self.1), Self::address(task.number()));
        add_page(&lock, self.range(), n, mapping, INDEX + n, false);
        self.set_entries(1 << n);
        task.access(Access::End);
        true
    }

    /// Takes the file's entry from the owners. The array is locked, so the entry is not seen to be
    /// there in between: the file has none from the moment at which it no longer accesses the pages.
    fn forget(&self) {
        let (task, lock) = (self.0, Lock(self.0, self.1));
        remove_range(&lock, self.range(), Self::address(task.number()), |_| false);
    }

    /// Removes the entry, as truncation, eviction and revoking do.
    fn remove(&self, has: bool) {
        if has {
            self.set_leaf(false);
            self.set_entries(0);
            self.forget();
        }
    }

    /// Removes the entry of page `n`.
    fn remove_page(&self, n: usize, left: u8) {
        let (task, lock) = (self.0, Lock(self.0, self.1));
        self.set_entries(left);
        let mapping = Self::address(task.number());
        if !try_remove_page(&lock, self.range(), n, mapping, |_| false) {
            remove_page(&lock, self.range(), n, mapping, |_| false);
        }
    }

    /// Splits the entry, and removes the pages one by one: first a part of the file is truncated,
    /// then the rest.
    fn remove_by_pages(&self) {
        self.set_leaf(false);
        let mapping = Self::address(self.0.number());
        split_range(&Lock(self.0, self.1), self.range(), mapping);
        let mut left = (1u8 << PAGES) - 1;
        self.set_entries(left);
        for n in (0..PAGES).rev() {
            left &= !(1 << n);
            self.remove_page(n, left);
        }
    }
}

/// What a walk of GUP has taken: the pages from one on, as parts of a folio or as single pages.
struct Pinned {
    first: usize,
    folio: bool,
}

/// Takes the pages from `first` on, by the steps of `arch/x86/mm/gup/device_run.rs`. Returns `None` if they
/// change.
fn take(task: &Task, first: usize, broken: Broken) -> Option<Pinned> {
    let pages = (PAGES - first) as isize;
    let is_part = || match first {
        0 => task.access(Access::IsHead) != 0,
        n => task.access(Access::IsTail(n)) != 0,
    };
    if is_part() {
        // The page is looked at again to find its folio.
        let folio = match is_part() {
            true => 0,
            false => first,
        };
        if task.access(Access::AddUnlessZero(folio, pages)) == 0 {
            return None;
        }
        if broken != Broken::NoLook && !(is_part() && task.access(Access::IsHead) != 0) {
            task.access(Access::Add(folio, -pages));
            return None;
        }
        task.access(Access::AddPin(pages));
        return Some(Pinned { first, folio: true });
    }
    let mut taken = first;
    while taken < PAGES {
        let add = match taken {
            0 => Access::AddUnlessZero(0, 1),
            n => Access::Add(n, 1),
        };
        if task.access(add) == 0 {
            if taken != 0 {
                task.access(Access::Add(taken, -1));
            }
            break;
        }
        taken += 1;
    }
    if taken < PAGES || (broken != Broken::NoLook && is_part()) {
        for n in first..taken {
            task.access(Access::Add(n, -1));
        }
        return None;
    }
    Some(Pinned {
        first,
        folio: false,
    })
}

/// Pins the pages from `first` on that the process has mapped from the file of task `file`, without a
/// lock. Then the holder of the pin puts it.
fn pin(task: &Task, file: usize, first: usize, broken: Broken) {
    if task.access(Access::Begin) == 0 {
        return;
    }
    let mut pinned = None;
    if task.access(Access::Leaf(file)) != 0 {
        pinned = take(task, first, broken);
        if let (Some(taken), 0) = (&pinned, task.access(Access::Leaf(file))) {
            put(task, taken);
            pinned = None;
        }
    }
    task.access(Access::End);
    if let Some(pinned) = pinned {
        put(task, &pinned);
    }
}

/// Puts a pin. What it is one of has not changed since: a page of a folio is one still.
fn put(task: &Task, pinned: &Pinned) {
    let pages = (PAGES - pinned.first) as isize;
    if pinned.folio {
        task.access(Access::AddPin(-pages));
        task.access(Access::Add(0, -pages));
        return;
    }
    for n in pinned.first..PAGES {
        task.access(Access::Add(n, -1));
    }
}

/// Removes the device: kills it, waits until no folio is in use, and frees the memmap.
fn teardown(task: &Task) {
    task.access(Access::Kill);
    let was_head = task.access(Access::IsHead) != 0;
    task.access(Access::WaitUnused(0));
    // The folio may have been taken apart as long as it had an owner.
    if !(was_head && task.access(Access::IsHead) != 0) {
        for page in 1..PAGES {
            task.access(Access::WaitUnused(page));
        }
    }
    task.access(Access::Free);
}

/// Requires that the owner of each page is exactly what the entries say, and that nothing is pinned.
fn exact(memory: &Memory) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {memory:?}"));
    let entries = memory.entries();
    let large = entries.iter().filter(|has| **has == LARGE).count();
    let of_page = |page: usize| {
        entries
            .iter()
            .filter(|has| (**has >> page) & 1 != 0)
            .count()
    };
    let files = entries.iter().filter(|has| **has != 0).count();
    let Some(is_folio) = memory.is_folio() else {
        return wrong("neither one folio nor single pages");
    };
    if memory.pins() != 0 {
        return wrong("pins");
    }
    for page in 0..PAGES {
        let count = usize::from(!is_folio || page == 0);
        if memory.count(page) != count {
            return wrong("counts");
        }
    }
    if is_folio {
        let parts = (0..PAGES).map(of_page).sum::<usize>();
        let right = match memory.owner(0) {
            (NONE, index) => files == 0 && index == 0 && memory.parts() == 0,
            (SHARED, index) => files != 0 && index == large && memory.parts() == parts,
            (_, index) => files == 1 && index == INDEX && memory.parts() == parts,
        };
        return if right { Ok(()) } else { wrong("folio") };
    }
    for page in 0..PAGES {
        let (owner, entries) = (memory.owner(page), large + of_page(page));
        let right = match entries {
            0 => owner == (NONE, 0),
            1 if owner.0 != SHARED => owner.0 != NONE && owner.1 == INDEX + page,
            n => owner == (SHARED, n),
        };
        if !right {
            return wrong(&format!("page {page} with {entries} entries"));
        }
    }
    Ok(())
}

/// Returns memory in which the file of task 0 is the only owner, as one folio or as single pages.
fn owned_by_first(folio: bool) -> Memory {
    let memory = match folio {
        true => Memory::new().with_folio(),
        false => Memory::new(),
    };
    memory.with_owner(0, File::<true>::address(0), INDEX)
}

/// A fault of F again, beside the first fault of its clone G. Both keep their entries.
fn clone_is_faulted<const MERGES: bool>(broken: Broken, marked: bool) -> Result<usize, Failure> {
    explore(
        owned_by_first(MERGES),
        &[
            &|task| {
                let _ = File::<MERGES>(task, broken).fault(true, true);
            },
            &|task| {
                let _ = File::<MERGES>(task, broken).fault(false, marked);
            },
        ],
        exact,
    )
}

/// The same, after which both files lose their entries, beside the removal of the device.
fn device_is_removed<const MERGES: bool>(broken: Broken, marked: bool) -> Result<usize, Failure> {
    explore(
        owned_by_first(MERGES),
        &[
            &|task| {
                let file = File::<MERGES>(task, broken);
                let has = file.fault(true, marked);
                file.remove(has);
            },
            &|task| {
                let file = File::<MERGES>(task, broken);
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
        clone_is_faulted::<false>(Broken::Nothing, marked).unwrap();
        clone_is_faulted::<true>(Broken::Nothing, marked).unwrap();
    }
}

#[test]
fn no_page_is_touched_after_teardown() {
    for marked in [true, false] {
        for states in [
            device_is_removed::<false>(Broken::Nothing, marked).unwrap(),
            device_is_removed::<true>(Broken::Nothing, marked).unwrap(),
        ] {
            assert!(states > 100, "only {states} states were explored");
        }
    }
}

#[test]
fn entries_of_three_files_are_counted() {
    let fault = |task: &Task| {
        let _ = File::<true>(task, Broken::Nothing).fault(false, true);
    };
    assert_eq!(TASKS, 3);
    explore(Memory::new(), &[&fault, &fault, &fault], exact).unwrap();
}

#[test]
fn a_file_that_shares_with_nothing_leaves_nothing() {
    let only = |task: &Task| {
        let file = File::<true>(task, Broken::Nothing);
        let has = file.fault(false, false);
        file.remove(has);
    };
    explore(Memory::new(), &[&only, &teardown], exact).unwrap();
}

/// F is unmapped and loses its pages one by one, beside a pin of its pages from `first` on, and the
/// removal of the device.
fn folio_is_split(broken: Broken, first: usize) -> Result<usize, Failure> {
    explore(
        owned_by_first(true),
        &[
            &|task| File::<true>(task, broken).remove_by_pages(),
            &|task| pin(task, 0, first, broken),
            &teardown,
        ],
        exact,
    )
}

#[test]
fn a_folio_is_split_beside_a_pin_and_teardown() {
    for first in 0..PAGES {
        folio_is_split(Broken::Nothing, first).unwrap();
    }
}

#[test]
fn a_folio_of_two_files_is_split_beside_a_pin() {
    for first in 0..PAGES {
        explore(
            owned_by_first(true),
            &[
                &|task| File::<true>(task, Broken::Nothing).remove_by_pages(),
                &|task| {
                    let _ = File::<true>(task, Broken::Nothing).fault(false, true);
                },
                &|task| pin(task, 0, first, Broken::Nothing),
            ],
            exact,
        )
        .unwrap();
    }
}

#[test]
fn a_folio_of_two_files_is_split_by_both() {
    explore(
        owned_by_first(true),
        &[
            &|task| File::<true>(task, Broken::Nothing).remove_by_pages(),
            &|task| {
                let file = File::<true>(task, Broken::Nothing);
                if file.fault(false, true) {
                    file.remove_by_pages();
                }
            },
            &teardown,
        ],
        exact,
    )
    .unwrap();
}

/// Another file gets a part of the memory that F has lost, and the pages are merged again, beside a
/// pin that F's mapping led to.
fn folio_is_merged_again(broken: Broken, first: usize) -> Result<usize, Failure> {
    explore(
        owned_by_first(true),
        &[
            &|task| {
                let file = File::<true>(task, broken);
                file.remove(true);
                if file.fault_page(1) {
                    file.remove_page(1, 0);
                }
                let _ = file.fault(false, false);
            },
            &|task| pin(task, 0, first, broken),
        ],
        exact,
    )
}

#[test]
fn a_folio_is_merged_again_beside_a_pin() {
    for first in 0..PAGES {
        folio_is_merged_again(Broken::Nothing, first).unwrap();
    }
}

#[test]
fn two_walks_meet_a_folio_that_changes() {
    explore(
        owned_by_first(false),
        &[
            &|task| {
                let file = File::<true>(task, Broken::Nothing);
                file.remove(true);
                let _ = file.fault(false, false);
            },
            &|task| pin(task, 0, 1, Broken::Nothing),
            &|task| pin(task, 0, 1, Broken::Nothing),
        ],
        exact,
    )
    .unwrap();
}

#[test]
fn a_part_of_a_folio_that_another_file_has_is_counted() {
    let part = |task: &Task| {
        let file = File::<true>(task, Broken::Nothing);
        if file.fault_page(1) {
            file.remove_page(1, 0);
        }
    };
    let all = |task: &Task| {
        let file = File::<true>(task, Broken::Nothing);
        let has = file.fault(false, false);
        file.remove(has);
    };
    explore(Memory::new().with_folio(), &[&part, &all, &teardown], exact).unwrap();
}

#[test]
fn changes_without_the_lock_are_found_out() {
    let failure = clone_is_faulted::<false>(Broken::Unlocked, true).unwrap_err();
    assert!(
        matches!(&failure.wrong, Wrong::End(why) if why.starts_with("page")),
        "{failure:?}"
    );
    device_is_removed::<false>(Broken::Unlocked, true).unwrap_err();
    clone_is_faulted::<true>(Broken::Unlocked, true).unwrap_err();
}

#[test]
fn a_mapping_cleared_too_early_is_found_out() {
    let failure = device_is_removed::<false>(Broken::MappingFirst, true).unwrap_err();
    let Wrong::Violation(
        Violation::UseAfterFree(Access::SetIndex(..)) | Violation::FreedBeforeAccess,
    ) = failure.wrong
    else {
        panic!("{failure:?}");
    };
    device_is_removed::<true>(Broken::MappingFirst, true).unwrap_err();
}

#[test]
fn a_mapping_cleared_without_release_is_found_out() {
    for failure in [
        device_is_removed::<false>(Broken::Relaxed, true).unwrap_err(),
        device_is_removed::<true>(Broken::Relaxed, true).unwrap_err(),
    ] {
        assert!(
            matches!(
                failure.wrong,
                Wrong::Violation(Violation::FreedBeforeAccess)
            ),
            "{failure:?}"
        );
    }
}

#[test]
fn a_count_that_is_stored_is_found_out() {
    let failure = folio_is_merged_again(Broken::StoredCount, 1).unwrap_err();
    assert!(
        matches!(
            failure.wrong,
            Wrong::Violation(Violation::LostReference(_)) | Wrong::End(_)
        ),
        "{failure:?}"
    );
}

#[test]
fn a_folio_that_is_not_looked_at_again_is_found_out() {
    let failure = folio_is_merged_again(Broken::NoLook, 1).unwrap_err();
    assert!(
        matches!(failure.wrong, Wrong::Violation(_) | Wrong::End(_)),
        "{failure:?}"
    );
}

#[test]
fn a_pinned_folio_that_is_split_is_found_out() {
    let failure = folio_is_split(Broken::NoFreeze, 0).unwrap_err();
    assert!(
        matches!(failure.wrong, Wrong::Violation(_) | Wrong::End(_)),
        "{failure:?}"
    );
}
