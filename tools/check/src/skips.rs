// SPDX-License-Identifier: GPL-2.0

//! The skips that are expected, by kernel: `tools/check/skips.toml`. Any other skip fails, because
//! the guest lacks something that the test needs.

use anyhow::{Context, Result};
use host::variant::Variant;
use regex::Regex;
use report::ktap::{TestResult, Verdict};
use serde::Deserialize;

/// Name of the list, for messages.
const FILE: &str = "tools/check/skips.toml";
/// The list. It is a part of this program, as the tests that it names are of the guest's.
const TEXT: &str = include_str!("../skips.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    skip: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// A regular expression for the whole name.
    tests: Option<String>,
    /// Names of kernels; none stands for all.
    #[serde(default)]
    variants: Vec<String>,
    /// A regular expression for a part of the reason.
    reason: String,
    why: String,
}

/// One row.
struct Row {
    tests: Option<Regex>,
    variants: Vec<String>,
    reason: Regex,
}

/// The skips that are expected of one kernel.
pub struct Skips {
    variant: Variant,
    rows: Vec<Row>,
}

impl Skips {
    pub fn of(variant: Variant) -> Result<Skips> {
        // Nothing but the objects' debugging information differs.
        let variant = match variant {
            Variant::Coverage => Variant::Rust,
            other => other,
        };
        Skips::parse(variant, TEXT).context(FILE)
    }

    pub fn variant(&self) -> Variant {
        self.variant
    }

    fn parse(variant: Variant, text: &str) -> Result<Skips> {
        let file: File = toml::from_str(text)?;
        let row = |entry: Entry| -> Result<Row> {
            anyhow::ensure!(!entry.why.is_empty(), "{:?} has no reason", entry.reason);
            let whole = |tests: String| Regex::new(&format!("^(?:{tests})$"));
            Ok(Row {
                tests: entry.tests.map(whole).transpose()?,
                variants: entry.variants,
                reason: Regex::new(&entry.reason)?,
            })
        };
        let rows: Result<Vec<Row>> = file.skip.into_iter().map(row).collect();
        let mut rows = rows?;
        rows.retain(|row| row.variants.is_empty() || row.is_for(variant));
        Ok(Skips { variant, rows })
    }

    /// Turns a skip that is not expected into a failure.
    pub fn judge(&self, mut result: TestResult) -> TestResult {
        if result.verdict == Verdict::Skip && !self.are_expected(&result) {
            result.verdict = Verdict::Fail;
            result.reason = format!(
                "skipped, which {FILE} does not expect on {}: {}",
                self.variant, result.reason
            );
        }
        result
    }

    fn are_expected(&self, result: &TestResult) -> bool {
        self.rows.iter().any(|row| {
            let named = |tests: &Regex| tests.is_match(&result.name);
            row.tests.as_ref().is_none_or(named) && row.reason.is_match(&result.reason)
        })
    }
}

impl Row {
    fn is_for(&self, variant: Variant) -> bool {
        self.variants.iter().any(|name| name == variant.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(variant: Variant, name: &str, reason: &str) -> Verdict {
        let skips = Skips::of(variant).expect("the list is sound");
        let result = TestResult {
            name: name.into(),
            verdict: Verdict::Skip,
            reason: reason.into(),
        };
        skips.judge(result).verdict
    }

    #[test]
    fn rows_name_kernels_that_exist() {
        let file: File = toml::from_str(TEXT).expect("the list is sound");
        for name in file.skip.iter().flat_map(|entry| &entry.variants) {
            let known = ["rust", "c", "debug", "cdebug", "distro"];
            assert!(known.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn a_skip_that_is_not_on_the_list_fails() {
        let why = "this kernel cannot let allocations fail";
        assert_eq!(
            judged(Variant::Rust, "pmem::no-memory::raw", why),
            Verdict::Skip
        );
        assert_eq!(
            judged(Variant::Debug, "pmem::no-memory::raw", why),
            Verdict::Fail
        );
        assert_eq!(judged(Variant::Rust, "pmem::io::raw", why), Verdict::Fail);
        let why = "the guest has no built ndctl";
        assert_eq!(judged(Variant::Rust, "suite::dax-dev", why), Verdict::Fail);
        let why = "fs/dax is in C, which reports no reasons";
        assert_eq!(judged(Variant::C, "fsdax::reasons::x", why), Verdict::Skip);
        assert_eq!(
            judged(Variant::Rust, "fsdax::reasons::x", why),
            Verdict::Fail
        );
    }

    #[test]
    fn other_results_stay() {
        let skips = Skips::of(Variant::Rust).expect("the list is sound");
        for verdict in [Verdict::Pass, Verdict::Fail] {
            let result = TestResult {
                name: "a".into(),
                verdict,
                reason: "b".into(),
            };
            assert_eq!(skips.judge(result.clone()), result);
        }
    }
}
