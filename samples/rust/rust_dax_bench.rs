// SPDX-License-Identifier: GPL-2.0

//! The kernel's half of `make bench`: times operations that a program in user space cannot time to
//! the instruction.
//!
//! The module works with the code in Rust and in C, and times both through the same C entry points.
//! Each write to `/sys/kernel/debug/dax_bench/command` is one command, and a read returns its
//! result:
//!
//! ```text
//! pgmaps N                                    registers N pgmaps, until the file is closed
//! lookup uncached|cached|second|miss ROUNDS   times lookups
//! bio read|write|flush DEVICE BYTES ROUNDS    times bios
//! ```
//!
//! The result of the last two is the number of ticks of the time stamp counter in all rounds. Each
//! of these commands is one window between two marks of the TCG plugin.
//!
//! The `unsafe` code encapsulates two promises: the command file is removed with the module, and
//! freeing a page does not sleep.

use kernel::{
    arch::x86::tsc,
    block::bio::{BlockDevice, Buffer, Direction},
    c_str,
    debugfs::{CommandFile, Dir},
    fmt,
    mm::{
        memremap::{
            DevPagemap, LiveRef, MemoryType, Operations, Options, Region, Registration,
            ZoneDevicePage,
        },
        pfn::{Pfn, PhysRange},
    },
    prelude::*,
    str::CString,
};

module! {
    type: DaxBench,
    name: "dax_bench",
    author: "rust-dax developers",
    description: "Instruction counter for make bench",
    license: "GPL",
}

/// The module: the debugfs directory while it is loaded.
struct DaxBench {
    _dir: Dir,
}

impl kernel::Module for DaxBench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let dir = Dir::new(c_str!("dax_bench"));
        // SAFETY: `Commands` is part of this module, as its constant says. The directory is a field of
        // the module's value, which is dropped when the module is unloaded.
        unsafe { dir.command_file::<Commands>(c_str!("command")) };
        Ok(Self { _dir: dir })
    }
}

/// An open command file, with the pgmaps that were registered through it.
struct Commands {
    maps: Maps,
}

impl CommandFile for Commands {
    const MODULE: Option<&'static ThisModule> = Some(&THIS_MODULE);

    fn open() -> Result<Self> {
        Ok(Self { maps: Maps::none() })
    }

    fn command(&mut self, text: &str) -> Result<CString> {
        let mut words = text.split_ascii_whitespace();
        let mut next = || words.next();
        let ticks = match next() {
            Some("pgmaps") => {
                // The old pgmaps are dropped first, because the new ones use the same addresses.
                self.maps = Maps::none();
                self.maps = Maps::register(number(next())?)?;
                0
            }
            Some("lookup") => {
                let kind = next().ok_or(EINVAL)?;
                self.maps.lookup(kind, number(next())?)?
            }
            Some("bio") => {
                let operation = next().ok_or(EINVAL)?;
                let device = CString::try_from_fmt(fmt!("{}", next().ok_or(EINVAL)?))?;
                let device = BlockDevice::open(&device)?;
                bio(operation, &device, number(next())?, number(next())?)?
            }
            _ => return Err(EINVAL),
        };
        CString::try_from_fmt(fmt!("{ticks}\n"))
    }
}

/// Parses a number of a command.
fn number(word: Option<&str>) -> Result<usize> {
    word.and_then(|word| word.parse().ok()).ok_or(EINVAL)
}

/// The driver's operations of the pgmaps. They do nothing, because the pages are never used.
struct Idle;

// SAFETY: `page_free` does nothing, so it does not sleep.
unsafe impl Operations for Idle {
    type Data = ();

    fn page_free(_data: (), _page: ZoneDevicePage<'_>) {}
}

/// Registered pgmaps of 2 MiB each, with gaps between them. The first pgmap has a second range.
struct Maps {
    maps: KVec<Registration<Idle>>,
}

/// The smallest range that can be mapped, in bytes: 2 MiB.
const UNIT: u64 = 2 << 20;
/// The distance between two pgmaps, in bytes: a range, a gap, room for a second range, and a gap.
const PITCH: u64 = 4 * UNIT;

impl Maps {
    /// Creates an empty set of pgmaps.
    const fn none() -> Self {
        Self { maps: KVec::new() }
    }

