// SPDX-License-Identifier: GPL-2.0

//! The output for the host: JSON, one object a line.

use anyhow::{Context, Result};
use serde::Serialize;

use super::clock::Span;
use crate::live::Live;

#[derive(Serialize)]
#[serde(tag = "bench", rename_all = "lowercase")]
pub enum Line<'a> {
    Begin {
        kernel: &'a str,
        live: &'a Live,
        quick: bool,
        /// Whether the TSC counts instructions.
        exact: bool,
    },
    Row {
        row: &'a str,
        group: &'a str,
        unit: &'a str,
        /// Number of operations of one repeat and its window.
        ops: u64,
        /// The cost of one operation, in the order of the repeats.
        samples: Vec<f64>,
        /// The window of each sample; empty if a sample has none of its own.
        windows: Vec<u32>,
    },
    Skip {
        row: &'a str,
        why: &'a str,
        /// Whether something failed, as opposed to: something is missing.
        failed: bool,
    },
    End,
}

impl Line<'_> {
    pub fn print(&self) -> Result<()> {
        let text = serde_json::to_string(self).context("cannot write JSON")?;
        println!("{text}");
        Ok(())
    }
}

/// Creates a row from its repeats of `ops` operations each.
pub fn row<'a>(row: &'a str, unit: &'a str, ops: u64, spans: &[Span]) -> Line<'a> {
    let windows: Option<Vec<u32>> = spans.iter().map(|s| s.window).collect();
    Line::Row {
        row,
        group: group(row),
        unit,
        ops,
        samples: spans
            .iter()
            .map(|s| round(s.cost as f64 / ops.max(1) as f64))
            .collect(),
        windows: windows.unwrap_or_default(),
    }
}

/// Returns the first part of a row's name.
pub fn group(row: &str) -> &str {
    row.split('/').next().unwrap_or(row)
}

/// Rounds to thousandths, which suffice and are shorter.
fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line<'_>) -> Result<String> {
        Ok(serde_json::to_string(line)?)
    }

    #[test]
    fn lines_are_what_the_host_looks_for() -> Result<()> {
        let spans = [
            Span {
                cost: 3001,
                window: Some(4),
            },
            Span {
                cost: 3000,
                window: Some(5),
            },
        ];
        assert_eq!(
            text(&row("fault/x/4k", "instructions/fault", 3, &spans))?,
            r#"{"bench":"row","row":"fault/x/4k","group":"fault","unit":"instructions/fault","ops":3,"samples":[1000.333,1000.0],"windows":[4,5]}"#
        );
        assert_eq!(text(&Line::End)?, r#"{"bench":"end"}"#);
        Ok(())
    }

    #[test]
    fn parts_of_a_window_have_none() -> Result<()> {
        let span = Span {
            cost: 1,
            window: None,
        };
        assert!(text(&row("gup/x", "u", 1, &[span]))?.contains(r#""windows":[]"#));
        Ok(())
    }
}
