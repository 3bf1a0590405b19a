// SPDX-License-Identifier: GPL-2.0

//! `make check`: every test of the project on one kernel.
//!
//! On the host: formatting, lints, documentation, the harness's own tests, and
//! whether the objects that were built could panic. Then, or beside that if the kernel is built
//! already, the kernel is booted. One
//! boot runs KUnit: built-in suites run before the init, suites in modules run when
//! the modules are loaded. Two boots share the same NVDIMMs: the second must find
//! what the first wrote. Some more boots share NVDIMMs too; each but the last is
//! killed while it writes. One boot takes the tour. The guest tests, which include external suites, have a
//! boot of their own, or share several when the host can run guests side by side.
//! A test may be skipped only if that is expected on this kernel (`skips.toml`).
//! Each boot must also end without a kernel report or an I/O error that no test has
//! announced, and on a debug kernel without a leak.

mod boot;
pub mod coverage;
pub mod crash;
mod executed;
mod guest_protocol;
mod io_errors;
mod leaks;
pub mod main_job;
mod skips;
pub mod soak;
pub mod tour;
mod workers;

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use clap::builder::FalseyValueParser;
use clap::Args;
use vm::options::GuestArgs;

use crate::boot::Check;
use crate::crash::Failures;
use crate::workers::Boot;
use host::kernel::Built;
use host::limit::{Limit, NO_TIME};
use host::paths::Paths;
use kbuild::build::{self, build_to_boot};
use kbuild::doc;
use kbuild::lint;
use kbuild::panics;
use report::ktap::{self, TestResult, Verdict};
use report::summary::{judge, Summary};
use vm::guest;
use vm::job::Modules;
use vm::kvm;
use vm::options::TIMEOUT;
use vm::qemu::{Machine, FOUR_LEVELS};

/// KUnit suites that are separate modules.
const KUNIT_MODULES: &[&str] = &["memremap_kunit"];

/// Time limit of all guest tests together on a release kernel; they take half an
/// hour on a quiet machine. Each test has a limit of its own besides.
const GUEST_TESTS: Duration = Duration::from_secs(120 * 60);

/// What makes a kernel with PREEMPT_DYNAMIC preemptible.
const PREEMPTIBLE: &str = "preempt=full";

/// Prefix of a line about a KUnit module that could not be loaded.
const MODULE: &str = "kunit-module: ";

/// The lines in which the Rust registry says why it does not map a pgmap: the tests of
/// `memremap_refused` cause each. The first part ends before a number, the second begins behind it.
const REASONS: &[(&str, &str)] = &[
    ("memremap: refused: the pgmap has 0 ranges", ", errno -22"),
    (
        "memremap: refused: Missing migrate_to_ram method",
        ", errno -22",
    ),
    ("memremap: refused: Missing page_free method", ", errno -22"),
    (
        "memremap: refused: [mem 0x",
        "] is System RAM (/proc/iomem), errno -6",
    ),
    ("overlaps a range that is mapped, at pfn 0x", ", errno -12"),
];

/// Returns the reasons that no line of the console has.
fn missing_reasons(lines: &[String]) -> Vec<&'static str> {
    let has = |(start, end): &(&str, &str)| {
        let rest = |line: &String| line.split_once(start).map(|(_, rest)| rest.contains(end));
        lines.iter().any(|line| rest(line) == Some(true))
    };
    let missing = REASONS.iter().filter(|reason| !has(reason));
    missing.map(|(start, _)| *start).collect()
}

/// Tests that `QUICK=1` runs in the guest: one of each kind, some minutes on a debug
/// kernel.
const QUICK: &str = "^(lifecycle::fsdax-2M-dev-acpi|refuse::align|pmem::io::fsdax|\
                     pins::cycle::devdax-2M-mem-acpi|direct-io::fsdax-2M-dev-acpi|\
                     users::fixed-buffers::devdax-4K-mem-acpi|remote::rights::devdax-4K-mem-acpi|\
                     devmap::concurrent::fsdax-2M-mem-acpi|gup::cycle::thp|\
                     gup::undo::fsdax-2M-dev-acpi|truncate::pipe-read-truncate::ext4|\
                     fsdax::size::ext4-dev-acpi|fsdax::fsx::ext4-dev-acpi|\
                     fsdax::race::punch::xfs-mem-acpi|fsdax::recovery::xfs-dev-e820|\
                     fsdax::clone::store-large::xfs-reflink-dev-e820|suite::dax-pmd)$";

