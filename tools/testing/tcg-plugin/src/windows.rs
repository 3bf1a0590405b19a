// SPDX-License-Identifier: GPL-2.0

//! Computes windows from readings of the counters at the marks.
//!
//! The number of a window is the number of starts before it, complete or
//! not: the guest program counts in the same way and does not know the plugin's
//! state.

use std::fmt::Write;
use std::ops::Sub;

/// A reading of the counters, or the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All instructions.
    pub instructions: u64,
    /// Instructions with a LOCK prefix, and `xchg` with memory.
    pub locked: u64,
    /// Reads of memory; a locked instruction is one load and one store.
    pub loads: u64,
    /// Writes to memory.
    pub stores: u64,
}

impl Sub for Counts {
    type Output = Counts;

    fn sub(self, earlier: Counts) -> Counts {
        Counts {
            instructions: self.instructions - earlier.instructions,
            locked: self.locked - earlier.locked,
            loads: self.loads - earlier.loads,
            stores: self.stores - earlier.stores,
        }
    }
}

/// All windows so far.
#[derive(Debug, Default)]
pub struct Windows {
    open: Option<Counts>,
    /// One entry per start; `None` for one without a stop.
    all: Vec<Option<Counts>>,
    /// Stops without a start.
    stray: u64,
}

impl Windows {
    /// Processes a start mark. One inside a window discards that window.
    pub fn start(&mut self, now: Counts) {
        self.open = Some(now);
        self.all.push(None);
    }

    /// Processes a stop mark.
    pub fn stop(&mut self, now: Counts) {
        match (self.open.take(), self.all.last_mut()) {
            (Some(start), Some(last)) => *last = Some(now - start),
            _ => self.stray += 1,
        }
    }

    /// Returns a description of errors in the marks, if any.
    pub fn complaint(&self) -> Option<String> {
        let lost = self.all.iter().filter(|w| w.is_none()).count();
        (lost > 0 || self.stray > 0).then(|| {
            format!(
                "{lost} starts without a stop, {} stops without a start",
                self.stray
            )
        })
    }

    /// Formats the complete windows, a line of JSON each.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for (window, counts) in self.all.iter().enumerate() {
            if let Some(c) = counts {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    r#"{{"window":{window},"instructions":{},"locked":{},"loads":{},"stores":{}}}"#,
                    c.instructions, c.locked, c.loads, c.stores
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Counts {
        Counts {
            instructions: 10 * n,
            locked: n,
            loads: 3 * n,
            stores: 2 * n,
        }
    }

    #[test]
    fn a_window_is_a_difference() {
        let mut w = Windows::default();
        w.start(at(5));
        w.stop(at(7));
        w.start(at(9));
        w.stop(at(10));
        assert_eq!(
            w.lines(),
            "{\"window\":0,\"instructions\":20,\"locked\":2,\"loads\":6,\"stores\":4}\n\
             {\"window\":1,\"instructions\":10,\"locked\":1,\"loads\":3,\"stores\":2}\n"
        );
        assert_eq!(w.complaint(), None);
    }

    #[test]
    fn numbers_count_starts() {
        let mut w = Windows::default();
        w.stop(at(1));
        w.start(at(1));
        w.start(at(2));
        w.stop(at(3));
        w.start(at(4));
        let lines = w.lines();
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.starts_with("{\"window\":1,\"instructions\":10,"));
        assert_eq!(
            w.complaint().as_deref(),
            Some("2 starts without a stop, 1 stops without a start")
        );
    }
}