    /// Registers `count` pgmaps over unused physical addresses.
    fn register(count: usize) -> Result<Self> {
        let mut this = Self::none();
        if count == 0 {
            return Ok(this);
        }
        let size = (count as u64)
            .checked_add(1)
            .and_then(|n| n.checked_mul(PITCH));
        let mut rest = Region::request_free(size.ok_or(EINVAL)?, c_str!("dax_bench"))?;
        for index in 0..count {
            let (region, behind) = rest.split(PITCH).ok_or(EINVAL)?;
            rest = behind;
            let first = region.part(0, UNIT).ok_or(EINVAL)?;
            let second = region.part(2 * UNIT, UNIT).ok_or(EINVAL)?;
            let ranges = [first, second];
            let ranges = if index == 0 {
                &ranges[..]
            } else {
                &ranges[..1]
            };
            this.maps.push(map(region, ranges)?, GFP_KERNEL)?;
        }
        Ok(this)
    }

    /// Returns the ticks of `rounds` lookups, each with the put of its result.
    fn lookup(&self, kind: &str, rounds: usize) -> Result<u64> {
        let middle = self.maps.get(self.maps.len() / 2).ok_or(EINVAL)?;
        let range = |map: &Registration<Idle>, index| map.pgmap().range(index).ok_or(EINVAL);
        let pfn = range(middle, 0)?.pfns().first();
        match kind {
            "uncached" => Ok(uncached(pfn, rounds)),
            "cached" => cached(pfn, pfn, rounds),
            "second" => {
                let two = self.maps.first().ok_or(EINVAL)?;
                let (first, second) = (range(two, 0)?, range(two, 1)?);
                cached(first.pfns().first(), second.pfns().first(), rounds)
            }
            "miss" => {
                let hole = range(middle, 0)?.pfns().last().checked_add(1);
                Ok(uncached(hole.ok_or(EINVAL)?, rounds))
            }
            _ => Err(EINVAL),
        }
    }
}

/// Registers one pgmap of ranges inside of `region`.
fn map(region: Region, ranges: &[PhysRange]) -> Result<Registration<Idle>> {
    let mut regions = KVec::new();
    regions.push(region, GFP_KERNEL)?;
    Registration::new(MemoryType::Private, regions, ranges, Options::default(), ())
        .map_err(Error::from)
}

/// Returns the ticks of looking a PFN up without a cached pgmap, and putting the result.
fn uncached(pfn: Pfn, rounds: usize) -> u64 {
    let measured = tsc::measure_uninterrupted(|| {
        for _ in 0..rounds {
            drop(DevPagemap::lookup(pfn, None));
        }
    });
    measured.ticks
}

/// Returns the ticks of looking `then` up with the pgmap of `first`, and then its own, as the
/// cached one.
fn cached(first: Pfn, then: Pfn, rounds: usize) -> Result<u64> {
    let mut pgmap: Option<LiveRef> = DevPagemap::lookup(first, None);
    let measured = tsc::measure_uninterrupted(|| {
        for _ in 0..rounds {
            pgmap = DevPagemap::lookup(then, pgmap.take());
        }
    });
    if pgmap.is_none() {
        return Err(ENOENT);
    }
    Ok(measured.ticks)
}

/// Returns the ticks of `rounds` bios, each including the wait for its end.
fn bio(operation: &str, device: &BlockDevice, bytes: usize, rounds: usize) -> Result<u64> {
    // Any position will do that is not in the labels and superblocks at the start.
    const AT: u64 = 64 << 20;
    let mut buffer = Buffer::new(bytes)?;
    let measured = tsc::measure(|| -> Result {
        for _ in 0..rounds {
            match operation {
                "read" => device.transfer(Direction::Read, &mut buffer, AT)?,
                "write" => device.transfer(Direction::Write, &mut buffer, AT)?,
                "flush" => device.flush()?,
                _ => return Err(EINVAL),
            }
        }
        Ok(())
    });
    measured.result.map(|()| measured.ticks)
}
