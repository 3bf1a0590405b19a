// SPDX-License-Identifier: GPL-2.0

//! The memory that the tasks share, with a model of what orders their accesses.
//!
//! Values are those of the last store (x86 does not let a load return an older one). Whether an
//! access is *ordered* before the freeing of the memmap is another question, which depends on
//! release and acquire alone. So each task has a vector clock, as race detectors do: `seen[t]` is
//! the number of accesses of task `t` that come before whatever the task does next. A release store
//! and an unlock pass that knowledge on, an acquire fence and a lock receive it. A locked
//! instruction does both.

/// The number of tasks, at most.
pub const TASKS: usize = 3;
/// The number of pages.
pub const PAGES: usize = 3;

/// What a tail page has in the place of the mapping, but for the first one.
const TAIL_MAPPING: usize = usize::MAX;
/// What an entry of all pages is in [`Memory::entries`]. Entries of single pages are bits.
pub const LARGE: u8 = 1 << 7;

pub type Clock = [u8; TASKS];

/// One access to the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    Mapping(usize),
    SetMapping {
        page: usize,
        to: usize,
        release: bool,
    },
    Index(usize),
    SetIndex(usize, usize),
    Parts,
    SetParts(usize),
    /// Whether the first page is the head of a folio.
    IsHead,
    SetHead(bool),
    /// Whether a page is a tail.
    IsTail(usize),
    SetTail(usize, bool),
    /// Changes the count of a page, and returns the old one.
    Add(usize, isize),
    /// The same, unless the count is 0.
    AddUnlessZero(usize, isize),
    /// Sets the count from 1 to 0. Returns whether it was 1.
    Freeze(usize),
    /// Stores a count.
    SetCount(usize, usize),
    /// Changes the pin count of the folio, which lies in its second page.
    AddPin(isize),
    Lock,
    Unlock,
    /// Begins a fault, or a walk of GUP: returns 1 if the device is alive, and then keeps it from
    /// being killed.
    Begin,
    End,
    /// Stores which entries the file has, under the lock of its array.
    SetEntries(usize, u8),
    /// Whether the process has the memory of a file mapped.
    Leaf(usize),
    SetLeaf(usize, bool),
    /// Kills the device: waits for the faults and walks in progress.
    Kill,
    /// Waits until a page has no mapping, and one reference.
    WaitUnused(usize),
    /// Orders the loads before it, and frees the memmap.
    Free,
}

