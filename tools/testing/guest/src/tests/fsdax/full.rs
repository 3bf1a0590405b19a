// SPDX-License-Identifier: GPL-2.0

//! A hole that cannot be filled, because the filesystem is full or the user's
//! quota is exhausted: the store raises SIGBUS, without other effects.

use std::os::unix::fs::chown;

use super::clone::free_blocks;
use super::{large, signal_of, Config, Fixture, EXT2, EXT4, XFS};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;

fn is_full(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::ENOSPC)
}

/// Allocates every free block.
fn fill(fixture: &Fixture) -> Result<()> {
    let file = fixture.sparse("filler", 0)?;
    let mut piece = 256 << 20;
    let mut at = 0;
    let zeros = vec![0; 1 << 20];
    while piece >= PAGE {
        let taken = match fixture.kind {
            Kind::Ext2 => file.write_all_at(&zeros[..piece.min(zeros.len())], at),
            _ => fallocate(&file, 0, at, piece as u64),
        };
        match taken {
            Ok(()) if fixture.kind == Kind::Ext2 => at += piece.min(zeros.len()) as u64,
            Ok(()) => at += piece as u64,
            Err(e) if is_full(&e) => {
                // The part that a write could store is in the file.
                at = file
                    .metadata()
                    .context("fstat")?
                    .len()
                    .next_multiple_of(PAGE as u64);
                piece /= 2;
            }
            Err(e) => return Err(e).context("filling the filesystem"),
        }
    }
    Ok(())
}

/// Stores zeros by the kernel, which returns the number of stored bytes where a
/// store of our own would raise SIGBUS.
fn push(map: &Mapping, at: usize) -> Result<usize> {
    let zeros = open_rw(Path::new("/dev/zero"), false)?;
    match pread_once(&zeros, map, at, map.len() - at, 0) {
        Ok(n) => Ok(n),
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Ok(0),
        Err(e) => Err(e).context("reading zeros into holes"),
    }
}

/// Requires that a store to the hole at `at` is refused.
fn require_refused(map: &Mapping, at: usize, what: &str) -> Result<()> {
    let got = signal_of(|| map.poke(at, 1))?;
    ensure!(
        got == Some(libc::SIGBUS),
        "a store to a hole of {what} ends in {got:?} instead of SIGBUS"
    );
    Ok(())
}

// The regions of e820 are large and cannot be divided.
declare! {
    /// a store to a hole of a full filesystem is not a SIGBUS, damages other bytes, or blocks are
    /// lost permanently
    "fsdax::full::device" for [EXT2, EXT4, XFS], 120 s, essential "xfs-mem-acpi" => device
}
fn device(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, LEN);
    let written = fixture.written("written", &bytes)?;
    let hole = fixture.sparse("hole", LEN as u64)?;
    let (map, holes) = (large(&written, LEN)?, large(&hole, LEN)?);
    ensure!(holes.peek(0) == 0, "a hole is not zero");
    let free = free_blocks(&fixture)?;
    fill(&fixture)?;
    ensure!(
        free_blocks(&fixture)? < (HUGE / PAGE) as u64,
        "the filesystem is not full: {} blocks",
        free_blocks(&fixture)?
    );
    // The reserves of a filesystem may fill some holes.
    let filled = push(&holes, 0)?;
    ensure!(
        filled < LEN,
        "every hole of a full filesystem could be filled"
    );
    require_refused(&holes, LEN - PAGE, "a full filesystem, read before")?;
    holes.require(0, &vec![0; LEN], "the hole")?;
    // Existing blocks can still be stored to.
    map.write(PAGE, &bytes[..PAGE]);
    map.write(PAGE, &bytes[PAGE..2 * PAGE]);
    map.require(0, &bytes, "a file of the full filesystem")?;
    match hole.write_all_at(&[1; PAGE], (LEN - PAGE) as u64) {
        Err(e) if is_full(&e) => {}
        other => anyhow::bail!("a write to a hole returns {other:?} instead of ENOSPC"),
    }

    fs::remove_file(fixture.path("filler")).context("cannot remove the filler")?;
    // ext4 frees blocks when its journal is committed.
    fixture.sync()?;
    holes.write(0, &bytes);
    holes.require(0, &bytes, "the hole, filled when there was room")?;
    hole.set_len(0).context("ftruncate")?;
    fixture.sync()?;
    let now = free_blocks(&fixture)?;
    ensure!(
        now.abs_diff(free) <= 64,
        "{free} blocks were free before, {now} are free now"
    );
    drop((map, holes, written, hole));
    fixture.finish()?;
    Ok(format!("{} holes filled from reserves", filled / PAGE))
}

