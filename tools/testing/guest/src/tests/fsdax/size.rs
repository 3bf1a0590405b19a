// SPDX-License-Identifier: GPL-2.0

//! The size of the pages that a fault maps, as the tracepoints report it: 2 MiB
//! if the file and the mapping allow it, 4 KiB if another mapping of the file
//! has created small entries before.

use super::{large, small, Config, Fixture, EXT2, EXT4, REFLINK};
use crate::tests::prelude::*;
use crate::trace::FaultCounts;

const LEN: usize = 4 * HUGE;

/// Requires faults of 2 MiB, of 4 KiB, and whether some of 2 MiB fell back. The
/// caller checks how often those were tried: if a filesystem cannot serve a
/// fault under the VMA lock, all of it is done twice.
fn require(trace: &FaultTrace, pmd: u64, pte: u64, fallback: bool, what: &str) -> Result<()> {
    let got = trace.take()?;
    let want = FaultCounts {
        pmd,
        pte,
        other: 0,
        ..got
    };
    ensure!(
        got == want && (got.pmd_fallback > 0) == fallback,
        "{what}: {pmd} faults of 2 MiB, {pte} of 4 KiB{} were expected, there were {got:?}",
        if fallback { " by falling back" } else { "" }
    );
    Ok(())
}

fn touch(map: &Mapping, step: usize, write: bool) {
    for at in (0..map.len()).step_by(step) {
        match write {
            true => map.poke(at, at as u8 | 1),
            false => {
                map.peek(at);
            }
        }
    }
}

declare! {
    /// a fault that could map 2 MiB maps 4 KiB or is repeated, a hole gets blocks when it is only
    /// read, or entries of 4 KiB and 2 MiB of one range show different bytes
    "fsdax::size" for [EXT4, REFLINK], 90 s, essential "ext4-dev-acpi" => sizes
}
fn sizes(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let trace = FaultTrace::start()?;
    blocks(&fixture, &trace)?;
    holes(&fixture, &trace)?;
    small_first(&fixture, &trace)?;
    large_first(&fixture, &trace)?;
    edges(&fixture, &trace)?;
    private(&fixture, &trace)?;
    drop(trace);
    fixture.finish()
}

/// Tests allocated blocks: one fault per 2 MiB, and one more when a page that
/// was read is written.
fn blocks(fixture: &Fixture, trace: &FaultTrace) -> Result<()> {
    let file = fixture.written("blocks", &data::bytes(1, LEN))?;
    trace.take()?;
    let map = large(&file, LEN)?;
    touch(&map, PAGE, false);
    require(trace, 4, 0, false, "loads from 8 MiB of blocks")?;
    touch(&map, PAGE, true);
    require(
        trace,
        4,
        0,
        false,
        "stores to pages that were only loaded from",
    )?;
    touch(&map, PAGE, true);
    require(trace, 0, 0, false, "stores to pages that were stored to")?;
    let other = large(&file, LEN)?;
    touch(&other, PAGE, true);
    require(trace, 4, 0, false, "stores to a second mapping")?;
    let fresh = fixture.mount.file("unwritten", LEN as u64)?;
    let map = large(&fresh, LEN)?;
    touch(&map, HUGE, true);
    require(trace, 4, 0, false, "stores to unwritten blocks")?;
    map.require(1, &[0; HUGE - 1], "the rest of a page that was new")
}

/// Tests a hole: when read it is the huge zero page and remains a hole; when
/// written, it gets blocks, in every mapping.
fn holes(fixture: &Fixture, trace: &FaultTrace) -> Result<()> {
    let file = fixture.sparse("holes", LEN as u64)?;
    let (map, other) = (large(&file, LEN)?, large(&file, LEN)?);
    touch(&map, PAGE, false);
    touch(&other, HUGE, false);
    require(trace, 8, 0, false, "loads from a hole through two mappings")?;
    ensure!(
        blocks_of(&file)? == 0,
        "loads from a hole allocated {} sectors",
        blocks_of(&file)?
    );
    map.poke(HUGE + 17, 0x5a);
    require(trace, 1, 0, false, "a store to a hole that was read")?;
    ensure!(
        other.peek(HUGE + 17) == 0x5a,
        "the other mapping still shows the huge zero page"
    );
    require(trace, 1, 0, false, "the other mapping's load")?;
    other.require(HUGE + 18, &[0; HUGE - 18], "the rest of the new page")?;
    let sectors = blocks_of(&file)?;
    ensure!(
        sectors * 512 >= HUGE as u64 && sectors * 512 < 2 * HUGE as u64,
        "a store to one of four holes of 2 MiB allocated {sectors} sectors"
    );
    Ok(())
}

/// Tests an entry of 4 KiB that prevents one of 2 MiB.
fn small_first(fixture: &Fixture, trace: &FaultTrace) -> Result<()> {
    let file = fixture.written("small-first", &data::bytes(2, LEN))?;
    let (narrow, wide) = (small(&file, LEN)?, large(&file, LEN)?);
    trace.take()?;
    narrow.poke(5 * PAGE, 7);
    require(
        trace,
        0,
        1,
        false,
        "a store to a mapping without huge pages",
    )?;
    ensure!(
        wide.peek(5 * PAGE) == 7,
        "the store is not in the other mapping"
    );
    require(trace, 0, 1, true, "a load next to an entry of 4 KiB")?;
    wide.poke(9 * PAGE, 8);
    require(trace, 0, 1, false, "a store below a table of 4 KiB pages")?;
    ensure!(
        wide.peek(HUGE) == narrow.peek(HUGE),
        "two mappings show different bytes"
    );
    require(trace, 1, 1, false, "the next 2 MiB, without small entries")
}

