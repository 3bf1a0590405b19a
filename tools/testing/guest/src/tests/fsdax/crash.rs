// SPDX-License-Identifier: GPL-2.0

//! Power failures: data that a program knows to be durable survives one.
//!
//! The host kills the machine, at times unknown to it, while programs write to
//! DAX files on NVDIMMs. The next boot has the same NVDIMMs: it lets the filesystems
//! replay their journals, checks them, and looks for every record whose msync(),
//! fsync(), ... had returned, or that was flushed through `MAP_SYNC`. Then it writes
//! too, until the power fails again.
//!
//! ```text
//!  host     boot ------------> kill    boot ---------------------> kill   boot ...
//!  guest     prepare, write ...         recover, write ...                 recover
//! ```
//!
//! The durable records are listed in the [`log`], which is killed along with the
//! rest; so a record whose message was still on its way to the host does not count
//! as lost. The host passes on the counts that it has received, and the log may not
//! be behind those.
//!
//! An emulated CPU stores to the NVDIMM's file at once, and so does a real one whose
//! caches survive the power failure. So a worker looks at the kernel's flushes of what it has stored
//! ([`flushed`](crate::flushed)) before a record counts as durable. The power failure shows the
//! blocks, sizes and names that a system call reported as durable, but that only the journal in
//! memory held.
//!
//! Before the programs begin, a file is removed while a pipe has one of its pages: its last iput()
//! waits in the kernel when the power fails.

mod log;
mod worker;

use std::collections::HashMap;

use super::hang::wait_delayed;
use super::large;
use crate::filesystem::Kind;
use crate::ndctl::region_with;
use crate::tests::prelude::*;

use log::Log;
use worker::{Way, Worker};

/// The host's parameters of this boot.
#[derive(Debug, Clone, clap::Args)]
pub struct Boot {
    /// Number of power failures so far.
    #[arg(long)]
    failures: u32,
    /// The last boot: only check.
    #[arg(long)]
    last: bool,
    /// Seed of the bytes and orders.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Numbers of records of each worker that the host knew to be durable:
    /// "ext4/msync=5,…".
    #[arg(long, default_value = "")]
    heard: String,
}

/// The filesystems, with the sizes of their namespaces.
const KINDS: [(Kind, u64); 2] = [(Kind::Ext4, 256 * MIB), (Kind::XfsReflink, 512 * MIB)];
/// The namespace of the log.
const LOG: &str = "crash-log";
const LOG_SIZE: u64 = 32 * MIB;

/// Returns the tests of one boot, in order. The last one does not end, unless it
/// fails.
pub fn tests(boot: &Boot) -> Vec<Test> {
    let mut tests = Vec::new();
    if boot.failures == 0 {
        tests.push(Test::new(
            "fsdax::crash::prepare",
            180,
            "a namespace or filesystem cannot be made",
            prepare,
        ));
    } else {
        for (kind, _) in KINDS {
            let boot = boot.clone();
            tests.push(Test::new(
                format!(
                    "fsdax::crash::recover::{}::failure-{}",
                    kind.name(),
                    boot.failures
                ),
                300,
                "after a power failure the filesystem cannot be mounted or is damaged, a record is missing that was \
                 reported as durable, a file has bytes that were never written to it, or a removed file exists",
                move || recover(kind, &boot),
            ));
        }
    }
    if !boot.last {
        let boot = boot.clone();
        tests.push(Test::new(
            "fsdax::crash::write",
            3600,
            "a filesystem that has survived a power failure cannot be written to",
            move || write(&boot),
        ));
    }
    tests
}

fn label(kind: Kind) -> String {
    format!("crash-{}", kind.name())
}

fn node(label: &str) -> Result<PathBuf> {
    let node = ndctl::named(Bus::Acpi, label)?.node()?;
    system::wait_for_node(&node)?;
    Ok(node)
}

fn mount(kind: Kind) -> Result<DaxMount> {
    let dir = PathBuf::from(format!("/mnt/{}", label(kind)));
    DaxMount::mount(kind, &node(&label(kind))?, &dir)
}

/// Returns the workers of a boot; their indices are those of the log.
///
/// A journal is written as a whole. So in every other boot only those workers run
/// whose blocks fs/dax alone makes durable: otherwise another worker's fsync() could
/// make them durable.
fn workers(boot: u32, seed: u64) -> Vec<Worker> {
    let wanted = |kind, way| match way {
        Way::MapSync => true,
        Way::Clone => boot % 2 == 0 && kind == Kind::XfsReflink,
        _ => boot % 2 == 0,
    };
    KINDS
        .into_iter()
        .flat_map(|(kind, _)| Way::ALL.map(|way| (kind, way)))
        .filter(|(kind, way)| wanted(*kind, *way))
        .enumerate()
        .map(|(index, (kind, way))| Worker::new(kind, way, index, boot, seed))
        .collect()
}

