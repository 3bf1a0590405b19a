// SPDX-License-Identifier: GPL-2.0

//! Finds reports that a kernel should never print in the lines of its console.
//!
//! A *splat* is an oops, a BUG, a WARN, a report of KASAN, lockdep, kmemleak
//! or a watchdog: a title line and a block of lines around it. A test that
//! provokes one on purpose announces it first, through `/dev/kmsg` or from the
//! kernel:
//!
//! ```text
//! rust-dax-expect: SUBSTRING
//! ... one splat whose first lines hold SUBSTRING ...
//! rust-dax-expect-end: SUBSTRING
//! ```
//!
//! Each announcement allows one splat. The first lines are the title, the lines
//! before it (a WARN prints its message first) and three more. If the end marker
//! comes without the splat, that is reported too.
//!
//! Titles are recognised only at the start of a message, after the time stamp,
//! so that test names and program output that quote them are ignored.

use std::collections::VecDeque;
use std::sync::LazyLock;

use host::lines::message;
use regex::Regex;

/// Number of lines after the title that may hold an announced substring.
const AFTER: usize = 3;
/// Number of lines before the title that belong to it, when nothing marks the
/// start.
const BEFORE: usize = 2;
/// The same after "cut here", which does mark it.
const BEFORE_CUT: usize = 8;
/// Number of lines after which a block whose end was lost is over.
const LONGEST: usize = 300;
/// Number of lines of a block that are kept to be shown.
const SHOWN: usize = 60;

const CUT_HERE: &str = "------------[ cut here ]------------";
const EXPECT: &str = "rust-dax-expect: ";
const EXPECT_END: &str = "rust-dax-expect-end: ";

/// Matches the first line of a report.
static TITLE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?x)^(?:
        # lib/bug.c, lockdep, RCU, softlockup, KASAN, KFENCE, SLUB, mm/debug.c
          (?:watchdog:\ |kfence:\ )?BUG:\ \S
        | BUG\ \S+\ \(.*\):\ \S
        | kernel\ BUG\ at\ \S
        | WARNING:\ \S
        # arch/x86/kernel/dumpstack.c and what leads to it
        | Oops:?\ \S
        | general\ protection\ fault
        | Kernel\ panic\ -\ not\ syncing
        | stack\ segment: | double\ fault: | divide\ error: | invalid\ opcode:
        | UBSAN:\ \S
        # watchdogs
        | INFO:\ task\ .*\ blocked\ for\ more\ than
        | INFO:\ trying\ to\ register\ non-static\ key
        | rcu:\ INFO:\ .*(?:self-detected\ stall|detected\ stalls|expedited\ stalls)
        | (?:NMI\ )?watchdog:.*(?:hard\ LOCKUP|LOCKUP\ on\ cpu)
        # data structures
        | list_(?:add|del)\ (?:corruption|double\ add)
        | refcount_t:\ \S
        | jump\ label:\ negative\ count
        | kmemleak:\ [1-9]\d*\ new\ suspected\ memory\ leaks
        | page_table_check:\ \S
        # mm/pgtable-generic.c. Not puds: where 6.12 zaps a part of 1 GiB of
        # device-dax it says so when another thread has faulted it in again.
        | \S+\.c:\d+:\ bad\ (?:pte|pmd|p4d|pgd)\ \S
        )",
    )
});

fn regex(text: &str) -> Regex {
    // The patterns are constants; the tests below compile all of them.
    Regex::new(text).expect("a constant pattern is valid")
}

/// One kernel report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splat {
    /// Its first informative line, for example the message of a WARN.
    pub title: String,
    /// The lines before the title, the title and what follows, without stamps.
    pub lines: Vec<String>,
    /// Whether a test had announced it.
    pub announced: bool,
}

/// The end marker of a report's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// "---[ end trace": WARN, BUG, oops, UBSAN.
    Trace,
    /// A row of "=": KASAN and KFENCE.
    Row,
    /// The end of the stack: lockdep, hung tasks, sleeping in atomic context.
    Stack,
    /// A report of one line.
    AtOnce,
}

#[derive(Debug)]
struct Block {
    splat: Splat,
    end: End,
    /// Index of the title in `splat.lines`.
    title_at: usize,
    /// Lines seen, shown or not.
    seen: usize,
    /// The end was seen; only the lines after the title are still missing.
    over: bool,
}

#[derive(Debug)]
struct Expectation {
    text: String,
    occurred: bool,
}

/// A line-by-line reader of a console.
#[derive(Debug, Default)]
pub struct Scanner {
    before: VecDeque<String>,
    block: Option<Block>,
    expected: Vec<Expectation>,
    splats: Vec<Splat>,
    missing: Vec<String>,
}

