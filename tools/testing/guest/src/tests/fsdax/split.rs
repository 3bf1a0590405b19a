// SPDX-License-Identifier: GPL-2.0

//! A file loses, or copies, a part of an entry of 2 MiB. The other pages of it may be dirty,
//! mapped and pinned, and fs/dax must keep this state.
//!
//! C drops the whole entry. Then fsync finds nothing to write back; and where the pages stay
//! mapped, no later store is noticed either.

use std::io::Read;
use std::sync::atomic::AtomicUsize;

use super::clone::clone_range;
use super::inode::copy_in_units;
use super::{large, small, Config, Fixture, EXT4, EXT4_E820, REFLINK, XFS};
use crate::flushed::Flushes;
use crate::inject::Failing;
use crate::tests::prelude::*;

/// Creates a file of 2 MiB that is one dirty entry, with a mapping of small pages that are all
/// writable.
fn dirty(fixture: &Fixture) -> Result<(File, Mapping)> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("data-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let file = fixture.written(&name, &data::bytes(1, HUGE))?;
    let wide = large(&file, HUGE)?;
    let trace = FaultTrace::start()?;
    wide.poke(0, 1);
    let got = trace.take()?;
    ensure!(got.pmd == 1, "a store did not map 2 MiB: {got:?}");
    let map = small(&file, HUGE)?;
    map.prefault_write(PAGE);
    drop(wide);
    Ok((file, map))
}

/// Stores to these pages, and requires that fsync flushes them and makes them clean, so that the next
/// stores fault.
fn require_synced(file: &File, map: &Mapping, pages: std::ops::Range<usize>) -> Result<()> {
    let trace = FaultTrace::start()?;
    let want = pages.len() as u64;
    let store = || pages.clone().for_each(|page| map.poke(page * PAGE, 2));
    let flushes = Flushes::start()?;
    store();
    for what in ["fsync", "another fsync"] {
        let stored = flushes.stored(map, pages.start * PAGE, pages.len() * PAGE)?;
        file.sync_all().context("fsync")?;
        flushes.require(&stored, what)?;
        trace.take()?;
        store();
        let got = trace.take()?;
        ensure!(
            got.pte + got.pmd == want,
            "{what} made {got:?} of {want} pages clean"
        );
    }
    Ok(())
}

/// Requires that fsync flushes these pages, which were stored to before, and are not mapped any
/// more where the filesystem has unmapped the whole file.
fn require_flushed(file: &File, map: &Mapping, pages: std::ops::Range<usize>) -> Result<()> {
    let flushes = Flushes::start()?;
    // A load maps a page, and leaves its entry as it is.
    for page in pages.clone() {
        map.peek(page * PAGE);
    }
    let stored = flushes.stored(map, pages.start * PAGE, pages.len() * PAGE)?;
    file.sync_all().context("fsync")?;
    flushes.require(&stored, "fsync after a part of the entry was removed")
}

declare! {
    /// ftruncate into the middle of 2 MiB that were stored to forgets that the rest is dirty: fsync
    /// does not write it back, and does not notice later stores
    "fsdax::split::differs_truncate" for [EXT4, XFS, EXT4_E820], 60 s, essential "ext4-dev-acpi"
        => truncate
}
fn truncate(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let (file, map) = dirty(&fixture)?;
    file.set_len(HUGE as u64 / 2).context("ftruncate")?;
    require_flushed(&file, &map, 0..HUGE / 2 / PAGE)?;
    require_synced(&file, &map, 0..HUGE / 2 / PAGE)?;
    drop((file, map));
    fixture.finish()
}

declare! {
    /// a hole of a page in 2 MiB that were stored to makes the kernel forget that the rest is dirty
    "fsdax::split::differs_punch" for [EXT4], 60 s, essential "ext4-dev-acpi" => punch
}
fn punch(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let (file, map) = dirty(&fixture)?;
    punch_pages(&file, 0..1)?;
    require_flushed(&file, &map, 1..HUGE / PAGE)?;
    // Both bounds are in a former entry of 2 MiB.
    let (file_too, map_too) = dirty(&fixture)?;
    punch_pages(&file_too, 100..140)?;
    require_flushed(&file_too, &map_too, 0..100)?;
    // The stores include the hole, which gets blocks.
    require_synced(&file_too, &map_too, 0..HUGE / PAGE)?;
    require_synced(&file, &map, 1..HUGE / PAGE)?;
    map.require(0, &[0; PAGE], "the hole")?;
    map_too.require(100 * PAGE + 1, &[0; PAGE - 1], "the other hole")?;
    drop((file, map, file_too, map_too));
    fixture.finish()
}

declare! {
    /// a hole that begins in one 2 MiB and ends in the next makes the kernel forget that the pages
    /// beside it are dirty: fsync does not flush them
    "fsdax::split::differs_two" for [EXT4], 60 s => two
}
fn two(config: &Config) -> Result<()> {
    const LAST: usize = 2 * HUGE / PAGE - 1;
    let fixture = Fixture::create(config)?;
    let (trace, flushes) = (FaultTrace::start()?, Flushes::start()?);
    let file = fixture.written("two", &data::bytes(1, 2 * HUGE))?;
    let map = large(&file, 2 * HUGE)?;
    let pages = [0, LAST];
    pages.iter().for_each(|page| map.poke(page * PAGE, 1));
    let got = trace.take()?;
    ensure!(got.pmd == 2, "this proves nothing: {got:?}");
    let stored = pages.map(|page| flushes.stored(&map, page * PAGE, 1));
    punch_pages(&file, 256..768)?;
    file.sync_all().context("fsync")?;
    for stored in stored {
        flushes.require(&stored?, "fsync after punching a hole")?;
    }
    map.require(HUGE / 2, &[0; HUGE], "the hole")?;
    drop((trace, flushes, map, file));
    fixture.finish()
}

