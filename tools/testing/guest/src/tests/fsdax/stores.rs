// SPDX-License-Identifier: GPL-2.0

//! Bytes that come to a file in ways that are easily forgotten: each must be flushed from the CPU
//! caches when a program may rely on it.

use super::clone::clone_range;
use super::sync::synchronous;
use super::{large, small, Config, Fixture, EXT2, EXT4, EXT4_E820, REFLINK, XFS};
use crate::flushed::Flushes;
use crate::tests::prelude::*;

declare! {
    /// bytes that were stored through MAP_SYNC, by another process, or by a file that syncfs() syncs,
    /// are not flushed from the CPU caches
    "fsdax::stores::flushed" for [EXT4, XFS], 60 s, essential "ext4-dev-acpi" => flushed
}
fn flushed(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let flushes = Flushes::start()?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;

    let map = synchronous(&file, HUGE)?;
    map.poke(100, 1);
    let stored = flushes.stored(&map, 100, 1)?;
    map.sync(0, PAGE).context("msync")?;
    flushes.require(&stored, "msync of a store through MAP_SYNC")?;
    drop(map);

    let map = large(&file, HUGE)?;
    file.sync_all().context("fsync")?;
    map.poke(7 * PAGE, 2);
    let stored = flushes.stored(&map, 7 * PAGE, 1)?;
    fixture.sync()?;
    flushes.require(&stored, "syncfs")?;
    drop(map);

    // The page is mapped read-only: the other process makes it writable.
    let narrow = fixture.written("narrow", &data::bytes(2, 8 * PAGE))?;
    let map = small(&narrow, 8 * PAGE)?;
    map.peek(3 * PAGE);
    let bytes = Mapping::anonymous(PAGE)?;
    bytes.write(0, &data::bytes(3, PAGE));
    let to = map.addr() + 3 * PAGE;
    let this = i32::try_from(std::process::id()).context("a process ID")?;
    let n = cross_copy(this, &bytes, to, PAGE, true).context("process_vm_writev")?;
    ensure!(n == PAGE, "process_vm_writev moved {n} bytes");
    let stored = flushes.stored(&map, 3 * PAGE, PAGE)?;
    narrow.sync_all().context("fsync")?;
    flushes.require(&stored, "fsync after process_vm_writev")?;
    map.require(3 * PAGE, &data::bytes(3, PAGE), "process_vm_writev")?;
    drop((flushes, map, narrow, file));
    fixture.finish()
}

declare! {
    /// fsync leaves pages of a mapping writable that begins inside an entry of 2 MiB, so that no
    /// later store to them is written back
    "fsdax::stores::second-half" for [EXT4, XFS], 60 s => second_half
}
fn second_half(config: &Config) -> Result<()> {
    const HALF: usize = HUGE / 2;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;
    let (trace, flushes) = (FaultTrace::start()?, Flushes::start()?);
    let whole = large(&file, HUGE)?;
    whole.poke(0, 1);
    let got = trace.take()?;
    ensure!(got.pmd == 1, "this proves nothing: {got:?}");
    let half = Mapping::shared(&file, HALF as u64, HALF, HUGE)?;
    half.prefault_write(PAGE);
    let stored = flushes.stored(&half, 0, HALF)?;
    file.sync_all().context("fsync")?;
    flushes.require(&stored, "fsync")?;
    trace.take()?;
    half.prefault_write(PAGE);
    let got = trace.take()?;
    let pages = (HALF / PAGE) as u64;
    ensure!(
        got.pte == pages && got.other == 0,
        "fsync made {got:?} of {pages} pages clean"
    );
    drop((trace, flushes, half, whole, file));
    fixture.finish()
}

declare! {
    /// the zeroes that ftruncate() writes behind the end of a file are not flushed, so that old bytes
    /// come back after a power failure when the file grows
    "fsdax::stores::zeroes" for [EXT2, EXT4_E820, XFS], 60 s => zeroes
}
fn zeroes(config: &Config) -> Result<()> {
    const END: usize = PAGE + 100;
    let fixture = Fixture::create(config)?;
    let flushes = Flushes::start()?;
    let file = fixture.written("data", &data::bytes(1, 4 * PAGE))?;
    let map = small(&file, 4 * PAGE)?;
    let now = flushes.now()?;
    file.set_len(END as u64).context("ftruncate")?;
    file.sync_all().context("fsync")?;
    map.require(END, &[0; PAGE - 100], "the page behind the end")?;
    let zeroed = flushes.stored_since(now, &map, END, PAGE - 100)?;
    flushes.require(&zeroed, "ftruncate and fsync")?;
    drop((flushes, map, file));
    fixture.finish()
}

