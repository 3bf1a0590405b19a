// SPDX-License-Identifier: GPL-2.0

//! Follows the guest's console while it grows, and keeps the logs of the most
//! recent guests.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err::{self as fs, File};

use crate::splat::Scanner;
use host::files;
use host::lines::Lines;

/// Number of final lines that are remembered.
const TAIL: usize = 30;
/// Number of logs that are kept.
const KEPT: usize = 20;

/// A reader of the log to which QEMU appends.
pub struct Console {
    path: PathBuf,
    file: Option<File>,
    lines: Lines,
    tail: VecDeque<String>,
    pub scanner: Scanner,
}

impl Console {
    /// Starts to follow `path`, which need not exist yet.
    pub fn follow(path: &Path) -> Console {
        Console {
            path: path.to_owned(),
            file: None,
            lines: Lines::default(),
            tail: VecDeque::new(),
            scanner: Scanner::new(),
        }
    }

    /// Reads what is new and passes each complete line to `on_line`.
    pub fn poll(&mut self, mut on_line: impl FnMut(&str)) -> Result<()> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let mut lines = std::mem::take(&mut self.lines);
        lines.take(&new, |line| self.line(line, &mut on_line));
        self.lines = lines;
        Ok(())
    }

    /// Passes the remaining partial line to `on_line`, once the guest has
    /// ended.
    pub fn finish(&mut self, mut on_line: impl FnMut(&str)) -> Result<()> {
        self.poll(&mut on_line)?;
        std::mem::take(&mut self.lines).finish(|line| self.line(line, &mut on_line));
        self.scanner.finish();
        Ok(())
    }

    /// Returns the last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn line(&mut self, line: &str, on_line: &mut impl FnMut(&str)) {
        self.scanner.line(line);
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        on_line(line);
    }
}

/// Copies a finished console to `dir` under a name that sorts by time, removes
/// the oldest log, and returns the path of the copy.
pub fn keep(console: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
    files::make_dir(dir)?;
    let kept = dir.join(format!("{name}.log"));
    fs::copy(console, &kept)?;
    let logs = files::with_extension(dir, "log")?;
    let surplus = logs.len().saturating_sub(KEPT);
    for old in &logs[..surplus] {
        // Another guest may have just removed it.
        let _ = fs::remove_file(old);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_when_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut console = Console::follow(&path);
        let mut seen = Vec::new();
        console.poll(|l| seen.push(l.to_owned())).unwrap();
        let mut file = File::create(&path).unwrap();
        write!(file, "one\r\ntw").unwrap();
        console.poll(|l| seen.push(l.to_owned())).unwrap();
        assert_eq!(seen, ["one"]);
        write!(file, "o\nBUG: three").unwrap();
        console.finish(|l| seen.push(l.to_owned())).unwrap();
        assert_eq!(seen, ["one", "two", "BUG: three"]);
        assert_eq!(console.scanner.unannounced().count(), 1);
        assert_eq!(console.tail().last(), Some("BUG: three"));
    }

    #[test]
    fn only_the_last_logs_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console");
        fs::write(&log, "x").unwrap();
        let kept = dir.path().join("kept");
        for i in 0..KEPT + 3 {
            keep(&log, &kept, &format!("{i:03}")).unwrap();
        }
        assert_eq!(fs::read_dir(&kept).unwrap().count(), KEPT);
        assert!(!kept.join("002.log").exists());
        assert!(kept.join("003.log").exists());
    }
}
