// SPDX-License-Identifier: GPL-2.0

//! One file seen in every way in which a program can see it: all views must
//! agree.

use super::model::recorded;
use super::{large, small, Config, Fixture, EXT2, EXT4_E820, XFS};
use crate::tests::prelude::*;

/// Length of the file, not a multiple of a page.
const LEN: usize = 2 * HUGE + 5 * PAGE + 123;
const WHOLE: usize = 2 * HUGE + 6 * PAGE;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Creates a file with written pieces and holes of many sizes; returns it with
/// its bytes.
fn patchwork(fixture: &Fixture) -> Result<(File, Vec<u8>)> {
    let file = fixture.sparse("data", LEN as u64)?;
    let mut model = vec![0; LEN];
    let pieces = [
        (3, 100),
        (2 * PAGE, PAGE),
        (9 * PAGE + 7, 5 * PAGE),
        (HUGE - 3 * PAGE, 6 * PAGE + 11),
        (2 * HUGE - 1, 2),
        (LEN - 1000, 1000),
    ];
    for (seed, (at, len)) in pieces.into_iter().enumerate() {
        let bytes = data::bytes(seed as u64 + 10, len);
        file.write_all_at(&bytes, at as u64)
            .context("writing a piece of a sparse file")?;
        model[at..at + len].copy_from_slice(&bytes);
    }
    Ok((file, model))
}

/// Compares through read(2), which does not use the page tables.
fn require_file(file: &File, model: &[u8], what: &str) -> Result<()> {
    let mut got = vec![0; model.len()];
    file.read_exact_at(&mut got, 0)
        .with_context(|| format!("reading the file after {what}"))?;
    data::require_same(model, &got, format_args!("read() after {what}"))
}

/// Offsets to store to: in a written page, in a hole, across the boundary of a huge page, and at the
/// end.
const PLACES: [usize; 4] = [2 * PAGE + 50, 300 * PAGE, HUGE - 70, LEN - 140];
/// Number of bytes to store at each.
const STORED: usize = 140;

/// Stores through `map`, and requires the bytes in the file.
fn store(map: &Mapping, file: &File, model: &mut [u8], seed: u64, what: &str) -> Result<()> {
    for (n, at) in PLACES.into_iter().enumerate() {
        let bytes = data::bytes(seed * 8 + n as u64, STORED);
        map.write(at, &bytes);
        model[at..at + STORED].copy_from_slice(&bytes);
    }
    require_file(file, model, what)
}

declare! {
    /// a sparse file has other bytes through one kind of mapping, after fork, mremap, mprotect,
    /// madvise or mlock, or through read() and write(), than through another; or unmounting does not
    /// flush what was stored through one of them
    "fsdax::views" for [EXT2, XFS, EXT4_E820], 120 s, essential "xfs-mem-acpi" => views
}
fn views(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let (file, mut model) = patchwork(&fixture)?;
    require_file(&file, &model, "writing pieces")?;
    shared(&file, &mut model)?;
    advised(&file, &mut model)?;
    locked(&file, &mut model)?;
    private(&file, &model)?;
    direct(&fixture, &file, &mut model)?;
    let fixture = flushed(fixture, file, &mut model)?;
    let file = fixture.open("data")?;
    require_file(&file, &model, "mounting again")?;
    drop(file);
    require_unpinned("all accesses")?;
    fixture.finish()
}

