// SPDX-License-Identifier: GPL-2.0

//! The output of all boots, and its file format.
//!
//! For each boot `boots.jsonl` holds a line of ours, then the guest's lines as they
//! came, then the plugin's. The report is made from this file alone, so it can be made
//! again, and tested, without a guest.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::protocol::{self, Line, Measured, Shape};
use report::live::Live;

/// The kernels that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    C,
    Rust,
}

impl Side {
    /// The order in which they are booted.
    pub const BOTH: [Side; 2] = [Side::C, Side::Rust];

    /// Returns whether a running kernel is this one. In the C kernel no piece of ours may
    /// be live; in the Rust kernel at least the registry is.
    pub fn is(self, live: &Live) -> bool {
        let rust = |piece: &report::live::Piece| piece.implementation == "rust";
        let pieces = live.pieces();
        match self {
            Side::C => pieces.iter().all(|p| p.implementation == "c"),
            Side::Rust => rust(&live.registry),
        }
    }
}

/// The purpose of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Instructions, by the guest's clock.
    Icount,
    /// Locked instructions and references to memory, by the plugin.
    Plugin,
    /// Throughput.
    Wall,
}

/// The harness's line at the start of a boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub pass: Pass,
    pub side: Side,
    pub machine: Shape,
    /// Counted from 1; only rows that were not steady are measured again.
    pub round: u32,
}

/// The plugin's counts in one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub window: u64,
    pub instructions: u64,
    pub locked: u64,
    pub loads: u64,
    pub stores: u64,
}

/// One boot and its measurements.
#[derive(Clone, Debug)]
pub struct Boot {
    pub head: Head,
    /// The kernel that ran, and which of its pieces are in Rust.
    pub began: Option<(String, Live)>,
    /// Whether the guest's clock counts instructions.
    pub exact: bool,
    pub rows: BTreeMap<String, Measured>,
    /// Rows that could not be measured, with the reason.
    pub missing: BTreeMap<String, String>,
    /// Lines that could not be parsed.
    pub garbled: Vec<String>,
    /// Whether the guest program ran to its end.
    pub ended: bool,
    pub windows: BTreeMap<u64, Window>,
    last: Option<String>,
}

impl Boot {
    pub fn new(head: Head) -> Boot {
        Boot {
            head,
            began: None,
            exact: false,
            rows: BTreeMap::new(),
            missing: BTreeMap::new(),
            garbled: Vec::new(),
            ended: false,
            windows: BTreeMap::new(),
            last: None,
        }
    }

    /// Processes a line of the guest; returns whether it was for the harness.
    pub fn guest_line(&mut self, text: &str) -> bool {
        let Some(line) = protocol::parse_line(text) else {
            return false;
        };
        match line {
            Ok(Line::Begin {
                kernel,
                live,
                exact,
            }) => {
                self.began = Some((kernel, live));
                self.exact = exact;
            }
            Ok(Line::Row(row)) => {
                self.last = Some(row.row.clone());
                self.rows.insert(row.row.clone(), row);
            }
            Ok(Line::Skip { row, why, failed }) => {
                let how = if failed { "failed" } else { "skipped" };
                self.last = Some(row.clone());
                self.missing.insert(row, format!("{how}: {why}"));
            }
            Ok(Line::End) => self.ended = true,
            Err(e) => self.garbled.push(format!("{e:#}")),
        }
        true
    }

    /// Processes a line of the plugin.
    pub fn plugin_line(&mut self, text: &str) -> Result<()> {
        let window: Window =
            serde_json::from_str(text).with_context(|| format!("not a window: {text}"))?;
        self.windows.insert(window.window, window);
        Ok(())
    }

    /// Returns the row of the latest line.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Returns the smallest sample of a row.
    pub fn minimum(&self, row: &str) -> Option<f64> {
        let samples = &self.rows.get(row)?.samples;
        samples.iter().copied().reduce(f64::min)
    }
}

/// All boots in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct Recording(pub Vec<Boot>);

impl Recording {
    /// Returns the boots of this pass.
    pub fn of(&self, pass: Pass) -> impl Iterator<Item = &Boot> {
        self.0.iter().filter(move |b| b.head.pass == pass)
    }

    /// Parses `boots.jsonl`.
    #[cfg(test)]
    pub fn parse(text: &str) -> Result<Recording> {
        let mut boots: Vec<Boot> = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            if line.starts_with("{\"pass\":") {
                let head = serde_json::from_str(line)
                    .with_context(|| format!("not the start of a boot: {line}"))?;
                boots.push(Boot::new(head));
                continue;
            }
            let boot = boots
                .last_mut()
                .with_context(|| format!("a line before the first boot: {line}"))?;
            if !boot.guest_line(line) {
                boot.plugin_line(line)?;
            }
        }
        Ok(Recording(boots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_back() {
        let head = Head {
            pass: Pass::Plugin,
            side: Side::Rust,
            machine: Shape::Large,
            round: 2,
        };
        let text = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n",
            serde_json::to_string(&head).unwrap(),
            r#"{"bench":"begin","kernel":"6.12.1","live":{"registry":{"name":"registry","implementation":"rust"}},"quick":true}"#,
            r#"{"bench":"row","row":"a","group":"g","unit":"u","ops":2,"samples":[4,3,5],"windows":[0,1,2]}"#,
            r#"{"bench":"skip","row":"b","why":"no fio"}"#,
            r#"{"bench":"end"}"#,
            r#"{"window":1,"instructions":6,"locked":1,"loads":2,"stores":3}"#,
        );
        let recording = Recording::parse(&text).unwrap();
        let boot = recording.of(Pass::Plugin).next().unwrap();
        let (kernel, live) = boot.began.as_ref().unwrap();
        assert_eq!(kernel, "6.12.1");
        assert!(Side::Rust.is(live) && !Side::C.is(live));
        assert_eq!(boot.minimum("a"), Some(3.0));
        assert_eq!(boot.minimum("b"), None);
        assert_eq!(boot.missing["b"], "skipped: no fio");
        assert!(boot.ended && boot.garbled.is_empty());
        assert_eq!(boot.windows[&1].loads, 2);
        assert!(recording.of(Pass::Wall).next().is_none());
        assert!(Recording::parse("{\"bench\":\"end\"}").is_err());
    }
}
