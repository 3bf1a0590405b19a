// SPDX-License-Identifier: GPL-2.0

//! What holds a namespace, a disk, a dax device, a filesystem, a file or a physical range.
//!
//! A [`target`] is a set of device numbers and physical ranges. What is built on it, such as
//! partitions, device-mapper and loop devices, belongs to it ([`devices`]); processes hold it by
//! mappings, descriptors and folders ([`tasks`]), counted by the size of their pages
//! ([`pagemap`]); the registry says what teardown waits for ([`pins`]).
//!
//! The kernel does not know the holder of a pin. So a holder is certain, or it may hold pages; and
//! what cannot be known is a line of the report. The program only looks: it opens no device, asks
//! no filesystem for fresh attributes (`AT_STATX_DONT_SYNC`), and reads each process in a thread
//! that is left behind when it does not answer in time.

mod devices;
mod pagemap;
mod pins;
mod target;
mod tasks;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::{Serialize, Serializer};

use target::Target;

/// The number of holders that a report has at most; further ones are counted.
const MOST: usize = 4096;

/// A range of addresses with an inclusive end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// Returns the span of `size` bytes from `start` on; `None` if it is empty or too long.
    pub fn new(start: u64, size: u64) -> Option<Self> {
        let end = start.checked_add(size.checked_sub(1)?)?;
        Some(Self { start, end })
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The ways to hold a target, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Teardown,
    Truncate,
    Mount,
    Swap,
    Partition,
    Dm,
    Md,
    Loop,
    /// Another device above, such as bcache.
    Device,
    /// Hot-plugged as ordinary memory.
    Memory,
    Mapped,
    Open,
    Cwd,
    Root,
    DirectIo,
    IoUring,
    /// A device that pins memory of processes: RDMA, VFIO, a GPU.
    Driver,
    Pipe,
    /// A removed inode with pinned pages.
    Removed,
    /// The process that took pages last, as the kernel has recorded it.
    Taker,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Teardown => "teardown",
            Kind::Truncate => "truncate",
            Kind::Mount => "mount",
            Kind::Swap => "swap",
            Kind::Partition => "partition",
            Kind::Dm => "dm",
            Kind::Md => "md",
            Kind::Loop => "loop",
            Kind::Device => "device",
            Kind::Memory => "memory",
            Kind::Mapped => "mapped",
            Kind::Open => "open",
            Kind::Cwd => "cwd",
            Kind::Root => "root",
            Kind::DirectIo => "direct-io",
            Kind::IoUring => "io-uring",
            Kind::Driver => "driver",
            Kind::Pipe => "pipe",
            Kind::Removed => "removed",
            Kind::Taker => "taker",
        }
    }
}

/// One holder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Holder {
    kind: Kind,
    /// Whether it holds the target, or only may hold pages of it.
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// A block device above the target: `dm-0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// A path as the holder sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<u32>,
    /// Addresses in the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Span>,
    /// The number of entries of 2 MiB by which it is mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    huge: Option<u64>,
    /// The number of entries of 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    small: Option<u64>,
    /// What is not in the other fields.
    #[serde(skip_serializing_if = "String::is_empty")]
    what: String,
}

impl Holder {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            certain: true,
            pid: None,
            command: None,
            device: None,
            file: None,
            fd: None,
            address: None,
            huge: None,
            small: None,
            what: what.into(),
        }
    }

    /// Describes the holder without its kind and process.
    fn describe(&self) -> String {
        let mut words = Vec::new();
        if let Some(device) = &self.device {
            words.push(device.clone());
        }
        if let Some(fd) = self.fd {
            words.push(format!("fd {fd}"));
        }
        if let Some(file) = &self.file {
            words.push(file.clone());
        }
        if let Some(address) = self.address {
            words.push(format!("at {address}"));
        }
        if let (Some(huge), Some(small)) = (self.huge, self.small) {
            words.push(format!("{huge} of 2 MiB, {small} of 4 KiB"));
        }
        if !self.what.is_empty() {
            words.push(self.what.clone());
        }
        words.join(": ").replace(": at ", " at ")
    }
}

/// The report in the form of the JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    target: String,
    kind: &'static str,
    /// The devices that the target consists of, and those above it.
    devices: Vec<String>,
    memory: Vec<pins::Pgmap>,
    /// The pages that are pinned in the whole system by the counters of GUP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_in_system: Option<i64>,
    holders: Vec<Holder>,
    /// What could not be looked at, and what the kernel does not say.
    unknown: Vec<String>,
}

impl Report {
    pub fn of(name: &OsStr) -> Result<Self> {
        let (sys, proc) = (Path::new("/sys"), Path::new("/proc"));
        let target = Target::find(sys, name)?;
        let mut unknown = Vec::new();
        let (above, mut holders) = devices::above(sys, proc, &target, &mut unknown);
        let pins = pins::Pins::read(sys, proc, &target, &above, &mut unknown);
        holders.extend(pins.removed);
        holders.extend(pins.takers);
        let wanted = tasks::Wanted::new(&target, &above, &pins.pgmaps);
        holders.extend(tasks::all(proc, wanted, &mut unknown));
        holders.sort();
        holders.dedup();
        if holders.len() > MOST {
            unknown.push(format!(
                "{} more holders are left out",
                holders.len() - MOST
            ));
            holders.truncate(MOST);
        }
        Ok(Self {
            target: target.name,
            kind: target.kind.name(),
            devices: above.names,
            memory: pins.pgmaps,
            pinned_in_system: pins.in_system,
            holders,
            unknown,
        })
    }

