// SPDX-License-Identifier: GPL-2.0

//! Pages taken and given back in all ways by some threads, while another one takes the mapping
//! apart and puts it together again.
//!
//! Another process reads the mapping from outside meanwhile, if it is shared: that is the other way
//! to take pages. `run --all` keeps each storm up for a minute.
//!
//! No thread touches the memory itself, so nobody meets a signal: GUP brings in what is missing.
//! Half of the region may lose its bytes; the rest ([`Ground::kept`]) has to have them in the end.
//! And in the end nobody has a reference any more: the books say so for pins, and for the others
//! what cannot be done to a page that somebody refers to (collapsing it, freeing its block), or the
//! counts themselves.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure, Context, Result};

use super::super::direct_io::cross_copy;
use super::super::{per_kind, want, Test};
use super::per_memory;
use crate::command::timeout;
use crate::data;
use crate::filesystem::fallocate;
use crate::gup::{Counts, Device, How};
use crate::mapping::{open_rw, Mapping, PAGE};
use crate::memory::{Kind, Memory, HUGE};
use crate::ndctl::{Bus, Map, Mode, Want, GIB, KIB, MIB};
use crate::process::{fork_once, spawn, Child};
use crate::runner;
use crate::system;
use crate::target::Target;
use crate::vmstat::require_unpinned;

pub const LEN: usize = 4 * HUGE;

pub fn tests() -> Vec<Test> {
    let mut tests = per_memory(
        &[Kind::Anon, Kind::Thp, Kind::Shmem],
        "gup::storm",
        120,
        "a walk without locks met a page table that was freed, a page that was split, collapsed, replaced or \
         freed meanwhile, and kept or lost a reference: the books differ, pages cannot be collapsed, bytes \
         change, or the kernel complains",
        memory,
    );
    tests.extend(per_kind(
        &[
            want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi),
            want(Mode::Fsdax, 4 * KIB, Map::Dev, Bus::Acpi),
        ],
        "gup::storm",
        180,
        "a block of a file was freed under a reference or a reference of a walk was never dropped: punching \
         a hole or unmounting hangs, the books differ, or bytes change",
        fsdax,
    ));
    tests.extend(per_kind(
        &[
            want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
            want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
            want(Mode::Devdax, GIB, Map::Mem, Bus::Acpi),
        ],
        "gup::storm",
        300,
        "pages of a device are left with references after a storm, the namespace cannot be disabled and \
         enabled in between, or bytes change",
        devdax,
    ));
    tests
}

/// What the threads work on.
pub struct Ground<'a> {
    pub map: &'a Mapping,
    /// What is mapped shared, from its start on.
    pub file: Option<&'a File>,
    /// What new memory in it is advised.
    pub advice: Option<i32>,
    /// The smallest part that can be unmapped.
    pub unit: usize,
    /// So many bytes from the start have to stay what they are.
    pub kept: usize,
}

/// Draws numbers, the same ones for each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        let mut word = [0; 8];
        data::fill(self.0, &mut word);
        self.0 = self.0.wrapping_add(1);
        (u64::from_le_bytes(word) >> 16) as usize % end
    }

    /// A part of `len` bytes in units: at least one.
    fn part(&mut self, from: usize, len: usize, unit: usize) -> (usize, usize) {
        let at = self.below(len / unit);
        let units = 1 + self.below(len / unit - at);
        (from + at * unit, units * unit)
    }
}

