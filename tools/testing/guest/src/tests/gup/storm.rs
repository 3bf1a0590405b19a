// SPDX-License-Identifier: GPL-2.0

//! Some threads take and release pages in all ways, while another one unmaps, maps and changes the
//! mapping.
//!
//! If the mapping is shared, another process reads it from outside meanwhile, which is another
//! way to take pages. `run --all` continues each storm for a minute.
//!
//! No thread touches the memory itself, so no signal is raised: GUP faults in missing pages.
//! Half of the region may lose its bytes; the rest ([`Fixture::kept`]) has to keep them. After the
//! storm no references may be left: the vmstat counters show this for pins, and for other
//! references the operations that a referenced page prevents (collapsing it, freeing its block), or
//! the counts themselves.

use crate::gup::{Counts, Device, Method};
use crate::memory::{Kind, Memory};
use crate::process::fork_once;
use crate::tests::prelude::*;

pub const LEN: usize = 4 * HUGE;

/// The object of the threads' operations.
pub struct Fixture<'a> {
    pub map: &'a Mapping,
    /// The file that is mapped shared, from its start.
    pub file: Option<&'a File>,
    /// Advice for new memory in the mapping.
    pub advice: Option<i32>,
    /// The smallest part that can be unmapped, in bytes.
    pub unit: usize,
    /// Number of bytes from the start that must be kept.
    pub kept: usize,
}

/// A generator of numbers that are the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        let mut word = [0; 8];
        data::fill(self.0, &mut word);
        self.0 = self.0.wrapping_add(1);
        (u64::from_le_bytes(word) >> 16) as usize % end
    }

    /// Returns a part of `len` bytes in units: at least one.
    fn part(&mut self, from: usize, len: usize, unit: usize) -> (usize, usize) {
        let at = self.below(len / unit);
        let units = 1 + self.below(len / unit - at);
        (from + at * unit, units * unit)
    }
}

/// Takes pages in all ways until `stop` is set. Returns the number of calls that took all requested
/// pages, and of those that did not.
fn take_all(fixture: &Fixture<'_>, seed: u64, stop: &AtomicBool) -> Result<(u64, u64)> {
    let device = Device::open()?;
    let mut draw = Draw(seed << 32);
    let (mut whole, mut partly) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let method = Method::ALL[draw.below(Method::ALL.len())];
        let write = draw.below(2) == 0;
        // The test device warns about pinned zero pages, which reading may map where bytes are
        // lost.
        let end = match method.pins() && !write {
            true => fixture.kept,
            false => fixture.map.len(),
        };
        let (at, len) = draw.part(0, end, PAGE);
        let per_call = [1, 16, 512, 1024][draw.below(4)];
        // Page by page this takes long.
        let len = len.min(per_call * 64 * PAGE);
        let got = device
            .cycle(method, fixture.map, at, len, per_call as u32, write)
            .with_context(|| format!("{method:?} of {at:#x}+{len:#x}, {per_call} per call"))?;
        match got as usize * PAGE == len {
            true => whole += 1,
            false => partly += 1,
        }
    }
    Ok((whole, partly))
}

/// A process that reads this one's memory until it is stopped.
struct Outside {
    child: Child,
    /// The stop flag, and the number of reads.
    shared: Mapping,
}

impl Outside {
    fn start(map: &Mapping) -> Result<Self> {
        let shared = Mapping::shared_memory(PAGE)?;
        let pid = std::process::id() as i32;
        let child = spawn(|| {
            let buffer = Mapping::anonymous(map.len().min(LEN))?;
            let mut draw = Draw(77 << 32);
            let mut reads = 0u64;
            while shared.peek(0) == 0 {
                let (at, len) = draw.part(0, buffer.len(), PAGE);
                match cross_copy(pid, &buffer, map.addr() + at, len, false) {
                    Ok(_) => reads += 1,
                    // Nothing is mapped there, or without rights, at this moment.
                    Err(e) if e.raw_os_error() == Some(libc::EFAULT) => {}
                    Err(e) => return Err(e).context("process_vm_readv"),
                }
            }
            shared.word64(8).store(reads, Ordering::SeqCst);
            Ok(())
        })?;
        Ok(Self { child, shared })
    }

    fn stop(self) -> Result<u64> {
        self.shared.poke(0, 1);
        self.child.join(30, "the process that reads from outside")?;
        Ok(self.shared.word64(8).load(Ordering::SeqCst))
    }
}

