// SPDX-License-Identifier: GPL-2.0

//! Page faults of DAX mappings, one kind each.
//!
//! A repeat takes a file that has never been mapped (so that fs/dax has no entries of
//! it yet), maps it, and touches it once per page. The first page is not timed, because
//! its fault also allocates the page tables. The first repeat, which does not count,
//! runs under the tracepoints of fs/dax, and verifies that the faults are of the kind
//! and size that the row names.

use std::fs::{self, File};

use anyhow::{ensure, Context, Result};

use super::clock::Span;
use super::files::{self, mount, State};
use super::memory::{self, advise, FSDAX, HUGE};
use super::{scan, Bench, Plan, Row};
use crate::filesystem::{DaxMount, Kind};
use crate::mapping::{open_rw, Mapping, PAGE};
use crate::ndctl::MIB;
use crate::target::Target;
use crate::trace::{FaultCounts, FaultTrace};

const UNIT: &str = "instructions/fault";
const SHARED: i32 = libc::MAP_SHARED;
const SYNC: i32 = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;

/// The effect of a fault according to the tracepoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// An entry of the requested size.
    Mapped,
    /// A copy: fs/dax makes no entry.
    Copied,
}

/// How the pages were mapped last, by a mount that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// In whatever way.
    Any,
    /// By entries of 4 KiB.
    Small,
    /// By entries of 2 MiB.
    Large,
}

struct Case {
    name: &'static str,
    note: &'static str,
    state: State,
    flags: i32,
    before: Before,
    /// Whether the mapping was read before, and the fault upgrades its entry.
    read_before: bool,
    write: bool,
    huge: bool,
    /// Whether only the first page of each 2 MiB is accessed.
    sparse: bool,
    ends: Ends,
    /// Whether the filesystem waits for its journal, so that the clock would jump.
    sleeps: bool,
}

/// The common case: a write to allocated blocks through a shared mapping.
const WRITE: Case = Case {
    name: "write/4k",
    note: "4 KiB write fault on allocated blocks",
    state: State::Written,
    flags: SHARED,
    before: Before::Any,
    read_before: false,
    write: true,
    huge: false,
    sparse: false,
    ends: Ends::Mapped,
    sleeps: false,
};

const CASES: [Case; 16] = [
    Case {
        name: "read-hole/4k",
        note: "4 KiB read fault on a hole: the zero page",
        state: State::Hole,
        write: false,
        ..WRITE
    },
    Case {
        name: "read/4k",
        note: "4 KiB read fault on allocated blocks",
        write: false,
        ..WRITE
    },
    WRITE,
    Case {
        name: "write-unwritten/4k",
        note: "4 KiB write fault on unwritten blocks: the filesystem converts them",
        state: State::Unwritten,
        ..WRITE
    },
    Case {
        name: "mkwrite/4k",
        note: "first write to a 4 KiB entry that a read made",
        read_before: true,
        ..WRITE
    },
    Case {
        name: "cow/4k",
        note: "4 KiB write fault of a private mapping: a copy",
        flags: libc::MAP_PRIVATE,
        ends: Ends::Copied,
        ..WRITE
    },
    Case {
        name: "sync-write/4k",
        note: "4 KiB write fault of a MAP_SYNC mapping; the caller's own instructions",
        state: State::Unwritten,
        flags: SYNC,
        sleeps: true,
        ..WRITE
    },
    Case {
        name: "read-hole/2m",
        note: "2 MiB read fault on a hole: the huge zero page",
        state: State::Hole,
        write: false,
        huge: true,
        ..WRITE
    },
    Case {
        name: "read/2m",
        note: "2 MiB read fault on allocated blocks",
        write: false,
        huge: true,
        ..WRITE
    },
    Case {
        name: "write/2m",
        note: "2 MiB write fault on allocated blocks",
        huge: true,
        ..WRITE
    },
    Case {
        name: "mkwrite/2m",
        note: "first write to a 2 MiB entry that a read made",
        read_before: true,
        huge: true,
        ..WRITE
    },
    Case {
        name: "sync-write/2m",
        note: "2 MiB write fault of a MAP_SYNC mapping, on allocated blocks",
        flags: SYNC,
        huge: true,
        ..WRITE
    },
    Case {
        name: "read-again/2m",
        note: "2 MiB read fault on pages that were mapped in 2 MiB before",
        before: Before::Large,
        write: false,
        huge: true,
        ..WRITE
    },
    Case {
        name: "write-again/2m",
        note: "2 MiB write fault on pages that were mapped in 2 MiB before",
        before: Before::Large,
        huge: true,
        ..WRITE
    },
    Case {
        name: "read-after-4k/2m",
        note: "2 MiB read fault on pages that were mapped in 4 KiB before",
        before: Before::Small,
        write: false,
        huge: true,
        ..WRITE
    },
    Case {
        name: "write-after-2m/4k",
        note: "first 4 KiB write fault in each 2 MiB that were mapped in 2 MiB before, with its page table",
        before: Before::Large,
        sparse: true,
        ..WRITE
    },
];

impl Case {
    fn row(&self) -> String {
        format!("fault/fsdax/{}", self.name)
    }

    fn step(&self) -> usize {
        if self.huge || self.sparse {
            HUGE
        } else {
            PAGE
        }
    }

    /// Returns the number of faults of a repeat: few, so that a repeat usually falls
    /// between two timer ticks.
    fn faults(&self) -> usize {
        if self.huge || self.sparse || self.sleeps {
            16
        } else {
            128
        }
    }
}

