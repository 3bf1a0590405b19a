// SPDX-License-Identifier: GPL-2.0

//! Throughput by wall-clock time, with fio: a sanity bound beside the
//! instruction counts, and as noisy as the host.

use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};
use serde::Deserialize;

use super::clock::Span;
use super::memory::{DEVDAX_2M, FSDAX};
use super::{Bench, Plan, Row};
use crate::command::Cmd;
use crate::ndctl::MIB;
use crate::target::Target;

const UNIT: &str = "MiB/s";
const DISK: &str = "/dev/vdb";

/// A job of fio. `{dir}` is the mount point of ext4 `-o dax`, `{node}` the
/// device-dax device, `{disk}` a virtio disk.
struct Case {
    row: &'static str,
    note: &'static str,
    devdax: bool,
    arguments: &'static str,
    /// The file that has to exist before, of the size of the job.
    file: Option<&'static str>,
}

const CASES: [Case; 7] = [
    Case {
        row: "wall/direct-io/fsdax/read",
        note: "O_DIRECT reads of a disk into a DAX mapping, which is pinned for each",
        devdax: false,
        arguments: "--ioengine=psync --direct=1 --filename={disk} --rw=read --bs=1M --iomem=mmapshared:{dir}/buffer",
        file: Some("buffer"),
    },
    Case {
        row: "wall/direct-io/fsdax/write",
        note: "O_DIRECT writes of a disk from a DAX mapping",
        devdax: false,
        arguments: "--ioengine=psync --direct=1 --filename={disk} --rw=write --bs=1M --iomem=mmapshared:{dir}/buffer",
        file: Some("buffer"),
    },
    Case {
        row: "wall/direct-io-uring/fsdax/read",
        note: "the same by io_uring, 4 KiB, 16 at a time",
        devdax: false,
        arguments: "--ioengine=io_uring --iodepth=16 --direct=1 --filename={disk} --rw=randread --bs=4k --iomem=mmapshared:{dir}/buffer",
        file: Some("buffer"),
    },
    Case {
        row: "wall/mmap/fsdax/randread",
        note: "loads from a mapped DAX file",
        devdax: false,
        arguments: "--ioengine=mmap --filename={dir}/file --rw=randread --bs=4k",
        file: Some("file"),
    },
    Case {
        row: "wall/mmap/fsdax/randwrite",
        note: "stores to a mapped DAX file",
        devdax: false,
        arguments: "--ioengine=mmap --filename={dir}/file --rw=randwrite --bs=4k",
        file: Some("file"),
    },
    Case {
        row: "wall/libpmem/fsdax/write",
        note: "libpmem's stores and flushes",
        devdax: false,
        arguments: "--ioengine=libpmem --direct=1 --filename={dir}/file --rw=write --bs=4k --iodepth=1",
        file: Some("file"),
    },
    Case {
        row: "wall/dev-dax/devdax/write",
        note: "stores to device-dax through libpmem",
        devdax: true,
        arguments: "--ioengine=dev-dax --filename={node} --rw=write --bs=2M --iodepth=1",
        file: None,
    },
];

pub fn plans() -> Vec<Plan> {
    [false, true]
        .into_iter()
        .map(|devdax| {
            let rows = CASES
                .iter()
                .filter(|c| c.devdax == devdax)
                .map(|c| Row::new(c.row, UNIT, c.note))
                .collect();
            let mut plan = Plan::new(rows, 900, move |b| run(b, devdax));
            plan.wall = true;
            plan
        })
        .collect()
}

fn run(bench: &Bench, devdax: bool) -> Result<()> {
    let want = if devdax { DEVDAX_2M } else { FSDAX };
    let target = Target::create(&want, MIB)?;
    if !Path::new(DISK).exists() {
        skip!("the guest has no scratch disk {DISK}");
    }
    for case in CASES.iter().filter(|c| c.devdax == devdax) {
        if !bench.wants(case.row) {
            continue;
        }
        let rates: Result<Vec<Span>> = (0..bench.repeats())
            .map(|_| one(bench, case, &target))
            .collect();
        match rates {
            // The rate is in KiB/s and the row in MiB/s.
            Ok(rates) => bench.report(case.row, 1024, &rates)?,
            Err(e) => bench.fail(case.row, &e)?,
        }
    }
    target.finish()
}

fn one(bench: &Bench, case: &Case, target: &Target) -> Result<Span> {
    let size = if bench.quick { 64 * MIB } else { 256 * MIB };
    let (mut dir, mut node) = (String::new(), String::new());
    match &target.mount {
        Some(mount) => {
            dir = mount.path("").to_string_lossy().into_owned();
            if let Some(name) = case.file {
                drop(mount.file(name, size)?);
            }
        }
        None => node = target.namespace.node()?.to_string_lossy().into_owned(),
    }
    let arguments = case
        .arguments
        .replace("{dir}", dir.trim_end_matches('/'))
        .replace("{node}", &node)
        .replace("{disk}", DISK);
    let out = Cmd::new("fio --name=bench --output-format=json --thread --randrepeat=1")
        .arg(format!("--size={size}"))
        .arg_words(&arguments)
        .limit_secs(120)
        .run()?;
    if let (Some(mount), Some(name)) = (&target.mount, case.file) {
        let path = mount.path(name);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    if out.all().contains("engine not found") || out.all().contains("not loadable") {
        skip!("fio of the guest was built without this engine");
    }
    if !out.status.success() {
        bail!(
            "fio failed with exit status {}: {}",
            out.code(),
            out.all().trim()
        );
    }
    Ok(Span {
        cost: rate(&out.stdout)?,
        window: None,
    })
}

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    read: Side,
    write: Side,
}

#[derive(Deserialize)]
struct Side {
    /// In KiB/s.
    bw: u64,
}

/// Parses the rate in KiB/s of a job that only reads or only writes. Messages
/// may precede the JSON.
fn rate(text: &str) -> Result<u64> {
    let at = text.find('{').context("fio printed no report")?;
    let report: Report =
        serde_json::from_str(&text[at..]).context("cannot understand fio's report")?;
    let job = report.jobs.first().context("fio's report has no job")?;
    match job.read.bw.max(job.write.bw) {
        0 => bail!("fio moved nothing"),
        bw => Ok(bw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_in_the_report() -> Result<()> {
        let text =
            "fio: note\n{\"jobs\":[{\"read\":{\"bw\":0,\"iops\":1},\"write\":{\"bw\":2048}}]}";
        assert_eq!(rate(text)?, 2048);
        assert!(rate("nothing").is_err());
        Ok(())
    }
}
