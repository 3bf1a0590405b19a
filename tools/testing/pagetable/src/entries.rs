// SPDX-License-Identifier: GPL-2.0

//! Entries without a walk: as the slow path of GUP reads them, and as `mm/devmap` makes them.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::pgtable::{Entry, LeafKind, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT};
use crate::pte::pte_run;

const MASK: u64 = (1 << 52) - 4096;

/// A leaf without rights has inverted address bits, and maps the same PFN.
#[test]
fn a_leaf_without_rights_maps_the_same_pfn() {
    let mut rng = SmallRng::seed_from_u64(1);
    for shift in [PTE_SHIFT, PMD_SHIFT, PUD_SHIFT] {
        let inside = (1 << shift) - 1;
        for _ in 0..100_000 {
            let phys = rng.random::<u64>() & MASK & !inside;
            // A user address, of any byte of the page.
            let address = rng.random::<u64>() >> 8;
            let large = match shift {
                PTE_SHIFT => 0,
                _ => Entry::PSE,
            };
            let present = phys | large | Entry::PRESENT | Entry::USER | Entry::DEVMAP;
            let without = (!phys & MASK & !inside) | large | Entry::PROTNONE | Entry::DEVMAP;
            let expected = (phys >> 12) + ((address & inside) >> 12);
            for bits in [present, without] {
                let entry = Entry::new(bits);
                let pfn = entry.pfn_at(address, shift, MASK);
                assert_eq!(pfn, expected, "entry {bits:#x} at {address:#x}");
                assert_eq!(entry.pfn(shift, MASK), phys >> 12, "entry {bits:#x}");
            }
            assert_eq!(
                Entry::new(present).present_pfn_at(address, shift, MASK),
                expected,
                "entry {present:#x} at {address:#x}"
            );
        }
    }
}

/// A leaf that is made for a physical address maps that address, with or without rights, and has
/// the marks of its kind.
#[test]
fn a_leaf_maps_what_it_was_made_for() {
    let mut rng = SmallRng::seed_from_u64(3);
    for shift in [PTE_SHIFT, PMD_SHIFT, PUD_SHIFT] {
        for _ in 0..100_000 {
            let phys = rng.random::<u64>() & MASK & !((1 << shift) - 1);
            for prot in [
                Entry::PRESENT | Entry::USER,
                Entry::PRESENT | Entry::USER | Entry::RW,
                Entry::PROTNONE | Entry::ACCESSED,
            ] {
                let small = shift == PTE_SHIFT;
                for (kind, devmap, special) in [
                    (LeafKind::Normal, false, false),
                    (LeafKind::Devmap, true, small),
                    (LeafKind::Special, false, true),
                ] {
                    let entry = Entry::leaf(phys, prot, kind, shift, MASK);
                    assert_eq!(entry.pfn(shift, MASK), phys >> 12, "{entry:?}");
                    assert_eq!(entry.is_present(), prot & Entry::PRESENT != 0, "{entry:?}");
                    assert_eq!(entry.is_devmap(), devmap, "{entry:?}");
                    assert_eq!(entry.has(Entry::SPECIAL), special, "{entry:?}");
                    assert_eq!(entry.has(Entry::PSE), !small, "{entry:?}");
                    assert!(entry.is_leaf(shift) && !entry.is_none(), "{entry:?}");
                    assert_eq!(entry.bits() & prot, prot, "{entry:?}");
                }
            }
        }
    }
}

/// A store marks a leaf as accessed and as dirty, and does not change what it maps.
#[test]
fn a_store_changes_marks_alone() {
    let prot = Entry::PRESENT | Entry::USER;
    for shift in [PTE_SHIFT, PMD_SHIFT, PUD_SHIFT] {
        let clean = Entry::leaf(0x2_4000_0000, prot, LeafKind::Devmap, shift, MASK);
        let marks = Entry::ACCESSED | Entry::DIRTY | Entry::SAVED_DIRTY | Entry::RW;
        for writable in [true, false] {
            let stored = clean.with_store(writable);
            assert_eq!(stored.bits() & !marks, clean.bits() & !marks);
            assert!(stored.has(Entry::ACCESSED));
            assert_eq!(stored.is_writable(), writable);
            assert_eq!(stored.has(Entry::DIRTY), writable);
            assert_eq!(stored.has(Entry::SAVED_DIRTY), !writable);
        }
        // What is writable stays so.
        let again = clean.with_store(true).with_store(false);
        assert_eq!(again, clean.with_store(true));
    }
}