/// Tests mappings of either page size, a child's, a moved one, and one that
/// becomes writable later.
fn shared(file: &File, model: &mut [u8]) -> Result<()> {
    let (wide, narrow) = (large(file, WHOLE)?, small(file, WHOLE)?);
    for (map, what) in [(&wide, "huge pages"), (&narrow, "small pages")] {
        map.require(0, model, what)?;
    }
    narrow.require(
        LEN,
        &[0; WHOLE - LEN],
        "the bytes beyond the end of the file",
    )?;
    store(&narrow, file, model, 1, "stores to small pages")?;
    wide.require(0, model, "huge pages after stores to small ones")?;
    store(&wide, file, model, 2, "stores to huge pages")?;

    let child = spawn(|| {
        wide.require(0, model, "the child's view")?;
        let mut theirs = model.to_vec();
        store(&wide, file, &mut theirs, 3, "the child's stores")
    })?;
    child.join(30, "a child with the mapping")?;
    let mut after = model.to_vec();
    for (n, at) in PLACES.into_iter().enumerate() {
        data::fill(3 * 8 + n as u64, &mut after[at..at + STORED]);
    }
    model.copy_from_slice(&after);
    narrow.require(0, model, "the parent's view of the child's stores")?;

    let moved = wide.move_to(Mapping::reserve(WHOLE, HUGE)?)?;
    moved.require(0, model, "a mapping that was moved")?;
    store(&moved, file, model, 4, "stores to a mapping that was moved")?;

    let read_only = Mapping::with(file, 0, WHOLE, HUGE, libc::PROT_READ, libc::MAP_SHARED)?;
    read_only.require(0, model, "a read-only mapping")?;
    let killed = super::signal_of(|| read_only.poke(0, 1))?;
    ensure!(
        killed == Some(libc::SIGSEGV),
        "a store to a read-only mapping ends in {killed:?} instead of SIGSEGV"
    );
    read_only
        .protect(0, WHOLE, READ_WRITE)
        .context("mprotect to write")?;
    store(&read_only, file, model, 5, "mprotect and stores")?;
    read_only
        .protect(0, WHOLE, libc::PROT_NONE)
        .context("mprotect to nothing")?;
    read_only
        .protect(0, WHOLE, libc::PROT_READ)
        .context("mprotect to read")?;
    read_only.require(0, model, "a mapping whose rights were removed and restored")
}

/// Unmounts the filesystem, which is all that makes the last stores durable, and mounts it again.
fn flushed(fixture: Fixture, file: File, model: &mut [u8]) -> Result<Fixture> {
    let maps = [large(&file, WHOLE)?, small(&file, WHOLE)?];
    let flushes = recorded()?;
    let mut stored = Vec::new();
    for (seed, map) in (50..).zip(&maps) {
        store(map, &file, model, seed, "stores before unmounting")?;
        if let Some(flushes) = &flushes {
            stored.push(flushes.stored_in(&PLACES.map(|at| (map, at..at + STORED)))?);
        }
    }
    drop((maps, file));
    let fixture = fixture.remount("dax")?;
    if let Some(flushes) = &flushes {
        for stored in &stored {
            flushes.require(stored, "unmounting")?;
        }
    }
    Ok(fixture)
}

/// Tests advice, which changes when pages are mapped, never which.
fn advised(file: &File, model: &mut [u8]) -> Result<()> {
    let map = large(file, WHOLE)?;
    for (seed, (advice, what)) in [
        (libc::MADV_POPULATE_READ, "MADV_POPULATE_READ"),
        (libc::MADV_DONTNEED, "MADV_DONTNEED"),
        (libc::MADV_POPULATE_WRITE, "MADV_POPULATE_WRITE"),
        (libc::MADV_WILLNEED, "MADV_WILLNEED"),
        (libc::MADV_SEQUENTIAL, "MADV_SEQUENTIAL"),
        (libc::MADV_COLD, "MADV_COLD"),
        (libc::MADV_PAGEOUT, "MADV_PAGEOUT"),
        (libc::MADV_DONTNEED, "MADV_DONTNEED"),
    ]
    .into_iter()
    .enumerate()
    {
        map.advise(0, WHOLE, advice).context(what)?;
        map.require(0, model, what)?;
        store(&map, file, model, 20 + seed as u64, what)?;
    }
    // A part of a huge page.
    map.advise(17 * PAGE, 3 * PAGE, libc::MADV_DONTNEED)
        .context("MADV_DONTNEED of three pages")?;
    map.require(0, model, "MADV_DONTNEED of three pages")?;
    map.advise(HUGE, HUGE, libc::MADV_REMOVE)
        .or_else(|e| match e.raw_os_error() {
            // ext2 cannot punch holes.
            Some(libc::EOPNOTSUPP) => file.write_all_at(&vec![0; HUGE], HUGE as u64),
            _ => Err(e),
        })
        .context("MADV_REMOVE")?;
    model[HUGE..2 * HUGE].fill(0);
    map.require(0, model, "MADV_REMOVE")?;
    require_file(file, model, "MADV_REMOVE")
}

