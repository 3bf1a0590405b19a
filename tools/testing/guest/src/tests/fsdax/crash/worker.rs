// SPDX-License-Identifier: GPL-2.0

//! A worker: one filesystem, one way of making records durable, one process.
//!
//! It works in rounds. A round is a new file, into which the same number of
//! records is written, each at its own place, in random order; the file of the
//! round before the last is removed, so that blocks with old bytes are reused.
//! The first half of a file has small records, the second half is one record of
//! 2 MiB.

use std::os::unix::fs::OpenOptionsExt;

use super::log::Part;
use crate::filesystem::Kind;
use crate::flush::persist;
use crate::flushed::Flushes;
use crate::tests::fsdax::model::recorded;
use crate::tests::fsdax::{clone, large, small};
use crate::tests::prelude::*;

/// Length of a file in bytes.
const LEN: usize = 2 * HUGE;
/// Number of small records.
const SMALL: usize = 16;
/// Maximum size of a small record in bytes.
const ROOM: usize = HUGE / SMALL;
/// Number of records of a round.
pub const RECORDS: u64 = SMALL as u64 + 1;
/// Number of records between two messages to the host.
const OFTEN: u64 = 4;

/// The way in which a record becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Stores, msync().
    Msync,
    /// Stores, fdatasync().
    Fsync,
    /// Stores to a `MAP_SYNC` mapping, flushed by the program.
    MapSync,
    /// write() with O_DIRECT, fdatasync().
    Direct,
    /// write() with O_DSYNC.
    Written,
    /// Stores to a file that shares its blocks with the file of the previous
    /// round, fsync().
    Clone,
}

impl Way {
    pub const ALL: [Self; 6] = [
        Self::Msync,
        Self::Fsync,
        Self::MapSync,
        Self::Direct,
        Self::Written,
        Self::Clone,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Msync => "msync",
            Self::Fsync => "fsync",
            Self::MapSync => "map-sync",
            Self::Direct => "direct",
            Self::Written => "dsync",
            Self::Clone => "clone",
        }
    }

    /// Returns whether the kernel flushes what a worker has stored. (A program flushes the stores of
    /// a `MAP_SYNC` mapping itself, and write() does not leave its bytes in the caches.)
    fn is_flushed_by_kernel(self) -> bool {
        matches!(self, Self::Msync | Self::Fsync | Self::Clone)
    }

    /// Returns additional flags for open().
    fn flags(self) -> i32 {
        match self {
            Self::Direct => libc::O_DIRECT,
            Self::Written => libc::O_DSYNC,
            _ => 0,
        }
    }
}

/// The place of a record in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    at: usize,
    len: usize,
    seed: u64,
}

impl Record {
    fn bytes(&self) -> Vec<u8> {
        data::bytes(self.seed, self.len)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Worker {
    pub kind: Kind,
    pub way: Way,
    /// Index in the log.
    pub index: usize,
    seed: u64,
}

impl Worker {
    /// Creates a worker; each boot writes different bytes.
    pub fn new(kind: Kind, way: Way, index: usize, boot: u32, seed: u64) -> Self {
        let mut random = Random::new(seed ^ (u64::from(boot) << 32) ^ index as u64);
        Self {
            kind,
            way,
            index,
            seed: random.next(),
        }
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.kind.name(), self.way.name())
    }

    fn path(&self, dir: &Path, round: u64) -> PathBuf {
        dir.join(format!("{}-{round}", self.way.name()))
    }

    /// Returns the records of a round, in their order.
    fn plan(&self, round: u64) -> Vec<Record> {
        let mut random = Random::new(self.seed ^ (round << 8));
        // O_DIRECT requires whole blocks.
        let unit = if self.way == Way::Direct { PAGE } else { 1 };
        let mut places: Vec<(usize, usize)> = (0..SMALL)
            .map(|n| {
                let len = (1 + random.below(ROOM / unit)) * unit;
                let at = random.below((ROOM - len) / unit + 1) * unit;
                (n * ROOM + at, len)
            })
            .collect();
        places.push((HUGE, HUGE));
        let mut records: Vec<Record> = places
            .into_iter()
            .map(|(at, len)| Record {
                at,
                len,
                seed: random.next(),
            })
            .collect();
        for last in (1..records.len()).rev() {
            records.swap(last, random.below(last + 1));
        }
        records
    }

    /// Returns whether the file of this round starts as a copy of the previous
    /// one.
    fn is_clone(&self, round: u64) -> bool {
        self.way == Way::Clone && round % 2 == 1
    }

    /// Returns the content of a round's file before its first record.
    fn base(&self, round: u64) -> Vec<u8> {
        let mut image = vec![0; LEN];
        if self.is_clone(round) {
            for record in self.plan(round - 1) {
                image[record.at..][..record.len].copy_from_slice(&record.bytes());
            }
        }
        image
    }
}

/// Makes the entries of a directory durable.
fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("cannot sync {}", dir.display()))
}

