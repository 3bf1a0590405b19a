// SPDX-License-Identifier: GPL-2.0

//! `daxstat`: the size of the pages that faults on DAX files map, the reasons why
//! they are not larger, and advice.
//!
//! Past faults are in the kernel's counters (counters,
//! source), shown as a table (table) with advice for each reason (advice). Future
//! faults of one file depend on the location of its blocks: the file's device
//! (place), its extents (fiemap), and the result for each of its 2 MiB ranges
//! (ranges), in a report (file). Whether there can be DAX files at all depends on
//! the disk (device) and its filesystem (superblock, mounts). Removed inodes with
//! pinned pages are in a list (delayed). What holds a device or a file is
//! collected from processes, mounts and sysfs (holders).

mod advice;
mod counters;
mod delayed;
mod device;
mod fiemap;
mod file;
mod folios;
mod holders;
mod mounts;
mod open;
mod place;
mod ranges;
mod source;
mod superblock;
mod table;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, Parser, Subcommand};
use serde::Serialize;

use counters::Counters;

/// The ways to call the program. The continued lines stand below the first one of `--help`.
const USAGE: &str = "\
daxstat [--once] [--interval SECONDS] [--counters PATH] [--json]
       daxstat --file PATH [--json]
       daxstat --device PATH [--json]
       daxstat --delayed [--json]
       daxstat holders TARGET [--json]";

/// Show the sizes of the faults on DAX files, and why they were not of 2 MiB.
#[derive(Parser)]
#[command(version, override_usage = USAGE, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Show the counters once and end.
    #[arg(long)]
    once: bool,
    /// Seconds between two readings of the counters.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print one JSON object per reading, or one for the file or device.
    #[arg(long)]
    json: bool,
    /// Show which 2 MiB ranges of this file can be huge pages, and why others
    /// cannot.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["once", "counters"])]
    file: Option<PathBuf>,
    /// Show whether a filesystem on this block device can be mounted with DAX,
    /// and what is missing. The exit status is 0 if it can, 1 if not.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["once", "counters", "file"])]
    device: Option<PathBuf>,
    /// List the removed inodes whose blocks are kept because pages of them are
    /// still pinned.
    #[arg(long, conflicts_with_all = ["once", "counters", "file", "device"])]
    delayed: bool,
    /// Read the counters from this file, such as a copy from another machine.
    #[arg(long, value_name = "PATH")]
    counters: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Show which processes, mounts, devices and pins hold a device, a file or a range.
    Holders {
        /// namespace0.0, pmem0, /dev/pmem0, dax0.0, a path, or 0xA-0xB with the
        /// last byte, as in the kernel's log.
        target: OsString,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.05..=86400.0).contains(&n) => Ok(Duration::from_secs_f64(n)),
        _ => Err("a number of seconds from 0.05 to 86400 is needed".into()),
    }
}

/// The exit status of an error, as clap has it too.
const ERROR: u8 = 2;

/// Returns the definition of the command line, of which manual pages and completions are made.
pub fn command() -> Command {
    Arguments::command()
}

/// Runs the program, and returns its exit status.
pub fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader has closed the output.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("daxstat: {e:#}");
            ExitCode::from(ERROR)
        }
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns whether what was looked at is as it should be.
fn work(arguments: &Arguments) -> Result<bool> {
    if let Some(Verb::Holders { target, json }) = &arguments.verb {
        report(*json, &holders::Report::of(target)?)?;
    } else if let Some(path) = &arguments.file {
        report(arguments.json, &file::Report::of(path)?)?;
    } else if let Some(path) = &arguments.device {
        let device = device::Report::of(path)?;
        report(arguments.json, &device)?;
        return Ok(device.fit);
    } else if arguments.delayed {
        let inodes = delayed::read()?;
        print(&match arguments.json {
            true => serde_json::to_string_pretty(&inodes).context("cannot write JSON")? + "\n",
            false => delayed::text(&inodes, &source::names()),
        })?;
    } else {
        watch(arguments)?;
    }
    Ok(true)
}

fn report(json: bool, report: &(impl Serialize + Display)) -> Result<()> {
    print(&match json {
        true => serde_json::to_string_pretty(report).context("cannot write JSON")? + "\n",
        false => report.to_string(),
    })
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// One reading in the form of the JSON.
#[derive(Serialize)]
struct Reading<'a> {
    #[serde(flatten)]
    counters: &'a Counters,
    delayed: &'a [delayed::Inode],
    folios: &'a folios::Folios,
}

/// Shows the counters repeatedly.
fn watch(arguments: &Arguments) -> Result<()> {
    /// Moves to the upper left corner and clears the screen.
    const CLEAR: &str = "\x1b[H\x1b[2J";
    let mut before: Option<(Counters, Instant)> = None;
    loop {
        // The program may have been stopped anywhere, also between the clock and the counters. So the
        // time of a rate is from before the first of two readings to behind the second.
        let begun = Instant::now();
        let text = source::read(arguments.counters.as_deref())?;
        let ended = Instant::now();
        let now = Counters::parse(&text)?;
        let (delayed, folios) = match arguments.counters {
            // They are another machine's.
            Some(_) => Default::default(),
            None => (delayed::read()?, folios::read()),
        };
        if arguments.json {
            let reading = Reading {
                counters: &now,
                delayed: &delayed,
                folios: &folios,
            };
            print(&(serde_json::to_string(&reading).context("cannot write JSON")? + "\n"))?;
        } else {
            let live = !arguments.once && io::stdout().is_terminal();
            let since = before.as_ref().map(|(old, then)| (old, ended - *then));
            let table = table::text(&now, since, &source::names());
            let between = match (live, &before) {
                (true, _) => CLEAR,
                (false, Some(_)) => "\n",
                (false, None) => "",
            };
            let (delayed, folios) = (delayed::summary(&delayed), folios::summary(&folios));
            print(&format!("{between}{table}{delayed}{folios}"))?;
        }
        if arguments.once {
            return Ok(());
        }
        before = Some((now, begun));
        thread::sleep(arguments.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }

    /// clap does not show which options go together, so the usage is written by hand.
    #[test]
    fn the_usage_has_each_option() {
        let usage = USAGE.replace(['[', ']'], "");
        for form in usage.lines() {
            let words = form.split_whitespace().map(|word| match word {
                "SECONDS" => "1",
                word => word,
            });
            assert!(command().try_get_matches_from(words).is_ok(), "{form}");
        }
        for option in command().get_arguments().filter_map(|a| a.get_long()) {
            assert!(usage.contains(&format!("--{option}")), "{option}");
        }
        for verb in command().get_subcommands() {
            assert!(usage.contains(&format!("daxstat {} ", verb.get_name())));
        }
    }

    #[test]
    fn intervals() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("x").is_err());
    }
}
