// SPDX-License-Identifier: GPL-2.0

//! Folios of 2 MiB: a range of 2 MiB is one folio as long as entries of 2 MiB name it, and is taken
//! apart when entries of 4 KiB are to name its pages.
//!
//! The memmap is read for that, and `fs_dax/folios` in debugfs counts what happens.

use std::collections::BTreeMap;

use super::clone::clone;
use super::poison::require_bad_page;
use super::{large, require_rust, small, Config, Fixture, EXT4, EXT4_E820, REFLINK, XFS};
use crate::page_words::{first_pfn, is_poisoned, owners, shape, shape_of, Owner, Shape, SHARED};
use crate::tests::prelude::*;

const NONE_IN_C: &str = "which makes no folios of the pages of a file";
const WHOLE: Shape = Shape::Folio { count: 1, parts: 0 };
const PAGES: usize = HUGE / PAGE;

/// The counters of folios since boot.
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn read() -> Result<Self> {
        let text = system::read(system::debugfs()?.join("fs_dax/folios"))?;
        let count = |line: &str| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let counts: Option<_> = text.lines().map(count).collect();
        counts
            .map(Self)
            .with_context(|| format!("fs_dax/folios has {text:?}"))
    }

    /// Returns by how much a counter has grown since this was read.
    fn grown(&self, name: &str) -> Result<u64> {
        let get = |counts: &Self| counts.0.get(name).copied();
        let (Some(before), Some(now)) = (get(self), get(&Self::read()?)) else {
            bail!("fs_dax/folios has no {name}");
        };
        Ok(now - before)
    }

    /// Requires that counters have grown by so much.
    fn require(&self, wanted: &[(&str, u64)], when: &str) -> Result<()> {
        for (name, want) in wanted {
            let got = self.grown(name)?;
            ensure!(
                got == *want,
                "{when}: {name} has grown by {got}, not {want}"
            );
        }
        Ok(())
    }
}

fn require_shape(map: &Mapping, want: Shape, when: &str) -> Result<()> {
    let got = shape(map).with_context(|| when.to_owned())?;
    ensure!(got == want, "{when}: the pages are {got:?}, not {want:?}");
    Ok(())
}

/// Replaces the blocks of a file by unwritten ones, at the same place on ext4, so that the file has no
/// entry any more.
fn forget(file: &File, at: usize, len: usize) -> Result<()> {
    fallocate(file, libc::FALLOC_FL_ZERO_RANGE, at as u64, len as u64).context("zeroing a range")
}

declare! {
    /// memory of one file is mapped in pages of 2 MiB and of 4 KiB in turns, and its struct pages are
    /// not those of a folio, or of single pages, after that; or bytes of the file are wrong
    "fsdax::folio::turns" for [EXT4, EXT4_E820], 90 s => turns
}
fn turns(config: &Config) -> Result<String> {
    const LOOKED_AT: usize = 3;
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;
    forget(&file, 0, HUGE)?;
    let before = Counts::read()?;
    let end = Instant::now() + Duration::from_secs(5);
    let mut rounds = 0;
    while rounds < LOOKED_AT || Instant::now() < end {
        let seed = rounds as u64 * 2;
        let bytes = data::bytes(seed, HUGE);
        let map = large(&file, HUGE)?;
        map.write(0, &bytes);
        if rounds < LOOKED_AT {
            require_shape(&map, WHOLE, "mapped in 2 MiB")?;
            map.require(0, &bytes, "stores to 2 MiB")?;
        }
        drop(map);
        forget(&file, 0, HUGE)?;

        let map = small(&file, HUGE)?;
        let bytes = data::bytes(seed + 1, PAGE);
        for page in [511, 3, 0, 300] {
            map.write(page * PAGE, &bytes);
            map.require(page * PAGE, &bytes, "stores to 4 KiB")?;
        }
        if rounds < LOOKED_AT {
            map.prefault_write(PAGE);
            require_shape(&map, Shape::Single, "mapped in 4 KiB")?;
        }
        map.require(4 * PAGE, &[0; PAGE], "a page that was not stored to")?;
        drop(map);
        forget(&file, 0, HUGE)?;
        rounds += 1;
    }
    let each = rounds as u64;
    before.require(
        &[
            ("merged", each),
            ("split", each),
            ("unmerged-owned", 0),
            ("unmerged-pinned", 0),
            ("unsplit-owned", 0),
            ("unsplit-pinned", 0),
        ],
        "after all turns",
    )?;
    drop(file);
    fixture.finish()?;
    Ok(format!("{rounds} turns"))
}

