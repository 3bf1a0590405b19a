// SPDX-License-Identifier: GPL-2.0

//! The guest's side of `make run`: a namespace, a DAX filesystem, ndctl's own
//! dax-pmd test, and a direct read from a disk into a 2 MiB-mapped DAX file.
//!
//! Every step is written to the report, whether it succeeded or not. A guard
//! owns what a step created, so the guest is clean again on every path.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};

use crate::data::Digester;
use crate::filesystem::{DaxMount, Kind};
use crate::live::{self, Live};
use crate::mapping::{open_rw, pread_all, Mapping};
use crate::ndctl::{self, Bus, Map, Mode, Namespace, Want, MIB};
use crate::suites;
use crate::system;
use crate::trace::{FaultCounts, FaultTrace};
use crate::vmstat::{require_unpinned, Sampler};

/// Bytes of one read(2), which pins 4096 pages at once.
const CHUNK: usize = 16 << 20;
/// Size of the file for dax-pmd, as its authors use it.
const DAX_PMD_FILE: u64 = 256 * MIB;
const MOUNT_POINT: &str = "/mnt/dax";

/// The host's parameters.
#[derive(Debug, Deserialize)]
pub struct Spec {
    /// Number of bytes of the disk to read.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: String,
    /// The disk.
    #[serde(default = "default_device")]
    pub device: PathBuf,
}

fn default_device() -> PathBuf {
    "/dev/vdb".into()
}

#[derive(Debug, Serialize)]
pub struct Step {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

#[derive(Debug, Default, Serialize)]
pub struct DirectRead {
    pub bytes: u64,
    pub sha256: String,
    pub ok: bool,
}

/// The report for the host.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub ok: bool,
    pub steps: Vec<Step>,
    pub kernel: String,
    pub live: Option<Live>,
    pub namespace: Option<ndctl::Info>,
    /// Counts of the whole job: dax-pmd and the direct read.
    pub mappings: FaultCounts,
    /// Counts of the direct read alone.
    pub direct_read_mappings: FaultCounts,
    pub direct_read: DirectRead,
    pub pinned_peak: u64,
    pub dax_pmd: suites::DaxPmd,
    pub destroyed: bool,
}

impl Report {
    /// Runs one step and records it; a failed step ends the job.
    fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Self) -> Result<(T, String)>,
    ) -> Result<T> {
        let (value, ok, detail) = match work(self) {
            Ok((value, detail)) => (Ok(value), true, detail),
            Err(e) => {
                let detail = format!("{e:#}");
                (Err(e), false, detail)
            }
        };
        println!("{} {name}: {detail}", if ok { "ok  " } else { "FAIL" });
        self.steps.push(Step { name, ok, detail });
        value
    }
}

/// Runs the job and writes the report. Returns whether all of it succeeded.
pub fn run(spec: &Path, json: &Path) -> Result<bool> {
    let text =
        fs::read_to_string(spec).with_context(|| format!("cannot read {}", spec.display()))?;
    let spec: Spec = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what main-job expects", spec.display()))?;
    let mut report = Report::default();
    // The failed step is already in the report.
    report.ok = job(&spec, &mut report).is_ok();
    let text = serde_json::to_string_pretty(&report).context("cannot write the report")?;
    fs::write(json, text).with_context(|| format!("cannot write {}", json.display()))?;
    Ok(report.ok)
}

fn job(spec: &Spec, report: &mut Report) -> Result<()> {
    report.step("kernel", |r| {
        let live = live::ask()?;
        let pieces: Vec<String> = live
            .pieces()
            .iter()
            .map(|p| format!("{} in {}", p.name, p.implementation))
            .collect();
        let text = format!("{}: {}", live.kernel, pieces.join(", "));
        r.kernel = live.kernel.clone();
        r.live = Some(live);
        Ok(((), text))
    })?;
    report.step("modules", |_| {
        system::load_modules()?;
        Ok(((), "nvdimm and dax modules loaded".into()))
    })?;
    let namespace = report.step("namespace", make_namespace)?;
    let used = use_namespace(spec, report, &namespace);
    // The namespace is destroyed even after a failure, and the result is
    // reported in both cases.
    let destroyed = report.step("destroy", |r| {
        let dev = namespace.dev().to_string();
        let (start, _) = namespace.resource()?;
        namespace.destroy()?;
        if let Some(left) = ndctl::namespace(&dev)?.filter(|n| n.size > 0) {
            bail!("{dev} is still there: {left:?}");
        }
        let at = format!("{start:08x}-");
        ensure!(
            !system::iomem()?
                .lines()
                .any(|l| l.contains(&at) && l.contains(&dev)),
            "{dev} is still in /proc/iomem"
        );
        r.destroyed = true;
        Ok(((), format!("{dev} destroyed")))
    });
    used.and(destroyed)
}

fn make_namespace(report: &mut Report) -> Result<(Namespace, String)> {
    let want = Want {
        mode: Mode::Fsdax,
        align: 2 * MIB,
        map: Map::Dev,
        bus: Bus::Acpi,
    };
    let room = DAX_PMD_FILE * 4;
    let namespace = Namespace::create_sized(&want, room)?;
    let info = &namespace.info;
    let text = format!(
        "{} {} map={} align={} {} MiB",
        info.dev,
        info.mode,
        want.map.name(),
        ndctl::align_name(want.align),
        info.size / MIB
    );
    report.namespace = Some(info.clone());
    Ok((namespace, text))
}

