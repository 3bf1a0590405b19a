// SPDX-License-Identifier: GPL-2.0

//! Page table entries of device memory: their size, whether stores need a fault,
//! their cache mode, and the state that they leave.
//!
//! device-dax requests an entry that is writable at once if the mapping is; a
//! filesystem has to be notified of the first store, so a load gets an entry
//! that the store makes writable.

mod cache_mode;

use std::sync::Barrier;

use nix::sys::resource::{getrusage, UsageWho};

use crate::page_tables;
use crate::page_tables::{Entry, Level, PageTables};
use crate::tests::prelude::*;

/// Number of units of each mapping that are touched, if it has as many.
const UNITS: usize = 4;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A mapped target, and the entries that it should get.
struct Fixture {
    target: Target,
    level: Level,
    /// The bytes that an entry maps.
    unit: usize,
    len: usize,
}

impl Fixture {
    fn create(want: &Want) -> Result<Self> {
        // The device has room for only two pages of 1 GiB.
        let (level, len) = match want.align {
            GIB => (Level::Pud, GIB as usize),
            align if align == 2 * MIB => (Level::Pmd, UNITS * HUGE),
            _ => (Level::Pte, UNITS * PAGE),
        };
        Ok(Self {
            target: Target::create(want, len as u64)?,
            level,
            unit: want.align as usize,
            len,
        })
    }

    /// Maps the target such that no entry is larger than requested.
    fn map(&self, prot: i32) -> Result<Mapping> {
        let map = self.target.map_with(self.len, prot, libc::MAP_SHARED)?;
        if self.level == Level::Pte && self.target.is_fsdax() {
            map.advise(0, self.len, libc::MADV_NOHUGEPAGE)
                .context("MADV_NOHUGEPAGE")?;
        }
        Ok(map)
    }

    /// Returns the offset of the first byte of each entry.
    fn units(&self) -> impl Iterator<Item = usize> {
        (0..self.len).step_by(self.unit)
    }

    /// Requires such entries. If they cannot be read, the numbers of faults, the
    /// data and the page table checks of the debug kernel have to suffice.
    fn require(&self, map: &Mapping, writable: bool, what: &str) -> Result<()> {
        if !page_tables::are_readable()? {
            return Ok(());
        }
        let want = Some(Entry {
            level: self.level,
            writable,
            uncached: false,
        });
        let tables = PageTables::read()?;
        for at in self.units() {
            let found = tables.entry_at(map.addr() + at);
            ensure!(
                found == want,
                "{what} there is {found:?} at {at:#x} instead of {want:?}"
            );
        }
        Ok(())
    }
}

/// The kernel's counters for this process, in KiB.
#[derive(Debug, Clone, Copy)]
struct Charged {
    resident: u64,
    tables: u64,
}

impl Charged {
    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/status").context("cannot read status")?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
                .with_context(|| format!("/proc/self/status has no {name}"))
        };
        Ok(Self {
            resident: field("RssFile:")? + field("RssShmem:")?,
            tables: field("VmPTE:")?,
        })
    }
}

/// Returns the number of faults of this thread that read nothing from a disk.
fn faults() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage")?;
    Ok(usage.minor_page_faults() + usage.major_page_faults())
}

/// Loads a byte for the fault; its value does not matter.
fn load(map: &Mapping, at: usize) {
    map.peek(at);
}

/// Returns the number of faults during `work`.
fn faults_of(work: impl FnOnce()) -> Result<i64> {
    let before = faults()?;
    work();
    Ok(faults()? - before)
}

