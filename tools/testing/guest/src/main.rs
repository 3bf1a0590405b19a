// SPDX-License-Identifier: GPL-2.0

//! The program that runs inside the guest: the main job of `make run`, the guest tests of `make
//! check`, and the check which implementation is live.

#[macro_use]
mod skip;

mod abi;
mod bench;
mod command;
mod conform;
mod data;
mod filesystem;
mod flush;
mod flushed;
mod futex;
mod gup;
mod inject;
mod kprobe;
mod live;
mod main_job;
mod mapping;
mod memory;
mod modules;
mod ndctl;
mod page_tables;
mod page_words;
mod process;
mod runner;
mod share;
mod suites;
mod system;
mod target;
mod tests;
mod trace;
mod userfault;
mod vmstat;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use regex::Regex;

use crate::live::Language;
use crate::share::Share;
use crate::tests::fsdax::crash;
use crate::tests::reboot::Boot;
use crate::tests::teardown::soak;

/// Exit status if the kernel is not the expected one.
const WRONG_KERNEL: u8 = 3;

/// Main job and tests of the rust-dax guest.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print which implementation of each of the four pieces is live.
    Live {
        /// Exit with status 3 unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// Print only the JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the guest's side of `make run`.
    MainJob {
        /// The input: {"bytes": …, "sha256": …}.
        #[arg(long)]
        spec: PathBuf,
        /// Path of the report.
        #[arg(long)]
        json: PathBuf,
    },
    /// Write the interfaces of this kernel, for a comparison.
    Abi {
        /// Refuse (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// Path of the output.
        #[arg(long)]
        json: PathBuf,
    },
    /// Run the guest tests.
    Run {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// Only tests whose names match this regular expression.
        #[arg(long, default_value = "")]
        filter: Regex,
        /// Run only one of several parts of the tests that are not left out: 3/8 is the third of
        /// eight. It may be divided into shares.
        #[arg(long)]
        part: Option<Share>,
        /// Run only one of several shares of the tests: 2/3 is the second of three.
        #[arg(long, default_value = "1/1")]
        share: Share,
        /// On a debug kernel too, run all tests and not one of each kind; and run repetitions and
        /// samples in full.
        #[arg(long)]
        all: bool,
        /// Start no test later than this number of seconds after the first.
        #[arg(long)]
        limit: Option<u64>,
        /// Print the names and, for each test, what its failure means.
        #[arg(long)]
        list: bool,
    },
    /// Run one of the two boots of the reset test.
    Reboot {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        boot: Boot,
    },
    /// Run one of the boots of `make crash`: check what is left after the last power failure, and
    /// write until the next one.
    Crash {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        #[command(flatten)]
        boot: crash::Boot,
    },
    /// Measure figures, for `make bench`.
    Bench {
        #[command(subcommand)]
        verb: bench::Verb,
    },
    /// Run the guest's side of `make conform`: the remaining tests of a suite.
    Conform {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// A file with the names of finished tests, one a line.
        #[arg(long)]
        done: Option<PathBuf>,
        /// A file with the names of the tests to run; otherwise all of them.
        #[arg(long)]
        only: Option<PathBuf>,
        suite: String,
    },
    /// Remove memory under random users, in two regions at once.
    Soak {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// Seed of what is drawn.
        #[arg(long)]
        seed: u64,
        /// No round starts later than this.
        #[arg(long)]
        seconds: u64,
    },
    /// Run one part of a soak in this process. Used by `soak`.
    #[command(hide = true)]
    SoakPart {
        part: soak::Part,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        seconds: u64,
    },
    /// Run one test in this process. Used by `run`.
    #[command(hide = true)]
    One { name: String },
}

fn main() -> ExitCode {
    match work(Arguments::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("guest-test: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(verb: Verb) -> Result<ExitCode> {
    let status = |ok: bool| match ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if !matches!(
        verb,
        Verb::Live { .. } | Verb::Run { list: true, .. } | Verb::Bench { .. }
    ) && system::is_slow()?
    {
        command::set_timeout_factor(command::DEBUG_KERNEL);
    }
    match verb {
        Verb::Live { expect, json } => {
            let live = live::ask()?;
            let text = serde_json::to_string_pretty(&live).context("cannot write JSON")?;
            println!("{text}");
            if !json {
                print!("{}", live.text());
            }
            Ok(refuse(&live, expect).unwrap_or(ExitCode::SUCCESS))
        }
        Verb::MainJob { spec, json } => Ok(status(main_job::run(&spec, &json)?)),
        Verb::Abi { expect, json } => on(expect, || abi::run(&json).map(|()| ExitCode::SUCCESS)),
        Verb::Run {
            filter, list: true, ..
        } => {
            runner::list(&filter);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run {
            expect,
            filter,
            part,
            share,
            all,
            limit,
            ..
        } => {
            let limit = limit.map(Duration::from_secs);
            let live = live::ask()?;
            print!("{}", live.text());
            match refuse(&live, expect) {
                Some(code) => Ok(code),
                None => Ok(status(runner::run(&filter, part, share, all, limit)?)),
            }
        }
        Verb::Reboot { expect, boot } => on(expect, || {
            Ok(status(runner::in_order(&tests::reboot::tests(boot))?))
        }),
        Verb::Crash { expect, boot } => on(expect, || {
            Ok(status(runner::in_order(&crash::tests(&boot))?))
        }),
        Verb::Bench { verb } => bench::main(verb),
        Verb::Conform {
            expect,
            done,
            only,
            suite,
        } => on(expect, || {
            conform::run(&suite, done.as_deref(), only.as_deref())
        }),
        Verb::Soak {
            expect,
            seed,
            seconds,
        } => on(expect, || {
            Ok(status(runner::soak(seed, Duration::from_secs(seconds))?))
        }),
        Verb::SoakPart {
            part,
            seed,
            seconds,
        } => Ok(status(soak::part(
            part,
            seed,
            Duration::from_secs(seconds),
        )?)),
        Verb::One { name } => Ok(status(runner::one(&name)?)),
    }
}

/// Runs `work` if the kernel is the expected one.
fn on(expect: Option<Language>, work: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    refuse(&live::ask()?, expect).map_or_else(work, Ok)
}

/// Returns the exit status for an unexpected kernel.
fn refuse(live: &live::Live, expect: Option<Language>) -> Option<ExitCode> {
    let why = live.mismatch(expect?)?;
    eprintln!("guest-test: {why}");
    Some(ExitCode::from(WRONG_KERNEL))
}