fn punch_pages(file: &File, pages: std::ops::Range<usize>) -> Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (at, len) = (pages.start * PAGE, pages.len() * PAGE);
    fallocate(file, mode, at as u64, len as u64).context("punching a hole")
}

declare! {
    /// write() to a shared page in 2 MiB makes the kernel forget that another page there is dirty
    "fsdax::split::differs_write" for [REFLINK], 60 s => write
}
fn write(config: &Config) -> Result<()> {
    /// Farther from page 0 than xfs copies at once.
    const FAR: usize = 300;
    let fixture = Fixture::create(config)?;
    let (file, map) = dirty(&fixture)?;
    let other = fixture.sparse("other", PAGE as u64)?;
    clone_range(&file, 0, PAGE, &other, 0)?;
    for page in FAR..FAR + 4 {
        map.poke(page * PAGE, 3);
    }
    std::os::unix::fs::FileExt::write_all_at(&file, &[4; 100], 0).context("write")?;
    require_flushed(&file, &map, FAR..FAR + 4)?;
    require_synced(&file, &map, FAR..FAR + 4)?;
    map.require(0, &[4; 100], "written bytes")?;
    drop((file, map, other));
    fixture.finish()
}

declare! {
    /// write() to blocks of which xfs makes a copy fails because there is no memory for splitting an
    /// entry, and the kernel forgets that other entries are dirty: fsync does not flush them
    "fsdax::split::no-memory" for [REFLINK], 60 s => no_memory
}
/// The copy that xfs prepares for a store to the first 2 MiB is 8 MiB long, so a write() to the next
/// ones, which are not shared, is one to the copy as well. It ends in the middle of an entry.
fn no_memory(config: &Config) -> Result<()> {
    const END: usize = 2 * HUGE + HUGE / 2;
    drop(Failing::objects("radix_tree_node", 1)?);
    let fixture = Fixture::create(config)?;
    let mut want = data::bytes(1, 3 * HUGE);
    let file = fixture.written("data", &want)?;
    copy_in_units(&file, 4 * HUGE as u32)?;
    let other = fixture.sparse("other", PAGE as u64)?;
    clone_range(&file, 0, PAGE, &other, 0)?;
    let map = large(&file, 3 * HUGE)?;
    let flushes = Flushes::start()?;
    for at in [HUGE, 2 * HUGE, 0] {
        map.poke(at, 7);
        want[at] = 7;
    }
    let stored = [HUGE, 2 * HUGE].map(|at| (at, flushes.stored(&map, at, 1)));
    let bytes = Mapping::anonymous(END - HUGE)?;
    bytes.write(0, &data::bytes(2, END - HUGE));
    let failing = Failing::objects("radix_tree_node", 1)?;
    let written = pwrite_once(&file, &bytes, 0, END - HUGE, HUGE as u64);
    drop(failing);
    // What ends with an entry needs no memory, and is written before that.
    let written = match written {
        Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => 0,
        written => written.context("write() without memory")?,
    };
    ensure!(
        written < END - HUGE,
        "this proves nothing: write() without memory writes all"
    );
    bytes.read(0, &mut want[HUGE..HUGE + written]);
    file.sync_all().context("fsync")?;
    for (at, stored) in stored {
        if at >= HUGE + written {
            flushes.require(&stored?, "fsync after a write() that failed")?;
        }
    }
    map.require(0, &want, "the file after a write() that failed")?;
    drop((flushes, map, file, other));
    fixture.finish()
}

declare! {
    /// ftruncate does not wait for a pinned page, because another page of the same 2 MiB was punched
    /// out before: its block is freed, and may belong to another file while a device writes to it
    "fsdax::split::pin" for [EXT4, XFS], 60 s, essential "ext4-dev-acpi" => pin
}
fn pin(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let (file, map) = dirty(&fixture)?;
    punch_pages(&file, 0..1)?;
    shrink_waits(&file, &map, 7 * PAGE)?;
    drop((file, map));
    fixture.finish()
}

/// Truncates the file to nothing while a pipe holds the page of it that is mapped at `at`: that
/// must wait until the pipe is drained, and end then.
pub fn shrink_waits(file: &File, map: &Mapping, at: usize) -> Result<()> {
    let (mut reader, writer) = pipe()?;
    vmsplice(map, at, PAGE, &writer)?;
    let same = file.try_clone().context("dup")?;
    let shrink = Background::start(move || same.set_len(0).context("ftruncate"));
    let waited = shrink.must_wait("ftruncate");
    // Whatever the result, the page is dropped now: the file must not stay busy.
    reader
        .read_exact(&mut [0; PAGE])
        .context("draining the pipe")?;
    waited?;
    shrink.must_end("ftruncate").map(drop)
}
