// SPDX-License-Identifier: GPL-2.0

//! The comparison of C and Rust, name by name.
//!
//! A test whose results differ is run once more on both kernels. Rust does
//! worse on a name if its best result is worse than the worst of C; a single
//! worse result is reported too, but does not fail the comparison.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::record::{Named, Record, Store, Verdict};

/// Suffix of a result that only exists if the kernel reported something.
const KERNEL_LOG: &str = "(kernel log)";

/// All results of one name on one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// In the order of the attempts; `None` if other names of the same test had
    /// a result and this one had none.
    pub verdicts: Vec<Option<Verdict>>,
    /// Reason of the last one that did not pass.
    pub reason: String,
}

/// No result is as bad as a failure: the case was not reached.
const MISSING: u8 = 1;

impl Seen {
    fn ranks(&self) -> impl Iterator<Item = u8> + '_ {
        self.verdicts
            .iter()
            .map(|v| v.map_or(MISSING, Verdict::rank))
    }

    fn best(&self) -> u8 {
        self.ranks().max().unwrap_or(MISSING)
    }

    fn worst(&self) -> u8 {
        self.ranks().min().unwrap_or(MISSING)
    }

    /// Formats the verdicts: "pass", "fail, pass", "no result".
    pub fn words(&self) -> String {
        let word = |v: &Option<Verdict>| v.map_or("no result", Verdict::word);
        let mut words: Vec<_> = self.verdicts.iter().map(word).collect();
        words.dedup();
        match words.is_empty() {
            true => "no result".to_owned(),
            false => words.join(", "),
        }
    }
}

/// The class of a pair of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Rust does worse.
    NewlyFailing,
    /// Rust does better.
    NewlyPassing,
    /// The attempts differ, so neither is better.
    Unsteady,
    /// Neither passes and neither is better.
    FailingOnBoth,
    SkippedOnBoth,
    Passing,
}

/// One name on both kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub name: String,
    /// The test it belongs to.
    pub test: String,
    pub class: Class,
    pub c: Seen,
    pub rust: Seen,
    /// Log files of the last attempts.
    pub c_log: String,
    pub rust_log: String,
}

/// Returns all pairs of these tests, sorted by test.
pub fn compare(tests: &BTreeSet<String>, c: &Store, rust: &Store) -> Vec<Pair> {
    let (c, rust) = (c.by_test(), rust.by_test());
    let none: &[&Record] = &[];
    tests
        .iter()
        .flat_map(|test| {
            let c = c.get(test.as_str()).map_or(none, Vec::as_slice);
            let rust = rust.get(test.as_str()).map_or(none, Vec::as_slice);
            test_pairs(test, c, rust)
        })
        .collect()
}

fn test_pairs(test: &str, c: &[&Record], rust: &[&Record]) -> Vec<Pair> {
    let log_name = format!("{test} {KERNEL_LOG}");
    let mut order: Vec<&str> = Vec::new();
    for record in c.iter().chain(rust) {
        for result in &record.results {
            if !order.contains(&result.name.as_str()) {
                order.push(&result.name);
            }
        }
    }
    if c.iter().chain(rust).any(|r| !r.splats.is_empty()) {
        order.push(&log_name);
    }
    let (c_seen, rust_seen) = (seen(c, &log_name), seen(rust, &log_name));
    let log = |records: &[&Record]| records.last().map_or(String::new(), |r| r.log.clone());
    order
        .into_iter()
        .map(|name| {
            let missing = |records: &[&Record]| Seen {
                verdicts: vec![None; records.len()],
                reason: String::new(),
            };
            let c_one = c_seen.get(name).cloned().unwrap_or_else(|| missing(c));
            let rust_one = rust_seen
                .get(name)
                .cloned()
                .unwrap_or_else(|| missing(rust));
            Pair {
                name: name.to_owned(),
                test: test.to_owned(),
                class: classify(&c_one, &rust_one),
                c: c_one,
                rust: rust_one,
                c_log: log(c),
                rust_log: log(rust),
            }
        })
        .collect()
}

/// Returns the results of each name in all attempts of one test.
fn seen(records: &[&Record], log_name: &str) -> BTreeMap<String, Seen> {
    let mut map: BTreeMap<String, Seen> = BTreeMap::new();
    for (attempt, record) in records.iter().enumerate() {
        let splat = Named {
            name: log_name.to_owned(),
            verdict: match record.splats.is_empty() {
                true => Verdict::Pass,
                false => Verdict::Fail,
            },
            reason: record.splats.join("; "),
        };
        for result in record.results.iter().chain([&splat]) {
            let seen = map.entry(result.name.clone()).or_default();
            seen.verdicts.resize(attempt, None);
            seen.verdicts.push(Some(result.verdict));
            if result.verdict != Verdict::Pass {
                seen.reason.clone_from(&result.reason);
            }
        }
    }
    for seen in map.values_mut() {
        seen.verdicts.resize(records.len(), None);
    }
    map
}

fn classify(c: &Seen, rust: &Seen) -> Class {
    let (pass, skip) = (Verdict::Pass.rank(), Verdict::Skip.rank());
    if rust.best() < c.worst() {
        Class::NewlyFailing
    } else if rust.worst() > c.best() {
        Class::NewlyPassing
    } else if c.best() != c.worst() || rust.best() != rust.worst() {
        Class::Unsteady
    } else if c.best() == pass {
        Class::Passing
    } else if c.best() == skip {
        Class::SkippedOnBoth
    } else {
        Class::FailingOnBoth
    }
}

/// Returns the tests to run once more: those that differ and ran only once.
pub fn to_repeat(pairs: &[Pair]) -> Vec<String> {
    let mut tests: Vec<String> = pairs
        .iter()
        .filter(|p| matches!(p.class, Class::NewlyFailing | Class::NewlyPassing))
        .map(|p| p.test.clone())
        .collect();
    tests.dedup();
    tests
}

#[cfg(test)]
mod tests;
