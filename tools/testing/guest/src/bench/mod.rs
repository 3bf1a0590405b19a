// SPDX-License-Identifier: GPL-2.0

//! The guest's side of `make bench`: rows of figures, which the host collects from the
//! C and the Rust kernel and compares.
//!
//! A *row* is one figure, `GROUP/what/variation…`. A *plan* prepares an environment
//! (a namespace, a mapping) and measures all rows that need it. Each plan runs in a
//! process of its own, so that one that hangs or dies does not affect others. A plan
//! verifies that a mapping matches the row's name before it is timed; a row for which
//! that fails is skipped, with the reason.

mod clock;
mod device;
mod fault;
mod files;
mod gup;
mod memmap;
mod memory;
mod reader;
mod report;
pub mod scan;
mod wall;

use std::process::ExitCode;

use anyhow::{ensure, Context, Result};
use clap::{Args, Subcommand};
use regex::Regex;
use serde::Serialize;

use crate::command;
use crate::filesystem::unmount_devices;
use crate::live;
use crate::mapping::{Mapping, PAGE};
use crate::ndctl::{self, Info};
use crate::process;
use crate::skip::Skip;
use crate::system;
use clock::{Clock, Span};
use report::Line;

#[derive(Subcommand)]
pub enum Verb {
    /// Print the rows, one JSON object each.
    List {
        /// Only rows whose names match this regular expression.
        #[arg(long, default_value = "")]
        filter: Regex,
        /// Print only those of a quick run.
        #[arg(long)]
        quick: bool,
    },
    /// Measure instructions; the guest must count them (icount).
    Run(Choice),
    /// Measure throughput by wall-clock time.
    Wall(Choice),
}

#[derive(Args)]
pub struct Choice {
    /// Only rows whose names match this regular expression.
    #[arg(long, default_value = "")]
    filter: Regex,
    /// Less memory, fewer repeats, and not all rows.
    #[arg(long)]
    quick: bool,
    /// MiB of the GUP mappings (default: 256, with --quick 64).
    #[arg(long)]
    size: Option<usize>,
    /// Factor for the usual number of repeats: for rows that do not repeat well.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    timeout_factor: u8,
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub note: &'static str,
    /// Needs more persistent memory than the usual machine has.
    pub large: bool,
    /// Whether a quick run includes it.
    pub quick: bool,
}

impl Row {
    fn new(name: impl Into<String>, unit: &'static str, note: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            note,
            large: false,
            quick: true,
        }
    }

    /// Excludes the row from a quick run.
    fn slow(mut self) -> Self {
        self.quick = false;
        self
    }
}

/// The function that measures the rows of a plan.
type Run = Box<dyn Fn(&Bench) -> Result<()>>;

/// Rows that are measured together.
pub struct Plan {
    pub rows: Vec<Row>,
    pub limit_secs: u64,
    /// Whether it is measured by wall-clock time, not in instructions.
    pub wall: bool,
    pub run: Run,
}

impl Plan {
    fn new(rows: Vec<Row>, limit_secs: u64, run: impl Fn(&Bench) -> Result<()> + 'static) -> Self {
        Self {
            rows,
            limit_secs,
            wall: false,
            run: Box::new(run),
        }
    }
}

/// Returns all plans, in the order in which they run.
fn plans() -> Vec<Plan> {
    let mut plans = gup::plans();
    plans.extend(fault::plans());
    plans.extend(files::plans());
    plans.extend(device::plans());
    plans.extend(reader::plans());
    plans.extend(memmap::plans());
    plans.extend(wall::plans());
    plans
}

/// The context of a plan's measurements.
pub struct Bench<'a> {
    pub clock: Clock,
    pub quick: bool,
    timeout_factor: u8,
    /// Bytes of the GUP mappings.
    pub size: usize,
    /// The chosen rows of the running plan.
    rows: Vec<&'a Row>,
    /// A byte per chosen row, shared with the parent: 1 once it was reported.
    reported: Mapping,
}

impl Bench<'_> {
    pub fn wants(&self, name: &str) -> bool {
        self.rows.iter().any(|r| r.name == name)
    }

    /// Returns the number of repeats.
    pub fn repeats(&self) -> usize {
        let usual = if self.quick { 4 } else { 7 };
        usual * usize::from(self.timeout_factor)
    }

    /// Times `once`, after a first run that does not count, and reports it. A failure
    /// becomes the row's own failure.
    pub fn measure(
        &self,
        name: &str,
        ops: u64,
        mut once: impl FnMut() -> Result<Span>,
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let spans: Result<Vec<Span>> = (0..=self.repeats()).map(|_| once()).collect();
        match spans {
            Ok(spans) => self.report(name, ops, &spans[1..]),
            Err(e) => self.fail(name, &e),
        }
    }

    /// Reports a row, if it was chosen.
    pub fn report(&self, name: &str, ops: u64, spans: &[Span]) -> Result<()> {
        match self.take(name) {
            Some(row) => report::row(name, row.unit, ops, spans).print(),
            None => Ok(()),
        }
    }

    /// Reports that a row has no figure.
    pub fn fail(&self, name: &str, error: &anyhow::Error) -> Result<()> {
        match self.take(name) {
            Some(_) => skipped(name, error),
            None => Ok(()),
        }
    }

    /// Returns a chosen row, marked as reported.
    fn take(&self, name: &str) -> Option<&Row> {
        let at = self.rows.iter().position(|r| r.name == name)?;
        self.reported.poke(at, 1);
        Some(self.rows[at])
    }

    /// Reports an error that does not belong to one row for all remaining rows.
    fn fail_rest(&self, error: &anyhow::Error) -> Result<()> {
        for (at, row) in self.rows.iter().enumerate() {
            if self.reported.peek(at) == 0 {
                self.reported.poke(at, 1);
                skipped(&row.name, error)?;
            }
        }
        Ok(())
    }
}

