// SPDX-License-Identifier: GPL-2.0

//! `make check`: every test of the project on one kernel.
//!
//! On the host: formatting, lints, documentation, the harness's own tests.
//! Then four boots of the kernel. The first runs KUnit: what is built in runs
//! before the init, the suites in modules when they are loaded. Two have the
//! same NVDIMMs: the second of them must find what the first wrote. The last
//! runs the guest tests, which include the suites of others. Each boot must also
//! end without a report of the kernel, and on a debug kernel without a leak.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cli::GuestArgs;
use crate::doc;
use crate::guest;
use crate::job::Modules;
use crate::kbuild::Built;
use crate::ktap::{self, TestResult, Verdict};
use crate::leaks::Leaks;
use crate::lint;
use crate::options::{GuestOptions, TIMEOUT};
use crate::outcome::{End, Outcome};
use crate::paths::Paths;
use crate::program;
use crate::progress::seconds;
use crate::run::slow;
use crate::tally::{judge, Tally};
use crate::variant::Variant;

/// KUnit suites that are modules of their own.
const KUNIT_MODULES: &[&str] = &["pagemap_kunit"];

/// How long all guest tests together may take on a release kernel.
const GUEST_TESTS: Duration = Duration::from_secs(45 * 60);

/// Begins a line about a KUnit module that could not be loaded.
const MODULE: &str = "kunit-module: ";
/// Begins a result of the guest tests.
const RESULT: &str = "result: ";
/// Begins their last line.
const CLOSING: &str = "guest tests: ";
/// How much of what a failed guest test printed is shown.
const SHOWN: usize = 25;

/// Runs everything and prints the count; the exit status.
pub fn run(paths: &Paths, args: &GuestArgs) -> Result<i32> {
    let mut tally = Tally::default();
    on_host(paths, &mut tally)?;
    let (built, image) = guest::prepare(paths, args.variant)?;
    in_guest(paths, args, &built, &image, &mut tally)?;
    println!("{}", tally.summary());
    Ok(i32::from(tally.failed > 0))
}

/// What needs the kernel.
pub fn in_guest(
    paths: &Paths,
    args: &GuestArgs,
    built: &Built,
    image: &Path,
    tally: &mut Tally,
) -> Result<()> {
    let check = Check {
        paths,
        args,
        built,
        image,
    };
    check.kunit(tally)?;
    check.reboot(tally)?;
    check.guest_tests(tally)
}

/// What needs no guest.
fn on_host(paths: &Paths, tally: &mut Tally) -> Result<()> {
    const TESTS: &str = "host.tests";
    lint::checks(paths, |check| {
        let problem = check.result.as_ref().err().map(|e| format!("{e:#}"));
        if check.name == TESTS {
            let log = std::fs::read_to_string(paths.log("cargo-test")).unwrap_or_default();
            let results = cargo_tests(&log);
            results.iter().for_each(|r| tally.add("host", r));
            // A test that failed has said so; without one the build failed.
            let told = results.iter().any(|r| r.verdict == Verdict::Fail);
            if problem.is_none() && !results.is_empty() || told {
                return;
            }
        }
        tally.require("lint", check.name, problem);
    })?;
    let problem = doc::run(paths).err().map(|e| format!("{e:#}"));
    tally.require("lint", "kernel.rustdoc", problem);
    Ok(())
}

/// The lines of `cargo test`: "test a::b ... ok".
fn cargo_tests(log: &str) -> Vec<TestResult> {
    log.lines()
        .filter_map(|l| l.strip_prefix("test ")?.rsplit_once(" ... "))
        .filter_map(|(name, how)| {
            let (verdict, reason) = match how.split(',').next()? {
                "ok" => (Verdict::Pass, ""),
                "FAILED" => (Verdict::Fail, "see log/cargo-test.log in the cache"),
                "ignored" => (Verdict::Skip, "ignored"),
                _ => return None,
            };
            Some(TestResult {
                name: name.to_owned(),
                verdict,
                reason: reason.to_owned(),
            })
        })
        .collect()
}

/// The parts that boot a kernel.
struct Check<'a> {
    paths: &'a Paths,
    args: &'a GuestArgs,
    built: &'a Built,
    image: &'a Path,
}

