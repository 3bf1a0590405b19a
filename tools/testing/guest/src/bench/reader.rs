// SPDX-License-Identifier: GPL-2.0

//! Measurements that the kernel times itself: the module rust_dax_bench, driven
//! through debugfs.
//!
//! Lookups of pgmaps run with interrupts off, exact to the instruction. A
//! command is one window of marks, which the module executes.

use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result};

use super::clock::Span;
use super::memory::FSDAX;
use super::{Bench, Plan, Row};
use crate::command::Cmd;
use crate::mapping::open_rw;
use crate::ndctl::Namespace;
use crate::system;

/// Numbers of registered pgmaps; from the given index on left out of a quick run.
const COUNTS: [usize; 3] = [1, 64, 1024];
const SLOW_COUNT: usize = 1024;

const LOOKUPS: [(&str, &str); 4] = [
    (
        "uncached",
        "get_dev_pagemap() without a cached pgmap, and the put",
    ),
    ("cached", "get_dev_pagemap() with the right pgmap cached"),
    ("second", "the same for a PFN in its second range"),
    ("miss", "get_dev_pagemap() of a PFN between two pgmaps"),
];

/// Operation, bytes.
const BIOS: [(&str, usize); 5] = [
    ("read", 4 << 10),
    ("read", 64 << 10),
    ("write", 4 << 10),
    ("write", 64 << 10),
    ("flush", 4 << 10),
];

fn lookup_row(kind: &str, count: usize) -> String {
    format!("lookup/{kind}/pgmaps={count}")
}

fn bio_row((operation, bytes): (&str, usize)) -> String {
    match operation {
        "flush" => "bio/kernel/flush".into(),
        _ => format!("bio/kernel/{operation}/{}k", bytes >> 10),
    }
}

pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<Plan> = COUNTS
        .into_iter()
        .map(|count| {
            let rows = LOOKUPS.iter().map(|(kind, note)| {
                let row = Row::new(lookup_row(kind, count), "instructions/lookup", note);
                if count >= SLOW_COUNT {
                    row.slow()
                } else {
                    row
                }
            });
            Plan::new(rows.collect(), 300, move |b| lookups(b, count))
        })
        .collect();
    let bios = BIOS
        .iter()
        .map(|bio| Row::new(bio_row(*bio), "instructions/call", "one bio, waited for"));
    plans.push(Plan::new(bios.collect(), 120, bios_of));
    plans
}

/// An open session of the module.
pub struct Reader {
    file: File,
}

impl Reader {
    /// Opens a session; returns a [`Skip`](crate::skip::Skip) if this kernel has no such module.
    pub fn open() -> Result<Self> {
        if !Cmd::new("modprobe rust_dax_bench").run()?.status.success() {
            skip!("this kernel has no module rust_dax_bench");
        }
        let path = system::debugfs()?.join("dax_bench/command");
        Ok(Self {
            file: open_rw(&path, false)?,
        })
    }

    /// Sends a command and returns the number in its reply.
    pub fn command(&mut self, text: &str) -> Result<u64> {
        let file = &mut self.file;
        let mut reply = String::new();
        file.write_all(text.as_bytes())
            .and_then(|()| file.read_to_string(&mut reply))
            .with_context(|| format!("dax_bench: `{text}` failed"))?;
        system::parse_u64(reply.trim())
            .with_context(|| format!("dax_bench replied {reply:?} to `{text}`"))
    }

    /// Registers this many pgmaps, in place of the current ones.
    pub fn pgmaps(&mut self, count: usize) -> Result<()> {
        self.command(&format!("pgmaps {count}")).map(drop)
    }

    /// Sends a command that times something.
    fn time(&mut self, bench: &Bench, text: &str) -> Result<Span> {
        let window = Some(bench.clock.opened());
        let cost = self.command(text)?;
        bench.clock.skip(1);
        Ok(Span { cost, window })
    }
}

fn lookups(bench: &Bench, count: usize) -> Result<()> {
    const ROUNDS: u64 = 1000;
    let mut reader = Reader::open()?;
    reader.pgmaps(count)?;
    for (kind, _) in LOOKUPS {
        bench.measure(&lookup_row(kind, count), ROUNDS, || {
            reader.time(bench, &format!("lookup {kind} {ROUNDS}"))
        })?;
    }
    Ok(())
}

fn bios_of(bench: &Bench) -> Result<()> {
    const ROUNDS: u64 = 16;
    let mut reader = Reader::open()?;
    let namespace = Namespace::create(&FSDAX)?;
    let node = namespace.node()?;
    for (operation, bytes) in BIOS {
        bench.measure(&bio_row((operation, bytes)), ROUNDS, || {
            reader.time(
                bench,
                &format!("bio {operation} {} {bytes} {ROUNDS}", node.display()),
            )
        })?;
    }
    namespace.destroy()
}
