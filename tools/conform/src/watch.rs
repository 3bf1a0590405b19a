// SPDX-License-Identifier: GPL-2.0

//! Reads the guest's messages about the tests while they run: writes a log per
//! test, line by line, and a record as soon as a test has ended.
//!
//! The other side, with the format of the lines, is
//! `tools/testing/guest/src/conform`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use fs_err::File;
use serde::Deserialize;

use super::outputs::{self, Parse};
use super::record::{Record, Store, Verdict};
use host::files;
use host::lines::Lines;
use host::progress::Step;
use vm::splat::Scanner;

/// Marker that the guest writes to the kernel log before a test.
const MARK: &str = "rust-dax-conform: begin ";
/// Number of lines outside any test that are kept, for the case that the guest
/// fails.
const STRAY: usize = 12;

#[derive(Debug, Deserialize)]
struct Plan {
    left: u64,
    tests: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Begin {
    name: String,
}

#[derive(Debug, Deserialize)]
struct End {
    name: String,
    verdict: String,
    #[serde(default)]
    why: String,
    seconds: f64,
    parse: Parse,
}

/// The running test.
struct Open {
    name: String,
    log: File,
    log_name: String,
    lines: Vec<String>,
    scanner: Scanner,
}

/// Information of a boot other than results.
pub struct BootReport {
    /// The tests of the suite; none if the guest did not get that far.
    pub tests: Vec<String>,
    /// The last lines outside any test.
    pub stray: Vec<String>,
}

/// A consumer of the guest's output.
pub struct Watch<'a> {
    store: &'a mut Store,
    attempt: u32,
    /// "mm on the rust kernel".
    label: String,
    /// The folder of the logs.
    logs: PathBuf,
    /// All tests of the suite, as the guest knows it.
    tests: Vec<String>,
    step: Option<Step>,
    ended: u64,
    lines: Lines,
    open: Option<Open>,
    stray: Vec<String>,
    problem: Option<anyhow::Error>,
}

