// SPDX-License-Identifier: GPL-2.0

//! Extracts results by name from the output of a test.
//!
//! The name of a result is that of the test, or the test and the test's own
//! name of the case: `cow: Basic COW after fork() ... with base page`. A name
//! must be the same on both kernels whatever the result, so measured values are
//! no part of it.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

use super::record::{Named, Verdict};
use report::ktap;

/// Whether the output holds results, and in which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parse {
    Status,
    Tap,
    Pmdk,
}

/// Name of the overall result of a program with many results.
const WHOLE: &str = "(exit status)";

/// Measured values that pagemap_ioctl of the selftests prints in the name of a
/// result.
static MEASURED: LazyLock<Regex> =
    LazyLock::new(|| regex(r" Extra pages \d+ \([\d.]+%\), extra thread faults \d+\.?$"));
static COLOUR: LazyLock<Regex> = LazyLock::new(|| regex("\x1b\\[[0-9;]*m"));
static PMDK_SETUP: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^\S+/(TEST\d+): SETUP\s+\((.+)\)\s*$"));
static PMDK_RESULT: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^\S+/(TEST\d+): (PASS|SKIP|FAILED)\b:?\s*(.*)$"));
static PMDK_STOPPED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^RUNTESTS: stopping: \S+/(TEST\d+) (.+?)(?:, .*)?$"));

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern is valid")
}

/// Returns the results of a test with this overall verdict and these lines.
pub fn results(
    test: &str,
    parse: Parse,
    verdict: Verdict,
    why: &str,
    lines: &[String],
) -> Vec<Named> {
    let cases = match parse {
        Parse::Status => Vec::new(),
        Parse::Tap => tap(lines),
        Parse::Pmdk => pmdk(lines),
    };
    let whole = |name: String| Named {
        name,
        verdict,
        reason: one_line(why),
    };
    if parse == Parse::Status || cases.is_empty() && verdict == Verdict::Skip {
        return vec![whole(test.to_owned())];
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<Named> = cases
        .into_iter()
        .map(|case| {
            let times = seen.entry(case.name.clone()).or_default();
            *times += 1;
            let name = match *times {
                1 => format!("{test}: {}", case.name),
                n => format!("{test}: {} [{n}]", case.name),
            };
            Named {
                name,
                reason: one_line(&case.reason),
                ..case
            }
        })
        .collect();
    all.push(whole(format!("{test}: {WHOLE}")));
    all
}

fn tap(lines: &[String]) -> Vec<Named> {
    ktap::parse(lines.iter().map(String::as_str))
        .into_iter()
        .map(|r| Named {
            name: MEASURED.replace(&r.name, "").into_owned(),
            verdict: match r.verdict {
                ktap::Verdict::Pass => Verdict::Pass,
                ktap::Verdict::Fail => Verdict::Fail,
                ktap::Verdict::Skip => Verdict::Skip,
            },
            reason: r.reason,
        })
        .collect()
}

/// Parses the output of PMDK's runners: both print "group/TESTn: SETUP
/// (type/filesystem/build)" and then PASS, SKIP or FAILED; the shell one prints
/// the failure itself.
fn pmdk(lines: &[String]) -> Vec<Named> {
    let mut open: Option<(String, String)> = None;
    let mut results: Vec<Named> = Vec::new();
    let mut add = |open: Option<(String, String)>, test: &str, verdict, reason: &str| {
        let name = match open {
            Some((set_up, how)) if set_up == test => format!("{test} ({how})"),
            _ => test.to_owned(),
        };
        results.push(Named {
            name,
            verdict,
            reason: reason.to_owned(),
        });
    };
    for line in lines {
        let line = COLOUR.replace_all(line, "");
        if let Some(c) = PMDK_SETUP.captures(&line) {
            open = Some((c[1].to_owned(), c[2].to_owned()));
        } else if let Some(c) = PMDK_STOPPED.captures(&line) {
            add(open.take(), &c[1], Verdict::Fail, &c[2]);
        } else if let Some(c) = PMDK_RESULT.captures(&line) {
            let (verdict, reason) = match &c[2] {
                "PASS" => (Verdict::Pass, ""),
                "SKIP" => (Verdict::Skip, &c[3]),
                _ => (Verdict::Fail, "see its log"),
            };
            add(open.take(), &c[1], verdict, reason);
        }
    }
    results
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_what_was_measured() {
        let lines = ["ok 7 transact_test Extra pages 24 (0.1%), extra thread faults 24."];
        let all = tap(&lines.map(str::to_owned));
        assert_eq!(all[0].name, "transact_test");
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn short(results: &[Named]) -> Vec<(&str, Verdict)> {
        results
            .iter()
            .map(|r| (r.name.as_str(), r.verdict))
            .collect()
    }

    #[test]
    fn a_status_is_one_result() {
        let r = results(
            "dm.sh",
            Parse::Status,
            Verdict::Fail,
            "exit\n1",
            &lines("ok 1 x"),
        );
        assert_eq!(short(&r), [("dm.sh", Verdict::Fail)]);
        assert_eq!(r[0].reason, "exit 1");
    }

    #[test]
    fn cases_of_a_selftest() {
        let text = "TAP version 13\n1..3\nok 1 map\nok 2 map\nnot ok 3 remap\n";
        let r = results(
            "m",
            Parse::Tap,
            Verdict::Fail,
            "exit status 1",
            &lines(text),
        );
        assert_eq!(
            short(&r),
            [
                ("m: map", Verdict::Pass),
                ("m: map [2]", Verdict::Pass),
                ("m: remap", Verdict::Fail),
                ("m: (exit status)", Verdict::Fail),
            ]
        );
        let r = results("m", Parse::Tap, Verdict::Skip, "no node", &[]);
        assert_eq!(short(&r), [("m", Verdict::Skip)]);
    }

    #[test]
    fn both_runners_of_pmdk() {
        let text = "\
pmem2_map/TEST0: SETUP\t(medium/cacheline/debug)
pmem2_map/TEST0: \x1b[92mPASS\x1b[0m
pmem2_map/TEST1: SKIP: No byte granularity test directory provided
pmem2_map/TEST2: SETUP\t(medium/cacheline/debug)
pmem2_map/TEST2: \x1b[91mFAILED\x1b[0m\t(medium/cacheline/debug)
Error: something
pmem_is_pmem/TEST0: SETUP (check/pmem/debug)
pmem_is_pmem/TEST0: PASS\t\t\t[00.123 s]
pmem_is_pmem/TEST1: SETUP (check/non-pmem/debug)
RUNTESTS: stopping: pmem_is_pmem/TEST1 timed out, TEST=check FS=non-pmem BUILD=debug
pmem_movnt/TEST0: SKIP required: executable x linked with libndctl
";
        let r = pmdk(&lines(text));
        assert_eq!(
            short(&r),
            [
                ("TEST0 (medium/cacheline/debug)", Verdict::Pass),
                ("TEST1", Verdict::Skip),
                ("TEST2 (medium/cacheline/debug)", Verdict::Fail),
                ("TEST0 (check/pmem/debug)", Verdict::Pass),
                ("TEST1 (check/non-pmem/debug)", Verdict::Fail),
                ("TEST0", Verdict::Skip),
            ]
        );
        assert_eq!(r[1].reason, "No byte granularity test directory provided");
        assert_eq!(r[4].reason, "timed out");
        assert_eq!(r[5].reason, "required: executable x linked with libndctl");
    }
}