/// An operation on the mapping, on a range that is drawn at random.
pub type Disturbance = fn(&Fixture<'_>, (usize, usize), &Mapping) -> Result<()>;

/// Runs a storm. `anywhere` may be applied to all of the mapping, `losing` to the part that is not
/// kept.
pub fn storm(
    fixture: &Fixture<'_>,
    anywhere: &[Disturbance],
    losing: &[Disturbance],
) -> Result<String> {
    let aside = Mapping::reserve(fixture.map.len(), HUGE)?;
    // The parts that are moved there need a hole.
    aside.punch(0, aside.len()).context("munmap")?;
    let threads = thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let outside = match fixture.file {
        Some(_) => Some(Outside::start(fixture.map)?),
        None => None,
    };
    let stop = AtomicBool::new(false);
    let (took, rounds) = thread::scope(|scope| {
        let takers: Vec<_> = (1..=threads as u64)
            .map(|seed| (seed, &stop))
            .map(|(seed, stop)| scope.spawn(move || take_all(fixture, seed, stop)))
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
                None => (&losing[n - anywhere.len()], fixture.kept),
            };
            let part = draw.part(from, fixture.map.len() - from, fixture.unit);
            outcome = disturb(fixture, part, &aside);
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
    ensure!(took.0 > 0, "no call took all requested pages");
    Ok(format!(
        "{} calls took all and {} some pages, {reads} reads from outside, {rounds} disturbances",
        took.0, took.1
    ))
}

/// Removes rights and restores them. Splits huge pages.
pub fn protect(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    for prot in [
        libc::PROT_READ,
        libc::PROT_NONE,
        libc::PROT_READ | libc::PROT_WRITE,
    ] {
        fixture.map.protect(at, len, prot).context("mprotect")?;
    }
    Ok(())
}

/// Removes the entries. Private content is lost.
pub fn zap(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let advice = libc::MADV_DONTNEED;
    fixture.map.advise(at, len, advice).context("MADV_DONTNEED")
}

/// Unmaps and maps again. Private content is lost.
fn renew(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    fixture.map.punch(at, len).context("munmap")?;
    fixture.map.mend(fixture.file, at, len).context("mmap")?;
    match fixture.advice {
        Some(advice) => fixture.map.advise(at, len, advice).context("madvise"),
        None => Ok(()),
    }
}

fn carry(fixture: &Fixture<'_>, (at, len): (usize, usize), aside: &Mapping) -> Result<()> {
    // mremap() does not move two ranges, which a range is if a part of it was moved before.
    let len = len.min(fixture.unit.max(HUGE));
    match fixture.map.move_aside_and_back(aside, at, len) {
        // The part consists of more than one mapping, by other rights or flags.
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        other => other.context("mremap"),
    }
}

fn fork(_: &Fixture<'_>, _: (usize, usize), _: &Mapping) -> Result<()> {
    fork_once()
}

/// Faults pages in, without a signal where that is impossible.
fn populate(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let _ = fixture.map.advise(at, len, libc::MADV_POPULATE_WRITE);
    Ok(())
}

/// Collapses pages into huge pages where possible.
fn collapse(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let _ = fixture.map.advise(at, len, libc::MADV_COLLAPSE);
    Ok(())
}

/// Splits folios of more than one page into pages, where they are not referenced.
fn split(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let path = system::debugfs()?.join("split_huge_pages");
    let from = fixture.map.addr() + at;
    let what = format!("{},{from:#x},{:#x}", std::process::id(), from + len);
    fs::write(path, what).context("split_huge_pages")
}

/// Frees blocks of the file and allocates them again.
fn punch(fixture: &Fixture<'_>, (at, len): (usize, usize), _: &Mapping) -> Result<()> {
    let file = fixture.file.context("there is no file")?;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(file, mode, at as u64, len as u64).context("punching a hole")?;
    fallocate(file, 0, at as u64, len as u64).context("fallocate")
}

/// Truncates the file and extends it again.
fn truncate(fixture: &Fixture<'_>, (at, _): (usize, usize), _: &Mapping) -> Result<()> {
    let file = fixture.file.context("there is no file")?;
    // This includes offsets in the middle of a page.
    file.set_len(at as u64 + 17).context("ftruncate")?;
    fallocate(file, 0, 0, fixture.map.len() as u64).context("fallocate")
}

declare! {
    /// a walk without locks met a page table that was freed, a page that was split, collapsed,
    /// replaced or freed meanwhile, and kept or lost a reference: the vmstat counters differ, pages
    /// cannot be collapsed, bytes change, or the kernel complains
    "gup::storm" for [Kind::Anon, Kind::Thp, Kind::Shmem], 120 s, essential "thp"
        => memory
}
fn memory(&kind: &Kind) -> Result<String> {
    let memory = Memory::create(kind, LEN, 1)?;
    memory.touch()?;
    let bytes = data::bytes(151, LEN);
    memory.map.write(0, &bytes);
    let fixture = Fixture {
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
    let details = match kind {
        Kind::Shmem => storm(
            &fixture,
            &[protect, zap, renew, carry, fork, populate, split, collapse],
            &[punch, truncate],
        )?,
        Kind::Thp => storm(
            &fixture,
            &[protect, carry, fork, populate, split, collapse, collapse],
            &[zap, renew],
        )?,
        _ => storm(&fixture, &[protect, carry, fork, populate], &[zap, renew])?,
    };
    memory
        .map
        .require(0, &bytes[..LEN / 2], "memory after the storm")?;
    require_unreferenced(&memory.map, LEN / 2)?;
    memory
        .map
        .require(0, &bytes[..LEN / 2], "collapsed memory")?;
    Ok(details)
}

/// Requires that pages can be collapsed, which a reference prevents.
fn require_unreferenced(map: &Mapping, len: usize) -> Result<()> {
    map.advise(0, len, libc::MADV_HUGEPAGE)
        .context("MADV_HUGEPAGE")?;
    let end = Instant::now() + timeout(Duration::from_secs(5));
    for at in (0..len).step_by(HUGE) {
        // After a fork all are read-only; one writable page is needed, and the others must not be
        // replaced by copies unnoticed.
        map.poke(at, map.peek(at));
        // Pages on their way to an LRU list have a transient reference.
        while let Err(e) = map.advise(at, HUGE, libc::MADV_COLLAPSE) {
            ensure!(
                Instant::now() < end,
                "memory cannot be collapsed after the storm ({e}): references are left"
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

declare! {
    /// a block of a file was freed under a reference or a reference of a walk was never dropped:
    /// punching a hole or unmounting hangs, the vmstat counters differ, or bytes change
    "gup::storm" for [
        want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi),
        want(Mode::Fsdax, 4 * KIB, Map::Dev, Bus::Acpi),
    ], 180 s, essential "fsdax-4K-dev-acpi" => fsdax
}
fn fsdax(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    let bytes = data::bytes(152, LEN);
    map.write(0, &bytes);
    let fixture = Fixture {
        map: &map,
        file: Some(&target.file),
        advice: None,
        unit: PAGE,
        kept: LEN / 2,
    };
    let details = storm(
        &fixture,
        &[protect, zap, renew, carry, fork, populate],
        &[punch, truncate],
    )?;
    map.require(0, &bytes[..LEN / 2], "the mapping after the storm")?;
    idle(&map, LEN / 2, PAGE)?;
    // Waits until each page of the file is idle.
    target.file.set_len(0).context("ftruncate")?;
    drop(map);
    target.finish()?;
    Ok(details)
}

/// Checks some pages of the first `len` bytes of a device, whose folios are `unit` bytes large:
/// there must be no reference but the test device's.
pub fn idle(map: &Mapping, len: usize, unit: usize) -> Result<()> {
    let device = Device::open()?;
    // Each large folio, or some 16 pages at different offsets in their 2 MiB.
    let step = unit.max(len / 16 + PAGE);
    for at in (0..len).step_by(step) {
        let counts = device.counts(map, at)?;
        ensure!(
            counts
                == Counts {
                    references: 2,
                    pins: 0
                },
            "the page at {at:#x} has other counts than one reference of its own and one of the test device: {counts:?}"
        );
    }
    Ok(())
}

declare! {
    /// pages of a device are left with references after a storm, the namespace cannot be disabled and
    /// enabled in between, or bytes change
    "gup::storm" for [
        want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
        want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
        want(Mode::Devdax, GIB, Map::Mem, Bus::Acpi),
    ], 300 s, essential "devdax-2M-dev-acpi" => devdax
}
fn devdax(want: &Want) -> Result<String> {
    let Target {
        file,
        mut namespace,
        ..
    } = Target::create(want, LEN as u64)?;
    drop(file);
    let bytes = data::bytes(153, LEN);
    let mut details = Vec::new();
    for round in 0..2 {
        let file = open_rw(&namespace.node()?, false)?;
        let unit = want.align as usize;
        let map = Mapping::shared(&file, 0, LEN.next_multiple_of(unit), unit.max(HUGE))?;
        if round == 0 {
            map.write(0, &bytes);
        }
        let fixture = Fixture {
            map: &map,
            file: Some(&file),
            advice: None,
            unit,
            kept: map.len(),
        };
        details.push(storm(
            &fixture,
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
    Ok(details.join("; "))
}
