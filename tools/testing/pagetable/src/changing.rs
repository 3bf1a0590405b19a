// SPDX-License-Identifier: GPL-2.0

//! Tables that change during the walk.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::invent::{worlds, World};
use crate::memory::Memory;
use crate::model;
use crate::pgtable::LeafKind;
use crate::seen::{Question, Shown};
use crate::walk::{Leaf, Visitor};

const QUESTIONS: usize = 50;

/// A visitor that changes the entry of each leaf, the entry above it, both or neither, and then
/// calls `unchanged()`.
struct Touch<'a> {
    memory: &'a Memory,
    root: u64,
    question: Question,
    rng: &'a mut SmallRng,
    address: u64,
    asked: &'a mut [u64; 4],
}

impl Visitor<Memory> for Touch<'_> {
    fn visit(&mut self, leaf: &Leaf<'_, Memory>) -> bool {
        let Question { levels, rights, .. } = self.question;
        let Some(page) = model::page(self.memory, self.root, levels, self.address, rights) else {
            panic!(
                "the walk showed a leaf at {:#x}, the model has none",
                self.address
            );
        };
        self.address += 4096 * leaf.pages() as u64;
        // Any entry of a run.
        let one = match leaf.is_pte() {
            true => self.rng.random_range(0..leaf.pages() as u64),
            false => 0,
        };
        let (own, above) = (self.rng.random::<bool>(), self.rng.random::<bool>());
        // Only of a pte is the entry above checked: larger leaves lie in tables that are not freed
        // while interrupts are off.
        let above = page.above.filter(|_| above);
        let mut before = Vec::new();
        for slot in [Some(page.slot + 8 * one).filter(|_| own), above]
            .into_iter()
            .flatten()
        {
            let word = self.memory.word(slot);
            before.push((slot, word));
            // Any bit is a change, also one that the walk ignores.
            self.memory
                .set(slot, word ^ (1 << self.rng.random_range(0..64)));
        }
        self.asked[usize::from(own) + 2 * usize::from(above.is_some())] += 1;
        assert_eq!(
            leaf.unchanged(),
            before.is_empty(),
            "entry changed: {own}; the one above: {above:?}"
        );
        for (slot, word) in before {
            self.memory.set(slot, word);
        }
        assert!(leaf.unchanged(), "the entries are the same again");
        true
    }
}

/// A leaf knows whether its entry, and of a pte the one above it, is still what was read.
#[test]
fn a_leaf_knows_whether_it_changed() {
    let mut asked = [0; 4];
    worlds(8, |world, rng| {
        for _ in 0..QUESTIONS {
            let question = world.question(rng);
            let mut touch = Touch {
                memory: &world.memory,
                root: world.root,
                question,
                rng,
                address: question.start,
                asked: &mut asked,
            };
            question.walk(&world.memory, world.root, &mut touch);
        }
    });
    println!("unchanged, entry, above, both: {asked:?}");
}

/// A visitor that checks that each leaf follows from the last word that was read, although the
/// table may have changed since.
struct OneCopy<'a> {
    memory: &'a Memory,
    question: Question,
    address: u64,
    /// The entry that was read behind the last leaf: slot and word.
    behind: Option<(u64, u64)>,
    leaves: u64,
    changed: u64,
}

impl Visitor<Memory> for OneCopy<'_> {
    fn visit(&mut self, leaf: &Leaf<'_, Memory>) -> bool {
        // Behind a run the next pte was read, unless the run ends at the end of the table, of the
        // range, or at the last PFN.
        let pages = leaf.pages() as u64;
        let run_end = self.address + 4096 * pages;
        let is_run = leaf.is_pte() && leaf.kind() == LeafKind::Devmap;
        let mask = self.memory.mask() >> 12;
        let last_pfn = mask & !(mask + 1);
        let behind = is_run
            && run_end < self.question.end
            && run_end % (2 << 20) != 0
            && (leaf.pfn() + pages - 1) & last_pfn != last_pfn;
        let known = self.behind.take();
        let entries = match is_run {
            true => leaf.pages() + usize::from(behind),
            false => 1,
        };
        let mut reads = known.into_iter().collect::<Vec<_>>();
        reads.extend(self.memory.last_reads(entries - reads.len()));
        self.behind = reads.last().copied().filter(|_| behind);
        let (slot, word) = reads[0];
        let size = 1 << (12 + 9 * (World::level_of(self.memory.table_of(slot)) - 1));
        for n in 1..reads.len().min(leaf.pages()) as u64 {
            let (next, other) = reads[n as usize];
            assert_eq!((next, other), (slot + 8 * n, word + 4096 * n), "not a run");
        }
        let Some(page) = model::leaf(
            self.memory.mask(),
            word,
            self.address,
            size,
            self.question.rights,
        ) else {
            panic!("{word:#x}, read from {slot:#x}, is no leaf that may be shown");
        };
        let leaf_end = self.address / size * size + size;
        let pages = match is_run {
            true => pages,
            false => (leaf_end.min(self.question.end) - self.address) / 4096,
        };
        assert_eq!(Shown::from(leaf), Shown::new(&page, pages));
        self.leaves += 1;
        self.changed += u64::from(!leaf.unchanged());
        self.address += 4096 * pages;
        true
    }
}

/// Each entry is read once, and everything follows from that copy. So the walk never mixes an old
/// entry with a new one, and never leaves the tables.
#[test]
fn what_was_read_once_decides() {
    let (mut leaves, mut changed) = (0, 0);
    worlds(8, |world, rng| {
        for _ in 0..QUESTIONS {
            let question = world.question(rng);
            let often = rng.random_range(2..64);
            let plan = world.plan.clone();
            let mut own = SmallRng::seed_from_u64(rng.random());
            world.memory.change_after_reads(move |memory, slot| {
                if own.random_range(0..often) == 0 {
                    let level = World::level_of(memory.table_of(slot));
                    memory.set(slot, plan.entry(&mut own, level));
                }
            });
            let mut seen = OneCopy {
                memory: &world.memory,
                question,
                address: question.start,
                behind: None,
                leaves: 0,
                changed: 0,
            };
            question.walk(&world.memory, world.root, &mut seen);
            leaves += seen.leaves;
            changed += seen.changed;
            world.memory.stay();
        }
    });
    println!("{leaves} leaves, {changed} of them changed");
    assert!(leaves < 1000 || (changed > leaves / 512 && changed < leaves));
}
