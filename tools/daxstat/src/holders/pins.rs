// SPDX-License-Identifier: GPL-2.0

//! Pinned pages, as far as the kernel says something of them.
//!
//! | source | what it says |
//! |---|---|
//! | debugfs `dev_pagemap/ranges` | per pgmap: whether it is being torn down, and how many pages that waits for |
//! | debugfs `dev_pagemap/takers` | the processes that took pages in use last, if the kernel has a recorder, and it is on |
//! | debugfs `fs_dax/delayed_iputs` | removed inodes with pinned pages |
//! | `/proc/vmstat` | how many pages of the whole system are pinned by `pin_user_pages()` |
//!
//! /proc/kpagecount has the mappings of a page and not its references, and, as /proc/kpageflags, 0 for
//! device memory. So without the recorder the pins of a device that is not being torn down cannot be
//! counted.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use super::devices::Above;
use super::target::{self, Target};
use super::{number, read, Holder, Kind, Span};
use crate::delayed;

/// The number of callers of GUP that are shown of a recorded call.
const CALLERS: usize = 3;

/// A range of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pgmap {
    range: Span,
    #[serde(rename = "type")]
    memory_type: String,
    /// `live` or `dying`.
    state: String,
    /// The pages that the teardown waits for, as last counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    busy: Option<u64>,
}

impl Pgmap {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        Some(Self {
            range: Span {
                start: number(start)?,
                end: number(end)?,
            },
            memory_type: words.next()?.to_string(),
            state: words.next()?.to_string(),
            busy: words.find_map(|w| number(w.strip_prefix("busy=")?)),
        })
    }

    pub fn is_dying(&self) -> bool {
        self.state == "dying"
    }
}

impl fmt::Display for Pgmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} {} {}", self.range, self.memory_type, self.state)?;
        match self.busy {
            Some(pages) => write!(f, ": its teardown waits for {pages} pages"),
            None => Ok(()),
        }
    }
}

/// What the kernel says of pins.
#[derive(Debug, Default)]
pub struct Pins {
    /// The ranges of the registry that overlap the target.
    pub pgmaps: Vec<Pgmap>,
    pub removed: Vec<Holder>,
    pub takers: Vec<Holder>,
    /// Pages that are pinned in the whole system.
    pub in_system: Option<i64>,
}

impl Pins {
    pub fn read(
        sys: &Path,
        proc: &Path,
        target: &Target,
        above: &Above,
        unknown: &mut Vec<String>,
    ) -> Self {
        let mut this = Self::default();
        let path = sys.join("kernel/debug/dev_pagemap/ranges");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let all = text.lines().filter_map(Pgmap::parse);
                this.pgmaps = all
                    .filter(|p| target.ranges.iter().any(|r| r.overlaps(p.range)))
                    .collect();
                unknown.push(
                    "the pins of a device that is not being torn down: the kernel counts them only then".into(),
                );
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => unknown.push(
                "the state of the memory, and the pages that teardown waits for: only root may see them".into(),
            ),
            Err(_) => unknown.push(format!(
                "the pages that teardown waits for: no {} (debugfs is not mounted, or CONFIG_RUST_DEV_PAGEMAP is off)",
                path.display()
            )),
        }
        if target.ranges.is_empty() {
            unknown.push(match target.blocks.is_empty() && target.dax.is_empty() {
                true => "the memory: the target has no device now".into(),
                false => "the memory of the target: only root may see its address, or it is none of a namespace".into(),
            });
        }
        if let Ok(inodes) = delayed::read() {
            let of_target = inodes
                .iter()
                .filter(|i| above.filesystems.contains(&i.device));
            this.removed = of_target.filter_map(|i| removed(i, target)).collect();
        }
        if let Some(text) = read(sys.join("kernel/debug/dev_pagemap/takers")) {
            let of_target =
                |(range, _): &(Span, Holder)| target.ranges.iter().any(|r| r.overlaps(*range));
            let all = text.lines().filter_map(taker).filter(of_target);
            this.takers = all.map(|(_, holder)| holder).collect();
        }
        this.in_system = read(proc.join("vmstat")).as_deref().and_then(in_system);
        if !super::entries(sys.join("class/infiniband")).is_empty() {
            unknown.push(
                "RDMA registrations by address: `rdma resource show mr` has the processes only"
                    .into(),
            );
        }
        for line in [
            "direct I/O in flight that was submitted by io_uring or libaio: no task waits in the kernel for it",
            "pages in a pipe or in a socket (MSG_ZEROCOPY: Send-Q of `ss -ap`): the kernel does not say of what memory",
        ] {
            unknown.push(line.into());
        }
        this
    }
}

