// SPDX-License-Identifier: GPL-2.0

//! What each worker knows to be durable.
//!
//! A record follows from its number, so a number says it all. It is stored in
//! device-dax memory on the NVDIMMs, which fail at the same instant as the
//! files: each word is what the program knew then, neither more nor less. No
//! filesystem and no journal has a part in it.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::flush::persist;
use crate::mapping::{Mapping, PAGE};
use crate::ndctl::MIB;

const LEN: usize = 2 * MIB as usize;

/// The words of a worker.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// The records that are durable: all whose numbers are smaller.
    Durable,
    /// The first round whose file is there, or was when the power failed.
    Kept,
    /// Files of rounds before this are gone for good.
    Gone,
}

pub struct Log {
    map: Mapping,
}

impl Log {
    pub fn open(device: &File) -> Result<Self> {
        Ok(Self {
            map: Mapping::shared(device, 0, LEN, LEN)?,
        })
    }

    /// That of one worker.
    pub fn part(&self, place: usize) -> Part<'_> {
        self.map.check(place * PAGE, PAGE);
        Part {
            map: &self.map,
            at: place * PAGE,
        }
    }
}

/// The words of one worker, which writes them; after a power failure they are
/// read.
pub struct Part<'a> {
    map: &'a Mapping,
    at: usize,
}

impl Part<'_> {
    fn place(&self, word: Word) -> usize {
        self.at + word as usize * size_of::<u64>()
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: aligned, in the mapping (see `Log::part`), which outlives
        // the reference, and never accessed in another way.
        unsafe { AtomicU64::from_ptr((self.map.addr() + self.place(word)) as *mut u64) }
    }

    fn get(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::SeqCst)
    }

    fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::SeqCst);
        persist(self.map, self.place(word), size_of::<u64>());
    }

    /// Nothing has been written in this boot.
    pub fn begin(&self) {
        for word in [Word::Durable, Word::Kept, Word::Gone] {
            self.set(word, 0);
        }
    }

    pub fn durable(&self) -> u64 {
        self.get(Word::Durable)
    }

    /// One more record is durable.
    pub fn add(&self) {
        self.set(Word::Durable, self.durable() + 1);
    }

    pub fn kept(&self) -> u64 {
        self.get(Word::Kept)
    }

    /// Files of rounds before this one are about to go.
    pub fn keep(&self, round: u64) {
        self.set(Word::Kept, round);
    }

    pub fn gone(&self) -> u64 {
        self.get(Word::Gone)
    }

    /// They have gone, and that is durable.
    pub fn forget(&self, round: u64) {
        self.set(Word::Gone, round);
    }
}
