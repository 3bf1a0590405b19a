// SPDX-License-Identifier: GPL-2.0

//! What sysfs, the superblock and the mounts say of a block device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::mounts::Mount;
use crate::place::{number_in, Device};
use crate::superblock::Content;

/// What libnvdimm made of the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// fsdax with an info block.
    Pfn {
        claim: String,
        map: String,
    },
    /// fsdax without one, on a region without labels.
    Memory,
    Sector,
    Raw,
    /// Not a namespace: the devices that it consists of.
    Other(Vec<String>),
}

/// What is known of a device.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) page: u64,
    /// Whether the kernel has filesystem DAX; `None` without its configuration.
    pub(super) fs_dax: Option<bool>,
    pub(super) huge_pages: bool,
    pub(super) mode: Mode,
    /// For the advice: `namespace0.0`.
    pub(super) namespace: Option<String>,
    /// The queue's attribute.
    pub(super) dax: bool,
    pub(super) read_only: bool,
    /// The region is read-only, by its labels or by the platform.
    pub(super) region_read_only: bool,
    /// Logical block size.
    pub(super) sector: u64,
    /// Start and size of the partition in bytes.
    pub(super) partition: Option<(u64, u64)>,
    /// In physical memory; an error in words.
    pub(super) place: Result<Device, String>,
    /// Bad ranges of the disk: first sector and number of sectors.
    pub(super) bad: Vec<(u64, u64)>,
    /// Partitions of the disk, and the physical address or offset at which each begins.
    pub(super) partitions: Vec<(String, u64)>,
    /// Devices above, by their names in sysfs.
    pub(super) holders: Vec<String>,
    /// Major and minor number of the kernel's release.
    pub(super) release: (u32, u32),
    /// How stores become durable: `cpu_cache`, `memory_controller`; `None` if the platform does not
    /// say.
    pub(super) persistence: Option<String>,
    /// virtio-pmem: the host is asked to flush.
    pub(super) asynchronous: bool,
    pub(super) content: Content,
    pub(super) mounts: Vec<Mount>,
    /// The XFS on another part of the disk, and its mount point: it is the one holder of the disk's
    /// DAX device.
    pub(super) dax_holder: Option<(String, String)>,
}

pub(super) fn read(path: PathBuf) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_string())
}

