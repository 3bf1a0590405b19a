// SPDX-License-Identifier: GPL-2.0

//! Faults of both sizes against all operations that remove pages.
//!
//! Each racer owns one byte of every page, stores numbers there and reads
//! them back. A stored byte stays, unless the race frees blocks: then it may
//! become zero, and once it has been seen as zero, the old number must never
//! reappear. The kernel does the loads and stores (read() into a mapping,
//! write() from it), so that a missing page is EFAULT instead of a signal. `run
//! --all` continues each race for a minute.

mod passing;

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use super::{large, require_rust, small, Config, Fixture, EXT2, EXT4, REFLINK, XFS};
use crate::flushed::Flushes;
use crate::tests::prelude::*;

const LEN: usize = 3 * HUGE;
/// Number of pages that racers use: enough for collisions.
const PLACES: usize = 24;

/// Threads that each repeat one operation.
#[derive(Default)]
struct Race {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<Result<u64>>)>,
}

impl Race {
    fn add(
        &mut self,
        name: &'static str,
        mut work: impl FnMut(&mut Random) -> Result<()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let mut random = Random::new(self.threads.len() as u64);
        let thread = thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                if let Err(e) = work(&mut random) {
                    stop.store(true, Ordering::Relaxed);
                    return Err(e);
                }
                count += 1;
            }
            Ok(count)
        });
        self.threads.push((name, thread));
    }

    /// Runs the race, and returns how often each operation ran.
    fn run(self) -> Result<String> {
        thread::sleep(runner::race_time(Duration::from_millis(1500)));
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = BTreeMap::<&str, u64>::new();
        let mut result = Ok(());
        for (name, thread) in self.threads {
            match thread.join() {
                Ok(Ok(count)) => *counts.entry(name).or_default() += count,
                Ok(Err(e)) if result.is_ok() => result = Err(e.context(name)),
                Ok(Err(_)) => {}
                Err(_) => result = Err(anyhow!("{name}: a thread panicked")),
            }
        }
        result?;
        let report: Vec<String> = counts.iter().map(|(n, c)| format!("{c} {n}")).collect();
        ensure!(
            counts.values().all(|c| *c > 0),
            "some of the racers never ran: {}",
            report.join(", ")
        );
        Ok(report.join(", "))
    }
}

/// The changes that a race may make to a racer's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    Stay,
    Go,
}

/// A thread that stores and loads one byte of some pages.
struct Racer {
    map: Arc<Mapping>,
    column: usize,
    blocks: Blocks,
    /// 256 numbers to store from, and room to load to.
    numbers: File,
    /// The expected byte of each page, or zero.
    expected: Vec<u8>,
}

impl Racer {
    fn new(map: &Arc<Mapping>, column: usize, blocks: Blocks) -> Result<Self> {
        let name = format!("/dev/shm/guest-test-{}-{column}", std::process::id());
        let numbers = File::create(&name)
            .and_then(|_| File::options().read(true).write(true).open(&name))
            .with_context(|| format!("cannot create {name}"))?;
        fs::remove_file(&name).context("cannot remove a file")?;
        let all: Vec<u8> = (0..=255).collect();
        numbers
            .write_all_at(&all, 0)
            .context("cannot write numbers")?;
        Ok(Self {
            map: map.clone(),
            column,
            blocks,
            numbers,
            expected: vec![0; PLACES],
        })
    }

    /// Returns the `n`th offset, distributed over the file.
    fn at(&self, n: usize) -> usize {
        // Neighbours, the first of a huge page, and some far apart.
        let page = match n % 4 {
            0 => n / 4 * (LEN / PAGE) / (PLACES / 4),
            r => n / 4 * (LEN / PAGE) / (PLACES / 4) + r * 7,
        };
        page * PAGE + self.column
    }

    /// Returns whether the page was present. If no block is freed, each page is.
    fn there(&self, result: io::Result<usize>) -> Result<bool> {
        match result {
            Ok(1) => Ok(true),
            Ok(n) => bail!("{n} bytes were moved instead of one"),
            Err(e) if self.blocks == Blocks::Go && e.raw_os_error() == Some(libc::EFAULT) => {
                Ok(false)
            }
            Err(e) => Err(e).context("moving one byte"),
        }
    }

    fn store(&mut self, n: usize, number: u8) -> Result<()> {
        let stored = pread_once(&self.numbers, &self.map, self.at(n), 1, number.into());
        if self.there(stored)? {
            self.expected[n] = number;
        }
        Ok(())
    }