const KINDS: [Want; 5] = [
    want(Mode::Fsdax, 4 * KIB, Map::Dev, Bus::Acpi),
    want(Mode::Fsdax, 2 * MIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
    want(Mode::Devdax, GIB, Map::Mem, Bus::Acpi),
];

declare! {
    /// a load or store gets an entry of another size or with other rights, has one fault too many, or
    /// the process is charged for it
    "devmap::load-store" for KINDS, 60 s, essential "fsdax-2M-mem-acpi" "devdax-4K-mem-acpi"
        => load_store
}
fn load_store(want: &Want) -> Result<String> {
    let fixture = Fixture::create(want)?;
    let fsdax = fixture.target.is_fsdax();
    let units = fixture.units().count() as i64;
    // The first faults of a kind also allocate tables and memory of the program.
    fixture.map(READ_WRITE)?.prefault_write(fixture.unit);
    let before = Charged::read()?;

    let map = fixture.map(READ_WRITE)?;
    let loads = faults_of(|| fixture.units().for_each(|at| load(&map, at)))?;
    fixture.require(&map, !fsdax, "after loads")?;
    let stores = || faults_of(|| fixture.units().for_each(|at| map.poke(at, 1)));
    let (first, second) = (stores()?, stores()?);
    fixture.require(&map, true, "after stores")?;
    let during = Charged::read()?;
    let expected = if fsdax { units } else { 0 };
    ensure!(
        loads == units && first == expected && second == 0,
        "{loads} faults for loads, {first} for first stores and {second} for others, in {units} entries"
    );
    ensure!(
        during.resident.abs_diff(before.resident) < 1024,
        "the process is charged for device memory: {before:?}, then {during:?}"
    );

    // The first access is a store.
    let other = fixture.map(READ_WRITE)?;
    let stores = faults_of(|| fixture.units().for_each(|at| other.poke(at + 1, 2)))?;
    fixture.require(&other, true, "after stores alone")?;
    ensure!(stores == units, "{stores} faults in {units} entries");
    for at in fixture.units() {
        map.require(at, &[1, 2], "stores through two mappings")?;
    }

    // The process ends without unmapping the entries.
    let child = spawn(|| {
        fixture.units().for_each(|at| map.poke(at + 2, 3));
        fixture.require(&map, true, "in a child")
    })?;
    child.join(30, "a child with entries")?;
    drop((map, other));
    let after = Charged::read()?;
    ensure!(
        after.tables <= before.tables + 8 && after.resident.abs_diff(before.resident) < 1024,
        "memory remains charged: {before:?}, then {after:?}"
    );
    require_unpinned("loads and stores")?;
    fixture.target.finish()?;
    Ok(format!("{loads} loads, {first} stores that needed a fault"))
}

declare! {
    /// an entry keeps a right that mprotect() removed, does not regain one, or is lost when it moves
    "devmap::protect" for KINDS, 60 s, essential "devdax-2M-dev-acpi" => protect
}
fn protect(want: &Want) -> Result<()> {
    let fixture = Fixture::create(want)?;
    let fsdax = fixture.target.is_fsdax();
    let map = fixture.map(libc::PROT_READ)?;
    fixture.units().for_each(|at| load(&map, at));
    fixture.require(&map, false, "in a mapping to be read")?;
    let allow = |prot| map.protect(0, fixture.len, prot).context("mprotect");
    allow(READ_WRITE)?;
    fixture.units().for_each(|at| map.poke(at, 7));
    fixture.require(&map, true, "after mprotect() and stores")?;
    allow(libc::PROT_READ)?;
    fixture.require(&map, false, "after mprotect() to read")?;
    allow(libc::PROT_NONE)?;
    allow(READ_WRITE)?;
    let stores = faults_of(|| fixture.units().for_each(|at| map.poke(at, 8)))?;
    ensure!(
        fsdax || stores == 0,
        "device memory is notified of {stores} stores"
    );
    fixture.require(&map, true, "after mprotect() to nothing and back")?;

    let moved = map.move_to(fixture.target.reserve(fixture.len)?)?;
    for at in fixture.units() {
        moved.require(at, &[8], "what was moved")?;
        moved.poke(at, 9);
    }
    fixture.require(&moved, true, "after the mapping was moved")?;
    drop(moved);
    fixture.target.finish()
}

declare! {
    /// threads that fault on the same memory at once hang, lose a store, or leave an entry of another
    /// size or without the right to store
    "devmap::concurrent" for KINDS, 120 s, essential "fsdax-2M-mem-acpi" "devdax-1G-mem-acpi"
        => together
}
/// Races threads: half of them load and half store, each a byte of its own, in the same
/// order.
fn together(want: &Want) -> Result<String> {
    const THREADS: usize = 4;
    const ROUNDS: usize = 60;

    let fixture = Fixture::create(want)?;
    for round in 0..ROUNDS {
        let map = fixture.map(READ_WRITE)?;
        let start = Barrier::new(THREADS);
        let value = round as u8;
        thread::scope(|scope| {
            for n in 0..THREADS {
                let (map, fixture, start) = (&map, &fixture, &start);
                scope.spawn(move || {
                    start.wait();
                    fixture.units().for_each(|at| match n % 2 {
                        0 => load(map, at + n),
                        _ => map.poke(at + n, value),
                    });
                });
            }
        });
        for at in fixture.units() {
            map.require(at + 1, &[value], "the store of a thread")?;
            map.require(at + 3, &[value], "the store of another thread")?;
        }
        if round % 16 == 0 {
            fixture.require(&map, true, "after threads")?;
        }
    }
    require_unpinned("threads")?;
    fixture.target.finish()?;
    Ok(format!("{ROUNDS} rounds of {THREADS} threads"))
}
