// SPDX-License-Identifier: GPL-2.0

//! `make mutants`: would the tests notice?
//!
//! Each row of `tools/testing/mutants/*.toml` is one small fault in the kernel's Rust, such as a
//! programmer could make, with the tests that claim to notice it. The fault is made in a copy of
//! the checkout, a kernel is built from that, and only those tests run on it. A mutant is
//!
//! * killed, if a test fails, the kernel reports something, or the guest does not end;
//! * a survivor, if all tests pass: then nothing would notice the fault in our own work either;
//! * not built, if the compiler refuses it: the row proves nothing.
//!
//! First the same tests run without a fault: they must pass, or their failure proves nothing. What
//! was tried is remembered by its inputs, so that an interrupted run continues; `FRESH=1` tries all
//! again. All kernels are built in the folder of their variant, where the next build brings the
//! source up to date again.

mod rows;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use clap::builder::FalseyValueParser;
use clap::Args;
use comfy_table::{presets, Table};
use regex::Regex;
use serde::{Deserialize, Serialize};

use host::files::{self, Fingerprint};
use host::limit::{Limit, NO_TIME};
use host::lock::folder_lock;
use host::paths::Paths;
use host::progress::seconds;
use host::requirements::require_host;
use host::variant::Variant;
use kbuild::toolchain::Toolchain;
use kbuild::{overlay, program};
use report::ktap::Verdict;
use report::summary::Summary;
use rows::{Row, Watcher};
use trial::{Noticed, TrialArgs, Trials};

/// Name of the results in the cache.
const RESULTS: &str = "mutants.json";

/// Options that select mutants.
#[derive(Args, Clone, Debug)]
pub struct MutantsArgs {
    /// Only the mutants whose names match this regular expression.
    #[arg(long, env = "ROWS", default_value = "")]
    pub rows: Regex,
    /// Only the mutants that the host's tests notice: no kernel is built.
    #[arg(long, env = "QUICK", value_parser = FalseyValueParser::new())]
    pub quick: bool,
    /// Try all again.
    #[arg(long, env = "FRESH", value_parser = FalseyValueParser::new())]
    pub fresh: bool,
    /// Seconds after which no mutant is tried; what was not tried is skipped.
    #[arg(long, env = "LIMIT")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub trial: TrialArgs,
}

/// How the trial of a mutant ended.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
enum Fate {
    /// What noticed it.
    Killed(String),
    Survived,
    /// The message of the compiler.
    NotBuilt(String),
}

/// A trial that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    digest: String,
    fate: Fate,
    seconds: u64,
}

type Records = BTreeMap<String, Record>;

/// Runs the verb and returns the exit status.
pub fn run(paths: &Paths, args: &MutantsArgs) -> Result<i32> {
    require_host()?;
    let limit = Limit::starting_now(args.limit);
    let mut rows: Vec<Row> = rows::read(&paths.checkout)?
        .into_iter()
        .filter(|row| args.rows.is_match(&row.name) && (!args.quick || row.host.is_some()))
        .collect();
    ensure!(!rows.is_empty(), "no mutant matches {}", args.rows);
    // What takes seconds comes before what takes minutes.
    rows.sort_by_key(|row| (row.host.is_none(), row.variant.is_debug()));
    let results = paths.result(RESULTS);
    files::make_dir(results.parent().context("results have a folder")?)?;
    let _lock = folder_lock(&paths.result(""), "trying mutants")?;
    let mut records: Records = match args.fresh {
        true => Records::new(),
        false => files::read_json(&results).unwrap_or_default(),
    };
    let programs = match rows.iter().all(|row| row.host.is_some()) {
        true => Vec::new(),
        false => vec![program::build(paths)?, program::build_daxstat(paths)?],
    };
    let inputs = inputs(paths, &programs)?;
    let trials = Trials {
        paths,
        args: args.trial.clone(),
        tc: Toolchain::find(paths)?,
        programs,
    };
    let digest = |row: &Row| {
        let mut digest = Fingerprint::default();
        digest.add("inputs", inputs.as_bytes());
        row.add_to(&mut digest);
        digest.finish()
    };
    let done = |records: &Records, row: &Row| {
        let record = records.get(&row.name)?;
        (record.digest == digest(row)).then(|| record.clone())
    };
    let open: Vec<&Row> = rows
        .iter()
        .filter(|row| done(&records, row).is_none())
        .collect();
    let mut summary = Summary::default();
    for problem in without_fault(&trials, &open, limit)? {
        summary.say("mutants", "without a fault", Verdict::Fail, &problem);
    }
    if summary.failed == 0 {
        for row in open {
            if limit.is_over() {
                break;
            }
            let start = Instant::now();
            let record = Record {
                fate: try_one(&trials, row)?,
                digest: digest(row),
                seconds: start.elapsed().as_secs(),
            };
            eprintln!(
                "{}: {} ({})",
                row.name,
                word(&record.fate),
                seconds(start.elapsed())
            );
            records.insert(row.name.clone(), record);
            files::write_json(&results, &records)?;
        }
    }
    let made: Vec<_> = rows.iter().map(|row| (row, done(&records, row))).collect();
    println!("{}", table(&made));
    for (row, record) in &made {
        let (verdict, why) = judge(row, record.as_ref().map(|r| &r.fate));
        summary.say("mutants", &row.name, verdict, &why);
    }
    println!("{}", summary.totals());
    Ok(i32::from(summary.failed > 0))
}

