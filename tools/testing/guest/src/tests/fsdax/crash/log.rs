// SPDX-License-Identifier: GPL-2.0

//! The log of the records that each worker knows to be durable.
//!
//! A record is determined by its number, so the log holds numbers. They are
//! stored in device-dax memory on the NVDIMMs, which fail at the same instant
//! as the files: each word is exactly the worker's knowledge at that time. No
//! filesystem and no journal is involved.

use crate::flush::persist;
use crate::tests::prelude::*;

const LEN: usize = 2 * MIB as usize;

/// The words of a worker.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// Number of durable records: all with smaller numbers are durable.
    Durable,
    /// The first round whose file exists, or existed when the power failed.
    Kept,
    /// Files of rounds before this are removed durably.
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

    /// Returns the part of one worker.
    pub fn part(&self, index: usize) -> Part<'_> {
        self.map.check(index * PAGE, PAGE);
        Part {
            map: &self.map,
            at: index * PAGE,
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
    fn offset(&self, word: Word) -> usize {
        self.at + word as usize * size_of::<u64>()
    }

    fn get(&self, word: Word) -> u64 {
        self.map.word64(self.offset(word)).load(Ordering::SeqCst)
    }

    fn set(&self, word: Word, value: u64) {
        self.map
            .word64(self.offset(word))
            .store(value, Ordering::SeqCst);
        persist(self.map, self.offset(word), size_of::<u64>());
    }

    /// Resets the log: no record has been written in this boot.
    pub fn begin(&self) {
        for word in [Word::Durable, Word::Kept, Word::Gone] {
            self.set(word, 0);
        }
    }

    pub fn durable(&self) -> u64 {
        self.get(Word::Durable)
    }

    /// Adds one durable record.
    pub fn add(&self) {
        self.set(Word::Durable, self.durable() + 1);
    }

    pub fn kept(&self) -> u64 {
        self.get(Word::Kept)
    }

    /// Announces that files of rounds before this one will be removed.
    pub fn keep(&self, round: u64) {
        self.set(Word::Kept, round);
    }

    pub fn gone(&self) -> u64 {
        self.get(Word::Gone)
    }

    /// Records that they are durably removed.
    pub fn forget(&self, round: u64) {
        self.set(Word::Gone, round);
    }
}
