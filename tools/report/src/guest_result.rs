// SPDX-License-Identifier: GPL-2.0

//! The line that a guest test prints when it ends.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::ktap::{TestResult, Verdict};

/// Prefix of the line.
const RESULT: &str = "result: ";

/// The result as the guest prints it.
#[derive(Deserialize)]
struct GuestResult {
    name: String,
    status: String,
    #[serde(default)]
    why: String,
}

/// Parses a line; returns `None` if it is another one.
pub fn parse(line: &str) -> Option<Result<TestResult>> {
    line.strip_prefix(RESULT).map(result)
}

fn result(json: &str) -> Result<TestResult> {
    let r: GuestResult = serde_json::from_str(json).context("not a result")?;
    let verdict = match r.status.as_str() {
        "ok" => Verdict::Pass,
        "skip" => Verdict::Skip,
        _ => Verdict::Fail,
    };
    Ok(TestResult {
        name: r.name,
        verdict,
        // The text that a passed test adds is for its own output only.
        reason: match verdict {
            Verdict::Pass => String::new(),
            Verdict::Fail | Verdict::Skip => r.why,
        },
    })
}