/// Returns the digest of what a trial depends on beside its row.
fn inputs(paths: &Paths, programs: &[std::path::PathBuf]) -> Result<String> {
    let mut digest = Fingerprint::default();
    for (name, file) in overlay::read(&paths.checkout)? {
        digest.add(&name, &file.bytes);
    }
    for folder in [
        "patches",
        "config",
        "tools/testing/owner",
        "tools/testing/pagetable",
    ] {
        for entry in walkdir::WalkDir::new(paths.checkout.join(folder)).sort_by_file_name() {
            let path = entry?.into_path();
            if path.is_file() {
                digest.add(&path.to_string_lossy(), &fs::read(&path)?);
            }
        }
    }
    for program in programs {
        digest.add("program", &fs::read(program)?);
    }
    Ok(digest.finish())
}

/// Runs the tests of all rows on kernels without a fault, and returns their complaints.
fn without_fault(trials: &Trials<'_>, rows: &[&Row], limit: Limit) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for variant in [Variant::Rust, Variant::Debug] {
        for all in [false, true] {
            let rows = || rows.iter().filter(|r| r.variant == variant && r.all == all);
            let tests: Vec<_> = rows().filter_map(|row| row.tests.as_deref()).collect();
            if tests.is_empty() || limit.is_over() {
                continue;
            }
            let tests = format!("({})", tests.join("|"));
            let watcher = Watcher::Guest(&tests);
            if let Noticed::By(what) = trials.in_guest(trials.paths, variant, watcher, all)? {
                problems.push(format!("{what} on the {variant} kernel"));
            }
        }
    }
    Ok(problems)
}

fn try_one(trials: &Trials<'_>, row: &Row) -> Result<Fate> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let paths = trials.copy(row, dir.path())?;
    let noticed = match row.watcher()? {
        Watcher::Host(package) => trials.on_host(&paths, package),
        watcher => trials.in_guest(&paths, row.variant, watcher, row.all),
    };
    Ok(match noticed {
        Ok(Noticed::By(what)) => Fate::Killed(what),
        Ok(Noticed::Nothing) => Fate::Survived,
        Err(err) => {
            let text = format!("{err:#}");
            Fate::NotBuilt(text.lines().take(12).collect::<Vec<_>>().join("\n"))
        }
    })
}

fn word(fate: &Fate) -> &'static str {
    match fate {
        Fate::Killed(_) => "killed",
        Fate::Survived => "survived",
        Fate::NotBuilt(_) => "not built",
    }
}

/// Returns whether the fate of a mutant is as it should be.
fn judge(row: &Row, fate: Option<&Fate>) -> (Verdict, String) {
    match (fate, &row.survives) {
        (None, _) => (Verdict::Skip, NO_TIME.to_owned()),
        (Some(Fate::Killed(_)), None) => (Verdict::Pass, String::new()),
        (Some(Fate::Killed(by)), Some(_)) => {
            (Verdict::Fail, format!("killed by {by}: remove `survives`"))
        }
        (Some(Fate::Survived), Some(why)) => (Verdict::Skip, why.clone()),
        (Some(Fate::Survived), None) => (
            Verdict::Fail,
            format!("no test notices it; a user would see: {}", row.user),
        ),
        (Some(Fate::NotBuilt(why)), _) => (Verdict::Fail, format!("not built: {why}")),
    }
}

fn table(made: &[(&Row, Option<Record>)]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["mutant", "file", "fate", "time", "by"]);
    for (row, record) in made {
        let (fate, time, by) = match record {
            None => ("not tried", String::new(), ""),
            Some(record) => {
                let by = match &record.fate {
                    Fate::Killed(by) => by.as_str(),
                    Fate::Survived | Fate::NotBuilt(_) => "",
                };
                (word(&record.fate), format!("{} s", record.seconds), by)
            }
        };
        // A reason can be long.
        let by: String = by.chars().take(70).collect();
        table.add_row([&row.name, &row.file, fate, &time, &by]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_need_a_reason() {
        let rows = rows::read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        let mut row = rows.unwrap().remove(0);
        row.survives = None;
        let killed = Fate::Killed("x".into());
        assert_eq!(judge(&row, Some(&killed)).0, Verdict::Pass);
        assert_eq!(judge(&row, Some(&Fate::Survived)).0, Verdict::Fail);
        assert_eq!(
            judge(&row, Some(&Fate::NotBuilt("E".into()))).0,
            Verdict::Fail
        );
        assert_eq!(judge(&row, None).0, Verdict::Skip);
        row.survives = Some("because".into());
        assert_eq!(judge(&row, Some(&Fate::Survived)).0, Verdict::Skip);
        assert_eq!(judge(&row, Some(&killed)).0, Verdict::Fail);
    }
}
