// SPDX-License-Identifier: GPL-2.0

//! What the processor's manual and the kernel's headers say of one address.
//!
//! Slow and plain on purpose: each page is looked up from the root, and every number is written
//! out here once more.

use crate::memory::Memory;

const PRESENT: u64 = 0x1;
const WRITABLE: u64 = 0x2;
const USER: u64 = 0x4;
const LEAF: u64 = 0x80;
const SPECIAL: u64 = 0x200;
const DEVICE: u64 = 0x0200_0000_0000_0000;

/// The access that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    pub write: bool,
    /// Two bits for each of 16 keys: bit 0 forbids all access, bit 1 writing.
    pub pkru: u32,
}

/// What one page of the address space is mapped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub pfn: u64,
    pub writable: bool,
    pub device: bool,
    /// How many bytes the leaf maps.
    pub size: u64,
    pub slot: u64,
    /// The slot of the entry above a leaf of 4 KiB.
    pub above: Option<u64>,
}

impl Page {
    /// Whether the pte `pages` behind this one maps the page as far behind, and is the same in all
    /// else.
    pub fn goes_on(&self, memory: &Memory, pages: u64) -> bool {
        let (first, pte) = (memory.word(self.slot), memory.word(self.slot + 8 * pages));
        let mask = memory.mask();
        pte & !mask == first & !mask && pte & mask == (first & mask) + 4096 * pages
    }
}

/// The page at an address: `None` if there is none, or not with this access.
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
            // No processor has leaves so large.
            (_, true) => return None,
            (_, false) if entry & PRESENT == 0 => return None,
            (_, false) => (table, level, above) = (entry & memory.mask(), level - 1, Some(slot)),
        }
    }
}

/// What a leaf that maps `size` bytes makes of an address. The slots are left out.
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
    // A pte of a device has both bits; a larger leaf with both is as good as special.
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