pub(super) fn base(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl Facts {
    /// Collects what `sys`, which is /sys except in tests, has on a device.
    pub(super) fn collect(
        sys: &Path,
        number: &str,
        content: Content,
        mounts: Vec<Mount>,
    ) -> Result<Self> {
        let link = sys.join("dev/block").join(number);
        let dir = fs::canonicalize(&link)
            .with_context(|| format!("{number} is no block device: no {}", link.display()))?;
        let is_partition = dir.join("partition").exists();
        let disk = match dir.parent() {
            Some(parent) if is_partition => parent.to_path_buf(),
            _ => dir.clone(),
        };
        let partition = match is_partition {
            true => Some((
                number_in(&dir.join("start"))?.saturating_mul(512),
                number_in(&dir.join("size"))?.saturating_mul(512),
            )),
            false => None,
        };
        let below = fs::canonicalize(disk.join("device")).ok();
        let claim = below
            .as_ref()
            .filter(|b| base(&fs::canonicalize(b.join("subsystem")).unwrap_or_default()) == "nd");
        let region = claim.and_then(|c| c.parent());
        let of_claim = |name: &str| claim.and_then(|c| read(c.join(name)));
        let of_region = |name: &str| region.and_then(|r| read(r.join(name)));
        let is = |text: Option<String>| text.as_deref() == Some("1");
        let mode = match claim.map(|c| base(c)) {
            Some(claim) if claim.starts_with("pfn") => Mode::Pfn {
                claim,
                map: match of_claim("mode").as_deref() {
                    Some("ram") => "mem".into(),
                    _ => "dev".into(),
                },
            },
            Some(claim) if claim.starts_with("btt") => Mode::Sector,
            Some(_) if of_claim("mode").as_deref() == Some("memory") => Mode::Memory,
            Some(_) => Mode::Raw,
            None => Mode::Other(slaves(&disk)),
        };
        let namespace = match claim {
            Some(c) if base(c).starts_with("namespace") => Some(base(c)),
            _ => of_claim("namespace"),
        };
        let bad = read(disk.join("badblocks")).unwrap_or_default();
        let place = Device::below(sys, number).map_err(|e| format!("{e:#}"));
        let start = place.as_ref().ok().and_then(|d| d.start).unwrap_or(0);
        Ok(Self {
            name: base(&dir),
            page: page_size(),
            fs_dax: configured(sys, "CONFIG_FS_DAX"),
            huge_pages: sys.join("kernel/mm/transparent_hugepage").exists(),
            mode,
            namespace,
            dax: is(read(disk.join("queue/dax"))),
            read_only: is(read(dir.join("ro"))),
            region_read_only: is(of_region("read_only")),
            sector: number_in(&disk.join("queue/logical_block_size"))?,
            partition,
            place,
            bad: bad.lines().filter_map(pair).collect(),
            partitions: match is_partition {
                true => Vec::new(),
                false => partitions(&dir, start),
            },
            holders: names_in(&dir.join("holders")),
            release: release(),
            persistence: of_region("persistence_domain").filter(|d| !d.is_empty()),
            asynchronous: claim.is_some_and(|c| {
                c.components()
                    .any(|part| part.as_os_str().to_string_lossy().starts_with("virtio"))
            }),
            content,
            dax_holder: mounts
                .iter()
                .filter(|m| m.fstype == "xfs" && m.number != number)
                .find_map(|m| {
                    let other = fs::canonicalize(sys.join("dev/block").join(&m.number)).ok()?;
                    // Another partition, or the disk itself.
                    let same = other == disk || other.parent() == Some(disk.as_path());
                    same.then(|| (base(&other), m.dir.clone()))
                }),
            mounts: mounts.into_iter().filter(|m| m.number == number).collect(),
        })
    }
}

/// Parses a line of two numbers.
pub(super) fn pair(line: &str) -> Option<(u64, u64)> {
    let (first, second) = line.trim().split_once(' ')?;
    Some((first.parse().ok()?, second.trim().parse().ok()?))
}

/// Returns the partitions of a disk, and where each begins if the disk does at `start`.
pub(super) fn partitions(disk: &Path, start: u64) -> Vec<(String, u64)> {
    let names = names_in(disk).into_iter();
    names
        .filter(|name| disk.join(name).join("partition").exists())
        .filter_map(|name| {
            let sectors = number_in(&disk.join(&name).join("start")).ok()?;
            Some((name, sectors.checked_mul(512)?.checked_add(start)?))
        })
        .collect()
}

/// Returns the release of the running kernel; zeros if it cannot be told.
pub(super) fn release() -> (u32, u32) {
    let text = read("/proc/sys/kernel/osrelease".into()).unwrap_or_default();
    let mut numbers = text.split(['.', '-']).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Returns the names of the devices that a device combines.
pub(super) fn slaves(disk: &Path) -> Vec<String> {
    names_in(&disk.join("slaves"))
}

/// Returns the names in a folder, sorted; none if it cannot be read.
pub(super) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir);
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(super) fn page_size() -> u64 {
    // SAFETY: sysconf() has no pointers among its arguments.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Returns whether the running kernel was built with an option, if its configuration can be found.
pub(super) fn configured(sys: &Path, option: &str) -> Option<bool> {
    if sys != Path::new("/sys") {
        return None;
    }
    let release = read("/proc/sys/kernel/osrelease".into()).unwrap_or_default();
    let text = packed("/proc/config.gz")
        .or_else(|| read(format!("/boot/config-{release}").into()))
        .or_else(|| read(format!("/lib/modules/{release}/config").into()))?;
    Some(text.lines().any(|l| l == format!("{option}=y")))
}

pub(super) fn packed(path: &str) -> Option<String> {
    if !Path::new(path).exists() {
        return None;
    }
    let out = Command::new("gzip")
        .args(["-dc", path])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
