// SPDX-License-Identifier: GPL-2.0

//! The result of a comparison: as text for a person and as JSON for a program.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::compare::{Class, Pair};

/// One kernel of the comparison.
#[derive(Debug, Serialize)]
pub struct Kernel {
    pub release: String,
    /// The folder with its results and logs.
    pub dir: String,
}

/// One suite.
#[derive(Debug, Serialize)]
pub struct Suite {
    pub name: String,
    pub what: String,
    pub tests: usize,
    /// Seconds of its first run.
    pub c_seconds: f64,
    pub rust_seconds: f64,
    pub results: Vec<Pair>,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    pub c: Kernel,
    pub rust: Kernel,
    /// Whether Rust does worse on no name.
    pub ok: bool,
    pub suites: Vec<Suite>,
}

/// The lists of the text, in this order: heading, class.
const LISTS: &[(&str, Class)] = &[
    ("newly failing (Rust does worse)", Class::NewlyFailing),
    ("newly passing (Rust does better)", Class::NewlyPassing),
    (
        "unsteady (two runs of the same kernel differ)",
        Class::Unsteady,
    ),
    ("failing on both", Class::FailingOnBoth),
    ("skipped on both", Class::SkippedOnBoth),
];

impl Report {
    pub fn new(c: Kernel, rust: Kernel, suites: Vec<Suite>) -> Report {
        let ok = !suites
            .iter()
            .flat_map(|s| &s.results)
            .any(|p| p.class == Class::NewlyFailing);
        Report {
            c,
            rust,
            ok,
            suites,
        }
    }

    pub fn text(&self) -> String {
        let mut t = format!(
            "C     Linux {}\nRust  Linux {}\n\n",
            self.c.release, self.rust.release
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            t,
            "{:<8}{:>6}{:>7}{:>8}{:>8}{:>8}{:>9}{:>9}{:>9}{:>7}{:>7}",
            "suite",
            "tests",
            "names",
            "pass",
            "newly-",
            "newly+",
            "unsteady",
            "failing",
            "skipped",
            "C min",
            "R min"
        );
        for suite in &self.suites {
            let count = |class| suite.results.iter().filter(|p| p.class == class).count();
            let _ = writeln!(
                t,
                "{:<8}{:>6}{:>7}{:>8}{:>8}{:>8}{:>9}{:>9}{:>9}{:>7.1}{:>7.1}",
                suite.name,
                suite.tests,
                suite.results.len(),
                count(Class::Passing),
                count(Class::NewlyFailing),
                count(Class::NewlyPassing),
                count(Class::Unsteady),
                count(Class::FailingOnBoth),
                count(Class::SkippedOnBoth),
                suite.c_seconds / 60.0,
                suite.rust_seconds / 60.0,
            );
        }
        for (heading, class) in LISTS {
            let list: Vec<_> = self
                .suites
                .iter()
                .flat_map(|s| s.results.iter().map(move |p| (s, p)))
                .filter(|(_, p)| p.class == *class)
                .collect();
            if list.is_empty() {
                continue;
            }
            let _ = writeln!(t, "\n{heading}: {}", list.len());
            match class {
                Class::SkippedOnBoth => by_reason(&mut t, &list),
                _ => list.iter().for_each(|(s, p)| self.line(&mut t, s, p)),
            }
        }
        let _ = writeln!(
            t,
            "\n{}",
            match self.ok {
                true => "Rust does worse on no name.",
                false => "Rust does worse than C.",
            }
        );
        t
    }

    fn line(&self, t: &mut String, suite: &Suite, pair: &Pair) {
        let _ = writeln!(
            t,
            "  {}: {}  [C: {}; Rust: {}]",
            suite.name,
            pair.name,
            pair.c.words(),
            pair.rust.words()
        );
        let reason = match pair.rust.reason.as_str() {
            "" => &pair.c.reason,
            reason => reason,
        };
        if !reason.is_empty() {
            let _ = writeln!(t, "      {}", shorten(reason));
        }
        if pair.class == Class::NewlyFailing {
            let dir = Path::new(&self.rust.dir).join(&suite.name);
            let _ = writeln!(t, "      log: {}", dir.join(&pair.rust_log).display());
        }
    }
}

/// Writes a list of skipped tests by reason; many have the same one.
fn by_reason(t: &mut String, list: &[(&Suite, &Pair)]) {
    let mut reasons: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for (suite, pair) in list {
        reasons
            .entry((&suite.name, shorten(&pair.rust.reason)))
            .or_default()
            .push(&pair.name);
    }
    for ((suite, reason), names) in reasons {
        const NAMED: usize = 4;
        let shown = names[..names.len().min(NAMED)].join(", ");
        let more = names.len().saturating_sub(NAMED);
        let more = match more {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let reason = match reason.as_str() {
            "" => "no reason given",
            reason => reason,
        };
        let _ = writeln!(t, "  {suite}: {reason}\n      {shown}{more}");
    }
}

/// Shortens a text to a line or two; the log has all of it.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 160;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Seen;
    use crate::record::Verdict;

    fn pair(name: &str, class: Class, c: Verdict, rust: Verdict, reason: &str) -> Pair {
        let seen = |v, reason: &str| Seen {
            verdicts: vec![Some(v)],
            reason: reason.into(),
        };
        Pair {
            name: name.into(),
            test: name.into(),
            class,
            c: seen(c, ""),
            rust: seen(rust, reason),
            c_log: "c.log".into(),
            rust_log: format!("{name}.1.log"),
        }
    }

    fn report(results: Vec<Pair>) -> Report {
        let kernel = |dir: &str| Kernel {
            release: "6.12.117".into(),
            dir: dir.into(),
        };
        let suite = Suite {
            name: "mm".into(),
            what: "selftests".into(),
            tests: results.len(),
            c_seconds: 90.0,
            rust_seconds: 96.0,
            results,
        };
        Report::new(kernel("/r/c"), kernel("/r/rust"), vec![suite])
    }

    #[test]
    fn worse_is_said_first_with_its_log() {
        use Verdict::*;
        let r = report(vec![
            pair("a", Class::Passing, Pass, Pass, ""),
            pair("b", Class::SkippedOnBoth, Skip, Skip, "no second node"),
            pair("c", Class::SkippedOnBoth, Skip, Skip, "no second node"),
            pair("d", Class::NewlyFailing, Pass, Fail, "exit status 1"),
        ]);
        assert!(!r.ok);
        let text = r.text();
        assert!(
            text.contains("mm: d  [C: pass; Rust: fail]\n      exit status 1\n"),
            "{text}"
        );
        assert!(text.contains("log: /r/rust/mm/d.1.log"));
        assert!(text.contains("mm: no second node\n      b, c\n"));
        assert!(text.find("newly failing") < text.find("skipped on both"));
        assert!(text.ends_with("Rust does worse than C.\n"));
        assert!(report(vec![pair("a", Class::Passing, Pass, Pass, "")]).ok);
    }

    #[test]
    fn long_reasons_are_cut() {
        assert_eq!(shorten(&"ä".repeat(200)).chars().count(), 161);
    }
}
