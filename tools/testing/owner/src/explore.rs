// SPDX-License-Identifier: GPL-2.0

//! Runs tasks one access at a time, in every order.
//!
//! A task is a function that reaches the memory through [`Task::access`] only, so what it has read
//! so far determines where it is. To let it take one step, it is run from the start: the accesses
//! that it has made already return what they returned then, the next one is performed, and the one
//! after that unwinds. So a state is the memory and what each task has read, and states that were
//! reached before, in another order, are not explored again.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::mem;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use crate::memory::{Access, Memory, Violation, TASKS};

/// What a task has read, and the accesses for which it was returned.
type Log = Vec<(Access, usize)>;

/// Unwinds a task after its step.
struct Stop;

/// A task that takes a step.
pub struct Task {
    number: usize,
    step: RefCell<Step>,
}

struct Step {
    memory: Memory,
    log: Log,
    at: usize,
    outcome: Outcome,
}

#[derive(PartialEq)]
enum Outcome {
    None,
    Stepped,
    Waits,
    Violates(Violation),
}

impl Task {
    /// Returns the number of the task.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Performs an access, in the step whose turn it is.
    pub fn access(&self, access: Access) -> usize {
        let mut step = self.step.borrow_mut();
        if let Some((before, value)) = step.log.get(step.at) {
            assert_eq!(*before, access, "a task does not repeat what it did");
            let value = *value;
            step.at += 1;
            return value;
        }
        if step.outcome == Outcome::None {
            let result = step.memory.perform(self.number, access);
            match result {
                Ok(Some(value)) => {
                    step.log.push((access, value));
                    step.at += 1;
                    step.outcome = Outcome::Stepped;
                    return value;
                }
                Ok(None) => step.outcome = Outcome::Waits,
                Err(violation) => step.outcome = Outcome::Violates(violation),
            }
        }
        drop(step);
        resume_unwind(Box::new(Stop));
    }
}

pub type Body<'a> = &'a dyn Fn(&Task);

/// A state that must not be.
#[derive(Debug)]
pub enum Wrong {
    Violation(Violation),
    /// Some tasks wait for ever.
    Hang,
    /// The check of the end failed.
    End(String),
}

/// What went wrong, and the accesses that led there.
pub struct Failure {
    pub wrong: Wrong,
    trace: Vec<(usize, Access)>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} after", self.wrong)?;
        for (task, access) in &self.trace {
            writeln!(f, "  task {task}: {access:?}")?;
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    memory: Memory,
    logs: [Log; TASKS],
    done: [bool; TASKS],
}

/// Runs the tasks in every order, and `end` on the memory when all have ended. Returns the number
/// of states.
pub fn explore(
    memory: Memory,
    tasks: &[Body<'_>],
    end: impl Fn(&Memory) -> Result<(), String>,
) -> Result<usize, Failure> {
    let mut done = [true; TASKS];
    done[..tasks.len()].fill(false);
    let first = State {
        memory,
        logs: Default::default(),
        done,
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut todo = vec![(first, Vec::new())];
    while let Some((state, trace)) = todo.pop() {
        let mut moved = false;
        for (number, body) in tasks.iter().enumerate() {
            if state.done[number] {
                continue;
            }
            let mut next = state.clone();
            let (outcome, ended) = step(number, body, &mut next);
            let mut trace = trace.clone();
            trace.extend(
                next.logs[number]
                    .last()
                    .map(|(access, _)| (number, *access)),
            );
            match outcome {
                Outcome::Violates(violation) => {
                    let wrong = Wrong::Violation(violation);
                    return Err(Failure { wrong, trace });
                }
                Outcome::Waits => {
                    // Waiting may have changed something, as the killing of a device does.
                    if next.memory == state.memory {
                        continue;
                    }
                }
                _ => next.done[number] = ended,
            }
            moved = true;
            if seen.insert(next.clone()) {
                todo.push((next, trace));
            }
        }
        if moved {
            continue;
        }
        let wrong = match state.done.iter().all(|done| *done) {
            true => match end(&state.memory) {
                Ok(()) => continue,
                Err(why) => Wrong::End(why),
            },
            false => Wrong::Hang,
        };
        return Err(Failure { wrong, trace });
    }
    Ok(seen.len())
}

/// Lets a task take a step. Returns what came of it, and whether the task has ended.
fn step(number: usize, body: &Body<'_>, state: &mut State) -> (Outcome, bool) {
    let task = Task {
        number,
        step: RefCell::new(Step {
            memory: mem::take(&mut state.memory),
            log: mem::take(&mut state.logs[number]),
            at: 0,
            outcome: Outcome::None,
        }),
    };
    let result = catch_unwind(AssertUnwindSafe(|| body(&task)));
    let ended = result.is_ok();
    if let Err(other) = result {
        if !other.is::<Stop>() {
            resume_unwind(other);
        }
    }
    let step = task.step.into_inner();
    (state.memory, state.logs[number]) = (step.memory, step.log);
    (step.outcome, ended)
}
