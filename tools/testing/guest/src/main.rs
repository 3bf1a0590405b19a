// SPDX-License-Identifier: GPL-2.0

//! What runs inside the guest: the main job of `make run`, the guest tests of
//! `make check`, and the question which implementation is live.

mod abi;
mod bench;
mod command;
mod conform;
mod data;
mod filesystem;
mod flush;
mod gup;
mod inject;
mod live;
mod main_job;
mod mapping;
mod memory;
mod ndctl;
mod page_tables;
mod process;
mod runner;
mod share;
mod skip;
mod suites;
mod system;
mod target;
mod tests;
mod trace;
mod vmstat;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use regex::Regex;

use crate::live::Language;
use crate::share::Share;
use crate::tests::fsdax::crash;
use crate::tests::reboot::Boot;

/// The kernel is not the one that was expected.
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
    /// Say which implementation of each of the four pieces is live.
    Live {
        /// Exit with status 3 unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// Only the JSON.
        #[arg(long)]
        json: bool,
    },
    /// The guest's side of `make run`.
    MainJob {
        /// What to read: {"bytes": …, "sha256": …}.
        #[arg(long)]
        spec: PathBuf,
        /// Where to write the report.
        #[arg(long)]
        json: PathBuf,
    },
    /// Write what a program can see of this kernel, for a comparison.
    Abi {
        /// Refuse (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// Where to write it.
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
        /// Only one of several shares of them: 2/3 is the second of three.
        #[arg(long, default_value = "1/1")]
        share: Share,
        /// On a debug kernel, too, run all and not one of each kind; and what repeats or
        /// samples does it in full.
        #[arg(long)]
        all: bool,
        /// Print the names and what each test would look like if it failed.
        #[arg(long)]
        list: bool,
    },
    /// One of the two boots of the test of what a reset leaves.
    Reboot {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        boot: Boot,
    },
    /// One of the boots of `make crash`: look at what the last failure of the power has left, and
    /// write until it fails again.
    Crash {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        #[command(flatten)]
        boot: crash::Boot,
    },
    /// Figures, for `make bench`.
    Bench {
        #[command(subcommand)]
        verb: bench::Verb,
    },
    /// The guest's side of `make conform`: run what is left of a suite.
    Conform {
        /// Refuse to run (exit status 3) unless the kernel is this one.
        #[arg(long)]
        expect: Option<Language>,
        /// A file with the names of the tests that are done, one a line.
        #[arg(long)]
        done: Option<PathBuf>,
        /// A file with the names of the tests to run; else all of them.
        #[arg(long)]
        only: Option<PathBuf>,
        suite: String,
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
        Verb::Abi { expect, json } => match refuse(&live::ask()?, expect) {
            Some(code) => Ok(code),
            None => abi::run(&json).map(|()| ExitCode::SUCCESS),
        },
        Verb::Run {
            filter, list: true, ..
        } => {
            runner::list(&filter);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run {
            expect,
            filter,
            share,
            all,
            ..
        } => {
            let live = live::ask()?;
            print!("{}", live.text());
            match refuse(&live, expect) {
                Some(code) => Ok(code),
                None => Ok(status(runner::run(&filter, share, all)?)),
            }
        }
        Verb::Reboot { expect, boot } => match refuse(&live::ask()?, expect) {
            Some(code) => Ok(code),
            None => Ok(status(runner::in_order(&tests::reboot::tests(boot))?)),
        },
        Verb::Crash { expect, boot } => match refuse(&live::ask()?, expect) {
            Some(code) => Ok(code),
            None => Ok(status(runner::in_order(&crash::tests(&boot))?)),
        },
        Verb::Bench { verb } => bench::main(verb),
        Verb::Conform {
            expect,
            done,
            only,
            suite,
        } => match refuse(&live::ask()?, expect) {
            Some(code) => Ok(code),
            None => conform::run(&suite, done.as_deref(), only.as_deref()),
        },
        Verb::One { name } => Ok(status(runner::one(&name)?)),
    }
}

/// The exit status for a kernel that is not the expected one.
fn refuse(live: &live::Live, expect: Option<Language>) -> Option<ExitCode> {
    let why = live.mismatch(expect?)?;
    eprintln!("guest-test: {why}");
    Some(ExitCode::from(WRONG_KERNEL))
}
