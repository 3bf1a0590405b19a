// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail during a store to a block which files share.
//!
//! The store takes a copy of the block, its entry names the copy, and then there may be no memory for
//! the page table. If the filesystem took the copy back, the entry would name a block that belongs to
//! no file, or soon to another one. So whichever allocation fails, the file has its bytes, and its
//! entry names its block. Stores of a program are repeated until there is memory, which hides this;
//! so `MADV_POPULATE_WRITE` makes the fault here, and fails.

use super::recovery::sector_of;
use super::{clone, small, Config, Fixture, REFLINK};
use crate::flushed::{address, Flushes};
use crate::inject::{nth, Counted};
use crate::tests::prelude::*;

/// More than XFS copies at once.
const LEN: usize = 64 * PAGE;
/// The page that is stored to.
const AT: usize = 37 * PAGE;
/// A fault has fewer allocations than this.
const MOST: u32 = 200;

declare! {
    /// there is no memory for a step of a store to a shared block, for the page table at last, and
    /// afterwards the file has other bytes, or an entry names a block that is not the file's
    "fsdax::no-memory::store" for [REFLINK], 300 s => store
}
fn store(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let mut files = Pair::new(&fixture)?;
    let mut report = Vec::new();
    for counted in [Counted::Pages, Counted::All] {
        let mut failed = 0;
        for n in 1.. {
            ensure!(
                n < MOST,
                "a fault allocates {MOST} times: fail-nth does not count"
            );
            let (errno, reached) = files.round(counted, n).with_context(|| {
                format!("allocation {n} of a store to a shared block fails ({counted:?})")
            })?;
            failed += u32::from(errno.is_some());
            if !reached {
                ensure!(errno.is_none(), "without a failure: errno {errno:?}");
                report.push(format!("{counted:?}: {failed} of {} fail the store", n - 1));
                break;
            }
        }
        ensure!(failed > 0, "this proves nothing: no allocation is needed");
    }
    drop(files);
    fixture.finish()?;
    Ok(report.join(", "))
}

/// Two files that share their blocks.
struct Pair<'f> {
    fixture: &'f Fixture,
    first: File,
    second: File,
    want: Vec<u8>,
    /// The physical address of the first sector.
    base: u64,
    seed: u8,
}

impl<'f> Pair<'f> {
    fn new(fixture: &'f Fixture) -> Result<Self> {
        let want = data::bytes(1, LEN);
        let first = fixture.written("first", &want)?;
        let map = small(&first, LEN)?;
        map.peek(0);
        let base = address(&map, 0)? - sector_of(&fixture.path("first"), 0)? * SECTOR;
        Ok(Self {
            fixture,
            first,
            second: fixture.sparse("second", 0)?,
            want,
            base,
            seed: 0,
        })
    }

    /// Makes a fault for a store to a shared block, whose `n`th allocation fails. Returns its errno,
    /// and whether there were so many.
    fn round(&mut self, counted: Counted, n: u32) -> Result<(Option<i32>, bool)> {
        self.second.set_len(0).context("truncating the clone")?;
        clone(&self.first, &self.second)?;
        self.first.sync_all().context("fsync")?;
        // A new mapping has no page table.
        let map = small(&self.first, LEN)?;
        let populate = || map.advise(AT, PAGE, libc::MADV_POPULATE_WRITE);
        let (result, reached) = nth(counted, n, populate)?;
        let errno = match result {
            Ok(()) => None,
            Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => Some(libc::ENOMEM),
            Err(e) => return Err(e).context("MADV_POPULATE_WRITE"),
        };
        self.require_bytes(&self.want, "after the fault")?;
        self.require_named(&map)?;
        // With memory, the store works.
        let theirs = self.want.clone();
        self.seed = self.seed.wrapping_add(1);
        map.write(AT, &[self.seed; 3]);
        self.want[AT..AT + 3].fill(self.seed);
        let flushes = Flushes::start()?;
        let stored = flushes.stored(&map, AT, 3)?;
        self.first.sync_all().context("fsync")?;
        flushes.require(&stored, "fsync of a store after the fault")?;
        self.require_bytes(&theirs, "after a store")?;
        Ok((errno, reached))
    }

    /// Requires the bytes of the two files.
    fn require_bytes(&self, theirs: &[u8], when: &str) -> Result<()> {
        for (file, want, name) in [
            (&self.first, self.want.as_slice(), "the file"),
            (&self.second, theirs, "its clone"),
        ] {
            let mut got = vec![0; LEN];
            file.read_exact_at(&mut got, 0).context("read")?;
            data::require_same(want, &got, format_args!("{name} {when}"))?;
        }
        Ok(())
    }

    /// Requires that the entry of the page, if there is one, names the block that the file has there:
    /// fsync flushes no other, and a load maps no other.
    fn require_named(&self, map: &Mapping) -> Result<()> {
        let flushes = Flushes::start()?;
        self.first.sync_all().context("fsync")?;
        let flushed = flushes.all()?;
        drop(flushes);
        let block = self.base + sector_of(&self.fixture.path("first"), AT)? * SECTOR;
        let block = block..block + PAGE as u64;
        for range in flushed {
            ensure!(
                block.start <= range.start && range.end <= block.end,
                "fsync flushes {range:#x?}, where the file has {block:#x?}: an entry names a block that \
                 was taken back"
            );
        }
        map.require(0, &self.want, "a mapping after the fault")?;
        let mapped = address(map, AT)?;
        ensure!(
            mapped == block.start,
            "{mapped:#x} is mapped, where the file has {block:#x?}"
        );
        Ok(())
    }
}

/// The unit of [`sector_of`], in bytes.
const SECTOR: u64 = 512;