impl Check<'_> {
    fn variant(&self) -> Variant {
        self.built.variant
    }

    fn options(&self, timeout: Duration) -> Result<GuestOptions> {
        Ok(GuestOptions {
            kmemleak: self.variant().is_debug(),
            ..GuestOptions::from_args(self.args, slow(self.variant(), timeout))?
        })
    }

    /// Boots with KUnit on. The results are on the console.
    fn kunit(&self, tally: &mut Tally) -> Result<()> {
        let mut options = self.options(TIMEOUT)?;
        options.modules = Modules::None;
        options.extra_cmdline.push("kunit.enable=1".into());
        let mut output = Vec::new();
        let outcome = guest::run_with(
            self.paths,
            self.built,
            self.image,
            &options,
            &load_modules(KUNIT_MODULES),
            &mut |bytes| output.extend_from_slice(bytes),
        )?;
        let results = ktap::parse(outcome.lines.iter().map(String::as_str));
        if results.is_empty() {
            let why = "the console has no result; is CONFIG_KUNIT on?";
            tally.say("kunit", "(all)", Verdict::Fail, why);
        }
        for result in results {
            tally.add("kunit", &judge(self.variant(), result));
        }
        for result in module_problems(&String::from_utf8_lossy(&output)) {
            tally.add("kunit", &result);
        }
        self.close("kunit", &outcome, tally);
        Ok(())
    }

    /// Boots with all persistent memory and runs the guest tests.
    fn guest_tests(&self, tally: &mut Tally) -> Result<()> {
        let options = self.options(GUEST_TESTS)?;
        self.guest_test("guest", options, "run", tally)
    }

    /// Boots twice with the same NVDIMMs.
    fn reboot(&self, tally: &mut Tally) -> Result<()> {
        let nvdimms = guest::run_dir(self.paths)?;
        for boot in ["first", "second"] {
            let mut options = self.options(TIMEOUT)?;
            options.nvdimms = Some(nvdimms.path().to_owned());
            self.guest_test(boot, options, &format!("reboot {boot}"), tally)?;
        }
        Ok(())
    }

    /// One boot that ends when our program in the guest has printed its results.
    fn guest_test(
        &self,
        boot: &str,
        mut options: GuestOptions,
        verb: &str,
        tally: &mut Tally,
    ) -> Result<()> {
        options.copy.push(program::build(self.paths)?);
        options.copy.push(program::build_daxstat(self.paths)?);
        let language = match self.variant() {
            Variant::Rust | Variant::Debug => "rust",
            Variant::C | Variant::Cdebug => "c",
        };
        let command = format!("./{} {verb} --expect {language}", program::NAME);
        let mut lines = GuestLines::new(self.variant());
        let outcome = guest::run_with(
            self.paths,
            self.built,
            self.image,
            &options,
            &command,
            &mut |bytes| lines.take(bytes, tally),
        )?;
        lines.finish(tally);
        self.close(boot, &outcome, tally);
        Ok(())
    }

    /// What must hold of every boot.
    fn close(&self, boot: &str, outcome: &Outcome, tally: &mut Tally) {
        let name = format!("{boot} boot: ");
        let ended = match outcome.end {
            // A test that failed has been counted.
            End::Exited(_) => None,
            End::TimedOut => Some(format!("stopped after {}", seconds(outcome.total))),
            End::Died => Some("the guest stopped without ending its command".into()),
            End::Interrupted => Some("interrupted".into()),
        };
        tally.require("console", &format!("{name}ends"), ended);
        // What kmemleak found is judged below, object by object.
        let judged = |title: &str| self.variant().is_debug() && title.starts_with("kmemleak: ");
        let titles = outcome.splats.iter().map(|s| s.title.clone());
        let splats = titles.filter(|title| !judged(title));
        let missing = outcome.missing.iter().map(|m| format!("did not come: {m}"));
        let list: Vec<String> = splats.chain(missing).collect();
        let console = outcome.console.display();
        let problem = (!list.is_empty()).then(|| format!("{}; see {console}", list.join("; ")));
        tally.require("console", &format!("{name}no splat"), problem);
        eprint!("{}", outcome.explain());
        if self.variant().is_debug() {
            let leaks = Leaks::parse(outcome.leaks.as_deref().unwrap_or_default());
            for text in leaks.unknown.iter().cloned().chain(leaks.note()) {
                eprintln!("{text}");
            }
            let count = leaks.unknown.len();
            let problem = (count > 0).then(|| format!("{count} unreferenced objects"));
            tally.require("console", &format!("{name}no leak"), problem);
        }
    }
}

/// The guest's command that loads suites, and tells which it could not.
fn load_modules(modules: &[&str]) -> String {
    let mut script = String::new();
    for m in modules {
        script.push_str(&format!(
            "if ! modprobe -n -q {m}; then echo '{MODULE}none {m}'\n\
             elif ! modprobe {m}; then echo '{MODULE}failed {m}'; fi\n"
        ));
    }
    script + "exit 0\n"
}

