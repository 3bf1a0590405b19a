// SPDX-License-Identifier: GPL-2.0

//! The kernel's side of `make bench`: what a program in user space cannot time to the instruction.
//!
//! It is a module that works with the code in Rust and in C, and that times both alike: through
//! the entry points that C has. `/sys/kernel/debug/dax_bench/command` takes one command per write,
//! and a read gives the answer:
//!
//! ```text
//! pgmaps N                         have N pgmaps registered while the file is open
//! lookup uncached|cached|second|miss ROUNDS
//! bio read|write|flush DEVICE BYTES ROUNDS
//! ```
//!
//! The last two answer with the ticks of the time stamp counter that all rounds took. Each of them
//! is one window of marks.

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
    description: "Reader of instruction counts for make bench",
    license: "GPL",
}

struct DaxBench {
    _dir: Dir,
}

impl kernel::Module for DaxBench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let dir = Dir::new(c_str!("dax_bench"));
        dir.command_file::<Commands>(c_str!("command"));
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
                // The old ones go first: their addresses are wanted again.
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

fn number(word: Option<&str>) -> Result<usize> {
    word.and_then(|word| word.parse().ok()).ok_or(EINVAL)
}

/// The owner of the pgmaps, which has nothing to do: their pages are never used.
struct Idle;

impl Operations for Idle {
    type Data = ();

    fn page_free(_data: (), _page: ZoneDevicePage<'_>) {}
}

/// Pgmaps of 2 MiB each, with as much room between them. The first has a second range.
struct Maps {
    maps: KVec<Registration<Idle>>,
}

/// 2 MiB: the smallest range that can be mapped.
const UNIT: u64 = 2 << 20;
/// A range, a hole, room for a second range and a hole.
const PITCH: u64 = 4 * UNIT;

impl Maps {
    const fn none() -> Self {
        Self { maps: KVec::new() }
    }

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

    /// Ticks of this many lookups and puts.
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

fn map(region: Region, ranges: &[PhysRange]) -> Result<Registration<Idle>> {
    let mut regions = KVec::new();
    regions.push(region, GFP_KERNEL)?;
    Registration::new(MemoryType::Private, regions, ranges, Options::default(), ())
        .map_err(Error::from)
}

/// Looks a frame up from nothing, and lets go of what was found.
fn uncached(pfn: Pfn, rounds: usize) -> u64 {
    let measured = tsc::measure_uninterrupted(|| {
        for _ in 0..rounds {
            drop(DevPagemap::lookup(pfn, None));
        }
    });
    measured.ticks
}

/// Looks a frame up with the pgmap of another at hand.
fn cached(first: Pfn, then: Pfn, rounds: usize) -> Result<u64> {
    let mut at_hand: Option<LiveRef> = DevPagemap::lookup(first, None);
    let measured = tsc::measure_uninterrupted(|| {
        for _ in 0..rounds {
            at_hand = DevPagemap::lookup(then, at_hand.take());
        }
    });
    if at_hand.is_none() {
        return Err(ENOENT);
    }
    Ok(measured.ticks)
}

/// Ticks of this many bios, each waited for.
fn bio(operation: &str, device: &BlockDevice, bytes: usize, rounds: usize) -> Result<u64> {
    // Where it begins does not matter; not at the labels and superblocks.
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
