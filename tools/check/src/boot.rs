// SPDX-License-Identifier: GPL-2.0

//! A boot of a check: the guest's options, our program in it, and what must hold after each
//! boot.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use host::kernel::Built;
use host::paths::Paths;
use host::progress::seconds;
use host::variant::Variant;
use kbuild::program;
use report::summary::Summary;
use vm::guest;
use vm::options::{GuestArgs, GuestOptions};
use vm::outcome::{End, Outcome};

use crate::executed::Collector;
use crate::guest_protocol::GuestProtocol;
use crate::io_errors;
use crate::leaks::Leaks;
use crate::skips::Skips;

/// The part of the checks that boots kernels.
pub struct Check<'a> {
    pub paths: &'a Paths,
    pub args: &'a GuestArgs,
    pub built: &'a Built,
    pub image: &'a Path,
    pub skips: Skips,
    /// What collects the coverage of the boots.
    pub coverage: Option<&'a Collector>,
    /// Programs that run in the guest, built once so that all boots run the same.
    pub programs: Vec<PathBuf>,
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
            skips: Skips::of(built.variant)?,
            coverage: None,
            programs: vec![program::build(paths)?, program::build_daxstat(paths)?],
        })
    }

    pub fn variant(&self) -> Variant {
        self.built.variant
    }

    pub fn options(&self, timeout: Duration) -> Result<GuestOptions> {
        let mut options = GuestOptions {
            kmemleak: self.variant().is_debug(),
            ..GuestOptions::from_args(self.args, self.variant().limit(timeout))?
        };
        if let Some(coverage) = self.coverage {
            options.extra_arguments.extend(coverage.arguments());
        }
        Ok(options)
    }

    /// Runs one boot, which ends when our program in the guest has printed its
    /// results.
    pub fn guest_test(
        &self,
        boot: &str,
        mut options: GuestOptions,
        verb: &str,
        summary: &mut Summary,
    ) -> Result<()> {
        let command = self.command(&mut options, verb);
        let mut lines = GuestProtocol::new(&self.skips);
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
        let language = self.variant().language();
        let command = format!("./{} {verb} --expect {language}", program::NAME);
        match self.coverage {
            Some(coverage) => coverage.wrap(&command),
            None => command,
        }
    }

    /// Checks what must hold after every boot.
    pub fn close(&self, boot: &str, outcome: &Outcome, summary: &mut Summary) {
        if let Some(coverage) = self.coverage {
            coverage.add(outcome);
        }
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
        // In C a test of a difference that must fail there damages its filesystem.
        let console = match self.variant().is_rust() {
            true => io_errors::unexpected(outcome.lines.iter().map(String::as_str)),
            false => Vec::new(),
        };
        let list: Vec<String> = splats.chain(missing).chain(console).collect();
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
