// SPDX-License-Identifier: GPL-2.0

//! An array of words that is page tables.

use std::cell::{Cell, RefCell};

use crate::pte::Entry;
use crate::walk::{Slot, Tables};

/// Words in a table.
pub const WORDS: usize = 512;

/// A run of ptes, and the one behind it.
const KEPT: usize = WORDS + 1;

/// What a read leaves behind in the memory.
type Change = Box<dyn FnMut(&Memory, u64)>;

/// Tables that lie one after the other in physical memory, somewhere.
pub struct Memory {
    base: u64,
    mask: u64,
    words: Vec<Cell<u64>>,
    /// The last reads: slot and what was in it.
    last: RefCell<Vec<(u64, u64)>>,
    reads: Cell<usize>,
    change: RefCell<Option<Change>>,
}

impl Memory {
    /// `tables` empty tables from the physical address `base` on; `mask` are the bits of an entry
    /// that are an address.
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

    /// The physical address of a table.
    pub fn table(&self, n: usize) -> u64 {
        self.base + 4096 * n as u64
    }

    /// Which table a slot is in.
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

    /// The bits of an entry that are an address.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// What is in a slot; not counted as a read.
    pub fn word(&self, slot: u64) -> u64 {
        self.words[self.place(slot)].get()
    }

    pub fn set(&self, slot: u64, word: u64) {
        self.words[self.place(slot)].set(word);
    }

    /// The slots and the words of the last `n` reads.
    pub fn last_reads(&self, n: usize) -> Vec<(u64, u64)> {
        let last = self.last.borrow();
        last[last.len() - n..].to_vec()
    }

    /// How often was read since this was last asked.
    pub fn reads(&self) -> usize {
        self.reads.take()
    }

    /// From now on `change` is called after each read, with the slot that was read.
    pub fn change_after_reads(&self, change: impl FnMut(&Memory, u64) + 'static) {
        *self.change.borrow_mut() = Some(Box::new(change));
    }

    /// From now on nothing changes by itself.
    pub fn stay(&self) {
        *self.change.borrow_mut() = None;
    }
}

impl Tables for Memory {
    fn read(&self, slot: Slot) -> Entry {
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