fn use_namespace(spec: &Spec, report: &mut Report, namespace: &Namespace) -> Result<()> {
    let device = namespace.node()?;
    let trace = report.step("trace", |_| {
        Ok((FaultTrace::start()?, "fs_dax fault events on".into()))
    })?;
    let mount = report.step("mount", |_| {
        let mount = DaxMount::create(Kind::Ext4, &device, Path::new(MOUNT_POINT))?;
        Ok((
            mount,
            format!("ext4 -o dax on {} at {MOUNT_POINT}", device.display()),
        ))
    })?;
    report.step("dax-pmd", |r| {
        drop(mount.file("dax-pmd", DAX_PMD_FILE)?);
        let path = mount.path("dax-pmd");
        r.dax_pmd = suites::dax_pmd(&path)?;
        fs::remove_file(&path).context("cannot remove the file of dax-pmd")?;
        r.mappings = trace.take()?;
        ensure!(
            r.dax_pmd.passed,
            "ndctl's dax-pmd failed: {}",
            r.dax_pmd.output
        );
        Ok((
            (),
            format!(
                "{} cases passed; {}",
                r.dax_pmd.cases.len(),
                mapping_text(&r.mappings)
            ),
        ))
    })?;
    report.step("direct-read", |r| direct_read(spec, r, &mount, &trace))?;
    report.step("unpinned", |_| {
        let now = require_unpinned("the direct read")?;
        Ok((
            (),
            format!("{} pages pinned and all of them unpinned", now.acquired),
        ))
    })?;
    report.step("unmount", |_| {
        mount.unmount()?;
        Ok(((), MOUNT_POINT.into()))
    })
}

fn mapping_text(c: &FaultCounts) -> String {
    format!(
        "{} mappings of 2 MiB, {} of 4 KiB, {} fallbacks",
        c.pmd, c.pte, c.pmd_fallback
    )
}

fn direct_read(
    spec: &Spec,
    report: &mut Report,
    mount: &DaxMount,
    trace: &FaultTrace,
) -> Result<((), String)> {
    let len = usize::try_from(spec.bytes).context("bytes is too large")?;
    ensure!(
        len > 0 && len % (2 << 20) == 0,
        "bytes must be a multiple of 2 MiB, it is {len}"
    );
    let file = mount.file("direct-read", spec.bytes)?;
    let map = Mapping::shared(&file, 0, len, 2 << 20)?;
    let disk = open_rw(&spec.device, true)?;

    let sampler = Sampler::start()?;
    let read = pread_all(&disk, &map, 0, len, 0, CHUNK);
    report.pinned_peak = sampler.stop();
    read.with_context(|| {
        format!(
            "O_DIRECT read of {} into the mapping",
            spec.device.display()
        )
    })?;

    report.direct_read.bytes = spec.bytes;
    report.direct_read.sha256 = map.sha256(len);
    let faults = trace.take()?;
    report.direct_read_mappings = faults;
    report.mappings.pmd += faults.pmd;
    report.mappings.pte += faults.pte;
    report.mappings.pmd_fallback += faults.pmd_fallback;
    report.mappings.other += faults.other;
    drop(map);
    let again = digest_file(&mount.path("direct-read"))?;

    for (how, got) in [
        ("through the mapping", &report.direct_read.sha256),
        ("through read(2)", &again),
    ] {
        ensure!(
            got.eq_ignore_ascii_case(&spec.sha256),
            "the digest {how} is {got}, it should be {}",
            spec.sha256
        );
    }
    ensure!(
        faults.pmd * 2 * MIB >= spec.bytes,
        "the file was not mapped in pieces of 2 MiB: {}",
        mapping_text(&faults)
    );
    ensure!(
        report.pinned_peak > 0,
        "no page was ever seen pinned, so the read did not go straight into the mapping"
    );
    report.direct_read.ok = true;
    Ok((
        (),
        format!(
            "{} MiB, sha256 {}, {}, {} pages pinned at peak",
            spec.bytes / MIB,
            again,
            mapping_text(&faults),
            report.pinned_peak
        ),
    ))
}

fn digest_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut digest = Digester::default();
    let mut piece = vec![0; 1 << 20];
    loop {
        let n = file
            .read(&mut piece)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            return Ok(digest.finish());
        }
        digest.update(&piece[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_has_a_default_disk() -> Result<()> {
        let spec: Spec = serde_json::from_str(r#"{"bytes": 4194304, "sha256": "00"}"#)?;
        assert_eq!(spec.device, Path::new("/dev/vdb"));
        Ok(())
    }

    #[test]
    fn a_failed_step_is_recorded() {
        let mut report = Report::default();
        let result: Result<()> = report.step("x", |_| bail!("broken"));
        assert!(result.is_err());
        assert!(!report.steps[0].ok && report.steps[0].detail == "broken");
    }
}