fn module_problems(output: &str) -> Vec<TestResult> {
    output
        .lines()
        .filter_map(|l| l.strip_prefix(MODULE)?.split_once(' '))
        .map(|(how, module)| TestResult {
            name: module.to_owned(),
            verdict: match how {
                "none" => Verdict::Skip,
                _ => Verdict::Fail,
            },
            reason: match how {
                "none" => "this kernel has no such module".into(),
                _ => "the module cannot be loaded; see the console".into(),
            },
        })
        .collect()
}

/// One line of the guest tests.
#[derive(Deserialize)]
struct GuestResult {
    name: String,
    status: String,
    #[serde(default)]
    why: String,
}

/// Reads what the guest tests print while they print it.
struct GuestLines {
    variant: Variant,
    partial: Vec<u8>,
    /// What was printed since the last result.
    said: Vec<String>,
    closed: bool,
}

impl GuestLines {
    fn new(variant: Variant) -> GuestLines {
        GuestLines {
            variant,
            partial: Vec::new(),
            said: Vec::new(),
            closed: false,
        }
    }

    fn take(&mut self, bytes: &[u8], tally: &mut Tally) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end(), tally);
        }
    }

    fn line(&mut self, line: &str, tally: &mut Tally) {
        if line.starts_with(CLOSING) {
            self.closed = true;
        } else if let Some(json) = line.strip_prefix(RESULT) {
            match parse_result(json) {
                Ok(result) => {
                    let result = judge(self.variant, result);
                    if result.verdict == Verdict::Fail {
                        let skip = self.said.len().saturating_sub(SHOWN);
                        self.said
                            .iter()
                            .skip(skip)
                            .for_each(|l| println!("     | {l}"));
                    }
                    tally.add("guest", &result);
                }
                Err(e) => tally.say("guest", line, Verdict::Fail, &format!("{e:#}")),
            }
            self.said.clear();
        } else {
            self.said.push(line.to_owned());
        }
    }

    /// The output ended; without its last line the run was cut off.
    fn finish(self, tally: &mut Tally) {
        if !self.closed {
            let skip = self.said.len().saturating_sub(SHOWN);
            self.said
                .iter()
                .skip(skip)
                .for_each(|l| println!("     | {l}"));
            let why = "the guest tests ended before their last line";
            tally.say("guest", "(all)", Verdict::Fail, why);
        }
    }
}

fn parse_result(json: &str) -> Result<TestResult> {
    let r: GuestResult = serde_json::from_str(json).context("not a result")?;
    let verdict = match r.status.as_str() {
        "ok" => Verdict::Pass,
        "skip" => Verdict::Skip,
        _ => Verdict::Fail,
    };
    Ok(TestResult {
        name: r.name,
        verdict,
        // What a test adds to a success is for its own output.
        reason: if verdict == Verdict::Pass {
            String::new()
        } else {
            r.why
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo() {
        let r = cargo_tests(
            "$ cargo test\nrunning 3 tests\ntest a::b ... ok\ntest c ... FAILED\n\
             test d ... ignored, needs root\ntest result: FAILED. 1 passed; 1 failed\n",
        );
        let short: Vec<_> = r.iter().map(|r| (r.name.as_str(), r.verdict)).collect();
        assert_eq!(
            short,
            [
                ("a::b", Verdict::Pass),
                ("c", Verdict::Fail),
                ("d", Verdict::Skip)
            ]
        );
    }

    #[test]
    fn results_of_the_guest_come_in_pieces() {
        let mut tally = Tally::default();
        let mut lines = GuestLines::new(Variant::Rust);
        lines.take(b"kernel 6.12\nresult: {\"name\":\"a\",\"sta", &mut tally);
        assert_eq!(tally, Tally::default());
        lines.take(
            b"tus\":\"ok\",\"why\":\"\",\"seconds\":0.1}\nresult: {\"name\":\"b\",",
            &mut tally,
        );
        lines.take(
            b"\"status\":\"skip\",\"why\":\"no\",\"seconds\":1.0}\nresult: nonsense\n",
            &mut tally,
        );
        lines.take(b"guest tests: 1 passed\n", &mut tally);
        lines.finish(&mut tally);
        assert_eq!(tally.summary(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_run_that_is_cut_off_fails() {
        let mut tally = Tally::default();
        let mut lines = GuestLines::new(Variant::Rust);
        lines.take(
            b"result: {\"name\":\"a\",\"status\":\"ok\"}\nhalf",
            &mut tally,
        );
        lines.finish(&mut tally);
        assert_eq!(tally.summary(), "1 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn modules_that_are_not_there_are_skipped() {
        let r = module_problems("x\nkunit-module: none a\nkunit-module: failed b\n");
        assert_eq!(r[0].verdict, Verdict::Skip);
        assert_eq!((r[1].name.as_str(), r[1].verdict), ("b", Verdict::Fail));
        assert!(load_modules(&["a"]).contains("modprobe -n -q a"));
    }
}