/// Options that select the tests.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// All tests in full, on a debug kernel too.
    #[arg(long, env = "ALL", value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// Only KUnit and one test of each kind, and nothing on the host.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Only KUnit and one of several parts of the guest tests, and nothing on the host: 3/8 is the
    /// third of eight.
    #[arg(long, env = "PART", conflicts_with = "quick", value_parser = parse_part)]
    pub part: Option<String>,
    /// Seconds after which no test starts; what did not start is skipped.
    #[arg(long, env = "LIMIT")]
    pub limit: Option<u64>,
    /// Number of guests at a time; by default as many as CPUs and memory allow.
    #[arg(long, env = "JOBS", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub jobs: Option<u32>,
}

/// Checks a part as `3/8`.
fn parse_part(text: &str) -> Result<String> {
    let (number, count) = text.split_once('/').context("give a part like 3/8")?;
    let (number, count): (u32, u32) = (number.parse()?, count.parse()?);
    ensure!(
        (1..=count).contains(&number),
        "there is no part {number} of {count}"
    );
    Ok(text.to_owned())
}

impl CheckArgs {
    /// Returns whether all is to run, on the host as well.
    fn is_whole(&self) -> bool {
        !self.quick && self.part.is_none()
    }
}

/// Runs all checks, prints the totals and returns the exit status.
pub fn run(paths: &Paths, args: &CheckArgs) -> Result<i32> {
    let limit = Limit::starting_now(args.limit);
    let mut summary = Summary::default();
    // A mistake is reported before the kernel is built, which takes long; if that is built, beside
    // the boots, which take longer.
    let beside = args.is_whole() && build::is_current(paths, args.guest.variant)?;
    if args.is_whole() && !beside {
        on_host(paths, &mut summary)?;
    }
    let (built, image) = guest::prepare(paths, || build_to_boot(paths, args.guest.variant))?;
    let check = Check::new(paths, &args.guest, &built, &image)?;
    let host: Boot = Box::new(|summary| {
        if beside {
            on_host(paths, summary)?;
        }
        no_panics(paths, &built, summary)
    });
    check.boots(args, limit, host, &mut summary)?;
    println!("{}", summary.totals());
    Ok(i32::from(summary.failed > 0))
}

/// What a guest needs before its first test and after its last one: the boot, the
/// tests' own end, and kmemleak's scans on a debug kernel.
const AROUND: Duration = Duration::from_secs(180);

/// Returns the time for tests of a guest that boots now; `None` without a limit.
fn for_tests(limit: Limit) -> Option<Duration> {
    Some(limit.left()?.saturating_sub(AROUND))
}

/// Returns the option that tells that to a guest.
fn argument(limit: Limit) -> String {
    match for_tests(limit) {
        Some(left) => format!(" --limit {}", left.as_secs()),
        None => String::new(),
    }
}

/// Returns a boot that is skipped if its turn comes too late.
fn limited<'a>(
    limit: Limit,
    name: &str,
    run: impl FnOnce(&mut Summary) -> Result<()> + Send + 'a,
) -> Boot<'a> {
    let name = format!("{name} boot");
    Box::new(move |summary| match for_tests(limit) {
        Some(Duration::ZERO) => {
            summary.say("console", &name, Verdict::Skip, NO_TIME);
            Ok(())
        }
        _ => run(summary),
    })
}

