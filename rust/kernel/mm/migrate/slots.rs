// SPDX-License-Identifier: GPL-2.0

//! Which slots of a device are in use. A slot is freed in any context in which the last reference to a
//! page may be dropped, so this takes no lock.

use crate::prelude::*;
use core::sync::atomic::{AtomicU64, Ordering};

/// The slots, a bit for each that is in use.
pub(super) struct UsedSlots {
    words: KVec<Word>,
    slots: usize,
}

/// The bits of 64 slots.
struct Word(AtomicU64);

/// Lets a vector be filled.
impl Clone for Word {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl UsedSlots {
    /// The slots of a word.
    const PER_WORD: usize = u64::BITS as usize;

    pub(super) fn new(slots: usize) -> Result<Self> {
        let mut words = KVec::new();
        let count = slots.div_ceil(Self::PER_WORD);
        words.extend_with(count, Word(AtomicU64::new(0)), GFP_KERNEL)?;
        // What is behind the last slot is in use from the beginning.
        let in_last = slots % Self::PER_WORD;
        if let (Some(Word(last)), 1..) = (words.last(), in_last) {
            last.store(u64::MAX << in_last, Ordering::Relaxed);
        }
        Ok(Self { words, slots })
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn allocate(&self) -> Option<usize> {
        for (n, Word(word)) in self.words.iter().enumerate() {
            let mut used = word.load(Ordering::Relaxed);
            while used != u64::MAX {
                let bit = used.trailing_ones();
                used = word.fetch_or(1 << bit, Ordering::Acquire);
                if used & (1 << bit) == 0 {
                    // OVERFLOW: The bit is that of a slot.
                    return Some(n.wrapping_mul(Self::PER_WORD).wrapping_add(bit as usize));
                }
            }
        }
        None
    }

    pub(super) fn free(&self, slot: usize) {
        if let Some(Word(word)) = self.words.get(slot / Self::PER_WORD) {
            word.fetch_and(!(1 << (slot % Self::PER_WORD)), Ordering::Release);
        }
    }

    pub(super) fn count(&self) -> usize {
        let set = self.words.iter().fold(0, |set: usize, Word(word)| {
            // OVERFLOW: There are as many bits as slots, and fewer than 64 more.
            set.wrapping_add(word.load(Ordering::Relaxed).count_ones() as usize)
        });
        // The bits behind the last slot are set.
        let all = self.words.len().saturating_mul(Self::PER_WORD);
        set.saturating_sub(all.saturating_sub(self.slots))
    }
}
