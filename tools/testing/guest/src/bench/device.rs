// SPDX-License-Identifier: GPL-2.0

//! The block device of a namespace, as user space accesses it: O_DIRECT reads
//! and writes, which become bios that the pmem driver serves synchronously, and
//! fsync(), which becomes a flush.

use anyhow::{ensure, Context, Result};

use super::memory::{self, FSDAX};
use super::{Bench, Plan, Row};
use crate::mapping::{open_rw, pread_once, pwrite_once, Mapping, PAGE};
use crate::ndctl::Namespace;

const UNIT: &str = "instructions/call";

/// Operation, bytes.
const CASES: [(&str, usize); 4] = [
    ("read", PAGE),
    ("read", 64 << 10),
    ("write", PAGE),
    ("write", 64 << 10),
];
const FLUSH: &str = "bio/direct/flush";

fn row((operation, len): (&str, usize)) -> String {
    format!("bio/direct/{operation}/{}k", len >> 10)
}

pub fn plans() -> Vec<Plan> {
    let mut rows: Vec<Row> = CASES
        .iter()
        .map(|case| Row::new(row(*case), UNIT, "O_DIRECT call on the block device"))
        .collect();
    rows.push(Row::new(FLUSH, UNIT, "fsync() of the block device"));
    vec![Plan::new(rows, 120, run)]
}

fn run(bench: &Bench) -> Result<()> {
    const CALLS: usize = 32;
    let namespace = Namespace::create(&FSDAX)?;
    let node = namespace.node()?;
    let device = open_rw(&node, true)?;
    let buffer = Mapping::anonymous(64 << 10)?;
    memory::touch(&buffer, buffer.len(), PAGE);
    for (operation, len) in CASES {
        bench.measure(&row((operation, len)), CALLS as u64, || {
            let (moved, span) = bench.clock.time(|| {
                (0..CALLS).try_fold(0, |moved, n| {
                    let pos = (n * len) as u64;
                    let done = match operation {
                        "write" => pwrite_once(&device, &buffer, 0, len, pos)?,
                        _ => pread_once(&device, &buffer, 0, len, pos)?,
                    };
                    Ok::<usize, std::io::Error>(moved + done)
                })
            });
            let moved = moved.with_context(|| format!("{operation} of {}", node.display()))?;
            ensure!(moved == CALLS * len, "{moved} of {} bytes", CALLS * len);
            Ok(span)
        })?;
    }
    bench.measure(FLUSH, CALLS as u64, || {
        let (synced, span) = bench
            .clock
            .time(|| (0..CALLS).try_for_each(|_| device.sync_all()));
        synced.context("cannot flush the device")?;
        Ok(span)
    })?;
    drop(device);
    namespace.destroy()
}
