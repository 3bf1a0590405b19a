// SPDX-License-Identifier: GPL-2.0

//! Files on a DAX filesystem, and the costs of system calls on them: read(), write(),
//! fsync(), truncate().

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use anyhow::{ensure, Context, Result};

use super::clock::Span;
use super::memory::{self, advise, FSDAX, HUGE};
use super::{scan, Bench, Plan, Row};
use crate::filesystem::DaxMount;
use crate::mapping::{open_rw, pread_once, pwrite_all, pwrite_once, Mapping, PAGE};
use crate::ndctl::{GIB, MIB};
use crate::target::Target;

/// The state of a new file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not allocated.
    Hole,
    /// Allocated, but read as zeros until they are written.
    Unwritten,
    /// Allocated and written to.
    Written,
}

/// Creates a file that is on the device and has not been mapped.
pub fn create(mount: &DaxMount, name: &str, len: u64, state: State) -> Result<File> {
    let file = match state {
        State::Hole => {
            let file = mount.file(name, PAGE as u64)?;
            file.set_len(0)
                .and_then(|()| file.set_len(len))
                .map(|()| file)
        }
        State::Unwritten | State::Written => Ok(mount.file(name, len)?),
    }
    .with_context(|| format!("cannot size {name}"))?;
    if state == State::Written {
        let from = Mapping::anonymous(HUGE)?;
        let mut at = 0;
        while at < len {
            let n = (len - at).min(HUGE as u64);
            pwrite_all(&file, &from, 0, n as usize, at, HUGE)?;
            at += n;
        }
    }
    file.sync_all()
        .with_context(|| format!("cannot sync {name}"))?;
    Ok(file)
}

pub fn plans() -> Vec<Plan> {
    let calls = CALLS.iter().map(|c| {
        Row::new(
            c.row(),
            "instructions/call",
            "read() and write() of a DAX file in place",
        )
    });
    let syncs = SYNCS.iter().map(|s| {
        let row = Row::new(
            s.row(),
            "instructions",
            if s.journal {
                "fsync() after stores to a mapping; the caller's own instructions"
            } else {
                "writeback without the journal: sync_file_range()"
            },
        );
        if s.dirty > 64 {
            row.slow()
        } else {
            row
        }
    });
    let truncates = TRUNCATES.iter().map(|t| {
        let row = Row::new(
            t.row(),
            "instructions",
            "ftruncate() to nothing of a file whose every page is mapped",
        );
        if t.len > 64 * MIB {
            row.slow()
        } else {
            row
        }
    });
    vec![
        Plan::new(calls.collect(), 300, read_and_write),
        Plan::new(syncs.collect(), 300, sync),
        Plan::new(truncates.collect(), 600, truncate),
    ]
}

/// Returns the mount of a new target, whose file is not used.
pub fn mount(target: &Target) -> Result<&DaxMount> {
    target.mount.as_ref().context("fsdax without a mount")
}

struct Call {
    write: bool,
    direct: bool,
    len: usize,
}

const fn call(write: bool, direct: bool, len: usize) -> Call {
    Call { write, direct, len }
}

const CALLS: [Call; 8] = [
    call(false, false, PAGE),
    call(false, false, 1 << 20),
    call(true, false, PAGE),
    call(true, false, 1 << 20),
    call(false, true, PAGE),
    call(false, true, 1 << 20),
    call(true, true, PAGE),
    call(true, true, 1 << 20),
];

impl Call {
    fn row(&self) -> String {
        format!(
            "rw/{}/{}/{}",
            if self.direct { "direct" } else { "buffered" },
            if self.write { "write" } else { "read" },
            size_name(self.len as u64)
        )
    }
}

pub fn size_name(len: u64) -> String {
    match len {
        l if l >= GIB => format!("{}g", l / GIB),
        l if l >= MIB => format!("{}m", l / MIB),
        l => format!("{}k", l >> 10),
    }
}

fn read_and_write(bench: &Bench) -> Result<()> {
    const FILE: u64 = 2 * MIB;
    let target = Target::create(&FSDAX, MIB)?;
    let mount = mount(&target)?;
    drop(create(mount, "rw", FILE, State::Written)?);
    let buffer = Mapping::anonymous(1 << 20)?;
    memory::touch(&buffer, buffer.len(), PAGE);
    for call in &CALLS {
        let file = open_rw(&mount.path("rw"), call.direct)?;
        let calls = (FILE as usize / call.len).clamp(1, 128);
        bench.measure(&call.row(), calls as u64, || {
            transfer(bench, call, &file, &buffer, calls)
        })?;
    }
    target.finish()
}

