// SPDX-License-Identifier: GPL-2.0

//! Random worlds: page tables, and questions about them.
//!
//! A few tables of each level point to random tables of the next level, so a dozen tables map a
//! whole address space, and every kind of boundary between tables occurs.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::memory::{Memory, WORDS};
use crate::model::Rights;
use crate::seen::Question;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LEAF: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const SPECIAL: u64 = 1 << 9;
const DEVICE: u64 = 1 << 57;
/// The bits that the walk ignores: cache mode, accessed, dirty, global, software bits, no-execute.
const NOISE: u64 = (0b111_1000 | GLOBAL | (0b1100 << 8) | (0x7f << 52) | (1 << 63)) & !DEVICE;

/// The number of tables of each level.
const TABLES: [usize; 5] = [3, 3, 2, 2, 1];

/// The probability of each kind of entry, in 512ths.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The addresses of the tables by level, from that of the ptes on.
    tables: Vec<Vec<u64>>,
    absent: u32,
    read_only: u32,
    kernel: u32,
    special: u32,
    device: u32,
    keyed: u32,
    /// Ptes that map the page behind that of the pte before, and are the same in all other bits.
    runs: u32,
    /// Leaves among the entries of a pmd table and of a pud table.
    large: [u32; 2],
    /// Address bits that are set in each entry and are no part of the address: memory encryption.
    encrypted: u64,
    mask: u64,
}

/// Page tables to walk.
pub struct World {
    pub memory: Memory,
    pub root: u64,
    pub levels: u32,
    pub plan: Plan,
}

fn one_of<T: Copy>(rng: &mut SmallRng, these: &[T]) -> T {
    these[rng.random_range(0..these.len())]
}

impl Plan {
    fn chance(rng: &mut SmallRng, of_512: u32) -> bool {
        rng.random_range(0..512) < of_512
    }

    /// Returns an entry for a table of this level.
    pub fn entry(&self, rng: &mut SmallRng, level: u32) -> u64 {
        let noise = rng.random::<u64>() & NOISE;
        if Self::chance(rng, self.absent) {
            // Empty; PROT_NONE; a huge page that is being split; a leaf of a size that no processor
            // has; a swap entry.
            return match rng.random_range(0..5) {
                0 => 0,
                1 => self.leaf(rng, level) & !PRESENT | GLOBAL,
                2 => self.leaf(rng, level) & !PRESENT | LEAF,
                3 if level > 3 => self.leaf(rng, level) | noise,
                _ => rng.random::<u64>() & !PRESENT,
            };
        }
        let leaf = match level {
            1 => true,
            2 | 3 => Self::chance(rng, self.large[level as usize - 2]),
            _ => false,
        };
        match leaf {
            true => self.leaf(rng, level) | noise,
            false => {
                let below = one_of(rng, &self.tables[level as usize - 2]);
                // The walk ignores the rights of a table.
                let rights = rng.random::<u64>() & (WRITABLE | USER);
                PRESENT | rights | below | self.encrypted | noise
            }
        }
    }

    fn leaf(&self, rng: &mut SmallRng, level: u32) -> u64 {
        // In a pte the bit of a large leaf has another meaning.
        let kind = match level {
            1 => rng.random::<u64>() & LEAF,
            _ => LEAF,
        };
        // All bits of the address, also those below the size of a large leaf.
        let address = match rng.random_range(0..64) {
            // The last PFN.
            0 => !0,
            _ => rng.random::<u64>(),
        };
        let address = address & self.mask | self.encrypted;
        let mut entry = PRESENT | WRITABLE | USER | kind | address;
        if Self::chance(rng, self.read_only) {
            entry &= !WRITABLE;
        }
        if Self::chance(rng, self.kernel) {
            entry &= !USER;
        }
        if Self::chance(rng, self.special) {
            entry |= SPECIAL;
        }
        if Self::chance(rng, self.device) {
            entry |= DEVICE;
            if level == 1 {
                entry |= SPECIAL;
            }
        }
        if Self::chance(rng, self.keyed) {
            entry |= rng.random_range(1..16) << 59;
        }
        entry
    }
}