declare! {
    /// faults of 2 MiB of memory that was one folio before make it again, or forget which file has it
    "fsdax::folio::stays" for [EXT4, XFS], 60 s, essential "ext4-dev-acpi" => stays
}
fn stays(config: &Config) -> Result<()> {
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;
    let map = large(&file, HUGE)?;
    map.peek(0);
    require_shape(&map, WHOLE, "after the first fault")?;
    let first = first_pfn(&map)?;
    let before = Counts::read()?;
    for (n, owner) in owners(&map)?.into_iter().enumerate() {
        ensure!(
            owner.mapping > SHARED && owner.index == n as u64,
            "page {n} belongs to {owner:x?}"
        );
    }
    drop(map);
    file.set_len(0).context("ftruncate")?;
    let got = shape_of(first)?;
    ensure!(got == WHOLE, "after the truncation the pages are {got:?}");
    before.require(&[("merged", 0), ("split", 0)], "after a truncation")?;
    drop(file);
    fixture.finish()
}

declare! {
    /// a file loses a part of 2 MiB, and the pages that it keeps have another owner, index or count
    /// than pages that were never one folio, or other bytes
    "fsdax::folio::part" for [EXT4, XFS], 60 s, essential "ext4-dev-acpi" => part
}
fn part(config: &Config) -> Result<()> {
    const LEFT: usize = 200;
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, HUGE);
    let file = fixture.written("data", &bytes)?;
    let map = large(&file, HUGE)?;
    map.write(0, &bytes);
    require_shape(&map, WHOLE, "mapped in 2 MiB")?;
    let (first, before) = (first_pfn(&map)?, Counts::read()?);
    file.set_len((LEFT * PAGE) as u64).context("ftruncate")?;
    before.require(&[("split", 1), ("unsplit-pinned", 0)], "after a truncation")?;
    let got = shape_of(first)?;
    ensure!(got == Shape::Single, "the pages are {got:?} after that");
    let left = small(&file, LEFT * PAGE)?;
    left.require(0, &bytes[..LEFT * PAGE], "what the file keeps")?;
    let owners = owners(&left)?;
    for (n, owner) in owners.iter().enumerate() {
        ensure!(
            owner.mapping == owners[0].mapping && owner.mapping > SHARED && owner.index == n as u64,
            "page {n} belongs to {owner:x?}"
        );
    }
    drop((map, left, file));
    fixture.finish()
}

declare! {
    /// blocks of a part of 2 MiB are freed although another part is pinned, or are not freed after
    /// that, or a page that is used again then is not what it was
    "fsdax::folio::pinned" for [EXT4, XFS], 60 s, essential "ext4-dev-acpi" => pinned
}
fn pinned(config: &Config) -> Result<()> {
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, HUGE);
    let file = fixture.written("data", &bytes)?;
    let map = large(&file, HUGE)?;
    let mut held = super::Held::take(&map, 2)?;
    let count = 1 + super::idle::PAGES as u32;
    require_shape(&map, Shape::Folio { count, parts: 0 }, "pinned")?;
    // It is the other half that loses its blocks.
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let theirs = file.try_clone().context("dup")?;
    let punch = Background::start(move || {
        fallocate(&theirs, mode, 0, 64 * PAGE as u64).context("punching a hole")
    });
    punch.must_wait("punching a hole beside a pin")?;
    held.release()?;
    punch.must_end("punching a hole beside a pin")?;
    map.require(0, &[0; 64 * PAGE], "the hole")?;
    map.require(
        64 * PAGE,
        &bytes[64 * PAGE..HUGE / 2],
        "bytes before the pinned pages",
    )?;
    drop((map, file));
    require_unpinned("punching a hole")?;
    fixture.finish()
}

