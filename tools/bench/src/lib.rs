// SPDX-License-Identifier: GPL-2.0

//! `make bench`: the cost of an operation with the C kernel and with the Rust
//! kernel, on any machine, to the instruction.
//!
//! Both kernels have the same configuration except for our pieces (`config`),
//! and the same program runs in both guests. It lists the rows (`protocol`).
//! Then there are three passes of boots (`boots`), always with the two kernels
//! in turn:
//!
//! ```text
//!   icount   QEMU counts a nanosecond per instruction; the minimum of each boot
//!            must repeat in the next one, else the row has no figure (`steady`)
//!   plugin   once more with tools/testing/tcg-plugin, which counts locked
//!            instructions and references to memory (`counts`)
//!   wall     fio and the like, without either
//! ```
//!
//! The output of the guests is recorded (`recording`), and the report is made
//! from the recording alone (`report`): a table (`table`), `bench.json`, a chart
//! (`chart`), and a page with everything (`page`, `slopes`).

mod boots;
mod chart;
mod config;
mod counts;
mod page;
mod protocol;
mod recording;
mod report;
mod slopes;
mod steady;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{bail, Result};
use clap::builder::FalseyValueParser;
use clap::Args;
use regex::Regex;
use std::time::Duration;
use vm::options::seconds as parse_seconds;

use crate::report::{About, Report};
use boots::Boots;
use host::command::{clean, output};
use host::files;
use host::paths::Paths;
use host::progress::seconds;
use host::variant::Variant;
use kbuild::build::build_to_boot;
use kbuild::program;
use protocol::Listed;
use vm::guest;

/// Boots of each kernel in a round.
const BOOTS: usize = 3;
const QUICK_BOOTS: usize = 2;

/// Options that select what is measured.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Only the rows whose names match this regular expression.
    #[arg(long, env = "ROWS", default_value = "")]
    pub rows: Regex,
    /// Only the GUP rows.
    #[arg(long, env = "GUP", value_parser = FalseyValueParser::new())]
    pub gup: bool,
    /// Fewer boots, and fewer and shorter repeats in them.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Folder for the results; by default bench in the cache.
    #[arg(long, env = "OUT")]
    pub out: Option<PathBuf>,
    /// Seconds until a guest is stopped.
    #[arg(long, env = "TIMEOUT", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,
}

/// Measures and reports; returns 0 if every row has a figure.
pub fn run(paths: &Paths, args: &BenchArgs) -> Result<i32> {
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| paths.cache.join("bench"));
    files::make_dir(&out)?;
    let program = program::build(paths)?;
    let rows = rows(&program, args)?;
    let (c, image) = guest::prepare(paths, || build_to_boot(paths, Variant::C))?;
    let (rust, _) = guest::prepare(paths, || build_to_boot(paths, Variant::Rust))?;
    let began = Instant::now();
    let mut about = About {
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        commit: commit(paths),
        kernel_c: c.release_string.clone(),
        kernel_rust: rust.release_string.clone(),
        config_digest: config::common_digest(paths)?,
        qemu: qemu()?,
        quick: args.quick,
        boots: if args.quick { QUICK_BOOTS } else { BOOTS },
        ..About::default()
    };

    let mut boots = Boots {
        paths,
        kernels: [&c, &rust],
        image: &image,
        program: &program,
        quick: args.quick,
        timeout: args.timeout,
        journal: out.join("boots.jsonl"),
        recording: Default::default(),
        problems: Vec::new(),
        remarks: Vec::new(),
        interrupted: false,
        wall_on: None,
    };
    boots.begin()?;
    boots.icount(&rows, about.boots)?;
    boots.plugin(&rows);
    if !boots.interrupted {
        boots.wall(&rows, if args.quick { 1 } else { BOOTS });
    }
    if boots.interrupted {
        bail!(
            "interrupted; the measurements are in {}",
            boots.journal.display()
        );
    }
    about.wall_on = boots.wall_on.take();
    about.seconds = began.elapsed().as_secs();

    let mut report = Report::new(about, &rows, &boots.recording);
    report.problems = boots.problems;
    report.remarks = boots.remarks;
    let written = write(&report, &out)?;
    print!("{}", table::text(&report));
    for path in written {
        println!("{}", path.display());
    }
    println!("It took {}.", seconds(began.elapsed()));
    Ok(i32::from(!report.complete()))
}

/// Returns the rows to measure.
fn rows(program: &Path, args: &BenchArgs) -> Result<Vec<Listed>> {
    let mut cmd = clean(program);
    cmd.args(["bench", "list"]);
    let all = protocol::parse_list(&output(&mut cmd)?)?;
    let wanted = |l: &&Listed| {
        (l.quick || !args.quick) && (l.group == "gup" || !args.gup) && args.rows.is_match(&l.row)
    };
    let rows: Vec<Listed> = all.iter().filter(wanted).cloned().collect();
    if rows.is_empty() {
        let mut groups: Vec<&str> = all.iter().map(|l| l.group.as_str()).collect();
        groups.dedup();
        bail!(
            "none of the {} rows matches ROWS='{}'; their groups are: {}",
            all.len(),
            args.rows,
            groups.join(", ")
        );
    }
    Ok(rows)
}

/// Writes `bench.json`, the chart and the page; returns their paths.
fn write(report: &Report, out: &Path) -> Result<Vec<PathBuf>> {
    let (json, svg, html) = (
        out.join("bench.json"),
        out.join("bench.svg"),
        out.join("bench.html"),
    );
    files::write_json(&json, report)?;
    let picture = chart::svg(report)?;
    files::write_atomic(&svg, picture.as_bytes(), false)?;
    files::write_atomic(&html, page::html(report, &picture)?.as_bytes(), false)?;
    Ok(vec![json, svg, html])
}

/// Returns the checked-out commit, and whether it was changed since.
fn commit(paths: &Paths) -> String {
    let git = |args: &[&str]| {
        let mut cmd = clean("git");
        output(cmd.arg("-C").arg(&paths.checkout).args(args))
    };
    match (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain"])) {
        (Ok(id), Ok(changes)) if changes.trim().is_empty() => id.trim().to_owned(),
        (Ok(id), _) => format!("{} and changes", id.trim()),
        (Err(_), _) => "not a git checkout".into(),
    }
}

/// Returns QEMU's version.
fn qemu() -> Result<String> {
    let text = output(clean("qemu-system-x86_64").arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn written_files() {
        let dir = tempfile::tempdir().unwrap();
        let written = write(&report::tests::report(), dir.path()).unwrap();
        for path in &written {
            assert!(fs::metadata(path).unwrap().len() > 1000, "{path:?}");
        }
        let back: Report = files::read_json(&written[0]).unwrap();
        assert_eq!(back.rows.len(), 6);
    }
}