/// Reads or writes the start of a file, `calls` times one piece. Also for block devices.
fn transfer(
    bench: &Bench,
    call: &Call,
    file: &File,
    buffer: &Mapping,
    calls: usize,
) -> Result<Span> {
    let (moved, span) = bench.clock.time(|| {
        let mut moved = 0;
        for n in 0..calls {
            let pos = (n * call.len) as u64;
            moved += match call.write {
                true => pwrite_once(file, buffer, 0, call.len, pos)?,
                false => pread_once(file, buffer, 0, call.len, pos)?,
            };
        }
        Ok::<usize, std::io::Error>(moved)
    });
    let moved = moved.with_context(|| format!("{} failed", call.row()))?;
    ensure!(
        moved == calls * call.len,
        "{} moved {moved} of {} bytes",
        call.row(),
        calls * call.len
    );
    Ok(span)
}

struct Sync {
    journal: bool,
    huge: bool,
    dirty: usize,
}

const fn sync_of(journal: bool, huge: bool, dirty: usize) -> Sync {
    Sync {
        journal,
        huge,
        dirty,
    }
}

const SYNCS: [Sync; 10] = [
    sync_of(true, false, 1),
    sync_of(true, false, 64),
    sync_of(true, false, 512),
    sync_of(true, true, 1),
    sync_of(true, true, 64),
    sync_of(false, false, 1),
    sync_of(false, false, 64),
    sync_of(false, false, 512),
    sync_of(false, true, 1),
    sync_of(false, true, 64),
];

impl Sync {
    fn row(&self) -> String {
        format!(
            "{}/{}/dirty={}",
            if self.journal { "fsync" } else { "writeback" },
            if self.huge { "2m" } else { "4k" },
            self.dirty
        )
    }

    fn step(&self) -> usize {
        if self.huge {
            HUGE
        } else {
            PAGE
        }
    }
}

fn sync(bench: &Bench) -> Result<()> {
    let target = Target::create(&FSDAX, MIB)?;
    let mount = mount(&target)?;
    for case in &SYNCS {
        if !bench.wants(&case.row()) {
            continue;
        }
        let len = case.dirty * case.step();
        let file = create(mount, "sync", len as u64, State::Written)?;
        let map = Mapping::shared(&file, 0, len, HUGE)?;
        if !case.huge {
            advise(&map, libc::MADV_NOHUGEPAGE)?;
        }
        bench.measure(&case.row(), 1, || {
            memory::touch(&map, len, case.step());
            scan::require(&map, len, case.huge)?;
            flush(bench, &file, case.journal)
        })?;
        drop(map);
        fs::remove_file(mount.path("sync")).context("cannot remove the file")?;
    }
    target.finish()
}

fn flush(bench: &Bench, file: &File, journal: bool) -> Result<Span> {
    if journal {
        let (synced, span) = bench.clock.time_running(|| file.sync_all())?;
        synced.context("fsync failed")?;
        return Ok(span);
    }
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: The call takes no pointers, so no argument can be invalid memory.
    let (rc, span) = bench
        .clock
        .time(|| unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, how) });
    ensure!(
        rc == 0,
        "sync_file_range failed: {}",
        std::io::Error::last_os_error()
    );
    Ok(span)
}

struct Truncate {
    huge: bool,
    len: u64,
}

const TRUNCATES: [Truncate; 5] = [
    Truncate {
        huge: false,
        len: 2 * MIB,
    },
    Truncate {
        huge: false,
        len: 16 * MIB,
    },
    Truncate {
        huge: true,
        len: 64 * MIB,
    },
    Truncate {
        huge: true,
        len: 256 * MIB,
    },
    Truncate {
        huge: true,
        len: GIB,
    },
];

impl Truncate {
    fn row(&self) -> String {
        format!(
            "truncate/mapped-{}/size={}",
            if self.huge { "2m" } else { "4k" },
            size_name(self.len)
        )
    }
}

fn truncate(bench: &Bench) -> Result<()> {
    // A file of 1 GiB gets huge pages only if no group of blocks begins with a copy of the
    // superblock: those are rare in the upper half of 4 GiB.
    let target = Target::sized(&FSDAX, 4 * GIB, MIB)?;
    let mount = mount(&target)?;
    for case in &TRUNCATES {
        bench.measure(&case.row(), 1, || {
            let file = create(mount, "truncate", case.len, State::Written)?;
            let len = case.len as usize;
            let map = Mapping::shared(&file, 0, len, HUGE)?;
            if !case.huge {
                advise(&map, libc::MADV_NOHUGEPAGE)?;
            }
            memory::touch(&map, len, if case.huge { HUGE } else { PAGE });
            scan::require(&map, len, case.huge)?;
            let (cut, span) = bench.clock.time_running(|| file.set_len(0))?;
            cut.context("ftruncate failed")?;
            Ok(span)
        })?;
    }
    target.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(CALLS[5].row(), "rw/direct/read/1m");
        assert_eq!(SYNCS[4].row(), "fsync/2m/dirty=64");
        assert_eq!(TRUNCATES[4].row(), "truncate/mapped-2m/size=1g");
    }
}