pub fn plans() -> Vec<Plan> {
    let rows = CASES
        .iter()
        .map(|c| Row::new(c.row(), UNIT, c.note))
        .collect();
    let mut plans = vec![Plan::new(rows, 300, fsdax)];
    for (name, note, want, step) in [
        (
            "fault/devdax/write/4k",
            "4 KiB fault of device-dax",
            memory::DEVDAX_4K,
            PAGE,
        ),
        (
            "fault/devdax/write/2m",
            "2 MiB fault of device-dax",
            memory::DEVDAX_2M,
            HUGE,
        ),
    ] {
        plans.push(Plan::new(vec![Row::new(name, UNIT, note)], 120, move |b| {
            let faults = if step == HUGE { 64 } else { 128 };
            let target = Target::create(&want, 0)?;
            b.measure(name, faults as u64, || {
                let map = target.map((faults + 1) * step)?;
                faults_of_memory(b, &map, faults, step)
            })?;
            target.finish()
        }));
    }
    plans.push(anonymous());
    plans
}

/// Returns the plan for memory that is not DAX, for comparison.
fn anonymous() -> Plan {
    const CASES: [(&str, &str, bool); 2] = [
        ("fault/anon/write/4k", "4 KiB of anonymous memory", false),
        ("fault/anon/write/2m", "2 MiB of anonymous memory", true),
    ];
    let rows = CASES
        .iter()
        .map(|(name, note, _)| Row::new(*name, UNIT, note))
        .collect();
    Plan::new(rows, 120, |b| {
        for (name, _, huge) in CASES {
            let (faults, step) = if huge { (2, HUGE) } else { (128, PAGE) };
            b.measure(name, faults as u64, || {
                let map = Mapping::fresh((faults + 1) * step, HUGE, libc::MAP_PRIVATE)?;
                let advice = if huge {
                    libc::MADV_HUGEPAGE
                } else {
                    libc::MADV_NOHUGEPAGE
                };
                advise(&map, advice)?;
                faults_of_memory(b, &map, faults, step)
            })?;
        }
        Ok(())
    })
}

/// Measures write faults of a mapping that has no file on fs/dax.
fn faults_of_memory(bench: &Bench, map: &Mapping, faults: usize, step: usize) -> Result<Span> {
    let len = (faults + 1) * step;
    memory::touch(map, step, step);
    let ((), span) = bench
        .clock
        .time(|| memory::touch_range(map, step..len, step));
    scan::require(map, len, step == HUGE)?;
    Ok(span)
}

fn fsdax(bench: &Bench) -> Result<()> {
    let mut target = Target::on(&FSDAX, Kind::Ext4, MIB)?;
    for case in &CASES {
        let mut first = true;
        bench.measure(&case.row(), case.faults() as u64, || {
            let span = repeat(bench, case, &mut target, first)?;
            first = false;
            Ok(span)
        })?;
    }
    sync_commit(mount(&target)?)?;
    target.finish()
}

/// Measures the faults of a new file.
fn repeat(bench: &Bench, case: &Case, target: &mut Target, traced: bool) -> Result<Span> {
    const NAME: &str = "faults";
    let len = (case.faults() + 1) * case.step();
    let mut file = files::create(mount(target)?, NAME, len as u64, case.state)?;
    if case.before != Before::Any {
        let map = Mapping::shared(&file, 0, len, HUGE)?;
        let huge = case.before == Before::Large;
        if !huge {
            advise(&map, libc::MADV_NOHUGEPAGE)?;
        }
        memory::touch(&map, len, if huge { HUGE } else { PAGE });
        scan::require(&map, len, huge)?;
        drop((map, file));
        target.remount()?;
        file = open_rw(&mount(target)?.path(NAME), false)?;
    }
    let span = once(bench, case, &file, len, traced)?;
    let path = mount(target)?.path(NAME);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(span)
}

/// Lets the journal of the previous row finish, so that it does not extend into the
/// unmount.
fn sync_commit(mount: &DaxMount) -> Result<()> {
    File::open(mount.path("."))
        .and_then(|dir| dir.sync_all())
        .context("cannot sync the filesystem")
}

/// Maps, and accesses each page after the first once. `traced` verifies the kind of the
/// faults, which costs time.
fn once(bench: &Bench, case: &Case, file: &File, len: usize, traced: bool) -> Result<Span> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let map = Mapping::with(file, 0, len, HUGE, prot, case.flags)?;
    if !case.huge {
        advise(&map, libc::MADV_NOHUGEPAGE)?;
    }
    let step = case.step();
    if case.read_before {
        memory::read_range(&map, 0..len, step);
    }
    let access = |part| match case.write {
        true => memory::touch_range(&map, part, step),
        false => memory::read_range(&map, part, step),
    };
    access(0..step);
    let trace = match traced {
        true => Some(FaultTrace::start()?),
        false => None,
    };
    let ((), span) = match case.sleeps {
        true => bench.clock.time_running(|| access(step..len))?,
        false => bench.clock.time(|| access(step..len)),
    };
    if let Some(trace) = trace {
        require(case, (len / step - 1) as u64, &trace.take()?)?;
    }
    Ok(span)
}

fn require(case: &Case, faults: u64, seen: &FaultCounts) -> Result<()> {
    ensure!(
        *seen == expected(case.huge, case.ends, faults),
        "the faults do not match the row: {faults} of {} were expected, the tracepoints show {seen:?}",
        case.name
    );
    Ok(())
}

fn expected(huge: bool, ends: Ends, faults: u64) -> FaultCounts {
    let mut counts = FaultCounts::default();
    match (ends, huge) {
        (Ends::Copied, _) => counts.other = faults,
        (Ends::Mapped, true) => counts.pmd = faults,
        (Ends::Mapped, false) => counts.pte = faults,
    }
    counts
}
