// SPDX-License-Identifier: GPL-2.0

//! What the processor's manual and the kernel's headers say about one address.
//!
//! Slow and plain on purpose: each page is looked up from the root, and every constant is defined
//! here again.

use crate::memory::Memory;

const PRESENT: u64 = 0x1;
const WRITABLE: u64 = 0x2;
const USER: u64 = 0x4;
const LEAF: u64 = 0x80;
const SPECIAL: u64 = 0x200;
const DEVICE: u64 = 0x0200_0000_0000_0000;

/// The access asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    pub write: bool,
    /// Two bits for each of 16 keys: the lower denies all accesses, the upper writes.
    pub pkru: u32,
}

/// What one page of the address space is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub pfn: u64,
    pub writable: bool,
    pub device: bool,
    /// The number of bytes that the leaf maps.
    pub size: u64,
    pub slot: u64,
    /// The slot of the entry above a leaf of 4 KiB.
    pub above: Option<u64>,
}

impl Page {
    /// Returns whether the pte `pages` behind this one maps the page that is `pages` behind, and is
    /// the same in all other bits.
    pub fn goes_on(&self, memory: &Memory, pages: u64) -> bool {
        let (first, pte) = (memory.word(self.slot), memory.word(self.slot + 8 * pages));
        let mask = memory.mask();
        pte & !mask == first & !mask && pte & mask == (first & mask) + 4096 * pages
    }
}

/// Returns the page at an address, or `None` if there is none or the access is not permitted.
pub fn page(memory: &Memory, root: u64, levels: u32, address: u64, rights: Rights) -> Option<Page> {
    let (mut table, mut level, mut above) = (root, levels, None);
    loop {
        let shift = 12 + 9 * (level - 1);
        let slot = table + 8 * ((address >> shift) & 511);
        let entry = memory.word(slot);
        match (level, entry & LEAF != 0) {
            (1, _) | (2 | 3, true) => {
                return leaf(memory.mask(), entry, address, 1 << shift, rights).map(|page| Page {
                    slot,
                    above: above.filter(|_| level == 1),
                    ..page
                });
            }
            // No processor has leaves of this size.
            (_, true) => return None,
            (_, false) if entry & PRESENT == 0 => return None,
            (_, false) => (table, level, above) = (entry & memory.mask(), level - 1, Some(slot)),
        }
    }
}

/// Returns the page to which a leaf of `size` bytes maps an address, without the slots.
pub fn leaf(mask: u64, entry: u64, address: u64, size: u64, rights: Rights) -> Option<Page> {
    if entry & PRESENT == 0 || entry & USER == 0 {
        return None;
    }
    if rights.write && entry & WRITABLE == 0 {
        return None;
    }
    let key = (entry >> 59) & 15;
    let forbidden = (rights.pkru >> (2 * key)) & 3;
    if forbidden & 1 != 0 || (rights.write && forbidden & 2 != 0) {
        return None;
    }
    let device = entry & DEVICE != 0;
    let special = entry & SPECIAL != 0;
    // A pte of device memory has both bits. A larger leaf with both is special.
    if special && !(device && size == 4096) {
        return None;
    }
    let first = (entry & mask) / size * size;
    Some(Page {
        pfn: (first + address % size) / 4096,
        writable: entry & WRITABLE != 0,
        device,
        size,
        slot: 0,
        above: None,
    })
}
