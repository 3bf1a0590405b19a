// SPDX-License-Identifier: GPL-2.0

//! `daxstat`: the size of the pages that faults on DAX files map, the reasons why
//! they are not larger, and advice.
//!
//! It has two halves. Past faults are in the kernel's counters (counters,
//! source), shown as a table (table) with advice for each reason (advice). Future
//! faults of one file depend on the location of its blocks: the file's device
//! (place), its extents (fiemap), and the result for each of its 2 MiB ranges
//! (ranges), in a report (file).

mod advice;
mod counters;
mod fiemap;
mod file;
mod place;
mod ranges;
mod source;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use counters::Counters;

/// Show the sizes of the faults on DAX files, and why they were not of 2 MiB.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Show the counters once and end.
    #[arg(long)]
    once: bool,
    /// Seconds between two readings of the counters.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print one JSON object per reading, or one for the file.
    #[arg(long)]
    json: bool,
    /// Show which 2 MiB ranges of this file can be huge pages, and why others
    /// cannot.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["once", "counters"])]
    file: Option<PathBuf>,
    /// Read the counters from this file, such as a copy from another machine.
    #[arg(long, value_name = "PATH")]
    counters: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.05..=86400.0).contains(&n) => Ok(Duration::from_secs_f64(n)),
        _ => Err("a number of seconds from 0.05 to 86400 is needed".into()),
    }
}

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the output.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("daxstat: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn work(arguments: &Arguments) -> Result<()> {
    let Some(path) = &arguments.file else {
        return watch(arguments);
    };
    let report = file::Report::of(path)?;
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&report).context("cannot write JSON")? + "\n",
        false => report.to_string(),
    };
    print(&text)
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Shows the counters repeatedly.
fn watch(arguments: &Arguments) -> Result<()> {
    /// Moves to the upper left corner and clears the screen.
    const CLEAR: &str = "\x1b[H\x1b[2J";
    let mut before: Option<Counters> = None;
    loop {
        let text = source::read(arguments.counters.as_deref())?;
        let now = Counters::parse(&text)?;
        if arguments.json {
            print(&(serde_json::to_string(&now).context("cannot write JSON")? + "\n"))?;
        } else {
            let live = !arguments.once && io::stdout().is_terminal();
            let since = before.as_ref().map(|b| (b, arguments.interval));
            let table = table::text(&now, since, &source::names());
            let between = match (live, &before) {
                (true, _) => CLEAR,
                (false, Some(_)) => "\n",
                (false, None) => "",
            };
            print(&format!("{between}{table}"))?;
        }
        if arguments.once {
            return Ok(());
        }
        before = Some(now);
        thread::sleep(arguments.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn intervals() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("x").is_err());
    }
}