    fn counts(&self) -> String {
        let mut counts = BTreeMap::new();
        for holder in self.holders.iter().filter(|h| h.certain) {
            *counts.entry(holder.kind).or_insert(0u64) += 1;
        }
        let words = counts
            .iter()
            .map(|(kind, n)| format!("{n} {}", kind.name()));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.target, self.kind)?;
        if !self.devices.is_empty() {
            write!(f, ": {}", self.devices.join(", "))?;
        }
        writeln!(f)?;
        for pgmap in &self.memory {
            writeln!(f, "{pgmap}")?;
        }
        let (certain, possible): (Vec<_>, Vec<_>) = self.holders.iter().partition(|h| h.certain);
        if certain.is_empty() {
            writeln!(f, "\nNo holder was found.")?;
        } else {
            writeln!(f, "\nHeld by {}:", self.counts())?;
            table(f, &certain)?;
        }
        if !possible.is_empty() {
            writeln!(
                f,
                "\nMay hold pages; the kernel does not say of what memory:"
            )?;
            table(f, &possible)?;
        }
        if let Some(pages) = self.pinned_in_system {
            writeln!(
                f,
                "\nPinned in the whole system: {pages} pages (without pipes)"
            )?;
        }
        let mut first = true;
        for line in &self.unknown {
            writeln!(f, "{}* {line}", if first { "\nNot known:\n" } else { "" })?;
            first = false;
        }
        Ok(())
    }
}

fn table(f: &mut fmt::Formatter<'_>, holders: &[&Holder]) -> fmt::Result {
    writeln!(f, "{:<10} {:>7} {:<16} WHAT", "KIND", "PID", "COMMAND")?;
    for holder in holders {
        let pid = holder.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let command = holder.command.as_deref().unwrap_or("-");
        writeln!(
            f,
            "{:<10} {pid:>7} {command:<16} {}",
            holder.kind.name(),
            holder.describe()
        )?;
    }
    Ok(())
}

/// Reads a small file of sysfs or /proc as text, trimmed. Bytes that are not UTF-8 are replaced.
fn read(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_string())
}

/// Parses a decimal number, or a hexadecimal one with 0x.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Returns the names in a folder, sorted; none if it cannot be read.
fn entries(dir: impl AsRef<Path>) -> Vec<String> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = all
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Returns the last part of a path.
fn base(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let of = |start, size| Span::new(start, size);
        assert_eq!(of(16, 0), None);
        assert_eq!(of(u64::MAX, 2), None);
        let span = of(0x1000, 0x1000).unwrap_or(Span { start: 0, end: 0 });
        assert_eq!(span.to_string(), "0x1000-0x1fff");
        assert!(span.overlaps(Span {
            start: 0x1fff,
            end: 0x3000
        }));
        assert!(!span.overlaps(Span {
            start: 0x2000,
            end: 0x3000
        }));
        assert_eq!(
            (number("0x10"), number("10"), number("x")),
            (Some(16), Some(10), None)
        );
    }

    fn report() -> Report {
        let mapped = Holder {
            pid: Some(7),
            command: Some("db".into()),
            file: Some("/mnt/x/data".into()),
            address: Span::new(0x7000_0000, 0x40_0000),
            huge: Some(2),
            small: Some(0),
            ..Holder::new(Kind::Mapped, "")
        };
        let pipe = Holder {
            certain: false,
            pid: Some(8),
            fd: Some(3),
            ..Holder::new(Kind::Pipe, "pipe:[9] is not empty")
        };
        Report {
            target: "pmem0".into(),
            kind: "disk",
            devices: vec!["pmem0".into()],
            memory: Vec::new(),
            pinned_in_system: Some(0),
            holders: vec![mapped, pipe],
            unknown: vec!["a reason".into()],
        }
    }

    #[test]
    fn text() {
        let text = report().to_string();
        assert!(text.contains("Held by 1 mapped:\n"), "{text}");
        assert!(
            text.contains("/mnt/x/data at 0x70000000-0x703fffff: 2 of 2 MiB, 0 of 4 KiB\n"),
            "{text}"
        );
        assert!(text.contains("May hold pages"), "{text}");
        assert!(text.ends_with("Not known:\n* a reason\n"), "{text}");
    }

    #[test]
    fn json() -> Result<()> {
        let json = serde_json::to_value(report())?;
        assert_eq!(json["holders"][0]["kind"], "mapped");
        assert_eq!(json["holders"][0]["address"], "0x70000000-0x703fffff");
        assert_eq!(json["holders"][1]["certain"], false);
        assert!(json["holders"][1].get("huge").is_none());
        Ok(())
    }
}