/// The part before the power failure.
impl Worker {
    /// Writes round after round; returns only with an error.
    pub fn write(&self, dir: &Path, log: &Part<'_>) -> Result<()> {
        let flushes = match self.way.is_flushed_by_kernel() {
            true => recorded()?,
            false => None,
        };
        for round in 0.. {
            if round > 1 {
                log.keep(round - 1);
                let old = self.path(dir, round - 2);
                fs::remove_file(&old)
                    .with_context(|| format!("cannot remove {}", old.display()))?;
                sync_dir(dir)?;
                log.forget(round - 1);
            }
            let file = self.create(dir, round)?;
            let map = self.map(&file)?;
            let buffer = Mapping::anonymous(HUGE)?;
            for record in self.plan(round) {
                self.put(&file, &map, &buffer, &record, flushes.as_ref())
                    .with_context(|| format!("round {round}, {record:x?}"))?;
                log.add();
                if log.durable() % OFTEN == 0 {
                    println!("crash: durable {} {}", self.name(), log.durable());
                }
            }
        }
        bail!("there are no more rounds")
    }

    /// Creates the file of a round, which is durable except for its bytes.
    fn create(&self, dir: &Path, round: u64) -> Result<File> {
        let path = self.path(dir, round);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(self.way.flags())
            .open(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        if self.is_clone(round) {
            clone::clone(&File::open(self.path(dir, round - 1))?, &file)?;
        } else if round % 2 == 1 {
            fallocate(&file, 0, 0, LEN as u64).context("fallocate")?;
        } else {
            file.set_len(LEN as u64).context("ftruncate")?;
        }
        file.sync_all().context("fsync of a new file")?;
        sync_dir(dir)?;
        Ok(file)
    }

    fn map(&self, file: &File) -> Result<Mapping> {
        let sync = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;
        match self.way {
            Way::MapSync => {
                Mapping::with(file, 0, LEN, HUGE, libc::PROT_READ | libc::PROT_WRITE, sync)
            }
            // In C, stores to large entries of shared blocks miscount, and the
            // kernel dies.
            Way::Clone => small(file, LEN),
            _ => large(file, LEN),
        }
    }

    /// Writes a record, which is durable when this returns.
    fn put(
        &self,
        file: &File,
        map: &Mapping,
        buffer: &Mapping,
        record: &Record,
        flushes: Option<&Flushes>,
    ) -> Result<()> {
        let (at, len, bytes) = (record.at, record.len, record.bytes());
        let before = flushes.map(Flushes::now).transpose()?;
        match self.way {
            Way::Direct | Way::Written => {
                buffer.write(0, &bytes);
                pwrite_all(file, buffer, 0, len, at as u64, len)?;
            }
            _ => map.write(at, &bytes),
        }
        let stored = match flushes.zip(before) {
            Some((flushes, before)) => Some((flushes, flushes.stored_since(before, map, at, len)?)),
            None => None,
        };
        let first = at / PAGE * PAGE;
        match self.way {
            Way::Msync => map.sync(first, (at + len).next_multiple_of(PAGE) - first),
            Way::MapSync => {
                persist(map, at, len);
                Ok(())
            }
            Way::Written => Ok(()),
            Way::Fsync | Way::Direct => file.sync_data(),
            Way::Clone => file.sync_all(),
        }
        .context(self.way.name())?;
        match stored {
            Some((flushes, stored)) => flushes.require(&stored, self.way.name()),
            None => Ok(()),
        }
    }
}

/// The part after the power failure.
impl Worker {
    /// Returns an error unless the files match the log.
    pub fn compare(&self, dir: &Path, log: &Part<'_>) -> Result<()> {
        let durable = log.durable();
        for round in 0..log.gone() {
            let path = self.path(dir, round);
            ensure!(
                !path.exists(),
                "{} was durably removed, but exists",
                path.display()
            );
        }
        for round in log.kept()..=durable / RECORDS {
            let count = durable.saturating_sub(round * RECORDS).min(RECORDS);
            self.compare_round(dir, round, count as usize)
                .with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    /// Checks a round of which `durable` records are durable.
    fn compare_round(&self, dir: &Path, round: u64, durable: usize) -> Result<()> {
        let path = self.path(dir, round);
        let file = match open_rw(&path, false) {
            Ok(file) => file,
            // The file may not have been created by then.
            Err(_) if durable == 0 && !path.exists() => return Ok(()),
            Err(e) => return Err(e),
        };
        let len = file.metadata().context("fstat")?.len() as usize;
        // The blocks of a copy appear one after another, and the size with them.
        if durable == 0 && (len == 0 || self.is_clone(round)) {
            return Ok(());
        }
        ensure!(
            len == LEN,
            "the file has {len:#x} bytes instead of {LEN:#x}"
        );
        let mut want = self.base(round);
        let plan = self.plan(round);
        for record in plan.iter().take(durable) {
            want[record.at..][..record.len].copy_from_slice(&record.bytes());
        }
        let mut got = vec![0; LEN];
        file.read_exact_at(&mut got, 0).context("read")?;
        // Any part of the record that was being written may be present.
        if let Some(record) = plan.get(durable) {
            let range = record.at..record.at + record.len;
            for ((want, got), new) in want[range.clone()]
                .iter_mut()
                .zip(&got[range])
                .zip(record.bytes())
            {
                if *got == new {
                    *want = new;
                }
            }
        }
        if let Some(diff) = data::first_difference(&want, &got) {
            bail!("{diff}; durable are {:x?}, in this order", &plan[..durable]);
        }
        large(&file, LEN)?.require(0, &want, "the same file, mapped")
    }

    /// Removes the files to make room for those of the next boot.
    pub fn remove_all(&self, dir: &Path) -> Result<()> {
        let prefix = format!("{}-", self.way.name());
        for entry in fs::read_dir(dir).context("cannot list the files")? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_file(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn records_do_not_overlap() {
        for way in Way::ALL {
            let worker = Worker::new(Kind::Ext4, way, 3, 2, 1);
            for round in 0..20 {
                let mut plan = worker.plan(round);
                assert_eq!(plan.len() as u64, RECORDS);
                assert_eq!(plan, worker.plan(round));
                plan.sort_by_key(|r| r.at);
                assert!(plan.windows(2).all(|w| w[0].at + w[0].len <= w[1].at));
                assert!(plan.iter().all(|r| r.len > 0 && r.at + r.len <= LEN));
            }
        }
    }

    #[test]
    fn boots_and_workers_differ() {
        let seed = |index, boot| Worker::new(Kind::Ext4, Way::Msync, index, boot, 1).seed;
        assert_ne!(seed(0, 0), seed(1, 0));
        assert_ne!(seed(0, 0), seed(0, 1));
    }
}
