// SPDX-License-Identifier: GPL-2.0

//! An array of words that is page tables.

use std::cell::{Cell, RefCell};

use crate::pgtable::Entry;
use crate::walk::{Slot, Tables};

/// The number of words in a table.
pub const WORDS: usize = 512;

/// The number of reads to keep: a run of ptes, and the one behind it.
const KEPT: usize = WORDS + 1;

/// A function that is called after each read, with the slot.
type Change = Box<dyn FnMut(&Memory, u64)>;

/// Page tables that follow each other in physical memory, from any address on.
pub struct Memory {
    base: u64,
    mask: u64,
    words: Vec<Cell<u64>>,
    /// The last reads: slots and words.
    last: RefCell<Vec<(u64, u64)>>,
    reads: Cell<usize>,
    change: RefCell<Option<Change>>,
}

impl Memory {
    /// Creates `tables` empty tables from the physical address `base` on. `mask` has the bits of an
    /// entry that are an address.
    pub fn new(tables: usize, base: u64, mask: u64) -> Self {
        Self {
            base,
            mask,
            words: vec![Cell::new(0); tables * WORDS],
            last: RefCell::default(),
            reads: Cell::new(0),
            change: RefCell::new(None),
        }
    }

    /// Returns the physical address of a table.
    pub fn table(&self, n: usize) -> u64 {
        self.base + 4096 * n as u64
    }

    /// Returns the number of the table that a slot is in.
    pub fn table_of(&self, slot: u64) -> usize {
        self.place(slot) / WORDS
    }

    fn place(&self, slot: u64) -> usize {
        let at = slot
            .checked_sub(self.base)
            .filter(|at| at % 8 == 0)
            .and_then(|at| usize::try_from(at / 8).ok())
            .filter(|&at| at < self.words.len());
        match at {
            Some(at) => at,
            None => panic!("{slot:#x} is in no table"),
        }
    }

    /// Returns the bits of an entry that are an address.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// Returns the word in a slot. This is not counted as a read.
    pub fn word(&self, slot: u64) -> u64 {
        self.words[self.place(slot)].get()
    }

    /// Sets the word in a slot.
    pub fn set(&self, slot: u64, word: u64) {
        self.words[self.place(slot)].set(word);
    }

    /// Returns the slots and the words of the last `n` reads.
    pub fn last_reads(&self, n: usize) -> Vec<(u64, u64)> {
        let last = self.last.borrow();
        last[last.len() - n..].to_vec()
    }

    /// Returns the number of reads since the last call.
    pub fn reads(&self) -> usize {
        self.reads.take()
    }

    /// Calls `change` after each read from now on, with the slot that was read.
    pub fn change_after_reads(&self, change: impl FnMut(&Memory, u64) + 'static) {
        *self.change.borrow_mut() = Some(Box::new(change));
    }

    /// Stops calling `change` after reads.
    pub fn stay(&self) {
        *self.change.borrow_mut() = None;
    }
}

impl Tables for Memory {
    fn read(&self, slot: Slot, _shift: u32) -> Entry {
        let slot = slot.phys();
        let word = self.word(slot);
        let mut last = self.last.borrow_mut();
        if last.len() >= 2 * KEPT {
            last.drain(..KEPT);
        }
        last.push((slot, word));
        drop(last);
        self.reads.set(self.reads.get() + 1);
        if let Some(change) = self.change.borrow_mut().as_mut() {
            change(self, slot);
        }
        Entry::new(word)
    }

    fn address_mask(&self) -> u64 {
        self.mask
    }
}
