// SPDX-License-Identifier: GPL-2.0

//! Walks written by hand, over the entries that the kernel makes.

use crate::memory::Memory;
use crate::model::Rights;
use crate::seen::{Collect, Question, Shown};

const KIB4: u64 = 1 << 12;
const MIB2: u64 = 1 << 21;
const GIB: u64 = 1 << 30;
const MASK: u64 = (1 << 52) - 4096;

// The bits of `pgprot_t`. A pte of device memory is special as well.
const TABLE: u64 = 0x067;
const USER_RW: u64 = 0x067;
const USER_RO: u64 = 0x025;
const PROT_NONE: u64 = 0x160;
const KERNEL: u64 = 0x063;
const HUGE: u64 = 0x080;
const SPECIAL: u64 = 0x200;
const DEVICE: u64 = 1 << 57;

/// One table of each level, for the first addresses of the space.
struct Tables {
    memory: Memory,
    levels: u32,
}

impl Tables {
    fn new(levels: u32) -> Self {
        let memory = Memory::new(6, 0x10_0000, MASK);
        for level in 1..5 {
            memory.set(memory.table(level), memory.table(level - 1) | TABLE);
        }
        Self { memory, levels }
    }

    /// Sets an entry of the table of this level.
    fn set(&self, level: usize, n: u64, entry: u64) -> &Self {
        self.memory.set(self.memory.table(level - 1) + 8 * n, entry);
        self
    }

    fn walk_as(&self, start: u64, end: u64, rights: Rights) -> Vec<Shown> {
        let root = self.memory.table(self.levels as usize - 1);
        let question = Question {
            levels: self.levels,
            start,
            end,
            rights,
        };
        let mut walked = Collect::all();
        question.walk(&self.memory, root, &mut walked);
        assert_eq!(walked.shown, question.model(&self.memory, root));
        walked.shown
    }

    fn walk(&self, start: u64, end: u64, write: bool) -> Vec<Shown> {
        self.walk_as(start, end, Rights { write, pkru: 0 })
    }

    /// Returns how many pages can be read, and how many written.
    fn pages(&self, start: u64, end: u64) -> (u64, u64) {
        let count = |write| self.walk(start, end, write).iter().map(|l| l.pages).sum();
        (count(false), count(true))
    }
}

fn pages_with_key(tables: &Tables, write: bool, pkru: u32) -> usize {
    tables.walk_as(0, KIB4, Rights { write, pkru }).len()
}

#[test]
fn ptes() {
    for levels in [4, 5] {
        let tables = Tables::new(levels);
        tables
            .set(1, 0, 0x5000 | USER_RW)
            .set(1, 1, 0x9000 | USER_RO)
            .set(1, 2, 0x7000 | USER_RW);
        assert_eq!(tables.pages(0, 2 * KIB4), (2, 1));
        // Both walks end at the hole behind the third page.
        assert_eq!(tables.pages(0, 4 * KIB4), (3, 1));
        assert_eq!(tables.pages(2 * KIB4, 3 * KIB4), (1, 1));
        let shown = tables.walk(KIB4, 3 * KIB4, false);
        assert_eq!((shown[0].pfn, shown[0].writable), (9, false));
        assert_eq!((shown[1].pfn, shown[1].writable), (7, true));
        assert!(shown.iter().all(|leaf| leaf.is_pte && !leaf.device));
    }
}

#[test]
fn a_huge_page_is_shown_as_far_as_asked() {
    let tables = Tables::new(4);
    tables
        .set(2, 1, 0x4000_0000 | HUGE | USER_RW)
        // In a large leaf the lowest address bit is a PAT bit.
        .set(2, 2, 0x4020_0000 | 0x1000 | HUGE | USER_RW);
    let shown = tables.walk(MIB2 + 3 * KIB4, 3 * MIB2 - KIB4, true);
    let seen: Vec<_> = shown.iter().map(|leaf| (leaf.pfn, leaf.pages)).collect();
    assert_eq!(seen, [(0x40003, 509), (0x40200, 511)]);
}

#[test]
fn gigabytes() {
    let tables = Tables::new(5);
    tables.set(3, 1, 0x40_0000_0000 | HUGE | USER_RW).set(
        3,
        2,
        0x80_0000_0000 | HUGE | USER_RO | DEVICE,
    );
    assert_eq!(tables.pages(GIB, 3 * GIB), (2 << 18, 1 << 18));
    let shown = tables.walk(2 * GIB - KIB4, 2 * GIB + KIB4, false);
    assert_eq!((shown[0].pfn, shown[0].pages), (0x403_ffff, 1));
    assert_eq!((shown[1].pfn, shown[1].device), (0x800_0000, true));
}

