// SPDX-License-Identifier: GPL-2.0

//! The summary of `make check`: one line per test, and the totals.

use std::ops::AddAssign;

use crate::ktap::{TestResult, Verdict};
use host::variant::Variant;

/// Prefix of a part of a test's name that marks a deliberate difference from
/// the C original: on a C kernel the test has to fail.
const DIFFERS: &str = "differs_";

/// A summary that prints results as they arrive and counts them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Summary {
    /// Prints one result and counts it.
    pub fn add(&mut self, suite: &str, result: &TestResult) {
        println!("{}", line(suite, result));
        match result.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Fail => self.failed += 1,
            Verdict::Skip => self.skipped += 1,
        }
    }

    /// Adds a result that is not from a parser.
    pub fn say(&mut self, suite: &str, name: &str, verdict: Verdict, reason: &str) {
        self.add(
            suite,
            &TestResult {
                name: name.to_owned(),
                verdict,
                reason: reason.to_owned(),
            },
        );
    }

    /// Adds a requirement; it fails if there is a problem.
    pub fn require(&mut self, suite: &str, name: &str, problem: Option<String>) {
        match problem {
            None => self.say(suite, name, Verdict::Pass, ""),
            Some(why) => self.say(suite, name, Verdict::Fail, &why),
        }
    }

    /// Returns the last line.
    pub fn totals(&self) -> String {
        let Summary {
            passed,
            failed,
            skipped,
        } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

fn line(suite: &str, result: &TestResult) -> String {
    let verdict = match result.verdict {
        Verdict::Pass => "ok  ",
        Verdict::Fail => "FAIL",
        Verdict::Skip => "skip",
    };
    // One line per test, whatever its reason contains.
    let reason = result
        .reason
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match reason.as_str() {
        "" => format!("{verdict} {suite}: {}", result.name),
        reason => format!("{verdict} {suite}: {}  ({reason})", result.name),
    }
}

/// Inverts the verdict of a test that shows a difference from C when the kernel
/// is the C one: there a pass proves nothing and a failure is expected.
pub fn judge(variant: Variant, mut result: TestResult) -> TestResult {
    let mut parts = result.name.split(['.', ':']);
    if !variant.is_rust() && parts.any(|part| part.starts_with(DIFFERS)) {
        let (verdict, reason) = match result.verdict {
            Verdict::Pass => (Verdict::Fail, "not proved: the C kernel passes it too"),
            Verdict::Fail => (Verdict::Pass, "fails on C, as it should"),
            Verdict::Skip => return result,
        };
        result.verdict = verdict;
        result.reason = reason.to_owned();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, verdict: Verdict, reason: &str) -> TestResult {
        TestResult {
            name: name.into(),
            verdict,
            reason: reason.into(),
        }
    }

    #[test]
    fn lines() {
        assert_eq!(
            line("kunit", &result("a.b", Verdict::Pass, "")),
            "ok   kunit: a.b"
        );
        assert_eq!(
            line("guest", &result("x", Verdict::Skip, "no\n 1G page")),
            "skip guest: x  (no 1G page)"
        );
        assert_eq!(
            line("g", &result("x", Verdict::Fail, "EIO")),
            "FAIL g: x  (EIO)"
        );
    }

    #[test]
    fn counts() {
        let mut t = Summary::default();
        t.require("s", "a", None);
        t.require("s", "b", Some("why".into()));
        t.say("s", "c", Verdict::Skip, "no");
        assert_eq!(t.totals(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_difference_must_fail_on_c() {
        let name = "registry.differs_overlap_inside";
        for name in [name, "fsdax::split::differs_punch::ext4-dev-acpi"] {
            let pass = judge(Variant::C, result(name, Verdict::Pass, ""));
            assert_eq!(pass.verdict, Verdict::Fail);
        }
        let fail = judge(
            Variant::Cdebug,
            result("ranges::differs_x", Verdict::Fail, "y"),
        );
        assert_eq!(fail.verdict, Verdict::Pass);
        assert_eq!(
            judge(Variant::C, result(name, Verdict::Skip, "")).verdict,
            Verdict::Skip
        );
        assert_eq!(
            judge(Variant::Rust, result(name, Verdict::Fail, "")).verdict,
            Verdict::Fail
        );
        assert_eq!(
            judge(Variant::C, result("a.b", Verdict::Pass, "")).verdict,
            Verdict::Pass
        );
    }
}
