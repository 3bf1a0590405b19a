// SPDX-License-Identifier: GPL-2.0

//! Parses the output of rustc, clippy and rustdoc, and selects diagnostics
//! about our files.
//!
//! The stock kernel crate has warnings of its own with a newer compiler;
//! only those in files of the overlay are ours to judge. It is text, not rustc's
//! JSON (cargo_metadata reads that): the option for JSON would be part of the
//! commands that Kbuild records, so that each crate would be compiled again, and
//! a person could not read the log.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use host::command::run_logged;
use host::progress::Step;

/// One warning or error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// The file, as the compiler named it.
    pub file: String,
    /// All of its lines.
    pub text: String,
}

/// Collects diagnostics line by line.
#[derive(Default)]
pub struct Collector {
    lines: Vec<String>,
    done: Vec<Diagnostic>,
}

impl Collector {
    /// Processes the next line of a compiler's output.
    pub fn line(&mut self, line: &str) {
        if is_title(line) {
            self.flush();
            self.lines.push(line.to_owned());
        } else if !self.lines.is_empty() {
            // Within a diagnostic every line is indented; it ends at an empty
            // line or at another program's output.
            if continues(line) {
                self.lines.push(line.to_owned());
            } else {
                self.flush();
            }
        }
    }

    /// Returns all diagnostics.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.flush();
        self.done
    }

    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let file = lines.iter().find_map(|l| {
            let place = l.trim_start().strip_prefix("--> ")?;
            place.split(':').next().map(str::to_owned)
        });
        if let Some(file) = file {
            let text = lines.join("\n");
            let new = Diagnostic { file, text };
            if !self.done.contains(&new) {
                self.done.push(new);
            }
        }
    }
}

fn is_title(line: &str) -> bool {
    ["warning", "error"].iter().any(|level| {
        line.strip_prefix(level)
            .is_some_and(|rest| rest.starts_with(": ") || rest.starts_with('['))
    })
}

/// Returns whether a line continues a diagnostic: `  --> file`, `12 |  code`, `
/// = note: …`, `...`, `help: …` with its code.
fn continues(line: &str) -> bool {
    let start = line.trim_start();
    let number = start.trim_start_matches(|c: char| c.is_ascii_digit());
    start.starts_with("--> ")
        || start.starts_with("::: ")
        || number.trim_start().starts_with(['|', '+', '-', '~'])
        || start.starts_with('=')
        || start.starts_with("...")
        || line.starts_with("help: ")
        || line.starts_with("note: ")
}

/// Runs the kernel's make and shows each line of it as progress of the step. Returns all
/// diagnostics, and whether make succeeded.
pub fn run_collected(
    cmd: &mut Command,
    log: &Path,
    step: &mut Step,
) -> (Vec<Diagnostic>, Result<()>) {
    let mut collector = Collector::default();
    let mut lines = 0;
    let result = run_logged(cmd, log, |line| {
        lines += 1;
        if line.starts_with("  ") && !line.starts_with("   ") {
            step.set(lines, line.trim());
        }
        collector.line(line);
    });
    (collector.finish(), result)
}

/// Joins the texts of diagnostics.
pub fn texts(found: &[&Diagnostic]) -> String {
    let texts: Vec<_> = found.iter().map(|d| d.text.as_str()).collect();
    texts.join("\n\n")
}

/// Returns the diagnostics about files of the overlay (paths in the kernel's
/// tree).
pub fn ours<'a>(found: &'a [Diagnostic], overlay: &'a [String]) -> Vec<&'a Diagnostic> {
    found
        .iter()
        .filter(|d| {
            overlay.iter().any(|o| {
                d.file
                    .strip_suffix(o.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
  CLIPPY L rust/kernel.o
warning: unsafe block missing a safety comment
   --> /c/src/linux-6.12.117/rust/kernel/mm/pfn_t.rs:12:9
    |
12  |         unsafe { x() }
    |         ^^^^^^^^^^^^^^
    |
    = help: consider adding a safety comment on the preceding line

error[E0425]: cannot find value `y` in this scope
  --> rust/kernel/lib.rs:3:1
   |
3  | y
   | ^ not found in this scope
  CC      mm/x.o
help: not part of one
warning: 2 warnings emitted
";

    #[test]
    fn titles_places_and_ends() {
        let mut c = Collector::default();
        TEXT.lines().for_each(|l| c.line(l));
        let found = c.finish();
        let files: Vec<_> = found.iter().map(|d| d.file.as_str()).collect();
        assert_eq!(
            files,
            [
                "/c/src/linux-6.12.117/rust/kernel/mm/pfn_t.rs",
                "rust/kernel/lib.rs"
            ]
        );
        assert!(found[0].text.ends_with("preceding line"));
        assert!(found[1].text.ends_with("in this scope"));

        let overlay = [
            "rust/kernel/mm/pfn_t.rs".to_owned(),
            "ernel/lib.rs".to_owned(),
        ];
        let ours = ours(&found, &overlay);
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].file, found[0].file);
    }
}