declare! {
    /// two files share 2 MiB, one of them gets a page of its own, and a page counts other entries than
    /// the two files have
    "fsdax::folio::shared" for [REFLINK], 60 s, essential => shared
}
fn shared(config: &Config) -> Result<()> {
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, HUGE);
    let one = fixture.written("one", &bytes)?;
    let two = fixture.sparse("two", 0)?;
    clone(&one, &two)?;
    let maps = [large(&one, HUGE)?, large(&two, HUGE)?];
    for map in &maps {
        map.peek(0);
    }
    require_shape(&maps[0], WHOLE, "shared")?;
    let entries = |index| Owner {
        mapping: SHARED,
        index,
    };
    let require = |map: &Mapping, want: Owner, n: usize, when: &str| {
        let got = owners(map)?[n];
        ensure!(got == want, "{when}: page {n} has {got:x?}, not {want:x?}");
        Ok(())
    };
    require(&maps[0], entries(2), 0, "shared")?;
    let before = Counts::read()?;
    // A store through pages of 2 MiB may get 2 MiB of its own.
    small(&two, HUGE)?.write(7 * PAGE, &[9; 10]);
    before.require(&[("split", 1), ("unsplit-pinned", 0)], "after a store")?;
    for map in &maps {
        for page in 0..PAGES {
            map.peek(page * PAGE);
        }
    }
    require_shape(&maps[0], Shape::Single, "after a store")?;
    require(&maps[0], entries(1), 7, "after a store")?;
    require(&maps[0], entries(2), 8, "after a store")?;
    maps[0].require(0, &bytes, "the file that was not stored to")?;
    maps[1].require(7 * PAGE, &[9; 10], "the store")?;
    maps[1].require(8 * PAGE, &bytes[8 * PAGE..], "the rest of the other file")?;
    drop((maps, one, two));
    fixture.finish()
}

declare! {
    /// memory of a page of 2 MiB fails, and another page is marked, or a process is not told which; or
    /// the page is not as good as others after it was repaired
    "fsdax::folio::bad" for [EXT4_E820, REFLINK], 60 s => bad
}
fn bad(config: &Config) -> Result<()> {
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let bytes = data::bytes(1, HUGE);
    let file = fixture.written("data", &bytes)?;
    let map = large(&file, HUGE)?;
    map.write(0, &bytes);
    require_shape(&map, WHOLE, "mapped in 2 MiB")?;
    let first = first_pfn(&map)?;
    require_bad_page(&file, 37)?;
    for n in [0, 1, 36, 37, 38] {
        let got = is_poisoned(first + n)?;
        ensure!(got == (n == 37), "page {n} is marked as bad: {got}");
    }
    drop((map, file));
    fixture.finish()
}

declare! {
    /// direct I/O of the scratch disks and a mapping of 2 MiB, from each page on, has other bytes at
    /// one end than at the other
    "fsdax::folio::direct" for [EXT4, XFS], 120 s => direct
}
fn direct(config: &Config) -> Result<()> {
    const AT: u64 = 3 << 30;
    require_rust(NONE_IN_C)?;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("data", &data::bytes(1, HUGE))?;
    let map = large(&file, HUGE)?;
    map.poke(0, 1);
    require_shape(&map, WHOLE, "mapped in 2 MiB")?;
    for node in ["/dev/vdb", "/dev/nvme0n1"] {
        let path = Path::new(node);
        if !path.exists() {
            continue;
        }
        let disk = open_rw(path, true)?;
        for page in 0..PAGES {
            let len = (PAGES - page).min(3) * PAGE;
            let bytes = data::bytes(page as u64, len);
            map.write(page * PAGE, &bytes);
            pwrite_all(&disk, &map, page * PAGE, len, AT, len).context("mapping to disk")?;
            map.write(page * PAGE, &vec![0; len]);
            pread_all(&disk, &map, page * PAGE, len, AT, len).context("disk to mapping")?;
            map.require(page * PAGE, &bytes, "bytes that were on the disk")?;
        }
    }
    require_shape(&map, WHOLE, "after direct I/O")?;
    drop((map, file));
    require_unpinned("direct I/O")?;
    fixture.finish()
}