/// Returns a removed inode as a holder, unless its pages are certainly outside the target.
fn removed(inode: &delayed::Inode, target: &Target) -> Option<Holder> {
    // A file with a name is another one.
    if target.kind == target::Kind::File {
        return None;
    }
    let first = Span::new(inode.first, 4096);
    let inside = first.is_some_and(|page| target.ranges.iter().any(|r| r.overlaps(page)));
    Some(Holder {
        certain: inside || target.kind != target::Kind::Range,
        ..Holder::new(
            Kind::Removed,
            format!(
                "removed inode {} of {} {}: {} pinned pages, the first at {:#x}, for {} s",
                inode.inode, inode.fstype, inode.device, inode.pages, inode.first, inode.seconds
            ),
        )
    })
}

/// Parses a line of the recorder: `RANGE STATE pages=N NAME (PID) N ms ago: FRAME…`.
fn taker(line: &str) -> Option<(Span, Holder)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (_, rest) = rest.split_once(" pages=")?;
    let (pages, rest) = rest.split_once(' ')?;
    // The name may have any of these words.
    let (call, frames) = rest.rsplit_once(" ms ago:")?;
    let (process, ago) = call.rsplit_once(' ')?;
    let (name, pid) = process.strip_suffix(')')?.rsplit_once(" (")?;
    let of_gup = |name: &&str| {
        ["gup", "get_user", "pin_user", "internal_", "__gup", "_R"]
            .iter()
            .any(|word| name.starts_with(word))
    };
    let names = frames
        .split_whitespace()
        .map(|f| f.split('+').next().unwrap_or(f));
    let callers: Vec<&str> = names.skip_while(of_gup).take(CALLERS).collect();
    let seconds = ago.parse::<u64>().ok()? / 1000;
    let what = format!(
        "took {pages} pages that are in use, the first at {start}, {seconds} s ago, in {}",
        callers.join(" < ")
    );
    let range = Span {
        start: number(start)?,
        end: number(end)?,
    };
    let holder = Holder {
        pid: Some(pid.parse().ok()?),
        command: Some(name.to_owned()),
        ..Holder::new(Kind::Taker, what)
    };
    Some((range, holder))
}

/// Returns the difference of the two counters in /proc/vmstat, which are summed up with a delay.
fn in_system(vmstat: &str) -> Option<i64> {
    let of = |name: &str| {
        vmstat
            .lines()
            .find_map(|l| l.strip_prefix(name)?.trim().parse::<i64>().ok())
    };
    Some(of("nr_foll_pin_acquired ")? - of("nr_foll_pin_released ")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_registry() {
        let live = Pgmap::parse("0x140000000-0x15fffffff fsdax live shift=0 altmap=2048/0\n");
        let live = live.map(|p| {
            (
                p.range.to_string(),
                p.memory_type.clone(),
                p.is_dying(),
                p.busy,
            )
        });
        let expected = (
            "0x140000000-0x15fffffff".into(),
            "fsdax".into(),
            false,
            None,
        );
        assert_eq!(live, Some(expected));
        let dying = Pgmap::parse("0x1000-0x1fff generic dying shift=9 busy=16");
        let text = dying.map(|p| p.to_string()).unwrap_or_default();
        assert!(
            text.ends_with("dying: its teardown waits for 16 pages"),
            "{text}"
        );
        assert_eq!(Pgmap::parse("nonsense"), None);
    }

    #[test]
    fn lines_of_the_recorder() {
        let line = "0x1000-0x2fff live pages=2 a (b) c (12) 3456 ms ago: gup_fast+0x1/0x2 \
                    get_user_pages_fast+0x9/0x10 iter_to_pipe+0x1/0x5 do_syscall_64+0x1/0x2";
        let (range, holder) = taker(line).expect("the line is sound");
        assert_eq!(range.to_string(), "0x1000-0x2fff");
        assert_eq!(
            (holder.pid, holder.command.as_deref()),
            (Some(12), Some("a (b) c"))
        );
        assert!(holder
            .what
            .ends_with("3 s ago, in iter_to_pipe < do_syscall_64"));
        assert!(taker("0x1000-0x2fff live").is_none());
    }

    #[test]
    fn pins_of_the_system() {
        let text = "nr_x 1\nnr_foll_pin_acquired 12\nnr_foll_pin_released 4\n";
        assert_eq!(in_system(text), Some(8));
        assert_eq!(in_system("nr_x 1\n"), None);
    }
}
