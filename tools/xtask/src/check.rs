// SPDX-License-Identifier: GPL-2.0

//! `make check`: every test of the project on one kernel.
//!
//! On the host: formatting, lints, documentation, the harness's own tests, and
//! whether the objects that were built could panic. Then the kernel is booted. One
//! boot runs KUnit: built-in suites run before the init, suites in modules run when
//! the modules are loaded. Two boots share the same NVDIMMs: the second must find
//! what the first wrote. Some more boots share NVDIMMs too; each but the last is
//! killed while it writes. The guest tests, which include external suites, have a
//! boot of their own, or share several when the host can run guests side by side.
//! Each boot must also end without a kernel report, and on a debug kernel without a
//! leak.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli::{CheckArgs, GuestArgs};
use crate::crash::{self, Failures};
use crate::doc;
use crate::guest;
use crate::guest_protocol::GuestProtocol;
use crate::job::Modules;
use crate::kbuild::Built;
use crate::ktap::{self, TestResult, Verdict};
use crate::kvm;
use crate::leaks::Leaks;
use crate::lint;
use crate::options::{GuestOptions, TIMEOUT};
use crate::outcome::{End, Outcome};
use crate::panics;
use crate::paths::Paths;
use crate::program;
use crate::progress::seconds;
use crate::qemu::{Machine, FOUR_LEVELS};
use crate::run::slow;
use crate::summary::{judge, Summary};
use crate::variant::Variant;
use crate::workers::{self, Boot};

/// KUnit suites that are separate modules.
const KUNIT_MODULES: &[&str] = &["memremap_kunit"];

/// Time limit of all guest tests together on a release kernel; they take half an
/// hour on a quiet machine. Each test has a limit of its own besides.
const GUEST_TESTS: Duration = Duration::from_secs(120 * 60);

/// Prefix of a line about a KUnit module that could not be loaded.
const MODULE: &str = "kunit-module: ";

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

/// Runs all checks, prints the totals and returns the exit status.
pub fn run(paths: &Paths, args: &CheckArgs) -> Result<i32> {
    let limit = Limit::starting_now(args.limit);
    let mut summary = Summary::default();
    if !args.quick {
        on_host(paths, &mut summary)?;
    }
    let (built, image) = guest::prepare(paths, args.guest.variant)?;
    no_panics(paths, &built, &mut summary)?;
    let check = Check::new(paths, &args.guest, &built, &image)?;
    check.boots(args, limit, &mut summary)?;
    println!("{}", summary.totals());
    Ok(i32::from(summary.failed > 0))
}

/// The time after which a check starts no more tests.
#[derive(Clone, Copy)]
struct Limit(Option<Instant>);

impl Limit {
    /// What a guest needs before its first test and after its last one: the boot,
    /// the tests' own end, and kmemleak's scans on a debug kernel.
    const AROUND: Duration = Duration::from_secs(180);

    fn starting_now(seconds: Option<u64>) -> Limit {
        Limit(seconds.and_then(|s| Instant::now().checked_add(Duration::from_secs(s))))
    }

    /// Returns the time for tests of a guest that boots now.
    fn left(self) -> Option<Duration> {
        let left = self.0?.saturating_duration_since(Instant::now());
        Some(left.saturating_sub(Limit::AROUND))
    }

    /// Returns the option that tells a guest that boots now.
    fn argument(self) -> String {
        match self.left() {
            Some(left) => format!(" --limit {}", left.as_secs()),
            None => String::new(),
        }
    }

    /// Returns a boot that is skipped if its turn comes too late.
    fn boot<'a>(
        self,
        name: &str,
        run: impl FnOnce(&mut Summary) -> Result<()> + Send + 'a,
    ) -> Boot<'a> {
        let name = format!("{name} boot");
        Box::new(move |summary| match self.left() {
            Some(Duration::ZERO) => {
                let why = "no time was left for it";
                summary.say("console", &name, Verdict::Skip, why);
                Ok(())
            }
            _ => run(summary),
        })
    }
}

