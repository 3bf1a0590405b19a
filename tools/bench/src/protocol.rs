// SPDX-License-Identifier: GPL-2.0

//! The output of `guest-test bench`: one JSON object per line, among other
//! lines of the guest.
//!
//! ```text
//!   bench list               a Listed for each row
//!   bench run, bench wall    {"bench":"begin",…}, then row or skip for each
//!                            row, then end
//! ```
//!
//! A sample is the cost of one operation in one timed repeat. Under `-icount` a
//! guest nanosecond is an instruction, so the samples are instructions; those
//! of `wall` are throughput. `windows` are the numbers under which the TCG
//! plugin counted the same repeats.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use report::live::Live;

/// Prefix of every line for the harness.
const PREFIX: &str = "{\"bench\":";

/// A row of the guest program.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    /// GROUP/what/operation/variation…
    pub row: String,
    pub group: String,
    pub unit: String,
    /// A note for the reader of the report.
    #[serde(default)]
    pub note: String,
    #[serde(default)]
    pub machine: Shape,
    /// Whether it is also measured with QUICK=1.
    #[serde(default = "yes")]
    pub quick: bool,
    /// Whether it is measured by wall-clock time, without `-icount`.
    #[serde(default)]
    pub wall: bool,
}

/// The kind of guest that a row needs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The guest of all other commands.
    #[default]
    Standard,
    /// NVDIMMs with room for a namespace of 64 GiB, in sparse files.
    Large,
}

impl Shape {
    /// The small one comes first: a failure there would occur in the other too.
    pub const ALL: [Shape; 2] = [Shape::Standard, Shape::Large];

    /// Returns ordinary memory and the size of each NVDIMM, in MiB.
    pub const fn sizes(self) -> (u64, u64) {
        match self {
            Shape::Standard => (4 << 10, 5 << 10),
            Shape::Large => (6 << 10, 66 << 10),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Shape::Standard => "standard",
            Shape::Large => "large",
        }
    }
}

/// A line of `bench run` or `bench wall`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "bench", rename_all = "lowercase")]
pub enum Line {
    Begin {
        kernel: String,
        live: Live,
        /// The guest's clock counts instructions.
        #[serde(default)]
        exact: bool,
    },
    Row(Measured),
    Skip {
        row: String,
        why: String,
        /// It should have worked; otherwise the guest lacks something.
        #[serde(default)]
        failed: bool,
    },
    End,
}

/// A row as one boot measured it.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    pub row: String,
    /// Operations in one sample.
    #[serde(default = "one")]
    pub ops: u64,
    pub samples: Vec<f64>,
    /// The window of each sample; empty if a sample is part of a window.
    #[serde(default)]
    pub windows: Vec<u64>,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

/// Parses the list of rows.
pub fn parse_list(text: &str) -> Result<Vec<Listed>> {
    text.lines()
        .map(str::trim)
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).with_context(|| format!("not a row of the list: {l}")))
        .collect()
}

/// Parses a line of the guest's output; returns `None` if it is not for the
/// harness.
pub fn parse_line(line: &str) -> Option<Result<Line>> {
    let line = line.trim();
    line.starts_with(PREFIX).then(|| {
        serde_json::from_str(line).with_context(|| format!("not a line of guest-test: {line}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_defaults() {
        let list = parse_list(
            "rows:\n{\"row\":\"gup/a\",\"group\":\"gup\",\"unit\":\"instructions/page\",\"note\":\"n\"}\n\
             {\"row\":\"init/b\",\"group\":\"init\",\"unit\":\"x\",\"machine\":\"large\",\"wall\":true}\n",
        )
        .unwrap();
        assert_eq!((list[0].machine, list[0].wall), (Shape::Standard, false));
        assert_eq!((list[1].machine, list[1].wall), (Shape::Large, true));
        assert!(parse_list("{\"row\":1}").is_err());
    }

    #[test]
    fn rows_have_defaults() {
        let line = r#"{"bench":"row","row":"r","samples":[1.5,2]}"#;
        let Some(Ok(Line::Row(row))) = parse_line(line) else {
            panic!("{line}");
        };
        assert_eq!((row.ops, row.samples[0]), (1, 1.5));
        assert!(row.windows.is_empty());
    }

    #[test]
    fn other_output_is_not_for_us() {
        assert!(parse_line("mke2fs 1.47").is_none());
        assert!(parse_line("{\"name\":\"x\"}").is_none());
        assert!(matches!(
            parse_line(" {\"bench\":\"end\"}\r"),
            Some(Ok(Line::End))
        ));
        assert!(parse_line("{\"bench\":\"row\",\"row\":").unwrap().is_err());
        assert!(parse_line("{\"bench\":\"tea\"}").unwrap().is_err());
    }
}