impl<'a> Watch<'a> {
    pub fn new(store: &'a mut Store, attempt: u32, label: String, logs: PathBuf) -> Watch<'a> {
        Watch {
            store,
            attempt,
            label,
            logs,
            tests: Vec::new(),
            step: None,
            ended: 0,
            lines: Lines::default(),
            open: None,
            stray: Vec::new(),
            problem: None,
        }
    }

    /// Processes the next bytes. An error here is reported at the end: the
    /// guest's output must still be read.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.take(bytes, |line| {
            if let Err(e) = self.line(line) {
                self.problem.get_or_insert(e);
            }
        });
        self.lines = lines;
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let unknown = |json: &str| format!("the guest printed an unknown message: {json}");
        if let Some(output) = line.strip_prefix("| ") {
            if let Some(open) = &mut self.open {
                open.lines.push(output.to_owned());
                return writeln!(open.log, "{output}").context("cannot write a log");
            }
        } else if let Some(message) = line.strip_prefix("kernel: ") {
            if let Some(open) = &mut self.open {
                open.scanner.line(message);
                return writeln!(open.log, "kernel: {message}").context("cannot write a log");
            }
        } else if let Some(json) = line.strip_prefix("begin: ") {
            let begin: Begin = serde_json::from_str(json).with_context(|| unknown(json))?;
            return self.begin(begin.name);
        } else if let Some(json) = line.strip_prefix("end: ") {
            let end: End = serde_json::from_str(json).with_context(|| unknown(json))?;
            return self.end(end);
        } else if let Some(json) = line.strip_prefix("plan: ") {
            let plan: Plan = serde_json::from_str(json).with_context(|| unknown(json))?;
            let all = plan.tests.len() as u64;
            self.tests = plan.tests;
            self.ended = all.saturating_sub(plan.left);
            if plan.left > 0 {
                self.step = Some(Step::start(&self.label, Some(all), &self.logs));
            }
        } else if line != "alive:" {
            if self.stray.len() == STRAY {
                self.stray.remove(0);
            }
            self.stray.push(line.to_owned());
        }
        // This is also a sign of life: a long test must not look like a hang.
        self.show();
        Ok(())
    }

    fn show(&mut self) {
        if let (Some(step), Some(open)) = (&mut self.step, &self.open) {
            step.set(self.ended, &open.name);
        }
    }

    fn begin(&mut self, name: String) -> Result<()> {
        files::make_dir(&self.logs)?;
        let log_name = format!("{name}.{}.log", self.attempt);
        let log = File::create(self.logs.join(&log_name))?;
        self.open = Some(Open {
            name,
            log,
            log_name,
            lines: Vec::new(),
            scanner: Scanner::new(),
        });
        self.show();
        Ok(())
    }

    fn end(&mut self, end: End) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let verdict = match end.verdict.as_str() {
            "ok" => Verdict::Pass,
            "skip" => Verdict::Skip,
            "timeout" => Verdict::Timeout,
            _ => Verdict::Fail,
        };
        debug_assert_eq!(open.name, end.name);
        self.record(open, verdict, &end.why, end.parse, end.seconds)
    }

    fn record(
        &mut self,
        mut open: Open,
        verdict: Verdict,
        why: &str,
        parse: Parse,
        seconds: f64,
    ) -> Result<()> {
        open.scanner.finish();
        writeln!(open.log, "-- {}: {why}", verdict.word()).context("cannot write a log")?;
        let record = Record {
            results: outputs::results(&open.name, parse, verdict, why, &open.lines),
            splats: open
                .scanner
                .unannounced()
                .map(|s| s.title.clone())
                .collect(),
            test: open.name,
            attempt: self.attempt,
            seconds,
            log: open.log_name,
        };
        self.store.add(record)?;
        self.ended += 1;
        Ok(())
    }

    /// Records a crash of the guest. Returns whether a test was running: then
    /// the crash is that test's result.
    pub fn crashed(&mut self, how: &str, console: &[String]) -> Result<bool> {
        let Some(mut open) = self.open.take() else {
            return Ok(false);
        };
        let mark = format!("{MARK}{}", open.name);
        let from = console
            .iter()
            .rposition(|l| l.trim_end().ends_with(&mark))
            .map_or(0, |at| at + 1);
        // The lines that the guest passed on are in the console as well.
        open.scanner = Scanner::new();
        writeln!(open.log, "-- the console since the test began:").context("cannot write a log")?;
        for line in &console[from..] {
            open.scanner.line(line);
            writeln!(open.log, "{line}").context("cannot write a log")?;
        }
        let form = match open.lines.iter().any(|l| l.contains("TAP version")) {
            true => Parse::Tap,
            false => Parse::Status,
        };
        self.record(open, Verdict::Crash, how, form, 0.0)?;
        Ok(true)
    }

    /// Ends the boot.
    pub fn finish(mut self) -> Result<BootReport> {
        if let Some(step) = self.step.take() {
            step.done();
        }
        match self.problem {
            Some(e) => Err(e),
            None => Ok(BootReport {
                tests: self.tests,
                stray: self.stray,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    const SESSION: &str = "\
plan: {\"left\": 2, \"tests\": [\"x\", \"cow\", \"gup\"]}
begin: {\"name\": \"cow\", \"limit\": 60}
| TAP version 13
| 1..1
kernel: cow (77): drop_caches: 3
alive:
| ok 1 a
end: {\"name\": \"cow\", \"verdict\": \"ok\", \"why\": \"\", \"seconds\": 2.5, \"parse\": \"tap\"}
begin: {\"name\": \"gup\", \"limit\": 60}
| half
kernel: BUG: unable to handle page fault for address: 0000000000000008
";

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(&dir.path().join("mm.jsonl")).unwrap()
    }

    #[test]
    fn results_are_there_when_a_test_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir);
        let mut watch = Watch::new(&mut store, 1, "mm".into(), dir.path().join("mm"));
        // In pieces, as a port delivers them.
        SESSION.as_bytes().chunks(7).for_each(|b| watch.take(b));
        let console = [
            "[    9.0] rust-dax-conform: begin cow".to_owned(),
            "[    9.5] rust-dax-conform: begin gup".to_owned(),
            "[    9.6] BUG: unable to handle page fault for address: 0000000000000008".to_owned(),
            "[    9.7] ---[ end trace 0 ]---".to_owned(),
        ];
        assert!(watch.crashed("the guest stopped", &console).unwrap());
        assert!(!watch.crashed("again", &console).unwrap());
        assert_eq!(watch.finish().unwrap().tests, ["x", "cow", "gup"]);

        let records = &store.records;
        assert_eq!(records[0].results.len(), 2);
        assert_eq!(records[0].results[0].name, "cow: a");
        assert!(records[0].splats.is_empty());
        assert_eq!(records[1].results[0].verdict, Verdict::Crash);
        assert_eq!(records[1].results[0].reason, "the guest stopped");
        assert!(records[1].splats[0].starts_with("BUG: unable to handle"));
        let log = fs::read_to_string(dir.path().join("mm").join(&records[1].log)).unwrap();
        assert!(log.starts_with("half\nkernel: BUG"), "{log}");
        assert!(log.contains("-- the console since") && !log.contains("begin cow"));
    }

    #[test]
    fn a_splat_belongs_to_the_test_it_came_in() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir);
        let mut watch = Watch::new(&mut store, 1, "mm".into(), dir.path().join("mm"));
        watch.take(
            b"begin: {\"name\": \"x\", \"limit\": 1}\n\
              kernel: WARNING: CPU: 0 PID: 5 at mm/gup.c:12 f+0x1/0x2\n\
              kernel: ---[ end trace 0000000000000000 ]---\n\
              end: {\"name\":\"x\",\"verdict\":\"fail\",\"why\":\"w\",\"seconds\":1,\"parse\":\"status\"}\n\
              begin: {\"name\": \"y\", \"limit\": 1}\n\
              end: {\"name\":\"y\",\"verdict\":\"ok\",\"why\":\"\",\"seconds\":1,\"parse\":\"status\"}\n\
              something else\n",
        );
        assert_eq!(watch.finish().unwrap().stray, ["something else"]);
        assert_eq!(store.records[0].splats.len(), 1);
        assert!(store.records[1].splats.is_empty());
    }

    #[test]
    fn nonsense_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(&dir);
        let mut watch = Watch::new(&mut store, 1, "mm".into(), dir.path().join("mm"));
        watch.take(b"end: {\"name\": 1}\n");
        assert!(watch
            .finish()
            .err()
            .unwrap()
            .to_string()
            .contains("{\"name\": 1}"));
    }
}