impl Scanner {
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// Processes the next line of the console.
    pub fn line(&mut self, raw: &str) {
        let text = message(raw);
        if let Some(rest) = after(text, EXPECT) {
            self.settle();
            self.expected.push(Expectation {
                text: rest.to_owned(),
                occurred: false,
            });
            return;
        }
        if let Some(rest) = after(text, EXPECT_END) {
            self.settle();
            self.end_expectation(rest);
            return;
        }
        if self.block.as_ref().is_some_and(|b| b.over) && is_title(text) {
            self.settle();
        }
        match &mut self.block {
            Some(block) => {
                if block.take(text) {
                    self.settle();
                }
            }
            None if is_title(text) => self.open(text),
            None => self.remember(text),
        }
    }

    /// Ends the console.
    pub fn finish(&mut self) {
        self.settle();
    }

    /// Returns the reports that were not announced.
    pub fn unannounced(&self) -> impl Iterator<Item = &Splat> {
        self.splats.iter().filter(|s| !s.announced)
    }

    /// Returns announced reports that had not occurred when their end marker was
    /// printed.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Returns all complete reports so far.
    #[cfg(test)]
    fn splats(&self) -> &[Splat] {
        &self.splats
    }

    fn open(&mut self, text: &str) {
        let lines: Vec<String> = match self.before.iter().rposition(|l| l == CUT_HERE) {
            Some(at) => self.before.drain(..).skip(at + 1).collect(),
            None => {
                let skip = self.before.len().saturating_sub(BEFORE);
                self.before.drain(..).skip(skip).collect()
            }
        };
        let mut block = Block {
            title_at: lines.len(),
            end: end_of(text),
            splat: Splat {
                title: title(text, &lines),
                lines,
                announced: false,
            },
            seen: 0,
            over: false,
        };
        block.take(text);
        self.block = Some(block);
    }

    fn remember(&mut self, text: &str) {
        if self.before.len() == BEFORE_CUT + 1 {
            self.before.pop_front();
        }
        self.before.push_back(text.to_owned());
    }

    /// Closes the open block and looks for its announcement.
    fn settle(&mut self) {
        let Some(block) = self.block.take() else {
            return;
        };
        let mut splat = block.splat;
        let first = &splat.lines[..splat.lines.len().min(block.title_at + 1 + AFTER)];
        let expectation = self
            .expected
            .iter_mut()
            .find(|e| !e.occurred && first.iter().any(|l| l.contains(&e.text)));
        if let Some(e) = expectation {
            e.occurred = true;
            splat.announced = true;
        }
        self.splats.push(splat);
    }

    fn end_expectation(&mut self, text: &str) {
        match self.expected.iter().position(|e| e.text == text) {
            Some(at) => {
                if !self.expected.remove(at).occurred {
                    self.missing.push(text.to_owned());
                }
            }
            None => self
                .missing
                .push(format!("{text} (ended, never announced)")),
        }
    }
}

impl Block {
    /// Adds a line; true when the block is complete.
    fn take(&mut self, text: &str) -> bool {
        // A list corruption prints a line and then the WARN or BUG itself.
        if text == CUT_HERE {
            self.end = End::Trace;
            self.over = false;
        }
        self.seen += 1;
        if self.splat.lines.len() < SHOWN {
            self.splat.lines.push(text.to_owned());
        }
        let first = self.seen == 1;
        self.over |= match self.end {
            End::AtOnce => true,
            End::Trace => text.starts_with("---[ end trace"),
            End::Row => !first && text.starts_with("================"),
            End::Stack => text.trim() == "</TASK>",
        };
        self.seen > LONGEST || (self.over && self.seen > AFTER)
    }
}

fn end_of(text: &str) -> End {
    let starts = |list: &[&str]| list.iter().any(|p| text.starts_with(p));
    if starts(&["BUG: KASAN:", "BUG: KFENCE:", "kfence: "]) {
        End::Row
    } else if starts(&["kmemleak: ", "Kernel panic", "jump label: "]) || text.contains(": bad p") {
        End::AtOnce
    } else if starts(&[
        "WARNING: CPU:",
        "BUG: unable to handle",
        "BUG: kernel NULL pointer",
        "Oops",
        "kernel BUG at",
        "general protection fault",
        "UBSAN: ",
        "refcount_t: ",
        "list_",
    ]) {
        End::Trace
    } else {
        End::Stack
    }
}

/// Returns the title. A WARN's own line has only the location; the message is before it.
fn title(text: &str, before: &[String]) -> String {
    match before.last() {
        Some(message) if text.starts_with("WARNING: CPU:") && !message.is_empty() => {
            format!("{message} ({})", place(text))
        }
        _ => text.to_owned(),
    }
}

/// Extracts "mm/memremap.c:97" from "WARNING: CPU: 0 PID: 1 at mm/memremap.c:97 f+0x1/0x2".
fn place(text: &str) -> &str {
    text.split(" at ")
        .nth(1)
        .and_then(|t| t.split(' ').next())
        .unwrap_or(text)
}

fn is_title(text: &str) -> bool {
    TITLE.is_match(text)
}

/// Returns the text after the marker, anywhere in the line, because KUnit prefixes
/// its output with the name of the test.
fn after<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    let at = text.find(marker)?;
    let rest = text[at + marker.len()..].trim();
    (!rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests;
