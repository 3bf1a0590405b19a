// SPDX-License-Identifier: GPL-2.0

//! fsync(), msync() and MAP_SYNC: stored bytes are on the device, and pages on the device are
//! clean, so that the next store is noticed.

use super::split::shrink_waits;
use super::{large, small, Config, Fixture, EXT2, EXT4, EXT4_E820, REFLINK, XFS};
use crate::flushed::Flushes;
use crate::tests::prelude::*;

const LEN: usize = 4 * HUGE;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const SYNC: i32 = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;

/// Stores once into each unit, and returns the number of faults.
fn faults(trace: &FaultTrace, map: &Mapping, step: usize) -> Result<u64> {
    trace.take()?;
    for at in (0..map.len()).step_by(step) {
        map.poke(at, map.peek(at).wrapping_add(1));
    }
    let got = trace.take()?;
    ensure!(
        got.other == 0 && got.pmd_fallback == 0,
        "stores to what is mapped: {got:?}"
    );
    Ok(got.pmd + got.pte)
}

declare! {
    /// fsync or msync leaves a page writable, so that the next store to it is never written back;
    /// cleans pages outside the requested range; or does not flush every stored byte from the CPU
    /// caches
    "fsdax::sync::clean" for [EXT2, EXT4, REFLINK], 90 s, essential "ext4-dev-acpi" => clean
}
fn clean(config: &Config) -> Result<()> {
    let fixture = Fixture::create(config)?;
    let trace = FaultTrace::start()?;
    let flushes = Flushes::start()?;
    let file = fixture.written("data", &data::bytes(1, LEN))?;
    let huge = fixture.kind != crate::filesystem::Kind::Ext2;
    let wide: (Mapping, usize) = (large(&file, LEN)?, if huge { HUGE } else { PAGE });
    // Small pages in another file: the entries of this one are large.
    let other = fixture.written("small", &data::bytes(2, 64 * PAGE))?;
    let narrow = (small(&other, 64 * PAGE)?, PAGE);
    for ((map, step), file) in [(&wide, &file), (&narrow, &other)] {
        let (step, all) = (*step, (map.len() / step) as u64);
        for at in (0..map.len()).step_by(step) {
            map.poke(at, 1);
        }
        for (what, sync) in WAYS {
            ensure!(
                faults(&trace, map, step)? == 0,
                "stores to dirty pages are faults, before {what}"
            );
            map.write(0, &data::bytes(3, map.len()));
            let stored = flushes.stored(map, 0, map.len())?;
            sync(file, map).context(what)?;
            flushes.require(&stored, what)?;
            let got = faults(&trace, map, step)?;
            ensure!(got == all, "{got} of {all} pages were clean after {what}");
        }
        // A part of the file.
        let part = 2 * step.max(HUGE / 32);
        let stored = flushes.stored(map, 0, part)?;
        map.sync(0, part).context("msync of a part")?;
        flushes.require(&stored, "msync of a part")?;
        let got = faults(&trace, map, step)?;
        let want = (part / step) as u64;
        ensure!(
            got == want,
            "{got} pages were clean after msync of {want} of them"
        );
    }
    // A huge page is cleaned as a whole, by a sync of any part of it.
    if huge {
        let (map, _) = &wide;
        let stored = flushes.stored(map, HUGE, HUGE)?;
        map.sync(HUGE + 5 * PAGE, PAGE)
            .context("msync of a part of a huge page")?;
        flushes.require(&stored, "msync of a part of a huge page")?;
        let got = faults(&trace, map, HUGE)?;
        ensure!(got == 1, "{got} huge pages were clean after msync of 4 KiB");
        // This holds in every mapping, of either size.
        let second = small(&file, HUGE)?;
        for at in (0..HUGE).step_by(PAGE) {
            second.poke(at, 2);
        }
        let stored = flushes.stored(&second, 0, HUGE)?;
        file.sync_all().context("fsync")?;
        flushes.require(&stored, "fsync of stores through a second mapping")?;
        let got = faults(&trace, &second, PAGE)?;
        ensure!(
            got == 512,
            "{got} of 512 small pages of a second mapping were clean after fsync"
        );
    }
    drop(trace);
    drop((wide, narrow, file, other));
    fixture.finish()
}

type Sync = fn(&File, &Mapping) -> io::Result<()>;

/// Operations that must leave every page of a file clean.
const WAYS: [(&str, Sync); 4] = [
    ("fsync", |file, _| file.sync_all()),
    ("fdatasync", |file, _| file.sync_data()),
    ("msync", |_, map| map.sync(0, map.len())),
    ("sync_file_range", |file, _| sync_file_range(file)),
];

/// Writes back only: without the journal.
pub fn sync_file_range(file: &File) -> io::Result<()> {
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: sync_file_range() takes no pointers, so no argument can be invalid memory.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, how) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub fn synchronous(file: &File, len: usize) -> Result<Mapping> {
    Mapping::with(file, 0, len, HUGE, READ_WRITE, SYNC).context("MAP_SYNC")
}

/// Checks that MAP_SYNC is refused as it should be.
pub fn refuses(file: &File) -> Result<()> {
    match synchronous(file, PAGE) {
        Ok(_) => bail!("MAP_SYNC was granted"),
        Err(e) => {
            let errno = e
                .downcast_ref::<io::Error>()
                .and_then(io::Error::raw_os_error);
            ensure!(
                errno == Some(libc::EOPNOTSUPP),
                "MAP_SYNC was refused by {e:#} instead of EOPNOTSUPP"
            );
            Ok(())
        }
    }
}