/// Runs the checks that need no guest.
fn on_host(paths: &Paths, summary: &mut Summary) -> Result<()> {
    const TESTS: &str = "host.tests";
    lint::checks(paths, |check| {
        let problem = check.result.as_ref().err().map(|e| format!("{e:#}"));
        if check.name == TESTS {
            let log = fs_err::read_to_string(paths.log("cargo-test")).unwrap_or_default();
            let results = cargo_tests(&log);
            results.iter().for_each(|r| summary.add("host", r));
            // A failed test has been reported; without one, the build failed.
            let reported = results.iter().any(|r| r.verdict == Verdict::Fail);
            if problem.is_none() && !results.is_empty() || reported {
                return;
            }
        }
        summary.require("lint", &check.name, problem);
    })?;
    let problem = doc::run(paths).err().map(|e| format!("{e:#}"));
    summary.require("lint", "kernel.rustdoc", problem);
    Ok(())
}

/// Checks that no function of ours can reach a Rust panic. This is checked on
/// optimised builds only: the debug kernel has assertions, and a C kernel has no
/// Rust.
fn no_panics(paths: &Paths, built: &Built, summary: &mut Summary) -> Result<()> {
    if !built.variant.is_rust() || built.variant.is_debug() {
        return Ok(());
    }
    let places = panics::find(paths, &paths.build(built.variant))?;
    let problem = (!places.is_empty()).then(|| places.join("; "));
    summary.require("build", "no panics", problem);
    Ok(())
}

/// Parses the lines of `cargo test`: "test a::b ... ok".
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

impl Check<'_> {
    /// Runs every boot and what is left for the host, side by side where there is room.
    fn boots(
        &self,
        args: &CheckArgs,
        limit: Limit,
        host: Boot<'_>,
        summary: &mut Summary,
    ) -> Result<()> {
        let workers = match args.jobs {
            Some(jobs) => jobs as usize,
            None => workers::available(Machine::memory_mib(self.args.mem)),
        };
        // There are more shares than workers, so that the last shares to end are
        // short.
        let shares = if workers > 1 { workers + 1 } else { 1 };
        let mut boots = vec![limited(limit, "kunit", |t| self.kunit("kunit", None, t))];
        // What is subtle about detaching a pgmap, about RCU and its tasks, only matters where a thread
        // in the kernel can be preempted, and where it cannot.
        if self.variant().is_debug() && !self.args.append.contains("preempt=") {
            let name = "kunit, preemptible";
            boots.push(limited(limit, name, move |t| {
                self.kunit(name, Some(PREEMPTIBLE), t)
            }));
        }
        let kunit = boots.len();
        if args.is_whole() {
            boots.push(limited(limit, "reboot", |t| self.reboot(t)));
            boots.push(limited(limit, "crash", |t| {
                crash::run(self, &Failures::few(self.variant()), t)
            }));
            boots.push(limited(limit, "four levels", |t| self.four_levels(t)));
            // Its waits are too short for a debug kernel.
            if self.variant().is_rust() && !self.variant().is_debug() {
                boots.push(limited(limit, "tour", |t| tour::boot(self, t)));
            }
        }
        let mut verb = String::from("run");
        if args.all {
            verb.push_str(" --all");
        }
        if args.quick {
            verb.push_str(&format!(" --filter '{QUICK}'"));
        }
        if let Some(part) = &args.part {
            verb.push_str(&format!(" --part '{part}'"));
        }
        let tests = (1..=shares).map(|share| {
            let verb = format!("{verb} --share {share}/{shares}");
            limited(limit, &format!("guest {share}"), move |t| {
                self.guest_tests(share, &format!("{verb}{}", argument(limit)), t)
            })
        });
        // Long boots come before short ones, except for KUnit, which is most
        // informative about a kernel that is broken altogether.
        boots.splice(kunit..kunit, std::iter::once(host).chain(tests));
        if workers > 1 {
            eprintln!("{workers} guests at a time (JOBS=1 for one)");
            // Chosen here once, and not in all workers at the same time.
            kvm::choose(self.paths, self.built, self.image, self.args.icount)?;
        }
        workers::run(workers, boots, summary)
    }

    /// Boots with KUnit enabled, and with this word on the kernel's command line, and reads the
    /// results from the console.
    fn kunit(&self, boot: &str, word: Option<&str>, summary: &mut Summary) -> Result<()> {
        let mut options = self.options(TIMEOUT)?;
        options.modules = Modules::None;
        let words = word.into_iter().chain(["kunit.enable=1"]);
        options.extra_cmdline.extend(words.map(str::to_owned));
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
            summary.say(boot, "(all)", Verdict::Fail, why);
        }
        for result in results {
            let result = self.skips.judge(judge(self.variant(), result));
            summary.add(boot, &result);
        }
        for result in module_problems(&String::from_utf8_lossy(&output)) {
            summary.add(boot, &self.skips.judge(result));
        }
        if self.variant().is_rust() {
            let (verdict, why) = match missing_reasons(&outcome.lines) {
                missing if missing.is_empty() => (Verdict::Pass, String::new()),
                missing => (Verdict::Fail, format!("not in the log: {missing:?}")),
            };
            summary.say(boot, "memremap_refused.reasons", verdict, &why);
        }
        self.close(boot, &outcome, summary);
        Ok(())
    }

    /// Boots with all persistent memory and runs the guest tests.
    fn guest_tests(&self, share: usize, verb: &str, summary: &mut Summary) -> Result<()> {
        let options = self.options(GUEST_TESTS)?;
        self.guest_test(&format!("guest {share}"), options, verb, summary)
    }

    /// Boots with four-level page tables, as most machines have. A debug kernel
    /// always uses four levels.
    fn four_levels(&self, summary: &mut Summary) -> Result<()> {
        const WALKS: &str =
            "^(gup::levels|gup::cycle|gup::undo|devmap::concurrent|remote::populate)";
        if self.variant().is_debug() {
            return Ok(());
        }
        let mut options = self.options(GUEST_TESTS)?;
        options.extra_cmdline.push(FOUR_LEVELS.into());
        let verb = format!("run --filter '{WALKS}'");
        self.guest_test("four levels", options, &verb, summary)
    }

    /// Boots twice with the same NVDIMMs.
    fn reboot(&self, summary: &mut Summary) -> Result<()> {
        let nvdimms = self.paths.run_dir()?;
        for boot in ["first", "second"] {
            let mut options = self.options(TIMEOUT)?;
            options.nvdimms = Some(nvdimms.path().to_owned());
            self.guest_test(boot, options, &format!("reboot {boot}"), summary)?;
        }
        Ok(())
    }
}