impl World {
    /// Creates a world. Equal seeds give equal worlds.
    pub fn new(rng: &mut SmallRng) -> Self {
        let levels = one_of(rng, &[4, 5]);
        let encrypted = one_of(rng, &[0, 0, 1 << 47, 1 << 51]);
        let mask = ((1 << 52) - 4096) & !encrypted;
        let count: usize = TABLES.iter().sum();
        // Anywhere in the first terabytes, so that the walk cannot confuse an address with an
        // offset.
        let base = (rng.random::<u64>() % (1 << 46)) & !0xfff;
        let memory = Memory::new(count, base, mask);
        let mut next = 0;
        let tables = TABLES
            .iter()
            .map(|&n| {
                next += n;
                (next - n..next).map(|t| memory.table(t)).collect()
            })
            .collect();
        let plan = Plan {
            tables,
            absent: one_of(rng, &[0, 0, 1, 8, 100]),
            read_only: one_of(rng, &[0, 64, 256, 512]),
            kernel: one_of(rng, &[0, 0, 2]),
            special: one_of(rng, &[0, 0, 4, 64]),
            device: one_of(rng, &[0, 32, 256, 512]),
            keyed: one_of(rng, &[0, 0, 32, 512]),
            runs: one_of(rng, &[0, 256, 500]),
            large: [one_of(rng, &[32, 256, 500]), one_of(rng, &[1, 32, 256])],
            encrypted,
            mask,
        };
        let root = plan.tables[levels as usize - 1][0];
        let world = Self {
            memory,
            root,
            levels,
            plan,
        };
        for (level, tables) in (1..=levels).zip(&world.plan.tables) {
            for table in tables {
                let mut before = 0;
                for n in 0..WORDS as u64 {
                    let entry = match level == 1 && Plan::chance(rng, world.plan.runs) {
                        // Behind the last PFN this carries into bits that are no address.
                        true => before + 4096,
                        false => world.plan.entry(rng, level),
                    };
                    world.memory.set(table + 8 * n, entry);
                    before = entry;
                }
            }
        }
        world
    }

    /// Returns the level of a table: 1 for ptes.
    pub fn level_of(slot_table: usize) -> u32 {
        let mut end = 0;
        for (level, n) in (1..).zip(TABLES) {
            end += n;
            if slot_table < end {
                return level;
            }
        }
        panic!("there is no table {slot_table}")
    }

    /// Returns a range that begins and ends near a boundary of some level, and the access to ask
    /// for.
    pub fn question(&self, rng: &mut SmallRng) -> Question {
        let space: u64 = match self.levels {
            5 => (1 << 56) - 4096,
            _ => 1 << 47,
        };
        let shift = one_of(rng, &[12, 21, 30, 39, 48]);
        let boundary = match rng.random_range(0..16) {
            0 => space,
            _ => rng.random_range(0..=space >> shift) << shift,
        };
        let most = match rng.random_range(0..2048) {
            0 => 600_000,
            1..200 => 3_000,
            200..1000 => 600,
            _ => 8,
        };
        let mut bytes = || 4096 * rng.random_range(0..=most);
        let start = boundary.saturating_sub(bytes());
        let end = boundary.saturating_add(bytes()).min(space);
        // The range must not be empty.
        let (start, end) = match start < end {
            true => (start, end),
            false if end < space => (start, start + 4096),
            false => (end - 4096, end),
        };
        let pkru = match rng.random_range(0..4) {
            0 => rng.random(),
            // What Linux starts a process with: all keys but the first deny all accesses.
            1 => 0x5555_5554,
            _ => 0,
        };
        Question {
            levels: self.levels,
            start,
            end,
            rights: Rights {
                write: rng.random(),
                pkru,
            },
        }
    }
}

/// Calls `test` with as many worlds as the environment says, divided by `share`. If it panics, the
/// seed is printed.
pub fn worlds(share: u64, mut test: impl FnMut(World, &mut SmallRng)) {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        )
    };
    let first = number("PAGETABLE_SEED").unwrap_or(1);
    let count = number("PAGETABLE_WORLDS").unwrap_or(12_000) / share;
    for seed in first..first + count.max(1) {
        let print_seed = PrintSeed(seed);
        let mut rng = SmallRng::seed_from_u64(seed);
        let world = World::new(&mut rng);
        test(world, &mut rng);
        drop(print_seed);
    }
}

/// Prints the seed of a world whose test panics.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PAGETABLE_SEED={} PAGETABLE_WORLDS=1 repeats this", self.0);
        }
    }
}