fn prepare() -> Result<String> {
    let make = |arguments: &str, size, label: &str| {
        let region = region_with(Bus::Acpi, size)?;
        ndctl::create(&format!(
            "{arguments} -r {} -s {size} -n {label}",
            region.dev
        ))
    };
    for (kind, size) in KINDS {
        let info = make("-m fsdax -M dev", size, &label(kind))?;
        system::wait_for_node(&info.node()?)?;
        let dir = PathBuf::from(format!("/mnt/{}", label(kind)));
        DaxMount::create(kind, &info.node()?, &dir)?.unmount()?;
    }
    make("-m devdax -M mem", LOG_SIZE, LOG)?;
    Ok(String::new())
}

fn open_log() -> Result<Log> {
    Log::open(&open_rw(&node(LOG)?, false)?)
}

fn recover(kind: Kind, boot: &Boot) -> Result<String> {
    // The first mount replays the journal, and frees the blocks of removed files that were open or had
    // pinned pages; the check requires an empty journal, and that no such file is left.
    mount(kind).context("after the power failure")?.unmount()?;
    kind.check(&node(&label(kind))?)?;
    let (log, heard) = (open_log()?, heard(&boot.heard)?);
    let mount = mount(kind)?;
    let mut found = Vec::new();
    // The workers of the boot before.
    let workers = workers(boot.failures - 1, boot.seed);
    for worker in workers.iter().filter(|worker| worker.kind == kind) {
        let (part, name) = (log.part(worker.index), worker.name());
        let durable = part.durable();
        let known = heard.get(&name).copied().unwrap_or(0);
        ensure!(
            durable >= known,
            "{name}: the host knew of {known} records, the log has {durable}"
        );
        worker
            .compare(mount.dir(), &part)
            .with_context(|| format!("{name}, {durable} records of which were durable"))?;
        worker.remove_all(mount.dir())?;
        found.push(format!("{} {durable}", worker.way.name()));
    }
    mount.unmount()?;
    Ok(format!("durable records: {}", found.join(", ")))
}

/// Parses "ext4/msync=5,ext4/direct=7".
fn heard(text: &str) -> Result<HashMap<String, u64>> {
    text.split(',')
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (name, count) = item.split_once('=').context("no = in the host's counts")?;
            Ok((name.to_string(), count.parse()?))
        })
        .collect()
}

/// Removes a file of which the returned pipe has pages, so that its blocks are not freed before the
/// power fails. The next boot frees them, or its check of the filesystem finds them.
fn remove_pinned(mount: &DaxMount) -> Result<(File, File)> {
    let file = mount.file("pinned", HUGE as u64)?;
    file.sync_all().context("fsync of a new file")?;
    let map = large(&file, HUGE)?;
    let (reader, writer) = pipe()?;
    map.poke(0, 1);
    vmsplice(&map, 0, PAGE, &writer)?;
    drop((map, file));
    fs::remove_file(mount.path("pinned")).context("unlink")?;
    // The removal is durable, and the blocks are still those of the file.
    File::open(mount.dir())
        .and_then(|dir| dir.sync_all())
        .context("fsync of the directory")?;
    Ok((reader, writer))
}

/// Runs every worker in a process of its own, until the power fails.
fn write(boot: &Boot) -> Result<String> {
    let log = open_log()?;
    let mounts = KINDS
        .into_iter()
        .map(|(kind, _)| mount(kind))
        .collect::<Result<Vec<_>>>()?;
    let mut held = Vec::new();
    for mount in &mounts {
        held.push(remove_pinned(mount)?);
    }
    if live::ask()?.fs_dax.implementation == Language::Rust {
        wait_delayed(mounts.len())?;
    }
    let mut children = Vec::new();
    for worker in workers(boot.failures, boot.seed) {
        let part = log.part(worker.index);
        part.begin();
        let mount = KINDS
            .iter()
            .zip(&mounts)
            .find_map(|((kind, _), mount)| (*kind == worker.kind).then_some(mount))
            .context("a worker without a filesystem")?;
        let child = spawn(|| worker.write(mount.dir(), &part))?;
        children.push((worker.name(), child));
    }
    println!("crash: {} workers", children.len());
    loop {
        for (name, child) in &mut children {
            ensure!(child.is_running(name)?, "{name} has ended");
        }
        thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn every_other_boot_is_quiet() {
        assert_eq!(workers(0, 1).len(), 11);
        let quiet = workers(1, 1);
        assert_eq!(quiet.len(), KINDS.len());
        assert!(quiet.iter().all(|worker| worker.way == Way::MapSync));
    }

    #[test]
    fn what_the_host_had_heard() {
        let heard = heard("ext4/msync=5,xfs/direct=0").ok();
        assert_eq!(heard.as_ref().and_then(|h| h.get("ext4/msync")), Some(&5));
        assert_eq!(heard.map(|h| h.len()), Some(2));
        assert!(super::heard("").is_ok_and(|h| h.is_empty()));
        assert!(super::heard("ext4/msync").is_err());
    }
}