declare! {
    /// the last page of a device cannot be written, read or mapped as a part of a file
    "fsdax::full::last-page" for [EXT4], 60 s => last_page
}
fn last_page(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let node = fixture.namespace.node()?;
    let name = node.file_name().context("a disk without a name")?;
    // Otherwise fallocate() leaves some thousand blocks free.
    let reserve = Path::new("/sys/fs/ext4")
        .join(name)
        .join("reserved_clusters");
    fs::write(&reserve, "0").with_context(|| reserve.display().to_string())?;
    fill(&fixture)?;
    fixture.sync()?;
    let size = system::read_u64(Path::new("/sys/block").join(name).join("size"))? * 512;
    let last = size / PAGE as u64 - 1;
    let path = fixture.path("filler");
    let listed = Cmd::new("filefrag -v -e -b4096").arg(&path).ok()?.stdout;
    // Index, logical from and to, physical from and to.
    let found = listed.lines().find_map(|line| {
        let numbers: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        match *numbers {
            [_, _, logical, _, physical, ..] if physical == last => Some(logical),
            _ => None,
        }
    });
    let page = found.with_context(|| format!("block {last} belongs to no file: {listed}"))?;
    let (file, at) = (fixture.open("filler")?, page * PAGE as u64);
    let bytes = data::bytes(9, PAGE);
    file.write_all_at(&bytes, at)
        .context("write() to the last page of the device")?;
    let mut got = vec![0; PAGE];
    file.read_exact_at(&mut got, at)
        .context("read() of the last page of the device")?;
    data::require_same(&bytes, &got, "the last page of the device, by read()")?;
    let got = signal_of(|| {
        if let Ok(map) = Mapping::shared(&file, at, PAGE, PAGE) {
            map.poke(0, map.peek(0));
        }
    })?;
    ensure!(
        got.is_none(),
        "a store to the last page of the device ends in {got:?}"
    );
    let map = Mapping::shared(&file, at, PAGE, PAGE)?;
    map.require(0, &bytes, "the last page of the device, mapped")?;
    drop((map, file));
    fixture.finish()
}

declare! {
    /// a store to a hole succeeds although the user has no quota left, or the user loses quota by it
    "fsdax::full::quota" for [XFS], 60 s => quota
}
fn quota(config: &Config) -> Result<String> {
    const USER: u32 = 12345;
    let fixture = Fixture::create(config)?.remount("dax,uquota")?;
    Cmd::new("xfs_quota -x -c")
        .arg(format!("limit -u bhard=3m {USER}"))
        .arg(fixture.mount.dir())
        .ok()?;
    let file = fixture.sparse("theirs", LEN as u64)?;
    chown(fixture.path("theirs"), Some(USER), None).context("chown")?;
    let map = large(&file, LEN)?;
    map.poke(0, 1);
    // The rest is too small for 2 MiB, but sufficient for some pages.
    let filled = push(&map, HUGE)?;
    ensure!(
        (PAGE..HUGE).contains(&filled),
        "a user with 1 MiB of quota left could fill {filled:#x} bytes of holes"
    );
    require_refused(&map, LEN - PAGE, "a user without quota")?;
    let report = Cmd::new("xfs_quota -x -c")
        .arg("report -u -n -b")
        .arg(fixture.mount.dir())
        .ok()?
        .stdout;
    let name = format!("#{USER}");
    let used: u64 = report
        .lines()
        .find_map(|l| {
            l.strip_prefix(&name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("xfs_quota does not know user {USER}: {report}"))?;
    ensure!(
        (2048..=3072).contains(&used),
        "the user has {used} KiB with a limit of 3072"
    );
    file.set_len(0).context("ftruncate")?;
    file.set_len(LEN as u64).context("ftruncate")?;
    map.write(HUGE, &data::bytes(1, HUGE));
    drop((map, file));
    fixture.finish()?;
    Ok(format!("{used} KiB of 3072"))
}