/// Returns the guest's command that loads suites and reports those that it could not
/// load.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_reason() {
        let good: Vec<_> = REASONS
            .iter()
            .map(|(a, b)| format!("[1.0] {a}7{b}"))
            .collect();
        assert!(missing_reasons(&good).is_empty());
        assert_eq!(missing_reasons(&good[1..]), [REASONS[0].0]);
        assert_eq!(
            missing_reasons(&[String::from("memremap: refused: [mem 0x")]).len(),
            5
        );
    }

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
    fn modules_that_are_not_there_are_skipped() {
        let r = module_problems("x\nkunit-module: none a\nkunit-module: failed b\n");
        assert_eq!(r[0].verdict, Verdict::Skip);
        assert_eq!((r[1].name.as_str(), r[1].verdict), ("b", Verdict::Fail));
        assert!(load_modules(&["a"]).contains("modprobe -n -q a"));
    }

    #[test]
    fn boots_after_the_limit_are_skipped() {
        let ran = |seconds| {
            let mut summary = Summary::default();
            let boot = limited(Limit::starting_now(seconds), "x", |summary| {
                summary.require("console", "x boot", None);
                Ok(())
            });
            boot(&mut summary).unwrap();
            summary.totals()
        };
        assert_eq!(ran(None), "1 passed, 0 failed, 0 skipped");
        assert_eq!(ran(Some(3600)), "1 passed, 0 failed, 0 skipped");
        assert_eq!(ran(Some(60)), "0 passed, 0 failed, 1 skipped");
        assert_eq!(argument(Limit::starting_now(None)), "");
        assert!(argument(Limit::starting_now(Some(3600))).starts_with(" --limit 34"));
    }
}
