// SPDX-License-Identifier: GPL-2.0

//! Reads test results in the formats of the kernel: KTAP of KUnit, nested by
//! indentation, and the flat TAP of kselftest.
//!
//! Only leaves are results. The line that closes a suite counts only when it says "not ok" although
//! no test in it failed: then something else went wrong.
//!
//! `kunit.py parse --json` gives the names and verdicts only: not the reason of a skip nor the
//! expectation that failed, which `make check` prints, and it has no cases of selftests.
//!
//! Some selftests announce a case by `# [RUN] what`, and the result line only says what was
//! found; then the case is the name, because it does not depend on what was found.

use std::sync::LazyLock;

use regex::Regex;

/// The verdict of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The suites around it, outermost first, and its own name.
    pub name: String,
    pub verdict: Verdict,
    /// Reason of a skip, or the first complaint of a failed test.
    pub reason: String,
}

static RESULT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^( *)(not ok|ok) (\d+)(?: -)?(?: ([^#]*?))? *(?:# *(.*))?$")
        .expect("a constant pattern is valid")
});
static SUBTEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^( *)# Subtest: (.+?) *$").expect("a constant pattern is valid"));
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^( *)K?TAP version \d+ *$").expect("a constant pattern is valid")
});
static PLAN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^( *)1\.\.(\d+)\b").expect("a constant pattern is valid"));

/// The state of one level of nesting.
#[derive(Debug, Default)]
struct Level {
    /// Name from "# Subtest:".
    name: String,
    planned: Option<usize>,
    seen: usize,
    failed: bool,
}

/// A parser of lines without time stamps, in order; other lines may stand between them.
#[derive(Debug, Default)]
struct Parser {
    levels: Vec<Level>,
    /// The case that was announced, and the number of results that it has had.
    case: Option<(String, usize)>,
    complaints: Vec<String>,
    results: Vec<TestResult>,
}

impl Parser {
    fn line(&mut self, text: &str) {
        if let Some(c) = VERSION.captures(text) {
            self.close(depth_of(&c[1]));
            self.case = None;
        } else if let Some(c) = SUBTEST.captures(text) {
            let depth = depth_of(&c[1]);
            // A new suite on this level ends the open one there.
            self.close(depth);
            self.level(depth).name = c[2].to_owned();
            self.complaints.clear();
        } else if let Some(c) = PLAN.captures(text) {
            let depth = depth_of(&c[1]);
            let planned = c[2].parse().ok();
            self.level(depth).planned = planned;
        } else if let Some(c) = RESULT.captures(text) {
            let depth = depth_of(&c[1]);
            let name = c.get(4).map_or("", |m| m.as_str()).trim();
            let note = c.get(5).map_or("", |m| m.as_str());
            // kselftest puts the name after the "#" of these.
            let name = match (name, note.strip_prefix("XFAIL ")) {
                ("", Some(expected)) => expected.to_owned(),
                ("", None) => format!("#{}", &c[3]),
                (name, _) => name.to_owned(),
            };
            self.result(depth, &c[2] == "ok", &name, note);
        } else if let Some(text) = text.trim_start().strip_prefix('#') {
            self.complaint(text.trim());
        } else if !self.complaints.is_empty() && text.starts_with("    ") {
            // KUnit explains a failed expectation in indented lines.
            self.complaints.push(text.trim().to_owned());
        }
    }

    /// Returns all results; a suite that ran fewer tests than planned adds a failure.
    fn finish(mut self) -> Vec<TestResult> {
        self.close(0);
        self.results
    }

    fn complaint(&mut self, text: &str) {
        if let Some(case) = text.strip_prefix("[RUN] ") {
            self.case = Some((case.trim().to_owned(), 0));
            self.complaints.clear();
            return;
        }
        const STARTS: [&str; 2] = ["RUN ", "OK "];
        const PARTS: [&str; 5] = [
            "EXPECTATION FAILED",
            "ASSERTION FAILED",
            "Expected",
            "ERROR",
            ".rs:",
        ];
        let started = !self.complaints.is_empty();
        if STARTS.iter().any(|s| text.starts_with(s)) {
            self.complaints.clear();
        } else if started || PARTS.iter().any(|p| text.contains(p)) || is_place(text) {
            self.complaints.push(text.to_owned());
        }
    }

