// SPDX-License-Identifier: GPL-2.0

//! The results of one suite on one kernel: a file of JSON lines that only
//! grows, so that an interrupted run continues where it stopped.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err::{self as fs, OpenOptions};
use serde::{Deserialize, Serialize};

use host::files;

/// The verdict of a test. The order is from worst to best; a test that timed
/// out is no better than one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The guest crashed with it, or the guest no longer responded.
    Crash,
    Timeout,
    Fail,
    Skip,
    Pass,
}

impl Verdict {
    /// Returns the rank for comparisons: a higher one is better.
    pub fn rank(self) -> u8 {
        match self {
            Verdict::Crash => 0,
            Verdict::Timeout | Verdict::Fail => 1,
            Verdict::Skip => 2,
            Verdict::Pass => 3,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Verdict::Crash => "crash",
            Verdict::Timeout => "timeout",
            Verdict::Fail => "fail",
            Verdict::Skip => "skip",
            Verdict::Pass => "pass",
        }
    }
}

/// One result by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// All results of one test: a program with one result or many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub test: String,
    /// The first run of it is 1.
    pub attempt: u32,
    pub results: Vec<Named>,
    /// Unexpected kernel reports during the test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splats: Vec<String>,
    pub seconds: f64,
    /// The file with its output, beside this one.
    pub log: String,
}

/// The file.
pub struct Store {
    path: PathBuf,
    pub records: Vec<Record>,
}

impl Store {
    /// Reads existing results. A truncated last line is ignored: that test runs
    /// again.
    pub fn open(path: &Path) -> Result<Store> {
        let bytes = files::read_if_exists(path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // Appended text must start on a new line.
            files::write_atomic(path, text[..whole].as_bytes(), false)?;
        }
        let records = text[..whole]
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        Ok(Store {
            path: path.to_owned(),
            records,
        })
    }

    /// Adds a result, which is on the disk when this returns.
    pub fn add(&mut self, record: Record) -> Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut line = serde_json::to_vec(&record).context("cannot encode as JSON")?;
        line.push(b'\n');
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut f| f.write_all(&line).and_then(|()| f.sync_data()))
            .with_context(cannot)?;
        self.records.push(record);
        Ok(())
    }

    /// Returns the tests that have a result of this attempt.
    pub fn done(&self, attempt: u32) -> HashSet<&str> {
        self.records
            .iter()
            .filter(|r| r.attempt == attempt)
            .map(|r| r.test.as_str())
            .collect()
    }

    /// Returns the records of each test, oldest first.
    pub fn by_test(&self) -> BTreeMap<&str, Vec<&Record>> {
        let mut map: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            map.entry(&record.test).or_default().push(record);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(test: &str, attempt: u32) -> Record {
        Record {
            test: test.into(),
            attempt,
            results: vec![Named {
                name: test.into(),
                verdict: Verdict::Pass,
                reason: String::new(),
            }],
            splats: Vec::new(),
            seconds: 1.5,
            log: format!("{test}.log"),
        }
    }

    #[test]
    fn a_run_goes_on_where_it_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/mm.jsonl");
        let mut store = Store::open(&path).unwrap();
        store.add(record("cow", 1)).unwrap();
        store.add(record("gup", 1)).unwrap();
        store.add(record("cow", 2)).unwrap();

        // The harness was killed while it wrote a line.
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"test\":\"mremap\",\"att")).unwrap();
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.records.len(), 3);
        assert_eq!(store.done(1), HashSet::from(["cow", "gup"]));
        assert_eq!(store.done(2), HashSet::from(["cow"]));
        assert_eq!(store.by_test()["cow"].len(), 2);

        store.add(record("mremap", 1)).unwrap();
        let again = Store::open(&path).unwrap();
        assert_eq!(again.records, store.records);
        assert_eq!(again.records[3].test, "mremap");
    }

    #[test]
    fn verdicts_have_an_order() {
        use Verdict::*;
        let ranks: Vec<u8> = [Crash, Fail, Skip, Pass].iter().map(|v| v.rank()).collect();
        assert!(ranks.is_sorted() && Timeout.rank() == Fail.rank());
    }
}