    fn load(&mut self, n: usize) -> Result<()> {
        const TO: u64 = 300;
        let loaded = pwrite_once(&self.numbers, &self.map, self.at(n), 1, TO);
        if !self.there(loaded)? {
            return Ok(());
        }
        let mut got = [0];
        self.numbers
            .read_exact_at(&mut got, TO)
            .context("cannot read a number")?;
        match (got[0], self.blocks) {
            (got, _) if got == self.expected[n] => Ok(()),
            (0, Blocks::Go) => {
                self.expected[n] = 0;
                Ok(())
            }
            (got, _) => bail!(
                "page {:#x} has {got} where {} was stored",
                self.at(n) / PAGE,
                self.expected[n]
            ),
        }
    }

    fn step(&mut self, random: &mut Random) -> Result<()> {
        let n = random.below(PLACES);
        match random.below(2) {
            0 => self.store(n, 1 + random.below(255) as u8),
            _ => self.load(n),
        }
    }
}

/// Adds a racer on each of the mappings.
fn racers(race: &mut Race, maps: &[Arc<Mapping>], blocks: Blocks) -> Result<()> {
    for (column, map) in maps.iter().enumerate() {
        let mut racer = Racer::new(map, column * 100, blocks)?;
        race.add("loads and stores", move |random| racer.step(random));
    }
    Ok(())
}

/// Returns two mappings each with huge and with small pages of one file.
fn four(file: &File) -> Result<Vec<Arc<Mapping>>> {
    let wide = Arc::new(large(file, LEN)?);
    let narrow = Arc::new(small(file, LEN)?);
    let another = Arc::new(large(file, LEN)?);
    Ok(vec![wide.clone(), narrow, another, wide])
}

fn dup(file: &File) -> Result<File> {
    file.try_clone().context("dup")
}

declare! {
    /// faults of 4 KiB and 2 MiB on one range, which is punched concurrently, hang, lose a store or
    /// bring back old bytes
    "fsdax::race::punch" for [EXT4, XFS], 120 s, essential "ext4-dev-acpi" "xfs-mem-acpi" => punch
}
fn punch(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("data", LEN as u64)?;
    let mut race = Race::default();
    racers(&mut race, &four(&file)?, Blocks::Go)?;
    let theirs = dup(&file)?;
    race.add("holes", move |random| {
        let (at, len) = match random.below(3) {
            0 => (random.below(LEN / HUGE) * HUGE, HUGE),
            1 => (random.below(LEN / PAGE) * PAGE, PAGE),
            _ => (0, LEN),
        };
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        fallocate(&theirs, mode, at as u64, len as u64).context("punching a hole")?;
        thread::sleep(Duration::from_millis(2));
        Ok(())
    });
    let report = race.run()?;
    drop(file);
    fixture.finish()?;
    Ok(report)
}

declare! {
    /// faults on a file that becomes shorter and longer hang, lose a store or bring back old bytes
    "fsdax::race::truncate" for [EXT2, XFS], 120 s, essential "xfs-mem-acpi" => truncate
}
fn truncate(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("data", LEN as u64)?;
    let mut race = Race::default();
    racers(&mut race, &four(&file)?, Blocks::Go)?;
    let theirs = dup(&file)?;
    race.add("truncations", move |random| {
        let len = match random.below(3) {
            0 => random.below(LEN / HUGE) * HUGE,
            1 => random.below(LEN),
            _ => 0,
        };
        theirs.set_len(len as u64).context("ftruncate")?;
        thread::sleep(Duration::from_millis(1));
        theirs.set_len(LEN as u64).context("ftruncate")?;
        thread::sleep(Duration::from_millis(3));
        Ok(())
    });
    let report = race.run()?;
    drop(file);
    fixture.finish()?;
    Ok(report)
}

declare! {
    /// a store during fsync, or one after it, is lost: it is neither written back nor still dirty
    "fsdax::race::sync" for [EXT4, XFS], 120 s, essential "ext4-dev-acpi" => sync
}
/// Requires that the final content of the mappings is on the device.
fn sync(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("data", LEN as u64)?;
    let maps = four(&file)?;
    let mut race = Race::default();
    racers(&mut race, &maps, Blocks::Stay)?;
    let theirs = dup(&file)?;
    race.add("fsyncs", move |random| {
        match random.below(2) {
            0 => theirs.sync_all(),
            _ => theirs.sync_data(),
        }
        .context("fsync")
    });
    let report = race.run()?;
    require_noticed(&file, &maps)?;
    let mut want = vec![0; LEN];
    maps[0].read(0, &mut want);
    drop((maps, file));
    let fixture = fixture.remount("dax")?;
    let got = fs::read(fixture.path("data")).context("read")?;
    data::require_same(&want, &got, "the file after mounting again")?;
    fixture.finish()?;
    Ok(report)
}

