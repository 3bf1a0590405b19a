// SPDX-License-Identifier: GPL-2.0

//! The report on one file.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use serde::Serialize;

use crate::fiemap;
use crate::place::{data_device, fstype, is_dax, number, Device};
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
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let about = file
            .metadata()
            .with_context(|| format!("cannot look at {name}"))?;
        let kind = about.file_type();
        if kind.is_char_device() {
            bail!(
                "{name} is a device: device-dax always maps its own alignment, see `daxctl list`"
            );
        }
        ensure!(kind.is_file(), "{name} is not a regular file");
        if !is_dax(&file)? {
            bail!(
                "{name} is not DAX: mount its filesystem with -o dax, or with -o dax=inode and set the flag \
                 by `xfs_io -c 'chattr +x'`, on persistent memory in mode fsdax"
            );
        }
        let filesystem = number(about.dev());
        let fstype = fstype(&filesystem)?;
        let number = data_device(&file, &filesystem)?;
        let device = Device::find(&number).with_context(|| format!("the device of {name}"))?;
        let extents = fiemap::extents(&file).with_context(|| format!("the blocks of {name}"))?;
        let layout = Layout {
            size: about.len(),
            base: device.start.unwrap_or(0),
            // ext2 has no huge_fault.
            huge_faults: fstype != "ext2",
            extents,
        };
        Ok(Self::new(name.to_string(), fstype, &device, &layout))
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
        Verdict::Filesystem => "the filesystem maps 4 KiB only".into(),
    }
}

/// Returns a line for each possible improvement.
fn advice(fstype: &str, device: &Device, ranges: &[Range]) -> Vec<String> {
    let has = |verdict: Verdict| ranges.iter().any(|r| r.verdict == verdict);
    let mut all: Vec<String> = Vec::new();
    if has(Verdict::Misaligned) {
        match device.start {
            Some(start) if (start - device.partition) % HUGE != 0 => all.push(format!(
                "{} is not aligned to 2 MiB: ndctl create-namespace -f -e … -m fsdax -a 2M",
                device.name
            )),
            Some(_) if device.partition % HUGE != 0 => all.push(format!(
                "the partition {} is not aligned to 2 MiB: parted -a optimal, from 2 MiB on",
                device.name
            )),
            _ => all.push(match fstype {
                "xfs" => "the allocator did not align the file: mkfs.xfs -d su=2m,sw=1, or \
                          xfs_io -c 'extsize 2m' on the directory; then copy it"
                    .into(),
                _ => "the allocator did not align the file: mkfs.ext4 -E stride=512,stripe_width=512; \
                      then copy it"
                    .to_string(),
            }),
        }
    }
    if has(Verdict::Short) {
        all.push(
            "several extents or holes in 2 MiB: fallocate() a new file in one piece, then copy it"
                .into(),
        );
    }
    if has(Verdict::Hole) {
        all.push(
            "a hole: fallocate() it, so that its blocks are aligned before the first store".into(),
        );
    }
    if has(Verdict::Eof) {
        all.push("the end: make the file a multiple of 2 MiB long".into());
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
    use crate::ranges::Extent;

    fn report(start: Option<u64>, partition: u64, physical: u64) -> Report {
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
                unplaced: false,
            }],
            huge_faults: true,
        };
        Report::new("f".into(), "ext4".into(), &device, &layout)
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
        assert!(wrong("/dev/null").contains("is a device"));
        assert!(wrong("/proc").contains("not a regular file"));
        assert!(wrong("/etc/passwd").contains("not DAX"));
    }
}
