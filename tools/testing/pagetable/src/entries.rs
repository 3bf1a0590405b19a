// SPDX-License-Identifier: GPL-2.0

//! What an entry says by itself: for the slow path of GUP, which has the lock of the table and no
//! walk of ours around it.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::pte::{Entry, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT};

const MASK: u64 = (1 << 52) - 4096;

/// A leaf has its address bits the other way round while nobody has rights to it, and says the same
/// frame.
#[test]
fn a_frame_without_rights_is_the_same_frame() {
    let mut rng = SmallRng::seed_from_u64(1);
    for shift in [PTE_SHIFT, PMD_SHIFT, PUD_SHIFT] {
        let inside = (1 << shift) - 1;
        for _ in 0..100_000 {
            let phys = rng.random::<u64>() & MASK & !inside;
            // As address of a process, with bytes of a page.
            let address = rng.random::<u64>() >> 8;
            let large = match shift {
                PTE_SHIFT => 0,
                _ => Entry::LARGE,
            };
            let there = phys | large | Entry::PRESENT | Entry::USER | Entry::DEVMAP;
            let without = (!phys & MASK & !inside) | large | Entry::NO_RIGHTS | Entry::DEVMAP;
            let expected = (phys >> 12) + ((address & inside) >> 12);
            for bits in [there, without] {
                let frame = Entry::new(bits).frame_without_rights(address, shift, MASK);
                assert_eq!(frame, expected, "entry {bits:#x} at {address:#x}");
            }
            assert_eq!(
                Entry::new(there).frame(address, shift, MASK),
                expected,
                "entry {there:#x} at {address:#x}"
            );
        }
    }
}

/// A run ends where an entry maps something else or has another bit, and not later than it is asked
/// to.
#[test]
fn a_run_ends_where_anything_differs() {
    let mut rng = SmallRng::seed_from_u64(2);
    let used = Entry::ACCESSED | Entry::DIRTY;
    let first = 0x1234_5000 | Entry::PRESENT | Entry::USER | Entry::SPECIAL | Entry::DEVMAP;
    for _ in 0..10_000 {
        let mut table: Vec<u64> = (0..512).map(|n| (first | used) + (n << 12)).collect();
        let odd = rng.random_range(1..600);
        if let Some(entry) = table.get_mut(odd) {
            *entry ^= [1 << 12, Entry::DIRTY, Entry::WRITE, Entry::PRESENT][rng.random_range(0..4)];
        }
        let most = rng.random_range(1..=512);
        let (pages, behind) = Entry::new(first | used).run(most, MASK, |n| {
            assert!(n < most, "an entry behind the last is read");
            Entry::new(table[n])
        });
        assert_eq!(pages, odd.min(most));
        let expected = (odd < most).then(|| Entry::new(table[odd]));
        assert_eq!(behind, expected);
    }
}