/// Requires that fsync() flushes what is stored now: a page that the race has left writable, though
/// fs/dax takes it for clean, is missed.
fn require_noticed(file: &File, maps: &[Arc<Mapping>]) -> Result<()> {
    let flushes = Flushes::start()?;
    for map in maps {
        for at in (0..LEN).step_by(PAGE) {
            map.poke(at, map.peek(at));
        }
        let stored = flushes.stored(map, 0, LEN)?;
        file.sync_all().context("fsync")?;
        flushes.require(&stored, "fsync of stores after the race")?;
    }
    Ok(())
}

declare! {
    /// faults on a mapping of which parts are unmapped, mapped and zapped hang or show other bytes
    "fsdax::race::unmap" for [EXT4], 120 s, essential => unmap
}
fn unmap(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("data", LEN as u64)?;
    let maps = four(&file)?;
    let mut race = Race::default();
    racers(&mut race, &maps, Blocks::Stay)?;
    for map in [maps[0].clone(), maps[1].clone()] {
        let theirs = dup(&file)?;
        race.add("unmappings", move |random| {
            let (at, len) = match random.below(2) {
                0 => (random.below(LEN / HUGE) * HUGE, HUGE),
                _ => (random.below(LEN / PAGE) * PAGE, PAGE),
            };
            if random.below(2) == 0 {
                return map
                    .advise(at, len, libc::MADV_DONTNEED)
                    .context("MADV_DONTNEED");
            }
            map.renew(&theirs, at, len).context("mmap")
        });
    }
    let report = race.run()?;
    drop((maps, file));
    fixture.finish()?;
    Ok(report)
}

declare! {
    /// write() and read() concurrent with faults on the same 2 MiB lose bytes of one of them
    "fsdax::race::direct" for [XFS], 120 s, essential => direct
}
/// Writes and reads some pages by system calls; others are the racers'.
fn direct(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let file = fixture.sparse("data", LEN as u64)?;
    let maps = four(&file)?;
    let mut race = Race::default();
    racers(&mut race, &maps, Blocks::Stay)?;
    for (column, direct) in [false, true].into_iter().enumerate() {
        let theirs = open_rw(&fixture.path("data"), direct)?;
        let (map, memory) = (maps[0].clone(), Mapping::anonymous(PAGE)?);
        race.add("writes and reads", move |random| {
            // The racers' pages are at offsets 0, 7, 14 and 21 from a multiple
            // of 256.
            let at = (random.below(LEN / HUGE) * 512 + 30 + 8 * random.below(8) + column) * PAGE;
            let bytes = data::bytes(random.below(1 << 20) as u64, PAGE);
            memory.write(0, &bytes);
            let n = pwrite_once(&theirs, &memory, 0, PAGE, at as u64).context("write")?;
            ensure!(n == PAGE, "a short write of {n} bytes");
            map.require(at, &bytes, "the mapping after write()")?;
            memory.write(0, &[0; PAGE]);
            let n = pread_once(&theirs, &memory, 0, PAGE, at as u64).context("read")?;
            ensure!(n == PAGE, "a short read of {n} bytes");
            memory.require(0, &bytes, "read() after write()")
        });
    }
    let report = race.run()?;
    drop((maps, file));
    fixture.finish()?;
    Ok(report)
}

declare! {
    /// a store to a file whose blocks become shared at that moment goes to the other file, or is lost
    "fsdax::race::clone" for [REFLINK], 120 s, essential => clone
}
/// Clones repeatedly one file to another, which is stored to as well.
fn clone(config: &Config) -> Result<String> {
    require_rust(super::clone::MISCOUNTS)?;
    let fixture = Fixture::create(config)?;
    let file = fixture.written("first", &vec![0; LEN])?;
    let second = fixture.sparse("second", 0)?;
    let maps = four(&file)?;
    let mut race = Race::default();
    racers(&mut race, &maps, Blocks::Stay)?;
    let from = dup(&file)?;
    race.add("clones", move |random| {
        super::clone::clone(&from, &second)?;
        let map = large(&second, LEN)?;
        for _ in 0..4 {
            map.poke(random.below(LEN), 0xee);
        }
        Ok(())
    });
    let report = race.run()?;
    drop((maps, file));
    fixture.finish()?;
    Ok(report)
}
