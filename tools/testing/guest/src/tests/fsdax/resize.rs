// SPDX-License-Identifier: GPL-2.0

//! A file is truncated and extended, and loses and gets blocks, while it is
//! mapped and all of its pages are in use.

use super::model::{Model, View};
use super::{Config, Fixture, EXT2, EXT4, EXT4_E820, REFLINK, XFS};
use crate::tests::prelude::*;

const MOST: usize = 4 * HUGE;

/// Creates a file of `len` bytes that every mapping has faulted in completely.
fn filled(fixture: &Fixture, name: &str, len: usize) -> Result<Model> {
    let mut model = Model::new(fixture.sparse(name, 0)?, MOST)?;
    if fixture.kind != crate::filesystem::Kind::Ext2 {
        model.allocate(0, len)?;
    }
    model.write(0, &data::bytes(len as u64, len))?;
    model.check()?;
    Ok(model)
}

declare! {
    /// a page beyond the end of a file stays mapped after ftruncate, a load there raises no SIGBUS,
    /// or old bytes reappear when the file grows again
    "fsdax::truncate" for [EXT2, EXT4, REFLINK], 120 s, essential "ext2-dev-acpi" => truncate
}
fn truncate(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let mut model = filled(&fixture, "truncate", MOST)?;
    // Down into a huge page, to its boundary, into a small page, to nothing; up
    // again each time, partly stored to.
    for (seed, (down, up)) in [
        (3 * HUGE + 17 * PAGE + 5, MOST),
        (3 * HUGE, MOST),
        (HUGE + 1, HUGE + 2 * PAGE),
        (HUGE - PAGE, 2 * HUGE),
        (PAGE + 77, PAGE + 78),
        (0, MOST),
        (MOST - 1, MOST),
    ]
    .into_iter()
    .enumerate()
    {
        // The pages are in use: huge ones in one mapping, small ones in the
        // other.
        model.check()?;
        for (view, at) in [(View::Large, 0), (View::Small, model.len() / 2)] {
            let bytes = data::bytes(seed as u64, model.len().min(3 * PAGE) / 2);
            model.store(view, at, &bytes);
        }
        model.resize(down)?;
        model.require_end()?;
        model.check()?;
        model.resize(up)?;
        model.check()?;
        if up < MOST {
            model.require_end()?;
        }
        let last = data::bytes(90 + seed as u64, 60);
        model.store(View::Large, model.len() - 60, &last);
        model.check()?;
    }
    reopen(fixture, "truncate", model)
}

/// Requires the same bytes after the filesystem was unmounted.
fn reopen(fixture: Fixture, name: &str, model: Model) -> Result<()> {
    model.remount(fixture, name)?.finish()
}

declare! {
    /// punching, zeroing, collapsing, inserting or allocating a range leaves old pages in a mapping,
    /// or changes other bytes than it should
    "fsdax::fallocate" for [XFS, EXT4_E820], 120 s, essential "ext4-mem-e820" => ranges
}
fn ranges(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let mut model = filled(&fixture, "ranges", 3 * HUGE + 5 * PAGE + 9)?;
    // Whole huge pages, parts of them, whole small pages and parts of those.
    let pieces = [
        (HUGE, HUGE),
        (HUGE / 2, HUGE),
        (7 * PAGE, PAGE),
        (9 * PAGE + 100, 5 * PAGE),
        (20 * PAGE + 5, 50),
        (2 * HUGE + 3, HUGE - 6),
    ];
    for (seed, (at, len)) in pieces.into_iter().enumerate() {
        refill(&mut model, seed as u64)?;
        let before = model.sectors()?;
        model.punch(at, len)?;
        model.check()?;
        if len >= HUGE - 6 {
            ensure!(
                model.sectors()? < before,
                "punching {len:#x} bytes freed no block"
            );
        }
        refill(&mut model, 50 + seed as u64)?;
        model.zero(at, len)?;
        model.check()?;
        model.allocate(at, len)?;
        model.check()?;
    }
    for (seed, (at, len)) in [
        (HUGE, HUGE),
        (5 * PAGE, 3 * PAGE),
        (0, PAGE),
        (HUGE / 2, HUGE),
    ]
    .into_iter()
    .enumerate()
    {
        refill(&mut model, 100 + seed as u64)?;
        model.collapse(at, len)?;
        model.check()?;
        model.require_end()?;
        model.insert(at, len)?;
        model.check()?;
        model.store(View::Large, at, &data::bytes(seed as u64, 2 * PAGE));
        model.check()?;
    }
    // Longer than before, by each operation that can extend.
    let len = model.len();
    model.zero(len - PAGE, 3 * PAGE)?;
    model.check()?;
    model.allocate(len, HUGE / 2)?;
    model.check()?;
    reopen(fixture, "ranges", model)
}

/// Stores new bytes to every page, through one mapping or the other, which
/// faults in all pages.
fn refill(model: &mut Model, seed: u64) -> Result<()> {
    let len = model.len();
    for (n, at) in (0..len - 8).step_by(PAGE).enumerate() {
        let view = match at < len / 2 {
            true => View::Large,
            false => View::Small,
        };
        let inside = (n * 37 + seed as usize) % (PAGE - 8);
        model.store(view, (at + inside).min(len - 8), &[seed as u8 | 1; 8]);
    }
    model.check()
}
