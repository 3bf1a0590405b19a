// SPDX-License-Identifier: GPL-2.0

//! The interfaces of this kernel that a program can see, as one JSON document
//! for the host, which compares the documents of two kernels.
//!
//! First the namespaces are set up, the same on every kernel: one of each mode,
//! with a filesystem and open devices (setup). Then the trees of sysfs and
//! debugfs are listed (trees), the trace events are read, and the calls of a
//! table of bad calls are made (calls, operation, run).

mod calls;
mod operation;
mod run;
mod setup;
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::ndctl;
use crate::system;
use setup::Setup;
use trees::Roles;

/// Name to text, in the form in which the host compares it.
pub type Facts = BTreeMap<String, String>;

#[derive(Serialize)]
struct Document {
    kernel: String,
    areas: BTreeMap<&'static str, Facts>,
    notes: Vec<String>,
}

/// Writes the document to `json`.
pub fn run(json: &Path) -> Result<()> {
    system::load_modules()?;
    let debugfs = system::debugfs()?;
    let tracefs = system::tracefs()?;
    let before = ndctl::namespaces("")?;
    let setup = Setup::create()?;
    println!("the namespaces are set up");

    let mut areas = BTreeMap::new();
    let roles = Roles::read()?;
    areas.insert("sysfs", trees::list(Path::new("/sys"), &roles)?);
    areas.insert("debugfs", trees::list(&debugfs, &roles)?);
    areas.insert("value", trees::values(&roles)?);
    areas.insert("tracepoint", trees::formats(&tracefs.join("events"))?);
    for (area, facts) in &areas {
        println!("{area}: {} names", facts.len());
    }
    let (errnos, notes) = run::all(&setup);
    println!("errno: {} calls", errnos.len());
    areas.insert("errno", errnos);

    let torn_down = setup.tear_down();
    // A call that should have been refused may have changed something.
    let restored = ndctl::restore(&before)?;
    torn_down?;
    if !restored.is_empty() {
        println!("cleaned up: {}", restored.join(", "));
    }
    let document = Document {
        kernel: system::kernel_release()?,
        areas,
        notes,
    };
    let text = serde_json::to_string_pretty(&document).context("cannot write JSON")?;
    fs::write(json, text).with_context(|| format!("cannot write {}", json.display()))
}