/// Runs the checks that need no guest.
fn on_host(paths: &Paths, summary: &mut Summary) -> Result<()> {
    const TESTS: &str = "host.tests";
    lint::checks(paths, |check| {
        let problem = check.result.as_ref().err().map(|e| format!("{e:#}"));
        if check.name == TESTS {
            let log = std::fs::read_to_string(paths.log("cargo-test")).unwrap_or_default();
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
    if built.variant != Variant::Rust {
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

/// The part of the checks that boots kernels.
pub struct Check<'a> {
    pub paths: &'a Paths,
    pub args: &'a GuestArgs,
    pub built: &'a Built,
    pub image: &'a Path,
    /// Programs that run in the guest, built once so that all boots run the same.
    programs: Vec<PathBuf>,
}

impl<'a> Check<'a> {
    pub fn new(
        paths: &'a Paths,
        args: &'a GuestArgs,
        built: &'a Built,
        image: &'a Path,
    ) -> Result<Check<'a>> {
        Ok(Check {
            paths,
            args,
            built,
            image,
            programs: vec![program::build(paths)?, program::build_daxstat(paths)?],
        })
    }

    /// Runs every boot, side by side where the host has room.
    fn boots(&self, args: &CheckArgs, limit: Limit, summary: &mut Summary) -> Result<()> {
        let workers = match args.jobs {
            Some(jobs) => jobs as usize,
            None => workers::available(Machine::memory_mib(self.args.mem)),
        };
        // There are more shares than workers, so that the last shares to end are
        // short.
        let shares = if workers > 1 { workers + 1 } else { 1 };
        let mut boots = vec![limit.boot("kunit", |t| self.kunit(t))];
        if !args.quick {
            boots.push(limit.boot("reboot", |t| self.reboot(t)));
            boots.push(limit.boot("crash", |t| {
                crash::run(self, &Failures::few(self.variant()), t)
            }));
            boots.push(limit.boot("four levels", |t| self.four_levels(t)));
        }
        let mut verb = String::from("run");
        if args.all {
            verb.push_str(" --all");
        }
        if args.quick {
            verb.push_str(&format!(" --filter '{QUICK}'"));
        }
        let tests = (1..=shares).map(|share| {
            let verb = format!("{verb} --share {share}/{shares}");
            limit.boot(&format!("guest {share}"), move |t| {
                self.guest_tests(share, &format!("{verb}{}", limit.argument()), t)
            })
        });
        // Long boots come before short ones, except for KUnit, which is most
        // informative about a kernel that is broken altogether.
        boots.splice(1..1, tests);
        if workers > 1 {
            eprintln!("{workers} guests at a time (JOBS=1 for one)");
            // Chosen here once, and not in all workers at the same time.
            kvm::choose(self.paths, self.built, self.image, self.args.icount)?;
        }
        workers::run(workers, boots, summary)
    }

    pub fn variant(&self) -> Variant {
        self.built.variant
    }

    pub fn options(&self, timeout: Duration) -> Result<GuestOptions> {
        Ok(GuestOptions {
            kmemleak: self.variant().is_debug(),
            ..GuestOptions::from_args(self.args, slow(self.variant(), timeout))?
        })
    }

    /// Boots with KUnit enabled and reads the results from the console.
    fn kunit(&self, summary: &mut Summary) -> Result<()> {
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
            summary.say("kunit", "(all)", Verdict::Fail, why);
        }
        for result in results {
            summary.add("kunit", &judge(self.variant(), result));
        }
        for result in module_problems(&String::from_utf8_lossy(&output)) {
            summary.add("kunit", &result);
        }
        self.close("kunit", &outcome, summary);
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
        let nvdimms = guest::run_dir(self.paths)?;
        for boot in ["first", "second"] {
            let mut options = self.options(TIMEOUT)?;
            options.nvdimms = Some(nvdimms.path().to_owned());
            self.guest_test(boot, options, &format!("reboot {boot}"), summary)?;
        }
        Ok(())
    }

    /// Runs one boot, which ends when our program in the guest has printed its
    /// results.
    fn guest_test(
        &self,
        boot: &str,
        mut options: GuestOptions,
        verb: &str,
        summary: &mut Summary,
    ) -> Result<()> {
        let command = self.command(&mut options, verb);
        let mut lines = GuestProtocol::new(self.variant());
        let outcome = guest::run_with(
            self.paths,
            self.built,
            self.image,
            &options,
            &command,
            &mut |bytes| lines.take(bytes, summary),
        )?;
        lines.finish(summary);
        self.close(boot, &outcome, summary);
        Ok(())
    }

    /// Returns the command that runs `verb` in the guest, and adds the programs that
    /// it needs to the options.
    pub fn command(&self, options: &mut GuestOptions, verb: &str) -> String {
        options.copy.extend_from_slice(&self.programs);
        let language = match self.variant() {
            Variant::Rust | Variant::Debug => "rust",
            Variant::C | Variant::Cdebug => "c",
        };
        format!("./{} {verb} --expect {language}", program::NAME)
    }

    /// Checks what must hold after every boot.
    pub fn close(&self, boot: &str, outcome: &Outcome, summary: &mut Summary) {
        let name = format!("{boot} boot: ");
        let ended = match outcome.end {
            // A failed test has already been counted.
            End::Exited(_) | End::PowerFailed => None,
            End::TimedOut => Some(format!("stopped after {}", seconds(outcome.total))),
            End::Died => Some("the guest stopped without ending its command".into()),
            End::Interrupted => Some("interrupted".into()),
        };
        summary.require("console", &format!("{name}ends"), ended);
        // Leaks that kmemleak found are judged below, object by object.
        let judged = |title: &str| self.variant().is_debug() && title.starts_with("kmemleak: ");
        let titles = outcome.splats.iter().map(|s| s.title.clone());
        let splats = titles.filter(|title| !judged(title));
        let missing = outcome.missing.iter().map(|m| format!("did not come: {m}"));
        let list: Vec<String> = splats.chain(missing).collect();
        let console = outcome.console.display();
        let problem = (!list.is_empty()).then(|| format!("{}; see {console}", list.join("; ")));
        summary.require("console", &format!("{name}no splat"), problem);
        eprint!("{}", outcome.explain());
        if self.variant().is_debug() {
            let leaks = Leaks::parse(outcome.leaks.as_deref().unwrap_or_default());
            for text in leaks.unknown.iter().cloned().chain(leaks.note()) {
                eprintln!("{text}");
            }
            let count = leaks.unknown.len();
            let problem = (count > 0).then(|| format!("{count} unreferenced objects"));
            summary.require("console", &format!("{name}no leak"), problem);
        }
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
            let boot = Limit::starting_now(seconds).boot("x", |summary| {
                summary.require("console", "x boot", None);
                Ok(())
            });
            boot(&mut summary).unwrap();
            summary.totals()
        };
        assert_eq!(ran(None), "1 passed, 0 failed, 0 skipped");
        assert_eq!(ran(Some(3600)), "1 passed, 0 failed, 0 skipped");
        assert_eq!(ran(Some(60)), "0 passed, 0 failed, 1 skipped");
        assert_eq!(Limit::starting_now(None).argument(), "");
        assert!(Limit::starting_now(Some(3600))
            .argument()
            .starts_with(" --limit 34"));
    }
}
