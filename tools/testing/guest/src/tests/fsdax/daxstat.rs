// SPDX-License-Identifier: GPL-2.0

//! `daxstat`: its report on a file must match the faults on that file.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use serde::Deserialize;

use super::reasons::misaligned;
use super::{large, per_config, Config, Fixture, EXT4, EXT4_E820, XFS};
use crate::command::Cmd;
use crate::data;
use crate::live::{self, Language};
use crate::mapping::PAGE;
use crate::memory::HUGE;
use crate::skip::Skip;
use crate::tests::Test;
use crate::trace::FaultTrace;

pub fn tests() -> Vec<Test> {
    let mut tests = per_config(
        &[XFS, EXT4_E820],
        "daxstat::file",
        90,
        "daxstat --file reports that a range of a file can be huge, and a fault there is of 4 KiB, or vice versa",
        files,
    );
    tests.push(Test::new(
        "fsdax::daxstat::table",
        60,
        "daxstat has other counts than the kernel, or gives no advice where the kernel does not count",
        table,
    ));
    tests
}

/// Returns the path of the program, which is in the same folder as this one.
fn program() -> Result<PathBuf> {
    let me = std::env::current_exe().context("cannot find this program")?;
    let path = me.with_file_name("daxstat");
    if !path.exists() {
        return Err(Skip(format!("the guest has no {}", path.display())).into());
    }
    Ok(path)
}

fn daxstat(arguments: &str) -> Result<Cmd> {
    Ok(Cmd::new(&program()?.to_string_lossy()).arg_words(arguments))
}

#[derive(Deserialize)]
struct FileReport {
    device: String,
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    offset: usize,
    length: usize,
    huge: bool,
    verdict: String,
}

fn report(path: &Path) -> Result<FileReport> {
    let out = daxstat("--json --file")?.arg(path).ok()?;
    serde_json::from_str(&out.stdout).with_context(|| format!("daxstat's JSON: {}", out.stdout))
}

/// Returns the device by which it judges a file.
pub fn device(path: &Path) -> Result<String> {
    Ok(report(path)?.device)
}

/// Returns its report on each 2 MiB: whether it can be huge, and the verdict.
fn verdicts_of(path: &Path) -> Result<Vec<(bool, String)>> {
    let mut all = Vec::new();
    for range in report(path)?.ranges {
        ensure!(
            range.offset == all.len() * HUGE,
            "a range begins at {:#x} instead of {:#x}",
            range.offset,
            all.len() * HUGE
        );
        let count = range.length.div_ceil(HUGE);
        all.extend((0..count).map(|_| (range.huge, range.verdict.clone())));
    }
    Ok(all)
}

/// Compares the report on a file with the effect of stores to it.
pub fn require(fixture: &Fixture, trace: &FaultTrace, name: &str, verdicts: &[&str]) -> Result<()> {
    let path = fixture.path(name);
    let reported = verdicts_of(&path)?;
    let words: Vec<&str> = reported.iter().map(|(_, word)| word.as_str()).collect();
    ensure!(
        words == verdicts,
        "{name}: daxstat reports {words:?}, {verdicts:?} was expected"
    );
    let file = fixture.open(name)?;
    let map = large(&file, reported.len() * HUGE)?;
    for (n, (huge, word)) in reported.iter().enumerate() {
        // Not a load: unwritten blocks read as zeros, which always fit.
        trace.take()?;
        map.poke(n * HUGE, 1);
        let got = trace.take()?;
        // A hole may or may not become huge when it is stored to.
        ensure!(
            (got.pmd > 0) == *huge || word == "hole",
            "{name}, 2 MiB number {n}: daxstat reports {word}, the faults were {got:?}"
        );
    }
    let text = daxstat("--file")?.arg(&path).ok()?.stdout;
    ensure!(
        verdicts.iter().all(|word| text.contains(word)),
        "{name}: the text for people lacks one of {verdicts:?}: {text}"
    );
    Ok(())
}

fn files(config: &Config) -> Result<String> {
    program()?;
    let fixture = Fixture::create(config)?;
    let trace = FaultTrace::start()?;
    drop(fixture.written("aligned", &data::bytes(1, 3 * HUGE))?);
    require(&fixture, &trace, "aligned", &["huge"; 3])?;
    drop(fixture.mount.file("new", 2 * HUGE as u64)?);
    require(&fixture, &trace, "new", &["huge"; 2])?;
    drop(misaligned(&fixture, "misaligned", 2 * HUGE)?);
    require(&fixture, &trace, "misaligned", &["misaligned"; 2])?;
    drop(fixture.written("end", &data::bytes(2, HUGE + 3 * PAGE))?);
    require(&fixture, &trace, "end", &["huge", "eof"])?;
    let file = fixture.sparse("holes", 3 * HUGE as u64)?;
    file.write_all_at(&data::bytes(3, PAGE), (HUGE + 9 * PAGE) as u64)?;
    file.sync_all().context("fsync")?;
    require(&fixture, &trace, "holes", &["hole", "short", "hole"])?;
    drop((file, trace));
    fixture.finish()?;
    Ok(String::new())
}

#[derive(Deserialize)]
struct Sample {
    filesystems: Vec<Filesystem>,
}

#[derive(Deserialize)]
struct Filesystem {
    device: String,
    fstype: String,
    faults: std::collections::BTreeMap<String, u64>,
}

fn table() -> Result<String> {
    program()?;
    let fixture = Fixture::create(&EXT4)?;
    let file = fixture.written("data", &data::bytes(1, 2 * HUGE))?;
    let map = large(&file, 2 * HUGE)?;
    map.prefault_write(HUGE);
    // A file that is not DAX, and one that does not exist.
    for path in ["/etc/passwd", "/nonexistent"] {
        let out = daxstat("--file")?.arg(path).run()?;
        ensure!(
            !out.status.success() && out.stderr.contains(path),
            "daxstat --file {path}: {}",
            out.all()
        );
    }
    let once = daxstat("--once --json")?.run()?;
    if live::ask()?.fs_dax.implementation == Language::C {
        ensure!(
            !once.status.success() && once.stderr.contains("CONFIG_RUST_FS_DAX"),
            "daxstat on a kernel that does not count: {}",
            once.all()
        );
    } else {
        let sample: Sample = serde_json::from_str(&once.stdout)
            .with_context(|| format!("daxstat's JSON: {}", once.all()))?;
        let device = std::fs::metadata(fixture.mount.dir())?.dev();
        let name = format!("{}:{}", libc::major(device), libc::minor(device));
        let Some(row) = sample.filesystems.iter().find(|f| f.device == name) else {
            bail!("daxstat does not know {name}: {}", once.stdout);
        };
        ensure!(
            row.fstype == "ext4" && row.faults.get("2M").is_some_and(|n| *n >= 2),
            "daxstat reports on {name}: {}",
            once.stdout
        );
        let text = daxstat("--once")?.ok()?.stdout;
        ensure!(text.contains("ext4"), "daxstat --once: {text}");
    }
    drop((map, file));
    fixture.finish()?;
    Ok(String::new())
}
