// SPDX-License-Identifier: GPL-2.0

//! The report on one file.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{bail, Context, Result};
use serde::Serialize;

use crate::fiemap;
use crate::open::Inode;
use crate::place::{data_device, is_dax, mount, number, Device};
use crate::ranges::{analyse, Layout, Range, Verdict, HUGE};

/// The report in the form of the JSON.
#[derive(Serialize)]
pub struct Report {
    file: String,
    size: u64,
    fstype: String,
    device: String,
    /// Physical address of the device's start.
    physical_start: Option<u64>,
    extents: usize,
    /// Number of ranges that can be huge pages, and of all ranges.
    huge: u64,
    total: u64,
    ranges: Vec<RangeReport>,
    advice: Vec<String>,
}

/// One line of the report.
#[derive(Serialize)]
struct RangeReport {
    offset: u64,
    length: u64,
    huge: bool,
    verdict: Verdict,
    why: String,
}

impl Report {
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.display();
        let inode = Inode::find(path)?;
        let file = inode.open_regular()?;
        if !is_dax(&file)? {
            bail!(
                "{name} is not DAX: mount its filesystem with -o dax, or with -o dax=inode and set the flag \
                 by `xfs_io -c 'chattr +x'`, on persistent memory in mode fsdax"
            );
        }
        let mount = mount(&number(inode.about.dev()))?;
        if mount.fstype == "virtiofs" {
            bail!(
                "{name} is on virtiofs: a fault maps 2 MiB of the host's file where the file has them, and the host \
                 decides whether these are a huge page; run daxstat --file on the host's file there"
            );
        }
        let number = data_device(&file, &mount)?;
        let device = Device::find(&number).with_context(|| format!("the device of {name}"))?;
        let extents = fiemap::extents(&file).with_context(|| format!("the blocks of {name}"))?;
        let layout = Layout {
            size: inode.about.len(),
            base: device.start.unwrap_or(0),
            // ext2 has no huge_fault.
            huge_faults: mount.fstype != "ext2",
            extents,
        };
        Ok(Self::new(name.to_string(), mount.fstype, &device, &layout))
    }

    fn new(file: String, fstype: String, device: &Device, layout: &Layout) -> Self {
        let ranges = analyse(layout);
        let count = |huge: bool| -> u64 {
            ranges
                .iter()
                .filter(|r| r.verdict.is_huge() || !huge)
                .map(Range::count)
                .sum()
        };
        Self {
            file,
            size: layout.size,
            device: device.name.clone(),
            physical_start: device.start,
            extents: layout.extents.len(),
            huge: count(true),
            total: count(false),
            advice: advice(&fstype, device, &ranges),
            fstype,
            ranges: ranges.iter().map(RangeReport::from).collect(),
        }
    }
}

impl From<&Range> for RangeReport {
    fn from(range: &Range) -> Self {
        RangeReport {
            offset: range.offset,
            length: range.length,
            huge: range.verdict.is_huge(),
            verdict: range.verdict,
            why: why(range),
        }
    }
}

fn why(range: &Range) -> String {
    match range.verdict {
        Verdict::Huge if range.unwritten => {
            "one extent, at a multiple of 2 MiB; never written, so a load gets the huge zero page"
                .into()
        }
        Verdict::Huge => "one extent, at a multiple of 2 MiB".into(),
        Verdict::Shared => "one extent of several files: huge for loads, a store copies it".into(),
        Verdict::Hole => "a hole: the huge zero page for loads, a store allocates".into(),
        Verdict::Eof => "the file ends inside it".into(),
        Verdict::Short => format!("its first extent ends at {:#x}", range.end),
        Verdict::Misaligned => format!(
            "its blocks begin {:#x} after a multiple of 2 MiB",
            range.beside
        ),
        Verdict::Unplaced => "its bytes have no blocks of their own".into(),
        Verdict::Delayed => "its blocks are allocated when the file is written back".into(),
        Verdict::Filesystem => "the filesystem maps 4 KiB only".into(),
    }
}

/// The means that a filesystem offers to have large and aligned extents.
struct Means {
    /// For files that are not aligned.
    align: &'static str,
    /// For ranges of several extents.
    join: &'static str,
    /// For holes.
    fill: &'static str,
    /// For the range in which the file ends.
    lengthen: &'static str,
}

/// What is the same for all filesystems that can be written.
const WRITABLE: Means = Means {
    align: "the filesystem did not align the file: copy it to a filesystem that does, ext4 or xfs",
    join: "several extents or holes in 2 MiB: fallocate() a new file in one piece, then copy it",
    fill: "a hole: fallocate() it, so that its blocks are aligned before the first store",
    lengthen: "the end: make the file a multiple of 2 MiB long",
};

impl Means {
    fn of(fstype: &str) -> Self {
        match fstype {
            "xfs" => Means {
                align: "the allocator did not align the file: mkfs.xfs -d su=2m,sw=1, or \
                        xfs_io -c 'extsize 2m' on the directory; then copy it",
                ..WRITABLE
            },
            "ext4" => Means {
                align: "the allocator did not align the file: mkfs.ext4 -E stride=512,stripe_width=512, or \
                        tune2fs with the same -E; then copy it",
                ..WRITABLE
            },
            // Read-only: everything is decided when the image is made.
            "erofs" => Means {
                align: "the image has the file at this place: make it again by mkfs.erofs --dsunit=512 \
                        (512 blocks of 4 KiB), which newer erofs-utils have",
                join: "several extents or holes in 2 MiB: make the image again by mkfs.erofs without --chunksize",
                fill: "a hole: the file of which the image was made had it",
                lengthen: "the end: lengthen the file before mkfs.erofs to a multiple of 2 MiB",
            },
            _ => WRITABLE,
        }
    }
}