/// `pmdp_invalidate()` clears the present bit and keeps the other bits. So does PROT_NONE, which
/// sets a bit of its own. Neither is a table, and neither can be taken.
#[test]
fn absent_huge_pages_are_not_tables() {
    let tables = Tables::new(4);
    tables.set(1, 0, 0x5000 | USER_RW);
    let first = tables.memory.table(0);
    for entry in [
        first | HUGE | USER_RW & !1,
        first | HUGE | PROT_NONE,
        first | PROT_NONE,
        first | USER_RW & !1,
    ] {
        for level in [2, 3, 4] {
            let tables = Tables::new(4);
            tables.set(1, 0, 0x5000 | USER_RW);
            assert_eq!(tables.pages(0, KIB4), (1, 1));
            tables.set(level, 0, entry);
            assert_eq!(tables.pages(0, KIB4), (0, 0), "{entry:#x} at level {level}");
        }
    }
}

#[test]
fn what_is_not_for_user_space() {
    for entry in [
        0x5000 | PROT_NONE,
        0x5000 | KERNEL,
        0x5000 | SPECIAL | USER_RW,
        // A swap entry: all bits except the present bit.
        0xffff_ffff_ffff_fffe,
    ] {
        let tables = Tables::new(4);
        tables.set(1, 0, entry);
        assert_eq!(tables.pages(0, KIB4), (0, 0), "pte {entry:#x}");
        for level in [2, 3] {
            tables.set(level, 0, entry | HUGE);
            assert_eq!(tables.pages(0, KIB4), (0, 0), "level {level}, {entry:#x}");
        }
    }
}

#[test]
fn devices() {
    let tables = Tables::new(4);
    for (entry, level, taken) in [
        (DEVICE | SPECIAL | USER_RW, 1, true),
        (DEVICE | USER_RW, 1, true),
        (DEVICE | HUGE | USER_RW, 2, true),
        (DEVICE | SPECIAL | HUGE | USER_RW, 2, false),
        (DEVICE | HUGE | USER_RW, 3, true),
        (DEVICE | SPECIAL | HUGE | USER_RW, 3, false),
    ] {
        tables.set(level, 0, 0x40_0000_0000 | entry);
        let shown = tables.walk(0, KIB4, true);
        let device: Vec<_> = shown.iter().map(|leaf| leaf.device).collect();
        let expected: &[bool] = if taken { &[true] } else { &[] };
        assert_eq!(device, expected, "{entry:#x} at level {level}");
    }
}

#[test]
fn protection_keys() {
    let tables = Tables::new(4);
    let (no_access, no_write) = (0b01 << 10, 0b10 << 10);
    tables.set(1, 0, 0x5000 | USER_RW | (5 << 59));
    for (pkru, read, write) in [
        (0, 1, 1),
        (no_write, 1, 0),
        (no_access, 0, 0),
        (no_access | no_write, 0, 0),
        (!(no_access | no_write), 1, 1),
    ] {
        assert_eq!(pages_with_key(&tables, false, pkru), read, "{pkru:#x}");
        assert_eq!(pages_with_key(&tables, true, pkru), write, "{pkru:#x}");
    }
}

/// The last table of an address space is walked to its last entry and not beyond.
#[test]
fn the_end_of_user_space() {
    for (levels, top) in [(4, 1 << 47), (5, (1 << 56) - KIB4)] {
        let tables = Tables::new(levels);
        for level in 2..=levels as usize {
            for n in [255, 511] {
                tables.set(level, n, tables.memory.table(level - 2) | TABLE);
            }
        }
        for n in 500..512 {
            tables.set(1, n, (n * KIB4) | USER_RW);
        }
        let shown = tables.walk(top - 3 * KIB4, top, true);
        assert_eq!(shown.len(), 3, "{levels} levels");
        assert_eq!(shown[2].pfn, (top - KIB4) / KIB4 % 512);
    }
}

/// For the pages of one table, the tables above it are read once, and then one entry per page. This
/// is the cost of the walk.
#[test]
fn reads() {
    let tables = Tables::new(5);
    for n in 0..512 {
        tables.set(1, n, (n * KIB4) | USER_RW);
    }
    let question = Question {
        levels: 5,
        start: 0,
        end: MIB2,
        rights: Rights {
            write: true,
            pkru: 0,
        },
    };
    struct Count(usize);
    impl crate::walk::Visitor<Memory> for Count {
        fn visit(&mut self, leaf: &crate::walk::Leaf<'_, Memory>) -> bool {
            self.0 += leaf.pages();
            true
        }
    }
    let mut count = Count(0);
    tables.memory.reads();
    question.walk(&tables.memory, tables.memory.table(4), &mut count);
    assert_eq!((count.0, tables.memory.reads()), (512, 512 + 4));
}
