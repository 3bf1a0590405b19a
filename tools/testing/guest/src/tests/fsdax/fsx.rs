// SPDX-License-Identifier: GPL-2.0

//! Thousands of operations on a mapped file, in a random order that is the same
//! in every run, each checked against a model.
//!
//! A failure shows the seed and the last operations, which suffices to
//! reproduce it.

use std::collections::VecDeque;

use super::model::{recorded, Model, View};
use super::{Config, Fixture, EVERY};
use crate::filesystem::Kind;
use crate::flushed::Flushes;
use crate::tests::prelude::*;

const MOST: usize = 3 * HUGE;
/// Number of operations between two checks of all bytes.
const CHECK: usize = 100;
const OPERATIONS: usize = 1000;
const SEEDS: [u64; 2] = [1, 2];
/// Number of operations that a failure shows.
const SHOWN: usize = 12;

declare! {
    /// after some order of stores, writes, truncations, holes and the like a file has other bytes
    /// than it should, seen by one of the mappings or by read(); or fsync, msync or unmounting does
    /// not flush a store
    "fsdax::fsx" for EVERY, 240 s, essential "ext4-dev-acpi"
        => |config| SEEDS.iter().map(|seed| run(config, *seed)).collect::<Result<String>>()
}

/// One operation, with all parameters that repeating it needs.
#[derive(Debug, Clone, Copy)]
enum Op {
    Write {
        at: usize,
        len: usize,
        seed: u64,
    },
    Store {
        view: View,
        at: usize,
        len: usize,
        seed: u64,
    },
    Read {
        at: usize,
        len: usize,
    },
    Load {
        view: View,
        at: usize,
        len: usize,
    },
    Resize {
        len: usize,
    },
    Punch {
        at: usize,
        len: usize,
    },
    Zero {
        at: usize,
        len: usize,
    },
    Allocate {
        at: usize,
        len: usize,
    },
    Collapse {
        at: usize,
        len: usize,
    },
    Insert {
        at: usize,
        len: usize,
    },
    Sync {
        metadata: bool,
    },
    Msync {
        view: View,
        at: usize,
        len: usize,
    },
    Zap {
        view: View,
    },
    Remap,
}

impl Op {
    /// Returns an operation that is possible on a file of `len` bytes.
    fn draw(random: &mut Random, len: usize, most: usize, kind: Kind) -> Self {
        let view = match random.below(2) {
            0 => View::Large,
            _ => View::Small,
        };
        let seed = random.below(1 << 30) as u64;
        let full = kind != Kind::Ext2;
        // Inside the file; an empty file gets some bytes.
        let inside = (len > 0).then(|| piece(random, len));
        let (at, count) = piece(random, most);
        let (page, pages) = (at / PAGE * PAGE, count.next_multiple_of(PAGE));
        match (random.below(20), inside) {
            (0..=2, _) => Op::Write {
                at,
                len: count,
                seed,
            },
            (3..=6, Some((at, len))) => Op::Store {
                view,
                at,
                len,
                seed,
            },
            (7..=8, Some((at, len))) => Op::Read { at, len },
            (9..=11, Some((at, len))) => Op::Load { view, at, len },
            (12, _) => Op::Resize { len: at },
            (13, _) if full => Op::Punch { at, len: count },
            (14, _) if full => Op::Zero { at, len: count },
            (15, _) if full => Op::Allocate { at, len: count },
            (16, Some(_)) if full && page + pages < len => Op::Collapse {
                at: page,
                len: pages,
            },
            (17, Some(_)) if full && page < len && len + pages <= most => Op::Insert {
                at: page,
                len: pages,
            },
            (18, Some((at, count))) => {
                let start = at / PAGE * PAGE;
                let len = (at + count).next_multiple_of(PAGE) - start;
                Op::Msync {
                    view,
                    at: start,
                    len,
                }
            }
            (19, _) => match random.below(4) {
                0 => Op::Remap,
                1 => Op::Zap { view },
                n => Op::Sync { metadata: n == 2 },
            },
            _ => Op::Write {
                at,
                len: count,
                seed,
            },
        }
    }

    fn run(self, model: &mut Model, flushes: Option<&Flushes>) -> Result<()> {
        match self {
            Op::Write { at, len, seed } => model.write(at, &data::bytes(seed, len)),
            Op::Store {
                view,
                at,
                len,
                seed,
            } => {
                model.store(view, at, &data::bytes(seed, len));
                Ok(())
            }
            Op::Read { at, len } => model.read(at, len),
            Op::Load { view, at, len } => model.load(view, at, len),
            Op::Resize { len } => model.resize(len),
            Op::Punch { at, len } => model.punch(at, len),
            Op::Zero { at, len } => model.zero(at, len),
            Op::Allocate { at, len } => model.allocate(at, len),
            Op::Collapse { at, len } => model.collapse(at, len),
            Op::Insert { at, len } => model.insert(at, len),
            Op::Sync { metadata } => model.sync(metadata, flushes),
            Op::Msync { view, at, len } => model.msync(view, at, len, flushes),
            Op::Zap { view } => model.zap(view),
            Op::Remap => model.remap(),
        }
    }
}

/// Returns offset and length, within `whole` bytes: a few bytes, a few pages,
/// or many.
fn piece(random: &mut Random, whole: usize) -> (usize, usize) {
    let longest = [200, 5 * PAGE, 40 * PAGE, HUGE][random.below(4)].min(whole);
    let len = 1 + random.below(longest);
    let at = random.below(whole - len + 1);
    // Often at a boundary, where the special cases are.
    match random.below(4) {
        0 => (at / PAGE * PAGE, len),
        1 if at >= HUGE => (at / HUGE * HUGE, len),
        _ => (at, len),
    }
}

fn run(config: &Config, seed: u64) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let mut model = Model::new(fixture.sparse("fsx", 0)?, MOST)?;
    let (mut random, flushes) = (Random::new(seed), recorded()?);
    let mut last = VecDeque::new();
    for n in 0..OPERATIONS {
        let op = Op::draw(&mut random, model.len(), model.most(), config.kind);
        last.push_back(op);
        if last.len() > SHOWN {
            last.pop_front();
        }
        op.run(&mut model, flushes.as_ref())
            .and_then(|()| match n % CHECK {
                0 => model.check(),
                _ => Ok(()),
            })
            .with_context(|| format!("seed {seed}, operation {n}; the last were {last:?}"))?;
    }
    model.check()?;
    drop(flushes);
    let fixture = model
        .remount(fixture, "fsx")
        .with_context(|| format!("seed {seed}"))?;
    fixture.finish()?;
    Ok(format!("{OPERATIONS} operations from seed {seed}. "))
}