    fn result(&mut self, depth: usize, ok: bool, name: &str, note: &str) {
        let inner = self.levels.get(depth + 1).map(|l| (l.seen > 0, l.failed));
        self.close(depth + 1);
        let aggregate = matches!(inner, Some((true, _)));
        let explained = matches!(inner, Some((true, true)));
        let skip = note
            .get(..4)
            .is_some_and(|n| n.eq_ignore_ascii_case("skip"));
        let level = self.level(depth);
        level.seen += 1;
        level.failed |= !ok;
        let complaints = std::mem::take(&mut self.complaints);
        // The closing line of a suite that was skipped as a whole is a leaf.
        if aggregate && (ok || explained) {
            return;
        }
        let verdict = match (ok, skip) {
            (true, true) => Verdict::Skip,
            (true, false) => Verdict::Pass,
            (false, _) => Verdict::Fail,
        };
        let reason = match verdict {
            Verdict::Pass => String::new(),
            Verdict::Skip => note[4..].trim().to_owned(),
            Verdict::Fail if complaints.is_empty() && self.case.is_some() => name.to_owned(),
            Verdict::Fail => complaints
                .into_iter()
                .take(3)
                .collect::<Vec<_>>()
                .join("; "),
        };
        let name = match &mut self.case {
            Some((case, seen)) if depth == 0 => {
                *seen += 1;
                match *seen {
                    1 => case.clone(),
                    n => format!("{case} ({n})"),
                }
            }
            _ => self.path(depth, name),
        };
        self.results.push(TestResult {
            name,
            verdict,
            reason,
        });
    }

    /// Ends the levels from `depth` on; a plan that was not fulfilled is a failure.
    fn close(&mut self, depth: usize) {
        while self.levels.len() > depth {
            let at = self.levels.len() - 1;
            let name = self.path(at, "(plan)");
            let Some(level) = self.levels.pop() else {
                return;
            };
            if let Some(planned) = level.planned.filter(|p| *p > level.seen) {
                self.results.push(TestResult {
                    name,
                    verdict: Verdict::Fail,
                    reason: format!("{} of {planned} tests reported a result", level.seen),
                });
            }
        }
    }

    fn level(&mut self, depth: usize) -> &mut Level {
        while self.levels.len() <= depth {
            self.levels.push(Level::default());
        }
        &mut self.levels[depth]
    }

    fn path(&self, depth: usize, name: &str) -> String {
        self.levels
            .iter()
            .take(depth + 1)
            .map(|l| l.name.as_str())
            .chain([name])
            .filter(|n| !n.is_empty())
            .collect::<Vec<_>>()
            .join(".")
    }
}

fn depth_of(indent: &str) -> usize {
    indent.len() / 4
}

/// Returns whether a line begins with a source location, as kselftest prints it: "#
/// hmm-tests.c:123:open_close:Expected ...".
fn is_place(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let file = parts.next().unwrap_or("");
    let line = parts.next().unwrap_or("");
    file.ends_with(".c") && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
}

