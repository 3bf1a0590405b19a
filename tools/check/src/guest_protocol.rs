// SPDX-License-Identifier: GPL-2.0

//! The guest protocol: the lines that the guest tests print, parsed as they
//! arrive.

use std::io::{self, Write};

use host::lines::Lines;
use report::guest_result;
use report::ktap::Verdict;
use report::summary::{judge, Summary};

use crate::skips::Skips;

/// Prefix of the last line.
const CLOSING: &str = "guest tests: ";
/// Number of output lines that are shown for a failed test.
const SHOWN: usize = 25;

/// A parser of the guest protocol.
pub struct GuestProtocol<'a> {
    skips: &'a Skips,
    lines: Lines,
    /// Lines since the last result.
    output: Vec<String>,
    closed: bool,
}

impl GuestProtocol<'_> {
    /// Creates a parser of what a kernel's tests print, with the skips that are expected there.
    pub fn new(skips: &Skips) -> GuestProtocol<'_> {
        GuestProtocol {
            skips,
            lines: Lines::default(),
            output: Vec::new(),
            closed: false,
        }
    }

    pub fn take(&mut self, bytes: &[u8], summary: &mut Summary) {
        self.take_unless(bytes, summary, |_| false);
    }

    /// Processes output, except for lines that `other` accepts.
    pub fn take_unless(
        &mut self,
        bytes: &[u8],
        summary: &mut Summary,
        mut other: impl FnMut(&str) -> bool,
    ) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.take(bytes, |line| {
            if !other(line.trim_end()) {
                self.line(line.trim_end(), summary);
            }
        });
        self.lines = lines;
    }

    fn line(&mut self, line: &str, summary: &mut Summary) {
        if line.starts_with(CLOSING) {
            self.closed = true;
        } else if let Some(result) = guest_result::parse(line) {
            match result {
                Ok(result) => {
                    let result = self.skips.judge(judge(self.skips.variant(), result));
                    if result.verdict == Verdict::Fail {
                        self.show();
                    }
                    summary.add("guest", &result);
                }
                Err(e) => summary.say("guest", line, Verdict::Fail, &format!("{e:#}")),
            }
            self.output.clear();
        } else {
            self.output.push(line.to_owned());
        }
    }

    /// Prints the last lines before a failure in one piece, without lines of other
    /// guests in between.
    fn show(&self) {
        let skip = self.output.len().saturating_sub(SHOWN);
        let mut out = io::stdout().lock();
        for line in self.output.iter().skip(skip) {
            // There is nothing to do about a closed standard output.
            let _ = writeln!(out, "     | {line}");
        }
    }

    /// Ends the output; without its last line the run was cut off.
    pub fn finish(self, summary: &mut Summary) {
        if !self.closed {
            self.show();
            let why = "the guest tests ended before their last line";
            summary.say("guest", "(all)", Verdict::Fail, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::variant::Variant;

    fn skips() -> Skips {
        Skips::of(Variant::Rust).expect("the list is sound")
    }

    #[test]
    fn results_of_the_guest_come_in_pieces() {
        let mut summary = Summary::default();
        let skips = skips();
        let mut lines = GuestProtocol::new(&skips);
        lines.take(b"kernel 6.12\nresult: {\"name\":\"a\",\"sta", &mut summary);
        assert_eq!(summary, Summary::default());
        lines.take(
            b"tus\":\"ok\",\"why\":\"\",\"seconds\":0.1}\nresult: {\"name\":\"b\",",
            &mut summary,
        );
        lines.take(
            b"\"status\":\"skip\",\"why\":\"no time was left for it\",\"seconds\":1.0}\nresult: nonsense\n",
            &mut summary,
        );
        lines.take(b"guest tests: 1 passed\n", &mut summary);
        lines.finish(&mut summary);
        assert_eq!(summary.totals(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_run_that_is_cut_off_fails() {
        let mut summary = Summary::default();
        let skips = skips();
        let mut lines = GuestProtocol::new(&skips);
        lines.take(
            b"result: {\"name\":\"a\",\"status\":\"ok\"}\nhalf",
            &mut summary,
        );
        lines.finish(&mut summary);
        assert_eq!(summary.totals(), "1 passed, 1 failed, 0 skipped");
    }
}
