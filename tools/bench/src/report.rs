// SPDX-License-Identifier: GPL-2.0

//! The final report: `bench.json`, from which the table, the chart and the page
//! are made.

use serde::{Deserialize, Serialize};

use super::counts::{self, PerOp};
use super::protocol::Listed;
use super::recording::{Pass, Recording, Side};
use super::steady::{self, Figure, Minima, LIMIT};

/// The whole report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub about: About,
    pub rows: Vec<Row>,
    /// Throughput by wall-clock time: noisy, without a verdict.
    pub wall: Vec<WallRow>,
    /// Problems other than those of rows.
    pub problems: Vec<String>,
    /// Reasons for omissions that do not affect the verdict.
    pub remarks: Vec<String>,
}

/// The provenance of the figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    pub date: String,
    pub commit: String,
    /// `uname -r` of both kernels.
    pub kernel_c: String,
    pub kernel_rust: String,
    /// Digest of the configuration without our symbols; it is the same for both
    /// kernels.
    pub config_digest: String,
    pub qemu: String,
    /// The accelerator of the `wall` rows.
    pub wall_on: Option<String>,
    pub quick: bool,
    /// Boots of each kernel in a round.
    pub boots: usize,
    pub seconds: u64,
}

/// A row of instructions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub row: String,
    pub group: String,
    pub unit: String,
    pub note: String,
    pub state: State,
    /// Reason why there is no ratio.
    pub why: Option<String>,
    pub c: Option<f64>,
    pub rust: Option<f64>,
    /// `rust / c`: below 1 the Rust kernel needs fewer instructions.
    pub ratio: Option<f64>,
    /// The largest spread between the boots of one kernel, as a fraction.
    pub spread: Option<f64>,
    /// Number of rounds that were needed.
    pub rounds: u32,
    pub c_counts: Option<PerOp>,
    pub rust_counts: Option<PerOp>,
    /// The minimum of each boot, for a row that is not steady.
    pub minima: Option<Minima>,
}

/// Whether a row has a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Steady,
    Unsteady,
    Missing,
}

/// A row of throughput.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WallRow {
    pub row: String,
    pub unit: String,
    pub note: String,
    /// Every sample of every boot.
    pub c: Vec<f64>,
    pub rust: Vec<f64>,
    pub why: Option<String>,
}

impl WallRow {
    /// Returns the median and the range of each kernel's samples.
    pub fn ranges(&self) -> [String; 2] {
        [&self.c, &self.rust].map(|samples| {
            let mut sorted = samples.clone();
            sorted.sort_by(f64::total_cmp);
            match (median(&sorted), sorted.first(), sorted.last()) {
                (Some(m), Some(low), Some(high)) => {
                    format!("{} ({} .. {})", number(m), number(*low), number(*high))
                }
                _ => String::new(),
            }
        })
    }
}

impl Report {
    /// Creates the report on these rows from a recording.
    pub fn new(about: About, list: &[Listed], recording: &Recording) -> Report {
        let rows = list.iter().filter(|l| !l.wall);
        let wall = list.iter().filter(|l| l.wall);
        Report {
            rows: rows.map(|l| row(l, recording, about.boots)).collect(),
            wall: wall.map(|l| wall_row(l, recording)).collect(),
            about,
            problems: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Returns whether every row has a figure and nothing else went wrong.
    pub fn complete(&self) -> bool {
        self.problems.is_empty()
            && self.rows.iter().all(|r| r.state == State::Steady)
            && self.wall.iter().all(|r| r.why.is_none())
    }

    /// Returns the groups of the rows, in the order of the list.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !groups.contains(&row.group.as_str()) {
                groups.push(&row.group);
            }
        }
        groups
    }

    /// Returns the rows of a group.
    pub fn in_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |r| r.group == group)
    }

    /// Summarizes all rows in one sentence.
    pub fn summary(&self) -> String {
        let ratios = || self.rows.iter().filter_map(|r| r.ratio);
        let fewer = ratios().filter(|r| *r < 1.0 - LIMIT).count();
        let more = ratios().filter(|r| *r > 1.0 + LIMIT).count();
        let same = ratios().count() - fewer - more;
        let count = |state| self.rows.iter().filter(|r| r.state == state).count();
        let mut text = format!(
            "{} rows: Rust needs fewer instructions than C in {fewer}, as many (within 1 %) in \
             {same}, more in {more}",
            self.rows.len()
        );
        for (n, what) in [
            (count(State::Unsteady), "unsteady"),
            (count(State::Missing), "not measured"),
        ] {
            if n > 0 {
                text.push_str(&format!("; {n} {what}"));
            }
        }
        text
    }
}