declare! {
    /// a walk over thousands of entries, which pauses on its way, loses its position: fsync or
    /// ftruncate skips pages, does not flush them, or hangs
    "fsdax::sync::many-entries" for [EXT4], 90 s => many
}
/// Tests more entries than a walk processes without a pause. One of the last is pinned when they
/// are truncated.
fn many(config: &Config) -> Result<String> {
    const PAGES: usize = 3 * 4096;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &vec![0; PAGES * PAGE])?;
    let map = small(&file, PAGES * PAGE)?;
    map.prefault_write(PAGE);
    let (trace, flushes) = (FaultTrace::start()?, Flushes::start()?);
    let stored = flushes.stored(&map, 0, PAGES * PAGE)?;
    file.sync_all().context("fsync")?;
    flushes.require(&stored, "fsync of many entries")?;
    drop(flushes);
    let again = faults(&trace, &map, PAGE)?;
    ensure!(
        again == PAGES as u64,
        "after fsync {again} pages of {PAGES} were write-protected"
    );
    drop(trace);

    shrink_waits(&file, &map, (PAGES - 7) * PAGE)?;
    drop((map, file));
    fixture.finish()?;
    Ok(format!("{PAGES} entries"))
}

declare! {
    /// a mapping is promised to be synchronous by a filesystem that cannot be
    "fsdax::sync::refused" for [EXT2], 60 s => refused
}
fn refused(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, PAGE))?;
    refuses(&file).context("ext2")?;
    drop(file);
    fixture.finish()?;
    let cached = tempfile("/var/tmp")?;
    refuses(&cached).context("a file in the page cache")?;
    let shared = tempfile("/dev/shm")?;
    refuses(&shared).context("shared memory")?;
    Ok(String::new())
}

/// Creates a file without a name, with one page.
fn tempfile(dir: &str) -> Result<File> {
    let path = std::path::Path::new(dir).join(format!("guest-test-{}", std::process::id()));
    let file = File::create(&path)
        .and_then(|_| File::options().read(true).write(true).open(&path))
        .with_context(|| format!("cannot create {}", path.display()))?;
    std::fs::remove_file(&path).context("cannot remove a file")?;
    file.set_len(PAGE as u64).context("ftruncate")?;
    Ok(file)
}

/// Shuts the filesystem down as a power failure does: neither bytes nor log are written any more.
pub fn go_down(fixture: &Fixture) -> Result<()> {
    // Defined by xfs, and supported by ext4 as well.
    nix::ioctl_read!(goingdown, b'X', 125, u32);
    const NO_LOG_FLUSH: u32 = 2;
    let dir = File::open(fixture.mount.dir()).context("cannot open the mount point")?;
    // SAFETY: The call reads the number, which outlives it.
    unsafe { goingdown(dir.as_raw_fd(), &mut { NO_LOG_FLUSH }) }
        .context("the filesystem cannot be shut down")?;
    Ok(())
}

declare! {
    /// after MAP_SYNC and a store, or a store and msync, the filesystem is shut down abruptly, and
    /// the bytes or their blocks are lost when it is mounted again
    "fsdax::sync::shutdown" for [XFS, EXT4_E820], 90 s, essential "xfs-mem-acpi" => down
}
/// Tests stores to allocated huge and small pages, and holes.
fn down(config: &Config) -> Result<()> {
    const LEN: usize = 4 * HUGE;
    let fixture = Fixture::create(config)?;
    let trace = FaultTrace::start()?;
    drop(fixture.mount.file("blocks", LEN as u64)?);
    drop(fixture.sparse("holes", LEN as u64)?);
    drop(fixture.sparse("msync", LEN as u64)?);
    fixture.sync()?;
    trace.take()?;
    let places = [5, HUGE - 20, 2 * HUGE + 3 * PAGE, LEN - 100];
    let bytes = data::bytes(7, 100);
    for name in ["blocks", "holes"] {
        let file = fixture.open(name)?;
        let map = synchronous(&file, LEN)?;
        for at in places {
            map.write(at, &bytes);
        }
        let got = trace.take()?;
        ensure!(
            got.pmd + got.pte >= 4 && got.other == 0,
            "stores to {name} through MAP_SYNC: {got:?}"
        );
        map.require(places[2], &bytes, "MAP_SYNC")?;
    }
    let file = fixture.open("msync")?;
    let map = large(&file, LEN)?;
    let flushes = Flushes::start()?;
    for at in places {
        map.write(at, &bytes);
        let stored = flushes.stored(&map, at, bytes.len())?;
        let page = at / PAGE * PAGE;
        map.sync(page, (at + 100).next_multiple_of(PAGE) - page)
            .context("msync")?;
        flushes.require(&stored, "msync")?;
    }
    drop(flushes);
    go_down(&fixture)?;
    drop((map, file, trace));
    let fixture = fixture.remount("dax")?;
    for name in ["blocks", "holes", "msync"] {
        let file = open_rw(&fixture.path(name), false)?;
        for at in places {
            let mut got = vec![0; 100];
            file.read_exact_at(&mut got, at as u64)
                .with_context(|| format!("reading {name}"))?;
            data::require_same(
                &bytes,
                &got,
                format_args!("{name} at {at:#x}, after the shutdown"),
            )?;
        }
    }
    fixture.finish()
}