/// Takes pages in all ways until told to stop. Returns how many calls took what they asked for,
/// and how many did not.
fn take_all(ground: &Ground<'_>, seed: u64, stop: &AtomicBool) -> Result<(u64, u64)> {
    let device = Device::open()?;
    let mut draw = Draw(seed << 32);
    let (mut whole, mut partly) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let how = How::ALL[draw.below(How::ALL.len())];
        let write = draw.below(2) == 0;
        // The test device warns of pinned zero pages, which reading may bring where bytes get
        // lost.
        let end = match how.pins() && !write {
            true => ground.kept,
            false => ground.map.len(),
        };
        let (at, len) = draw.part(0, end, PAGE);
        let per_call = [1, 16, 512, 1024][draw.below(4)];
        // Page by page it takes long.
        let len = len.min(per_call * 64 * PAGE);
        let got = device
            .cycle(how, ground.map, at, len, per_call as u32, write)
            .with_context(|| format!("{how:?} of {at:#x}+{len:#x}, {per_call} per call"))?;
        match got as usize * PAGE == len {
            true => whole += 1,
            false => partly += 1,
        }
    }
    Ok((whole, partly))
}

/// A process that reads this one's memory until it is told to stop.
struct Outside {
    child: Child,
    /// Whether it is to stop, and how many reads it did.
    told: Mapping,
}

impl Outside {
    fn start(map: &Mapping) -> Result<Self> {
        let told = Mapping::shared_memory(PAGE)?;
        // SAFETY: a plain call.
        let pid = unsafe { libc::getpid() };
        let child = spawn(|| {
            let buffer = Mapping::anonymous(map.len().min(LEN))?;
            let mut draw = Draw(77 << 32);
            let mut reads = 0u64;
            while told.peek(0) == 0 {
                let (at, len) = draw.part(0, buffer.len(), PAGE);
                match cross_copy(pid, &buffer, map.addr() + at, len, false) {
                    Ok(_) => reads += 1,
                    // Where nothing is mapped, or without rights, at this moment.
                    Err(e) if e.raw_os_error() == Some(libc::EFAULT) => {}
                    Err(e) => return Err(e).context("process_vm_readv"),
                }
            }
            told.write(8, &reads.to_le_bytes());
            Ok(())
        })?;
        Ok(Self { child, told })
    }

    fn stop(self) -> Result<u64> {
        self.told.poke(0, 1);
        self.child.join(30, "the process that reads from outside")?;
        let mut reads = [0; 8];
        self.told.read(8, &mut reads);
        Ok(u64::from_le_bytes(reads))
    }
}