impl Row {
    /// Returns the name without the group, under whose heading it is.
    pub fn short(&self) -> &str {
        let rest = self.row.strip_prefix(&self.group);
        rest.and_then(|r| r.strip_prefix('/')).unwrap_or(&self.row)
    }
}

fn row(listed: &Listed, recording: &Recording, boots: usize) -> Row {
    let counts = |side| {
        let mut boots = recording.of(Pass::Plugin);
        boots.find_map(|b| (b.head.side == side).then(|| counts::per_op(b, &listed.row))?)
    };
    let mut row = Row {
        row: listed.row.clone(),
        group: listed.group.clone(),
        unit: listed.unit.clone(),
        note: listed.note.clone(),
        state: State::Missing,
        why: None,
        c: None,
        rust: None,
        ratio: None,
        spread: None,
        rounds: 0,
        c_counts: counts(Side::C),
        rust_counts: counts(Side::Rust),
        minima: None,
    };
    match steady::figure(recording, &listed.row, boots) {
        Figure::Steady {
            c,
            rust,
            spread,
            round,
        } => {
            row.state = State::Steady;
            (row.c, row.rust) = (Some(c), Some(rust));
            // An operation that costs nothing in both has equal costs.
            row.ratio = Some(if c == rust { 1.0 } else { rust / c });
            row.spread = Some(spread);
            row.rounds = round;
        }
        Figure::Unsteady {
            spread,
            rounds,
            minima,
        } => {
            row.state = State::Unsteady;
            row.why = Some(format!(
                "boots of the same kernel differ by {}",
                percent(spread)
            ));
            row.spread = spread.is_finite().then_some(spread);
            row.rounds = rounds;
            row.minima = Some(minima);
        }
        Figure::Missing(why) => row.why = Some(why),
    }
    row
}

fn wall_row(listed: &Listed, recording: &Recording) -> WallRow {
    let samples = |side| {
        let boots = recording.of(Pass::Wall).filter(|b| b.head.side == side);
        let rows = boots.filter_map(|b| b.rows.get(&listed.row));
        rows.flat_map(|r| r.samples.iter().copied())
            .collect::<Vec<f64>>()
    };
    let (c, rust) = (samples(Side::C), samples(Side::Rust));
    let why = (c.is_empty() || rust.is_empty()).then(|| {
        let mut boots = recording.of(Pass::Wall);
        boots
            .find_map(|b| b.missing.get(&listed.row).cloned())
            .unwrap_or_else(|| "a guest ended before it measured this".into())
    });
    WallRow {
        row: listed.row.clone(),
        unit: listed.unit.clone(),
        note: listed.note.clone(),
        c,
        rust,
        why,
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some((sorted[n / 2 - 1] + sorted[n / 2]) / 2.0),
    }
}

/// Formats a figure with about four digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        a if a >= 1000.0 => grouped(value.round()),
        a if a >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a spread.
pub fn percent(part: f64) -> String {
    match part {
        p if !p.is_finite() => "any factor".into(),
        p if p >= 0.1 => format!("{:.0} %", p * 100.0),
        0.0 => "0 %".into(),
        p if p < 0.0001 => "<0.01 %".into(),
        p => format!("{:.2} %", p * 100.0),
    }
}

/// Formats a ratio.
pub fn ratio(value: f64) -> String {
    match value {
        v if v < 0.0995 => format!("{v:.3}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
pub mod tests;