/// Returns a line for each possible improvement.
fn advice(fstype: &str, device: &Device, ranges: &[Range]) -> Vec<String> {
    let has = |verdict: Verdict| ranges.iter().any(|r| r.verdict == verdict);
    let means = Means::of(fstype);
    let mut all: Vec<String> = Vec::new();
    if has(Verdict::Misaligned) {
        all.push(device.misalignment().unwrap_or(means.align.into()));
    }
    if has(Verdict::Short) {
        all.push(means.join.into());
    }
    if has(Verdict::Delayed) {
        all.push(
            "blocks that are not allocated yet: `sync` the file, then run daxstat again".into(),
        );
    }
    if has(Verdict::Hole) {
        all.push(means.fill.into());
    }
    if has(Verdict::Eof) {
        all.push(means.lengthen.into());
    }
    if has(Verdict::Filesystem) {
        all.push(format!("{fstype} has no faults of 2 MiB: use ext4 or xfs"));
    }
    if device.start.is_none() {
        all.push(format!(
            "{} has no address of its own: its start was assumed to be a multiple of 2 MiB; check the devices below it",
            device.name
        ));
    }
    all
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = match self.physical_start {
            Some(start) => format!("{start:#x}"),
            None => "an unknown address".into(),
        };
        writeln!(
            f,
            "{}: {} bytes in {} extent{}, {} on {}, which begins at {start}",
            self.file,
            self.size,
            self.extents,
            if self.extents == 1 { "" } else { "s" },
            self.fstype,
            self.device
        )?;
        writeln!(
            f,
            "{} of {} ranges of 2 MiB can be huge pages",
            self.huge, self.total
        )?;
        if self.ranges.is_empty() {
            return Ok(());
        }
        let header = ("OFFSET", "RANGES", "VERDICT", "WHY");
        writeln!(
            f,
            "\n{:>14} {:>8}  {:<11} {}",
            header.0, header.1, header.2, header.3
        )?;
        for range in &self.ranges {
            writeln!(
                f,
                "{:>14} {:>8}  {:<11} {}",
                format!("{:#x}", range.offset),
                range.length / HUGE,
                range.verdict.name(),
                range.why
            )?;
        }
        if !self.advice.is_empty() {
            writeln!(f)?;
        }
        for line in &self.advice {
            writeln!(f, "* {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranges::{Blocks, Extent};

    fn report(start: Option<u64>, partition: u64, physical: u64) -> Report {
        report_of("ext4", start, partition, physical)
    }

    fn report_of(fstype: &str, start: Option<u64>, partition: u64, physical: u64) -> Report {
        let device = Device {
            name: "pmem0".into(),
            start,
            partition,
        };
        let layout = Layout {
            size: 3 * HUGE,
            base: start.unwrap_or(0),
            extents: vec![Extent {
                logical: 0,
                physical,
                length: 2 * HUGE,
                shared: false,
                blocks: Blocks::Written,
            }],
            huge_faults: true,
        };
        Report::new("f".into(), fstype.into(), &device, &layout)
    }

    #[test]
    fn text() {
        let text = report(Some(HUGE), 0, HUGE).to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines[0],
            "f: 6291456 bytes in 1 extent, ext4 on pmem0, which begins at 0x200000"
        );
        assert_eq!(lines[1], "2 of 3 ranges of 2 MiB can be huge pages");
        assert!(lines[4].starts_with("0x0        2  huge"), "{text}");
        assert!(lines[5].starts_with("0x400000        1  hole"), "{text}");
        assert!(lines[7].starts_with("* a hole: fallocate()"), "{text}");
    }

    #[test]
    fn whose_fault_it_is() {
        let first = |r: Report| r.advice.into_iter().next().unwrap_or_default();
        assert!(first(report(Some(HUGE), 0, 4096)).contains("mkfs.ext4"));
        assert!(first(report(Some(HUGE + 4096), 0, HUGE)).contains("-a 2M"));
        let part = 63 * 512;
        assert!(first(report(Some(HUGE + part), part, HUGE)).contains("parted"));
    }

    #[test]
    fn each_filesystem_has_its_own_means() {
        let advice = |fstype| report_of(fstype, Some(HUGE), 0, 4096).advice.join(" ");
        assert!(advice("xfs").contains("mkfs.xfs"));
        assert!(advice("erofs").contains("mkfs.erofs") && !advice("erofs").contains("fallocate"));
        assert!(!advice("new").contains("mkfs.ext4"));
    }

    #[test]
    fn an_unknown_start_is_told() {
        let report = report(None, 0, HUGE);
        assert_eq!(report.huge, 2);
        assert!(report.advice.iter().any(|a| a.contains("no address")));
    }

    #[test]
    fn json() -> Result<()> {
        let json: serde_json::Value = serde_json::to_value(report(Some(HUGE), 0, 4096))?;
        assert_eq!(json["ranges"][0]["verdict"], "misaligned");
        assert_eq!(json["ranges"][0]["huge"], false);
        assert_eq!(json["ranges"][0]["length"], 2 * HUGE);
        assert_eq!((&json["huge"], &json["total"]), (&0.into(), &3.into()));
        Ok(())
    }

    #[test]
    fn files_that_are_not_dax() {
        let wrong = |path: &str| match Report::of(Path::new(path)) {
            Ok(_) => String::new(),
            Err(e) => format!("{e:#}"),
        };
        assert!(wrong("/nonexistent").contains("cannot open"));
        assert!(wrong("/dev/null").contains("is a character device"));
        assert!(wrong("/proc").contains("not a regular file"));
        assert!(wrong("/etc/passwd").contains("not DAX"));
    }
}
