// SPDX-License-Identifier: GPL-2.0

//! The main job: direct I/O from a disk into a huge DAX mapping, on a kernel
//! that was built and booted for it, with a report of a dozen lines.
//!
//! The guest's side is `guest-test main-job`, which writes its results as
//! JSON. This side generates the data on the disk, so only this side knows the
//! expected content.

use std::fmt::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use kbuild::build::build_to_boot;
use report::live::Live;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use host::kernel::Built;
use host::paths::Paths;
use host::progress::seconds;
use kbuild::program;
use vm::guest;
use vm::options::{GuestArgs, GuestOptions, TIMEOUT};
use vm::outcome::Outcome;
use vm::qemu::Accel;

/// Number of bytes that are read from the disk.
const BYTES: usize = 64 << 20;
const REPORT: &str = "report.json";
const MIB: u64 = 1 << 20;

/// The guest's report. Every field has a default: a job that failed early fills
/// in few of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    ok: bool,
    steps: Vec<Step>,
    kernel: String,
    live: Option<Live>,
    namespace: Option<Namespace>,
    mappings: Mappings,
    direct_read_mappings: Mappings,
    direct_read: DirectRead,
    pinned_peak: u64,
    dax_pmd: DaxPmd,
    destroyed: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    name: String,
    ok: bool,
    detail: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    dev: String,
    mode: String,
    map: Option<String>,
    size: u64,
    align: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Mappings {
    pmd: u64,
    pte: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DirectRead {
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DaxPmd {
    passed: bool,
    cases: Vec<String>,
}

/// Runs `make run` and returns the exit status.
pub fn run(paths: &Paths, args: &GuestArgs) -> Result<i32> {
    let (built, image) = guest::prepare(paths, || build_to_boot(paths, args.variant))?;
    job(paths, args, &built, &image)
}

/// Runs the job on an existing kernel.
pub fn job(paths: &Paths, args: &GuestArgs, built: &Built, image: &Path) -> Result<i32> {
    let data = pseudo_random(BYTES);
    let digest = format!("{:x}", Sha256::digest(&data));
    let spec = serde_json::json!({ "bytes": BYTES, "sha256": digest });

    let mut options = GuestOptions::from_args(args, args.variant.limit(TIMEOUT))?;
    options.copy.push(program::build(paths)?);
    options.scratch = data;
    options
        .job_files
        .push(("main.json".into(), spec.to_string().into_bytes()));
    let command = format!(
        "./{} main-job --spec /host/job/main.json --json /host/job/{REPORT}",
        program::NAME
    );
    let outcome = guest::run_command(paths, built, image, &options, &command)?;
    eprint!("{}", outcome.explain());

    let report = match outcome.job_file(REPORT) {
        Some(text) => serde_json::from_str(&text)
            .context("the guest's report is not what this harness expects; was the guest's program built from other sources?")?,
        None => Report::default(),
    };
    let problems = problems(&report, &digest, built, &outcome);
    print!("\n{}", text(&report, built, &outcome));
    for problem in &problems {
        println!("FAILED: {problem}");
    }
    match (problems.is_empty(), outcome.status()) {
        (true, _) => println!("All of it held."),
        (false, 0) => return Ok(1),
        (false, status) => return Ok(status),
    }
    Ok(0)
}

/// Returns all problems.
fn problems(report: &Report, digest: &str, built: &Built, outcome: &Outcome) -> Vec<String> {
    let failed = report.steps.iter().filter(|s| !s.ok);
    let mut list: Vec<String> = failed
        .map(|s| format!("{}: {}", s.name, s.detail))
        .collect();
    if outcome.status() != 0 {
        list.push(format!("the guest ended with status {}", outcome.status()));
    }
    if outcome.job_file(REPORT).is_none() {
        list.push("the guest wrote no report".into());
        return list;
    }
    let read = &report.direct_read;
    let requirements = [
        (report.ok, "the guest's job as a whole"),
        (
            report.kernel == built.release_string,
            "the kernel that booted is not the one that was built",
        ),
        (report.dax_pmd.passed, "ndctl's dax-pmd"),
        (
            read.bytes == BYTES as u64,
            "the direct read was shorter than requested",
        ),
        (
            read.sha256 == digest,
            "the direct read returned other data than the disk holds",
        ),
        (
            report.direct_read_mappings.pmd > 0,
            "no 2 MiB mapping was read into",
        ),
        (report.pinned_peak > 0, "no page was seen pinned"),
        (report.destroyed, "the namespace could not be destroyed"),
    ];
    let missed = requirements.iter().filter(|(held, _)| !held);
    list.extend(missed.map(|(_, what)| (*what).to_owned()));
    for piece in report.live.iter().flat_map(Live::pieces) {
        if piece.implementation != built.variant.language() {
            list.push(format!(
                "the {} is not the implementation that this variant has",
                piece.name
            ));
        }
    }
    list
}

/// Formats the report for a person.
fn text(report: &Report, built: &Built, outcome: &Outcome) -> String {
    let mut t = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(&mut t, report, built, outcome);
    t
}

fn write_text(t: &mut String, report: &Report, built: &Built, outcome: &Outcome) -> fmt::Result {
    let (release, variant) = (&built.release_string, built.variant);
    writeln!(t, "kernel            Linux {release} (variant {variant})")?;
    let accel = match outcome.accel {
        Accel::Kvm => "KVM",
        Accel::Tcg => "TCG",
        Accel::TcgInTurn => "TCG, one thread",
        Accel::Icount => "TCG with -icount",
    };
    let booted = |b| format!("booted in {}", seconds(b));
    let boot = outcome.boot.map_or("not booted".into(), booted);
    let total = seconds(outcome.total);
    writeln!(t, "machine           QEMU {accel}, {boot}, {total} in all")?;
    for piece in report.live.iter().flat_map(Live::pieces) {
        writeln!(t, "{:<18}{}", piece.name, language(&piece.implementation))?;
    }
    if let Some(n) = &report.namespace {
        let map = n.map.as_deref().unwrap_or("none");
        let align = n.align.map(|a| format!("align {}", size(a)));
        let align = align.unwrap_or("no alignment".into());
        let (dev, mode, size) = (&n.dev, &n.mode, size(n.size));
        writeln!(
            t,
            "namespace         {dev}: {mode}, {size}, map {map}, {align}"
        )?;
    }
    let Mappings { pmd, pte } = report.mappings;
    writeln!(t, "mappings          {pmd} of 2 MiB, {pte} of 4 KiB")?;
    let Mappings { pmd, pte } = report.direct_read_mappings;
    writeln!(
        t,
        "direct read       {} from a virtio disk into {pmd} mappings of 2 MiB and {pte} of 4 KiB",
        size(report.direct_read.bytes)
    )?;
    writeln!(t, "  its sha256      {}", report.direct_read.sha256)?;
    let (pages, bytes) = (report.pinned_peak, size(report.pinned_peak * 4096));
    writeln!(t, "pinned at peak    {pages} pages ({bytes})")?;
    let passed = if report.dax_pmd.passed {
        "passed"
    } else {
        "FAILED"
    };
    writeln!(
        t,
        "ndctl's dax-pmd   {} cases {passed}",
        report.dax_pmd.cases.len()
    )?;
    let not = if report.destroyed { "" } else { "NOT " };
    writeln!(t, "afterwards        namespace {not}destroyed")
}

fn language(implementation: &str) -> &str {
    match implementation {
        "rust" => "Rust",
        "c" => "C",
        other => other,
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= MIB => format!("{} MiB", b / MIB),
        b if b >= 1024 => format!("{} KiB", b / 1024),
        b => format!("{b} bytes"),
    }
}

/// Generates data of which no two pages are equal; xorshift, the same in every
/// run.
fn pseudo_random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests;