/// A violation of what the tasks rely on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    UseAfterFree(Access),
    FreedBeforeAccess,
    FreedWithEntry,
    /// The pin count of a folio was changed that is none any more.
    PinOfSinglePages,
    /// A count was stored over, or became negative.
    LostReference(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Word {
    value: usize,
    /// What a task that loads the word and has an acquire fence after that gets to know.
    message: Clock,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    mappings: [Word; PAGES],
    indices: [Word; PAGES],
    counts: [Word; PAGES],
    parts: usize,
    head: bool,
    tails: [bool; PAGES],
    pins: isize,
    lock: Clock,
    locked: bool,
    begun: usize,
    /// What those that have ended have done.
    ended: Clock,
    dead: bool,
    freed: bool,
    entries: [u8; TASKS],
    leaves: [bool; TASKS],
    /// What each task has seen, and what it will have seen after an acquire fence.
    seen: [Clock; TASKS],
    pending: [Clock; TASKS],
}

fn join(into: &mut Clock, other: &Clock) {
    for (a, b) in into.iter_mut().zip(other) {
        *a = (*a).max(*b);
    }
}

impl Memory {
    /// Returns idle memory without owner.
    pub fn new() -> Self {
        let mut memory = Self::default();
        for count in &mut memory.counts {
            count.value = 1;
        }
        memory
    }

    /// Makes one folio of the pages.
    pub fn with_folio(mut self) -> Self {
        self.head = true;
        for n in 1..PAGES {
            self.tails[n] = true;
            self.counts[n].value = 0;
        }
        self
    }

    /// Gives the file of a task an entry for all pages, from `index` on, and maps them.
    pub fn with_owner(mut self, task: usize, mapping: usize, index: usize) -> Self {
        for n in 0..if self.head { 1 } else { PAGES } {
            self.mappings[n].value = mapping;
            self.indices[n].value = index + n;
        }
        self.entries[task] = LARGE;
        self.leaves[task] = true;
        self
    }

    pub fn owner(&self, page: usize) -> (usize, usize) {
        (self.mappings[page].value, self.indices[page].value)
    }

    pub fn parts(&self) -> usize {
        self.parts
    }

    pub fn count(&self, page: usize) -> usize {
        self.counts[page].value
    }

    pub fn pins(&self) -> isize {
        self.pins
    }

    /// Returns whether the pages are one folio; `None` if they are neither that nor single.
    pub fn is_folio(&self) -> Option<bool> {
        (self.tails[1..].iter().all(|tail| *tail == self.head)).then_some(self.head)
    }

    pub fn entries(&self) -> [u8; TASKS] {
        self.entries
    }

    /// Notes an access of a task to the memmap.
    fn touch(&mut self, task: usize, access: Access) -> Result<(), Violation> {
        if self.freed {
            return Err(Violation::UseAfterFree(access));
        }
        self.seen[task][task] += 1;
        Ok(())
    }

    /// Changes a count by a locked instruction, unless `keep` says no. Returns the old one.
    fn change(
        &mut self,
        task: usize,
        page: usize,
        by: isize,
        keep: impl Fn(usize) -> bool,
    ) -> Result<usize, Violation> {
        let message = self.counts[page].message;
        join(&mut self.seen[task], &message);
        let old = self.counts[page].value;
        if !keep(old) {
            let new = old.checked_add_signed(by);
            self.counts[page] = Word {
                value: new.ok_or(Violation::LostReference(page))?,
                message: self.seen[task],
            };
        }
        Ok(old)
    }

    /// Performs an access. `None` means that the task has to wait.
    pub fn perform(&mut self, task: usize, access: Access) -> Result<Option<usize>, Violation> {
        if !matches!(
            access,
            Access::Lock
                | Access::Unlock
                | Access::Begin
                | Access::End
                | Access::SetEntries(..)
                | Access::Leaf(_)
                | Access::SetLeaf(..)
                | Access::Kill
                | Access::WaitUnused(_)
                | Access::Free
        ) {
            self.touch(task, access)?;
        }
        let value = match access {
            Access::Mapping(page) => {
                let message = self.mappings[page].message;
                join(&mut self.pending[task], &message);
                match self.tails[page] && page > 1 {
                    true => TAIL_MAPPING,
                    false => self.mappings[page].value,
                }
            }
            Access::Index(page) => self.indices[page].value,
            Access::SetMapping { page, to, release } => {
                self.mappings[page] = Word {
                    value: to,
                    message: match release {
                        true => self.seen[task],
                        false => Clock::default(),
                    },
                };
                0
            }
            Access::SetIndex(page, to) => {
                self.indices[page].value = to;
                0
            }
            Access::Parts => self.parts,
            Access::SetParts(to) => {
                self.parts = to;
                0
            }
            Access::IsHead => self.head.into(),
            Access::SetHead(to) => {
                self.head = to;
                0
            }
            Access::IsTail(page) => self.tails[page].into(),
            Access::SetTail(page, to) => {
                self.tails[page] = to;
                0
            }
            Access::Add(page, by) => self.change(task, page, by, |_| false)?,
            Access::AddUnlessZero(page, by) => self.change(task, page, by, |old| old == 0)?,
            Access::Freeze(page) => (self.change(task, page, -1, |old| old != 1)? == 1).into(),
            Access::SetCount(page, to) => {
                if self.counts[page].value != 0 {
                    return Err(Violation::LostReference(page));
                }
                self.counts[page].value = to;
                0
            }
            Access::AddPin(by) => {
                if !self.head || !self.tails[1] {
                    return Err(Violation::PinOfSinglePages);
                }
                self.pins += by;
                0
            }
            Access::Lock if self.locked => return Ok(None),
            Access::Lock => {
                self.locked = true;
                let lock = self.lock;
                join(&mut self.seen[task], &lock);
                0
            }
            Access::Unlock => {
                self.locked = false;
                self.lock = self.seen[task];
                0
            }
            Access::Begin if self.dead => 0,
            Access::Begin => {
                self.begun += 1;
                1
            }
            Access::End => {
                self.begun -= 1;
                let seen = self.seen[task];
                join(&mut self.ended, &seen);
                0
            }
            Access::SetEntries(file, to) => {
                self.entries[file] = to;
                0
            }
            Access::Leaf(file) => self.leaves[file].into(),
            Access::SetLeaf(file, to) => {
                self.leaves[file] = to;
                0
            }
            Access::Kill => {
                self.dead = true;
                if self.begun > 0 {
                    return Ok(None);
                }
                let ended = self.ended;
                join(&mut self.seen[task], &ended);
                0
            }
            Access::WaitUnused(page) => {
                if self.mappings[page].value != 0 || self.counts[page].value > 1 {
                    return Ok(None);
                }
                for message in [self.mappings[page].message, self.counts[page].message] {
                    join(&mut self.pending[task], &message);
                }
                0
            }
            Access::Free => {
                let pending = self.pending[task];
                join(&mut self.seen[task], &pending);
                if (0..TASKS).any(|other| self.seen[task][other] < self.seen[other][other]) {
                    return Err(Violation::FreedBeforeAccess);
                }
                if self.entries != [0; TASKS] {
                    return Err(Violation::FreedWithEntry);
                }
                self.freed = true;
                0
            }
        };
        Ok(Some(value))
    }
}