fn locked(file: &File, model: &mut [u8]) -> Result<()> {
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let map = Mapping::with(file, 0, WHOLE, HUGE, READ_WRITE, flags)?;
    map.require(0, model, "MAP_POPULATE")?;
    map.lock(0, WHOLE).context("mlock")?;
    map.require(0, model, "mlock")?;
    store(&map, file, model, 40, "mlock")?;
    map.unlock(0, WHOLE).context("munlock")?;
    map.require(0, model, "munlock")
}

/// Tests private mappings, whose stores are not visible elsewhere.
fn private(file: &File, model: &[u8]) -> Result<()> {
    let map = Mapping::with(file, 0, WHOLE, HUGE, READ_WRITE, libc::MAP_PRIVATE)?;
    map.require(0, model, "a private mapping")?;
    let mut mine = model.to_vec();
    // Written pages, holes of 4 KiB and the range of a huge page.
    for at in [2 * PAGE, 200 * PAGE, HUGE + 8 * PAGE, 2 * HUGE + PAGE] {
        let bytes = data::bytes(at as u64, PAGE + 9);
        map.write(at, &bytes);
        mine[at..at + PAGE + 9].copy_from_slice(&bytes);
    }
    map.require(0, &mine, "a private mapping after stores")?;
    require_file(file, model, "stores to a private mapping")?;
    let child = spawn(|| {
        map.require(0, &mine, "the child's private mapping")?;
        map.write(0, &[1; PAGE]);
        Ok(())
    })?;
    child.join(30, "a child with a private mapping")?;
    map.require(0, &mine, "a private mapping after the child's stores")?;
    require_file(file, model, "the child's stores to a private mapping")?;
    map.advise(0, WHOLE, libc::MADV_DONTNEED)
        .context("MADV_DONTNEED")?;
    map.require(0, model, "a private mapping whose copies were discarded")
}

/// Tests write() and read() of the file, also with O_DIRECT, and from and into
/// a mapping of the same file.
fn direct(fixture: &Fixture, file: &File, model: &mut [u8]) -> Result<()> {
    let map = large(file, WHOLE)?;
    map.require(0, model, "a mapping before write()")?;
    let plain = Mapping::anonymous(64 * PAGE)?;
    for (seed, (flag, at)) in [(false, 700 * PAGE + 5), (true, 40 * PAGE)]
        .into_iter()
        .enumerate()
    {
        let open = open_rw(&fixture.path("data"), flag)?;
        let bytes = data::bytes(60 + seed as u64, 64 * PAGE);
        plain.write(0, &bytes);
        pwrite_all(&open, &plain, 0, 64 * PAGE, at as u64, 24 * PAGE)?;
        model[at..at + 64 * PAGE].copy_from_slice(&bytes);
        map.require(0, model, "a mapping after write()")?;
        plain.write(0, &[0; 64 * PAGE]);
        pread_all(&open, &plain, 0, 64 * PAGE, at as u64, 64 * PAGE)?;
        plain.require(0, &bytes, "read()")?;
    }
    // From one place of the file to another, without memory in between.
    pwrite_all(
        file,
        &map,
        40 * PAGE,
        64 * PAGE,
        600 * PAGE as u64,
        64 * PAGE,
    )?;
    model.copy_within(40 * PAGE..104 * PAGE, 600 * PAGE);
    map.require(0, model, "write() from a mapping of the same file")?;
    pread_all(
        file,
        &map,
        800 * PAGE,
        64 * PAGE,
        40 * PAGE as u64,
        64 * PAGE,
    )?;
    model.copy_within(40 * PAGE..104 * PAGE, 800 * PAGE);
    map.require(0, model, "read() into a mapping of the same file")?;
    require_file(file, model, "read() and write() between mappings")
}