fn skipped(row: &str, error: &anyhow::Error) -> Result<()> {
    Line::Skip {
        row,
        why: &format!("{error:#}"),
        failed: error.downcast_ref::<Skip>().is_none(),
    }
    .print()
}

/// A row in the form of `bench list`.
#[derive(Serialize)]
struct Listed<'a> {
    row: &'a str,
    group: &'a str,
    unit: &'a str,
    note: &'a str,
    machine: &'a str,
    quick: bool,
    wall: bool,
}

pub fn main(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::List { filter, quick } => list(&filter, quick)?,
        Verb::Run(choice) => run(&choice, false)?,
        Verb::Wall(choice) => run(&choice, true)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(filter: &Regex, quick: bool) -> Result<()> {
    for plan in plans() {
        let chosen = |row: &&Row| filter.is_match(&row.name) && (row.quick || !quick);
        for row in plan.rows.iter().filter(chosen) {
            let listed = Listed {
                row: &row.name,
                group: report::group(&row.name),
                unit: row.unit,
                note: row.note,
                machine: if row.large { "large" } else { "standard" },
                quick: row.quick,
                wall: plan.wall,
            };
            println!(
                "{}",
                serde_json::to_string(&listed).context("cannot write JSON")?
            );
        }
    }
    Ok(())
}

fn run(choice: &Choice, wall: bool) -> Result<()> {
    system::load_modules()?;
    let live = live::ask()?;
    let exact = clock::is_exact();
    if exact {
        command::set_timeout_factor(command::INSTRUCTION_CLOCK);
    }
    Line::Begin {
        kernel: &live.kernel,
        live: &live,
        quick: choice.quick,
        exact,
    }
    .print()?;
    let before = ndctl::namespaces("")?;
    let mut ran = 0;
    for plan in plans().iter().filter(|p| p.wall == wall) {
        let rows: Vec<&Row> = plan
            .rows
            .iter()
            .filter(|r| choice.filter.is_match(&r.name) && (r.quick || !choice.quick))
            .collect();
        if !rows.is_empty() {
            ran += rows.len();
            guarded(plan, rows, choice, &before)?;
        }
    }
    ensure!(
        ran > 0,
        "no row matches {}; `guest-test bench list` shows them",
        choice.filter
    );
    Line::End.print()
}

/// Runs a plan in a child, and cleans up after it.
fn guarded(plan: &Plan, rows: Vec<&Row>, choice: &Choice, before: &[Info]) -> Result<()> {
    let default = if choice.quick { 64 } else { 256 };
    let bench = Bench {
        clock: Clock::open()?,
        quick: choice.quick,
        timeout_factor: choice.timeout_factor,
        size: choice.size.unwrap_or(default) << 20,
        reported: Mapping::shared_memory(rows.len().next_multiple_of(PAGE))?,
        rows,
    };
    let child = process::spawn(|| match (plan.run)(&bench) {
        Ok(()) => Ok(()),
        Err(e) => bench.fail_rest(&e),
    })?;
    let end = child.undisturbed().join(
        plan.limit_secs * u64::from(choice.timeout_factor),
        "a plan of rows",
    );
    let clean = unmount_devices(&["/dev/pmem"]).and_then(|()| ndctl::restore(before));
    let left = clean.context("the state that the row left could not be cleaned up");
    match end.and(left) {
        Ok(done) if done.is_empty() => {
            bench.fail_rest(&anyhow::anyhow!("the plan ended without this row"))
        }
        Ok(done) => bench.fail_rest(&anyhow::anyhow!(
            "the plan did not clean up: {}",
            done.join(", ")
        )),
        Err(e) => {
            eprintln!("guest-test: {e:#}");
            bench.fail_rest(&e)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_have_unique_and_plain_names() {
        let mut seen = HashSet::new();
        for row in plans().iter().flat_map(|p| &p.rows) {
            assert!(seen.insert(row.name.clone()), "{} twice", row.name);
            assert!(
                row.name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/=".contains(c)),
                "{}",
                row.name
            );
            assert!(row.name.contains('/') && !row.note.is_empty());
        }
    }
}