/// One thing that is done to the mapping; the number chooses.
pub type Disturbance = fn(&Ground<'_>, (usize, usize), &Mapping) -> Result<()>;

/// Runs a storm. `anywhere` may be done to all of the mapping, `losing` to what is not kept.
pub fn storm(
    ground: &Ground<'_>,
    anywhere: &[Disturbance],
    losing: &[Disturbance],
) -> Result<String> {
    let aside = Mapping::reserve(ground.map.len(), HUGE)?;
    // What is moved there needs a hole.
    aside.punch(0, aside.len()).context("munmap")?;
    let threads = thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let outside = match ground.file {
        Some(_) => Some(Outside::start(ground.map)?),
        None => None,
    };
    let stop = AtomicBool::new(false);
    let (took, rounds) = thread::scope(|scope| {
        let takers: Vec<_> = (1..=threads as u64)
            .map(|seed| (seed, &stop))
            .map(|(seed, stop)| scope.spawn(move || take_all(ground, seed, stop)))
            .collect();
        let end = Instant::now() + runner::race_time(timeout(Duration::from_secs(2)));
        let mut draw = Draw(0);
        let mut rounds = 0u64;
        let mut outcome = Ok(());
        while Instant::now() < end && outcome.is_ok() {
            rounds += 1;
            let n = draw.below(anywhere.len() + losing.len());
            let (disturb, from) = match anywhere.get(n) {
                Some(disturb) => (disturb, 0),
                None => (&losing[n - anywhere.len()], ground.kept),
            };
            let part = draw.part(from, ground.map.len() - from, ground.unit);
            outcome = disturb(ground, part, &aside);
        }
        stop.store(true, Ordering::Relaxed);
        let mut sum = (0, 0);
        for taker in takers {
            let (whole, partly) = taker.join().map_err(|_| anyhow!("a thread panicked"))??;
            sum = (sum.0 + whole, sum.1 + partly);
        }
        outcome.map(|()| (sum, rounds))
    })?;
    let reads = match outside {
        Some(outside) => outside.stop()?,
        None => 0,
    };
    require_unpinned("the storm")?;
    ensure!(took.0 > 0, "no call took the pages that it asked for");
    Ok(format!(
        "{} calls took all and {} some pages, {reads} reads from outside, {rounds} disturbances",
        took.0, took.1
    ))
}

/// Takes rights away and gives them back. Splits huge pages.
pub fn protect(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    for prot in [
        libc::PROT_READ,
        libc::PROT_NONE,
        libc::PROT_READ | libc::PROT_WRITE,
    ] {
        ground.map.protect(at, len, prot).context("mprotect")?;
    }
    Ok(())
}

/// Takes the entries away. What is private is lost.
pub fn zap(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let advice = libc::MADV_DONTNEED;
    ground.map.advise(at, len, advice).context("MADV_DONTNEED")
}

/// Unmaps and maps again. What is private is lost.
fn renew(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    ground.map.punch(at, len).context("munmap")?;
    ground.map.mend(ground.file, at, len).context("mmap")?;
    match ground.advice {
        Some(advice) => ground.map.advise(at, len, advice).context("madvise"),
        None => Ok(()),
    }
}

fn carry(ground: &Ground<'_>, (at, len): (usize, usize), aside: &Mapping) -> Result<()> {
    // In two ranges mremap() does not move what a part of was moved before.
    let len = len.min(ground.unit.max(HUGE));
    match ground.map.move_aside_and_back(aside, at, len) {
        // The part consists of more than one mapping, by other rights or flags.
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other.context("mremap"),
    }
}

fn fork(_: &Ground<'_>, _: (usize, usize), _: &Mapping) -> Result<()> {
    fork_once()
}

/// Brings pages in, without a signal where there are none.
fn populate(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let _ = ground.map.advise(at, len, libc::MADV_POPULATE_WRITE);
    Ok(())
}

/// Makes huge pages where it can.
fn collapse(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let _ = ground.map.advise(at, len, libc::MADV_COLLAPSE);
    Ok(())
}

/// Splits folios of more than one page into pages, where nobody refers to them.
fn split(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let path = system::debugfs()?.join("split_huge_pages");
    let from = ground.map.addr() + at;
    let what = format!("{},{from:#x},{:#x}", std::process::id(), from + len);
    fs::write(path, what).context("split_huge_pages")
}

/// Frees blocks of the file and allocates them again.
fn punch(ground: &Ground<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let file = ground.file.context("there is no file")?;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, at as u64, len as u64).context("punching a hole")?;
    fallocate(file, 0, at as u64, len as u64).context("fallocate")
}

/// Cuts the file and makes it as long again.
fn truncate(ground: &Ground<'_>, (at, _): (usize, usize), _: &Mapping) -> Result<()> {
    let file = ground.file.context("there is no file")?;
    // Also in the middle of a page.
    file.set_len(at as u64 + 17).context("ftruncate")?;
    fallocate(file, 0, 0, ground.map.len() as u64).context("fallocate")
}