/// Tests an entry of 2 MiB: a store of 4 KiB into blocks uses that entry, one
/// into the huge zero page must split it, in every mapping.
fn large_first(fixture: &Fixture, trace: &FaultTrace) -> Result<()> {
    let file = fixture.written("large-first", &data::bytes(3, LEN))?;
    let (narrow, wide) = (small(&file, LEN)?, large(&file, LEN)?);
    trace.take()?;
    wide.poke(0, 1);
    narrow.poke(3 * PAGE, 9);
    require(
        trace,
        1,
        1,
        false,
        "stores of both sizes into the same 2 MiB",
    )?;
    ensure!(
        wide.peek(3 * PAGE) == 9,
        "a store is not in the huge mapping"
    );
    require(
        trace,
        0,
        0,
        false,
        "a load from the huge mapping, which stays",
    )?;

    let file = fixture.sparse("large-zero", LEN as u64)?;
    let (narrow, wide) = (small(&file, LEN)?, large(&file, LEN)?);
    ensure!(wide.peek(3 * PAGE) == 0, "a hole is not zero");
    require(trace, 1, 0, false, "a load from a hole")?;
    narrow.poke(3 * PAGE, 9);
    require(
        trace,
        0,
        1,
        false,
        "a store into the huge zero page's range",
    )?;
    ensure!(
        wide.peek(3 * PAGE) == 9,
        "the huge zero page is still mapped where a page was stored to"
    );
    require(
        trace,
        0,
        1,
        true,
        "a load where the huge zero page was taken apart",
    )?;
    wide.require(4 * PAGE, &[0; 64 * PAGE], "the rest of the hole")
}

/// Tests a mapping that does not cover the range, is not aligned to it, or whose
/// file ends inside it.
fn edges(fixture: &Fixture, trace: &FaultTrace) -> Result<()> {
    let file = fixture.written("edges", &data::bytes(4, LEN))?;
    trace.take()?;
    let shifted = Mapping::shared(&file, PAGE as u64, HUGE, HUGE)?;
    touch(&shifted, HUGE, true);
    require(
        trace,
        0,
        1,
        true,
        "an address that is not aligned to the file's 2 MiB",
    )?;
    let late = Mapping::shared(&file, HUGE as u64 - PAGE as u64, 2 * PAGE, PAGE)?;
    touch(&late, PAGE, true);
    let got = trace.take()?;
    ensure!(
        got.pmd == 0 && got.pte == 2,
        "two pages of a mapping of two pages: {got:?}"
    );
    let end = HUGE + 3 * PAGE;
    let file = fixture.written("end", &data::bytes(5, end - 100))?;
    trace.take()?;
    let map = large(&file, 2 * HUGE)?;
    map.poke(0, 1);
    map.poke(HUGE, 1);
    require(
        trace,
        1,
        1,
        true,
        "a file that ends inside its second 2 MiB",
    )?;
    super::require_sigbus(&map, end, "beyond the end of the file")?;
    drop(map);
    // The blocks of the last page are there, and the file ends before it.
    let file = fixture.mount.file("short", HUGE as u64)?;
    file.set_len((HUGE - PAGE) as u64).context("ftruncate")?;
    let mode = libc::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, mode, 0, HUGE as u64).context("fallocate behind the end")?;
    trace.take()?;
    let map = large(&file, HUGE)?;
    map.poke(0, 1);
    require(
        trace,
        0,
        1,
        true,
        "a file that ends one page before its blocks",
    )?;
    super::require_sigbus(
        &map,
        HUGE - PAGE,
        "behind the end, where the file has blocks",
    )
}

/// Tests a private mapping, which may be read in 2 MiB pages, and is copied in 4
/// KiB.
fn private(fixture: &Fixture, trace: &FaultTrace) -> Result<()> {
    let bytes = data::bytes(6, HUGE);
    let file = fixture.written("private", &bytes)?;
    trace.take()?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let map = Mapping::with(&file, 0, HUGE, HUGE, prot, libc::MAP_PRIVATE)?;
    touch(&map, PAGE, false);
    require(trace, 1, 0, false, "loads from a private mapping")?;
    map.poke(PAGE, !bytes[PAGE]);
    let got = trace.take()?;
    ensure!(
        got.pmd == 0 && got.pte == 0 && got.other == 1,
        "one page of a private mapping should have been copied: {got:?}"
    );
    large(&file, HUGE)?.require(0, &bytes, "the file below a private mapping")?;
    map.require(
        2 * PAGE,
        &bytes[2 * PAGE..],
        "the rest of a private mapping",
    )
}

fn blocks_of(file: &std::fs::File) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.blocks())
}

declare! {
    /// a filesystem without huge faults gets one, or its pages are not those of the file
    "fsdax::size" for [EXT2], 60 s => only_small
}
fn only_small(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let trace = FaultTrace::start()?;
    let bytes = data::bytes(7, HUGE);
    let blocks = fixture.written("blocks", &bytes)?;
    trace.take()?;
    let mapped = large(&blocks, HUGE)?;
    mapped.require(0, &bytes, "a mapping")?;
    require(&trace, 0, 512, false, "loads from 2 MiB of blocks")?;
    touch(&mapped, PAGE, true);
    require(
        &trace,
        0,
        512,
        false,
        "stores to pages that were only loaded from",
    )?;
    let file = fixture.sparse("holes", HUGE as u64)?;
    let map = large(&file, HUGE)?;
    map.require(0, &[0; HUGE], "a hole")?;
    ensure!(blocks_of(&file)? == 0, "loads from a hole allocated blocks");
    map.poke(PAGE, 1);
    require(&trace, 0, 513, false, "loads from a hole, and a store")?;
    drop((map, file, mapped, blocks, trace));
    fixture.finish()
}