declare! {
    /// blocks that a file gets of its own are not flushed, or have not the bytes of the shared ones
    "fsdax::stores::differs_unshared" for [REFLINK], 60 s => unshared
}
fn unshared(config: &Config) -> Result<()> {
    const LEN: usize = 8 * PAGE;
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, LEN);
    let flushes = Flushes::start()?;
    let file = fixture.written("data", &bytes)?;
    let clone = fixture.sparse("clone", LEN as u64)?;
    clone_range(&file, 0, LEN, &clone, 0)?;
    let now = flushes.now()?;
    fallocate(&clone, libc::FALLOC_FL_UNSHARE_RANGE, 0, LEN as u64).context("unsharing")?;
    clone.sync_all().context("fsync")?;
    let map = small(&clone, LEN)?;
    map.require(0, &bytes, "the blocks of its own")?;
    let copied = flushes.stored_since(now, &map, 0, LEN)?;
    flushes.require(&copied, "unsharing and fsync")?;
    drop((flushes, map, clone, file));
    fixture.finish()
}

declare! {
    /// write() fills several pages of a hole that is mapped, and a mapping goes on showing the zero
    /// page for some of them
    "fsdax::stores::hole" for [EXT2, EXT4, XFS], 60 s => hole
}
fn hole(config: &Config) -> Result<()> {
    const LEN: usize = 16 * PAGE;
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("hole", LEN as u64)?;
    let map = small(&file, LEN)?;
    map.require(0, &[0; LEN], "a hole")?;
    let bytes = data::bytes(1, LEN);
    file.write_all_at(&bytes, 0).context("write")?;
    map.require(0, &bytes, "a mapping of the hole that was filled")?;
    drop((map, file));
    fixture.finish()
}

declare! {
    /// pwritev2(RWF_NOWAIT) waits for blocks to be allocated, or refuses to write to those that a
    /// file has
    "fsdax::stores::nowait" for [XFS], 60 s => nowait
}
/// A write also refuses to wait for the change of a timestamp, so each follows one that has changed
/// it; ext4 allocates all the same, in C too.
fn nowait(config: &Config) -> Result<()> {
    const TRIES: usize = 200;
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("data", 4 * PAGE as u64)?;
    let bytes = data::bytes(2, PAGE);
    let mut written = 0;
    for _ in 0..TRIES {
        file.write_all_at(&bytes, 0).context("write")?;
        written += usize::from(write_now(&file, &bytes, 0).is_ok());
        file.write_all_at(&bytes, 0).context("write")?;
        require_errno(
            write_now(&file, &bytes, 2 * PAGE),
            libc::EAGAIN,
            "a write to a hole",
        )?;
    }
    ensure!(
        written > 0,
        "none of {TRIES} writes to blocks of the file was done"
    );
    small(&file, 4 * PAGE)?.require(PAGE, &[0; 3 * PAGE], "the hole")?;
    drop(file);
    fixture.finish()
}

/// Writes without waiting. Returns the number of bytes.
fn write_now(file: &File, bytes: &[u8], at: usize) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: The vector has one part, of bytes that are borrowed during the call, which reads them.
    let n = unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, at as i64, libc::RWF_NOWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

declare! {
    /// a hole that is punched takes the private copy of a page with it, or truncation leaves it
    "fsdax::stores::private" for [EXT4, XFS], 60 s => private
}
fn private(config: &Config) -> Result<()> {
    const PROT: i32 = libc::PROT_READ | libc::PROT_WRITE;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, 4 * PAGE))?;
    let map = Mapping::with(&file, 0, 4 * PAGE, HUGE, PROT, libc::MAP_PRIVATE)?;
    map.write(PAGE, &[9; PAGE]);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, mode, 0, 3 * PAGE as u64).context("punching a hole")?;
    map.require(PAGE, &[9; PAGE], "a private copy where a hole was punched")?;
    map.require(2 * PAGE, &[0; PAGE], "the hole beside a private copy")?;
    file.set_len(PAGE as u64).context("ftruncate")?;
    file.set_len(4 * PAGE as u64).context("ftruncate")?;
    map.require(
        PAGE,
        &[0; PAGE],
        "a private copy behind the end of the file",
    )?;
    drop((map, file));
    fixture.finish()
}