fn memory(kind: Kind) -> Result<String> {
    let memory = Memory::create(kind, LEN, 1)?;
    memory.touch()?;
    let bytes = data::bytes(151, LEN);
    memory.map.write(0, &bytes);
    let ground = Ground {
        map: &memory.map,
        file: memory.file.as_ref(),
        advice: match kind {
            Kind::Anon => Some(libc::MADV_NOHUGEPAGE),
            Kind::Thp => Some(libc::MADV_HUGEPAGE),
            _ => None,
        },
        unit: memory.unit(),
        kept: LEN / 2,
    };
    let said = match kind {
        Kind::Shmem => storm(
            &ground,
            &[protect, zap, renew, carry, fork, populate, split, collapse],
            &[punch, truncate],
        )?,
        Kind::Thp => storm(
            &ground,
            &[protect, carry, fork, populate, split, collapse, collapse],
            &[zap, renew],
        )?,
        _ => storm(&ground, &[protect, carry, fork, populate], &[zap, renew])?,
    };
    memory
        .map
        .require(0, &bytes[..LEN / 2], "memory after the storm")?;
    nobody_refers(&memory.map, LEN / 2)?;
    memory
        .map
        .require(0, &bytes[..LEN / 2], "collapsed memory")?;
    Ok(said)
}

/// Pages that somebody has a reference to cannot be collapsed.
fn nobody_refers(map: &Mapping, len: usize) -> Result<()> {
    map.advise(0, len, libc::MADV_HUGEPAGE)
        .context("MADV_HUGEPAGE")?;
    let end = Instant::now() + timeout(Duration::from_secs(5));
    for at in (0..len).step_by(HUGE) {
        // After a fork all are read-only; one writable page is wanted, and the others must not be
        // replaced by copies that nobody knows.
        map.poke(at, map.peek(at));
        // Pages on their way to a list have a reference for a moment.
        while let Err(e) = map.advise(at, HUGE, libc::MADV_COLLAPSE) {
            ensure!(
                Instant::now() < end,
                "memory cannot be collapsed after the storm ({e}): somebody still has references"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn fsdax(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    let bytes = data::bytes(152, LEN);
    map.write(0, &bytes);
    let ground = Ground {
        map: &map,
        file: Some(&target.file),
        advice: None,
        unit: PAGE,
        kept: LEN / 2,
    };
    let said = storm(
        &ground,
        &[protect, zap, renew, carry, fork, populate],
        &[punch, truncate],
    )?;
    map.require(0, &bytes[..LEN / 2], "the mapping after the storm")?;
    idle(&map, LEN / 2, PAGE)?;
    // Waits for each page of the file to be idle.
    target.file.set_len(0).context("ftruncate")?;
    drop(map);
    target.finish()?;
    Ok(said)
}

/// Looks at some pages of the first `len` bytes of a device, whose folios are `unit` bytes large:
/// nobody has a reference but the asker.
pub fn idle(map: &Mapping, len: usize, unit: usize) -> Result<()> {
    let device = Device::open()?;
    // Each large folio, or some 16 pages at different places of their 2 MiB.
    let step = unit.max(len / 16 + PAGE);
    for at in (0..len).step_by(step) {
        let counts = device.counts(map, at)?;
        ensure!(
            counts
                == Counts {
                    references: 2,
                    pins: 0
                },
            "the page at {at:#x} has other counts than one reference of its own and one of the asker: {counts:?}"
        );
    }
    Ok(())
}

fn devdax(want: &Want) -> Result<String> {
    let Target {
        file,
        mut namespace,
        ..
    } = Target::create(want, LEN as u64)?;
    drop(file);
    let bytes = data::bytes(153, LEN);
    let mut said = Vec::new();
    for round in 0..2 {
        let file = open_rw(&namespace.node()?, false)?;
        let unit = want.align as usize;
        let map = Mapping::shared(&file, 0, LEN.next_multiple_of(unit), unit.max(HUGE))?;
        if round == 0 {
            map.write(0, &bytes);
        }
        let ground = Ground {
            map: &map,
            file: Some(&file),
            advice: None,
            unit,
            kept: map.len(),
        };
        said.push(storm(
            &ground,
            &[protect, zap, renew, carry, fork, populate],
            &[],
        )?);
        map.require(0, &bytes, "the device after the storm")?;
        idle(&map, LEN, unit)?;
        drop(map);
        drop(file);
        namespace.disable()?;
        namespace.enable()?;
    }
    namespace.destroy()?;
    Ok(said.join("; "))
}