/// A leaf that is write-protected for userfaultfd is not writable, and stays dirty. The store that
/// makes it writable ends the protection; one that does not, does not.
#[test]
fn a_store_ends_write_protection() {
    let prot = Entry::PRESENT | Entry::USER;
    for shift in [PTE_SHIFT, PMD_SHIFT, PUD_SHIFT] {
        let clean = Entry::leaf(0x2_4000_0000, prot, LeafKind::Devmap, shift, MASK);
        for leaf in [clean, clean.with_store(true), clean.with_store(false)] {
            let protected = leaf.with_uffd_wp();
            assert!(protected.has(Entry::UFFD_WP) && !protected.is_writable());
            let dirty = Entry::DIRTY | Entry::SAVED_DIRTY;
            assert_eq!(protected.has(dirty), leaf.has(dirty));
            assert!(!protected.has(Entry::DIRTY));
            assert_eq!(protected.with_store(true), clean.with_store(true));
            assert!(protected.with_store(false).has(Entry::UFFD_WP));
        }
    }
}

/// Only a present leaf of the level maps memory, and only at its address.
#[test]
fn an_entry_maps_one_address() {
    let phys = 0x2_4000_0000;
    let prot = Entry::PRESENT | Entry::USER;
    for shift in [PTE_SHIFT, PMD_SHIFT, PUD_SHIFT] {
        let leaf = Entry::leaf(phys, prot, LeafKind::Devmap, shift, MASK);
        assert!(leaf.maps(phys, shift, MASK) && leaf.with_store(true).maps(phys, shift, MASK));
        assert!(!leaf.maps(phys + (1 << shift), shift, MASK));
        assert!(!Entry::new(0).maps(phys, shift, MASK));
        assert!(!Entry::new(0).maps(0, shift, MASK));
        let none = Entry::leaf(phys, Entry::PROTNONE, LeafKind::Devmap, shift, MASK);
        assert!(!none.maps(phys, shift, MASK));
        let table = Entry::new(phys | prot);
        assert_eq!(table.maps(phys, shift, MASK), shift == PTE_SHIFT);
    }
}

/// Some processors set the accessed and the dirty bit in an empty entry by mistake.
#[test]
fn an_entry_with_marks_alone_is_none() {
    for bits in [
        0,
        Entry::ACCESSED,
        Entry::DIRTY,
        Entry::ACCESSED | Entry::DIRTY,
    ] {
        assert!(Entry::new(bits).is_none());
    }
    for bits in [Entry::PRESENT, Entry::PROTNONE, Entry::SOFT_DIRTY, 1 << 40] {
        assert!(!Entry::new(bits).is_none());
    }
}

/// A run ends where an entry maps another page or has another bit, and at the requested maximum.
#[test]
fn a_run_ends_where_anything_differs() {
    let mut rng = SmallRng::seed_from_u64(2);
    let marks = Entry::ACCESSED | Entry::DIRTY;
    let first = 0x1234_5000 | Entry::PRESENT | Entry::USER | Entry::SPECIAL | Entry::DEVMAP;
    for _ in 0..10_000 {
        let mut table: Vec<u64> = (0..512).map(|n| (first | marks) + (n << 12)).collect();
        let odd = rng.random_range(1..600);
        if let Some(entry) = table.get_mut(odd) {
            *entry ^= [1 << 12, Entry::DIRTY, Entry::RW, Entry::PRESENT][rng.random_range(0..4)];
        }
        let most = rng.random_range(1..=512);
        let (pages, behind) = pte_run(Entry::new(first | marks), most, MASK, |n| {
            assert!(n < most, "an entry behind the last is read");
            Entry::new(table[n])
        });
        assert_eq!(pages, odd.min(most));
        let expected = (odd < most).then(|| Entry::new(table[odd]));
        assert_eq!(behind, expected);
    }
}
