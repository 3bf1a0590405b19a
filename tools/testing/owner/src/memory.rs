// SPDX-License-Identifier: GPL-2.0

//! The memory that the tasks share, with a model of what orders their accesses.
//!
//! Values are those of the last store (x86 does not let a load return an older one). Whether an
//! access is *ordered* before the freeing of the memmap is another question, which depends on
//! release and acquire alone. So each task has a vector clock, as race detectors do: `seen[t]` is
//! the number of accesses of task `t` that come before whatever the task does next. A release store
//! and an unlock pass that knowledge on, an acquire fence and a lock receive it.

/// The number of tasks, at most.
pub const TASKS: usize = 3;
/// The number of pages.
pub const PAGES: usize = 2;

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
    Lock,
    Unlock,
    /// Begins a fault: returns 1 if the device is alive, and then keeps it from being killed.
    BeginFault,
    EndFault,
    /// Stores whether the file has an entry, under the lock of its array.
    SetEntry(usize, bool),
    /// Kills the device: waits for the faults in progress.
    Kill,
    /// Waits until the page has no mapping.
    WaitUnowned(usize),
    /// Orders the loads before it, and frees the memmap.
    Free,
}

/// A violation of what teardown relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    UseAfterFree(Access),
    FreedBeforeAccess,
    FreedWithEntry,
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
    lock: Clock,
    locked: bool,
    faults: usize,
    dead: bool,
    freed: bool,
    entries: [bool; TASKS],
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
    /// Returns memory in which file `owner`, if any, has an entry for the pages from `index` on.
    pub fn new(owner: Option<(usize, usize)>) -> Self {
        let mut memory = Self::default();
        if let Some((mapping, index)) = owner {
            for n in 0..PAGES {
                memory.mappings[n].value = mapping;
                memory.indices[n].value = index + n;
            }
        }
        memory
    }

    pub fn set_entry(&mut self, task: usize) {
        self.entries[task] = true;
    }

    pub fn owner(&self, page: usize) -> (usize, usize) {
        (self.mappings[page].value, self.indices[page].value)
    }

    pub fn entries(&self) -> usize {
        self.entries.iter().filter(|has| **has).count()
    }

    /// Notes an access of a task to the memmap.
    fn touch(&mut self, task: usize, access: Access) -> Result<(), Violation> {
        if self.freed {
            return Err(Violation::UseAfterFree(access));
        }
        self.seen[task][task] += 1;
        Ok(())
    }

    /// Performs an access. `None` means that the task has to wait.
    pub fn perform(&mut self, task: usize, access: Access) -> Result<Option<usize>, Violation> {
        let value = match access {
            Access::Mapping(page) => {
                self.touch(task, access)?;
                let message = self.mappings[page].message;
                join(&mut self.pending[task], &message);
                self.mappings[page].value
            }
            Access::Index(page) => {
                self.touch(task, access)?;
                self.indices[page].value
            }
            Access::SetMapping { page, to, release } => {
                self.touch(task, access)?;
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
                self.touch(task, access)?;
                self.indices[page].value = to;
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
            Access::BeginFault if self.dead => 0,
            Access::BeginFault => {
                self.faults += 1;
                1
            }
            Access::EndFault => {
                self.faults -= 1;
                0
            }
            Access::SetEntry(file, has) => {
                self.entries[file] = has;
                0
            }
            Access::Kill => {
                self.dead = true;
                if self.faults > 0 {
                    return Ok(None);
                }
                0
            }
            Access::WaitUnowned(page) => {
                if self.mappings[page].value != 0 {
                    return Ok(None);
                }
                let message = self.mappings[page].message;
                join(&mut self.pending[task], &message);
                0
            }
            Access::Free => {
                let pending = self.pending[task];
                join(&mut self.seen[task], &pending);
                if (0..TASKS).any(|other| self.seen[task][other] < self.seen[other][other]) {
                    return Err(Violation::FreedBeforeAccess);
                }
                if self.entries() != 0 {
                    return Err(Violation::FreedWithEntry);
                }
                self.freed = true;
                0
            }
        };
        Ok(Some(value))
    }
}