/// Parses the results in a console, whose lines carry time stamps.
pub fn parse<'a>(console: impl IntoIterator<Item = &'a str>) -> Vec<TestResult> {
    let mut parser = Parser::default();
    for line in console {
        parser.line(host::lines::message(line));
    }
    parser.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<TestResult> {
        super::parse(text.lines())
    }

    const KUNIT: &str = "\
[    1.000000] KTAP version 1
[    1.000001] 1..2
[    1.000002]     KTAP version 1
[    1.000003]     # Subtest: pfn_t
[    1.000004]     # module: memremap_kunit
[    1.000005]     1..4
[    1.000006]     ok 1 bits_match_c
[    1.000007] some driver says something
[    1.000008]     # flags_survive: EXPECTATION FAILED at mm/memremap/tests/memremap_kunit.rs:77
[    1.000009]     Expected a == b, but
[    1.000010]         a == 1 (0x1)
[    1.000011]     not ok 2 flags_survive
[    1.000012]     ok 3 p2p # SKIP no device
[    1.000013]         KTAP version 1
[    1.000014]         # Subtest: many_sizes
[    1.000015]         ok 1 2M
[    1.000016]         not ok 2 1G
[    1.000017]     # many_sizes: pass:1 fail:1 skip:0 total:2
[    1.000018]     not ok 4 many_sizes
[    1.000019] # pfn_t: pass:1 fail:2 skip:1 total:4
[    1.000020] # Totals: pass:2 fail:2 skip:1 total:5
[    1.000021] not ok 1 pfn_t
[    1.000022]     KTAP version 1
[    1.000023]     # Subtest: rust_doctests_kernel
[    1.000024]     1..2
[    1.000025]     # rust_doctest_kernel_mm_0.location: rust/kernel/mm.rs:10
[    1.000026]     ok 1 rust_doctest_kernel_mm_0
[    1.000027]     ok 2 rust_doctest_kernel_mm_1
[    1.000028] # rust_doctests_kernel: pass:2 fail:0 skip:0 total:2
[    1.000029] ok 2 rust_doctests_kernel
";

    fn names(results: &[TestResult], verdict: Verdict) -> Vec<&str> {
        results
            .iter()
            .filter(|r| r.verdict == verdict)
            .map(|r| r.name.as_str())
            .collect()
    }

    #[test]
    fn kunit() {
        let r = parse(KUNIT);
        assert_eq!(
            names(&r, Verdict::Pass),
            [
                "pfn_t.bits_match_c",
                "pfn_t.many_sizes.2M",
                "rust_doctests_kernel.rust_doctest_kernel_mm_0",
                "rust_doctests_kernel.rust_doctest_kernel_mm_1",
            ]
        );
        assert_eq!(
            names(&r, Verdict::Fail),
            ["pfn_t.flags_survive", "pfn_t.many_sizes.1G"]
        );
        let skip = r.iter().find(|r| r.verdict == Verdict::Skip).unwrap();
        assert_eq!(
            (skip.name.as_str(), skip.reason.as_str()),
            ("pfn_t.p2p", "no device")
        );
        let fail = r.iter().find(|r| r.name == "pfn_t.flags_survive").unwrap();
        assert_eq!(
            fail.reason,
            "flags_survive: EXPECTATION FAILED at mm/memremap/tests/memremap_kunit.rs:77; \
             Expected a == b, but; a == 1 (0x1)"
        );
    }

    #[test]
    fn kselftest() {
        let r = parse(
            "TAP version 13\n1..3\n# Starting 3 tests from 2 test cases.\n\
             #  RUN           hmm.open_close ...\n#            OK  hmm.open_close\nok 1 hmm.open_close\n\
             #  RUN           hmm.migrate ...\n# hmm-tests.c:900:migrate:Expected ret (-16) == 0 (0)\n\
             # migrate: Test terminated by assertion\n#          FAIL  hmm.migrate\nnot ok 2 hmm.migrate\n\
             ok 3 hmm2.double_map # SKIP no second device\n\
             # FAILED: 2 / 3 tests passed.\n# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0\n",
        );
        assert_eq!(names(&r, Verdict::Pass), ["hmm.open_close"]);
        assert_eq!(names(&r, Verdict::Fail), ["hmm.migrate"]);
        assert_eq!(names(&r, Verdict::Skip), ["hmm2.double_map"]);
        assert!(r[1]
            .reason
            .starts_with("hmm-tests.c:900:migrate:Expected ret"));
        assert_eq!(r[2].reason, "no second device");
    }

    #[test]
    fn a_case_gives_its_results_a_name() {
        let r = parse(
            "TAP version 13\n1..5\n# [RUN] Basic COW after fork() ... with base page\n\
             ok 1 No leak from parent into child\n# [RUN] vmsplice() ... with base page\n\
             not ok 2 Leak from parent into child\n# [RUN] vmsplice() ... with THP (2048 kB)\n\
             ok 3 # SKIP MAP_HUGETLB failed\n# [RUN] test_prot_read\nok 4 read\nok 5 write\n",
        );
        let short: Vec<_> = r.iter().map(|r| (r.name.as_str(), r.verdict)).collect();
        assert_eq!(
            short,
            [
                ("Basic COW after fork() ... with base page", Verdict::Pass),
                ("vmsplice() ... with base page", Verdict::Fail),
                ("vmsplice() ... with THP (2048 kB)", Verdict::Skip),
                ("test_prot_read", Verdict::Pass),
                ("test_prot_read (2)", Verdict::Pass),
            ]
        );
        assert_eq!(r[1].reason, "Leak from parent into child");
        assert_eq!(r[2].reason, "MAP_HUGETLB failed");
    }

    #[test]
    fn results_without_a_name() {
        let r = parse(
            "1..2\nok 1 # XFAIL 2MB mremap\n\tExpected mremap failure\nok 2 # SKIP no node\n",
        );
        assert_eq!(names(&r, Verdict::Pass), ["2MB mremap"]);
        assert_eq!(names(&r, Verdict::Skip), ["#2"]);
    }

    #[test]
    fn a_run_that_was_cut_off_fails() {
        let cut = KUNIT.lines().take(7).collect::<Vec<_>>().join("\n");
        let r = parse(&cut);
        assert_eq!(names(&r, Verdict::Pass), ["pfn_t.bits_match_c"]);
        assert_eq!(names(&r, Verdict::Fail), ["pfn_t.(plan)", "(plan)"]);
        assert_eq!(r[1].reason, "1 of 4 tests reported a result");
    }

    #[test]
    fn a_suite_that_fails_without_a_failed_test_is_a_failure() {
        let r = parse("    # Subtest: s\n    1..1\n    ok 1 a\n# suite exit failed\nnot ok 1 s\n");
        assert_eq!(names(&r, Verdict::Fail), ["s"]);
    }

    #[test]
    fn a_second_run_has_its_own_plan() {
        let one = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..1\n    ok 1 a\nok 1 s\n";
        let r = parse(&format!(
            "{one}{one}{}",
            one.replace("1..1\nok", "1..2\nok").replace("ok 1 s\n", "")
        ));
        assert_eq!(names(&r, Verdict::Pass), ["s.a", "s.a", "s.a"]);
        assert_eq!(names(&r, Verdict::Fail), ["(plan)"]);
    }

    #[test]
    fn empty_output_has_no_results() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("okay then\nnot okay\n"), []);
    }
}
