// SPDX-License-Identifier: GPL-2.0-only

//! x86-64 page tables, and the walk over what they map of a range of addresses.
//!
//! ```text
//!   level    maps of an address       an entry may be
//!   pgd      bits 48..57              a table            (with five levels only)
//!   p4d      bits 39..48              a table
//!   pud      bits 30..39              a table, or a leaf of 1 GiB
//!   pmd      bits 21..30              a table, or a leaf of 2 MiB
//!   pte      bits 12..21              a leaf of 4 KiB
//! ```
//!
//! Nobody holds a lock: each entry is read once, what follows is decided by that copy, and
//! [`Leaf::unchanged`] tells whether it still is what was read. Where tables come from is behind
//! [`Tables`], so that this file has nothing of the kernel in it: the tests of the host walk
//! tables that they made up.
//!
//! C header: [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

use super::pte::{Access, Entry, ENTRIES, P4D_SHIFT, PGD_SHIFT, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT};

/// A physical address at which a page table is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table(u64);

impl Table {
    /// The table at this physical address, in bytes.
    #[inline]
    pub(crate) const fn at(phys: u64) -> Self {
        Self(phys)
    }

    /// Where the entry for `address` is, in the table of the level that maps from bit `shift` on.
    #[inline]
    const fn slot(self, address: u64, shift: u32) -> Slot {
        Slot(self.0 | (((address >> shift) % ENTRIES) * 8))
    }
}

/// The place of an entry: a physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(u64);

impl Slot {
    /// The physical address, in bytes.
    #[inline]
    pub(crate) const fn phys(self) -> u64 {
        self.0
    }

    /// The `n`-th entry behind it, in the same table.
    #[inline]
    const fn nth(self, n: usize) -> Self {
        Self(self.0.wrapping_add((n as u64).wrapping_mul(8)))
    }
}

/// Where page tables are read from.
pub(crate) trait Tables {
    /// Reads an entry: once, and as a whole.
    fn read(&self, slot: Slot) -> Entry;

    /// The bits of an entry that are a physical address. C: `PTE_PFN_MASK`.
    fn address_mask(&self) -> u64;
}

/// What a leaf maps. (A special one maps nothing that may be referred to, and ends the walk.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Memory with a `struct page` that counts being mapped.
    Normal,
    /// Device memory, whose life is its pgmap's.
    Device,
}

/// A leaf that permits the access, and the part of it that the walk is about. Or a run of ptes of a
/// device, side by side: they map one page after the other, and are the same in all else.
#[derive(Debug)]
pub(crate) struct Leaf<'a, T> {
    tables: &'a T,
    slot: Slot,
    entry: Entry,
    /// The entry that points to the table of a pte: collapsing a huge page clears that one first.
    above: Option<(Slot, Entry)>,
    kind: Kind,
    pfn: u64,
    pages: usize,
}

impl<T: Tables> Leaf<'_, T> {
    /// What it maps.
    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The frame that the first address of the walk in it is mapped to; those of the other pages
    /// follow.
    #[inline]
    pub(crate) fn pfn(&self) -> u64 {
        self.pfn
    }

    /// How many pages from there on the walk is about; at least 1.
    #[inline]
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Whether the entry permits writing.
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.entry.is_writable()
    }

    /// Whether the entry, or each of them, is a pte.
    #[inline]
    pub(crate) fn is_pte(&self) -> bool {
        self.above.is_some()
    }

    /// Whether the entry, and with a pte the one above it, still is what was read. Of a run: each.
    #[inline(always)]
    pub(crate) fn unchanged(&self) -> bool {
        let is = |slot, entry| self.tables.read(slot) == entry;
        match self.above {
            None => is(self.slot, self.entry),
            Some((slot, entry)) => {
                is(slot, entry)
                    && (0..self.pages).all(|n| is(self.slot.nth(n), self.entry.nth_page(n)))
            }
        }
    }
}

/// What is done with the leaves.
pub(crate) trait Visitor<T> {
    /// Called for one leaf after the other. `false` ends the walk.
    fn visit(&mut self, leaf: &Leaf<'_, T>) -> bool;
}

/// Shows to `visitor` the leaves that map the addresses from `start` to `end` (exclusive), up to
/// the first that is missing or does not permit the access.
///
/// Both are in bytes and multiples of the page size, and `start < end < 2^56`.
#[inline]
pub(crate) fn walk<T: Tables, V: Visitor<T>>(
    tables: &T,
    root: Root,
    (mut start, end): (u64, u64),
    access: Access,
    visitor: &mut V,
) {
    let mut walk = Walk {
        tables,
        access,
        visitor,
    };
    // One entry of a pud after the other. The levels above are walked again for each gigabyte: that
    // costs less than to remember where they are.
    while start < end {
        let next = part_end(start, end, PUD_SHIFT);
        if !walk.pud(root, start, next) {
            return;
        }
        start = next;
    }
}

/// The same for one page. `start` is a multiple of the page size.
///
/// Most calls of GUP are for one page: nothing is to be repeated, and nothing to be remembered.
#[inline]
pub(crate) fn walk_page<T: Tables, V: Visitor<T>>(
    tables: &T,
    root: Root,
    start: u64,
    access: Access,
    visitor: &mut V,
) {
    let mut walk = Walk {
        tables,
        access,
        visitor,
    };
    let end = start.wrapping_add(1 << PTE_SHIFT);
    let Some(puds) = walk.puds(root, start) else {
        return;
    };
    let slot = puds.slot(start, PUD_SHIFT);
    let entry = tables.read(slot);
    let Some(pmds) = walk.table(entry) else {
        walk.large(slot, entry, (start, end), PUD_SHIFT);
        return;
    };
    let slot = pmds.slot(start, PMD_SHIFT);
    let entry = tables.read(slot);
    let Some(ptes) = walk.table(entry) else {
        walk.large(slot, entry, (start, end), PMD_SHIFT);
        return;
    };
    let above = (slot, entry);
    let slot = ptes.slot(start, PTE_SHIFT);
    walk.pte(slot, tables.read(slot), above, 1);
}

/// The table that the processor begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root {
    /// Of five levels.
    Pgd(Table),
    /// Of four: what C calls a pgd is read as a p4d.
    P4d(Table),
}

struct Walk<'a, T, V> {
    tables: &'a T,
    access: Access,
    visitor: &'a mut V,
}

/// The end of the part of the addresses from `start` to `end` that one entry maps. C:
/// `pmd_addr_end()`.
#[inline]
const fn part_end(start: u64, end: u64, shift: u32) -> u64 {
    let next = (start | ((1 << shift) - 1)).wrapping_add(1);
    if next < end {
        next
    } else {
        end
    }
}

impl<T: Tables, V: Visitor<T>> Walk<'_, T, V> {
    /// The table that a present entry points to, if it is one.
    #[inline]
    fn table(&self, entry: Entry) -> Option<Table> {
        (entry.bits() & (Entry::PRESENT | Entry::LARGE) == Entry::PRESENT)
            .then(|| Table(entry.bits() & self.tables.address_mask()))
    }

    /// The table of puds for `address`.
    #[inline]
    fn puds(&self, root: Root, address: u64) -> Option<Table> {
        let p4ds = match root {
            Root::P4d(table) => table,
            Root::Pgd(table) => self.table(self.tables.read(table.slot(address, PGD_SHIFT)))?,
        };
        self.table(self.tables.read(p4ds.slot(address, P4D_SHIFT)))
    }

    /// What one entry of a pud maps: itself, or the pmds below it.
    #[inline(always)]
    fn pud(&mut self, root: Root, mut start: u64, end: u64) -> bool {
        let Some(table) = self.puds(root, start) else {
            return false;
        };
        let mut slot = table.slot(start, PUD_SHIFT);
        let mut entry = self.tables.read(slot);
        let mut shift = PUD_SHIFT;
        if let Some(table) = self.table(entry) {
            slot = table.slot(start, PMD_SHIFT);
            entry = self.tables.read(slot);
            shift = PMD_SHIFT;
        }
        // From here on the leaves of both levels take the same way, and a leaf of a pud is the only
        // one in this part.
        loop {
            let next = part_end(start, end, shift);
            let more = match self.table(entry) {
                Some(table) => self.ptes(table, (slot, entry), start, next),
                None => self.large(slot, entry, (start, next), shift),
            };
            if !more {
                return false;
            }
            if next == end {
                return true;
            }
            (start, slot) = (next, slot.nth(1));
            entry = self.tables.read(slot);
        }
    }

    /// What the ptes of a table map.
    #[inline(always)]
    fn ptes(&mut self, table: Table, above: (Slot, Entry), mut start: u64, end: u64) -> bool {
        let mut slot = table.slot(start, PTE_SHIFT);
        let mut entry = self.tables.read(slot);
        loop {
            // CAST: At most 512.
            let most = (end.wrapping_sub(start) >> PTE_SHIFT) as usize;
            let Some((pages, behind)) = self.pte(slot, entry, above, most) else {
                return false;
            };
            start = start.wrapping_add((pages as u64) << PTE_SHIFT);
            if start >= end {
                return true;
            }
            slot = slot.nth(pages);
            entry = match behind {
                Some(entry) => entry,
                None => self.tables.read(slot),
            };
        }
    }

    /// What a pte maps, or the run of ptes that begins with it: `most` at most. Returns how many it
    /// was, and the entry behind if that was read.
    #[inline(always)]
    fn pte(
        &mut self,
        slot: Slot,
        entry: Entry,
        above: (Slot, Entry),
        most: usize,
    ) -> Option<(usize, Option<Entry>)> {
        if !self.access.is_permitted(entry) {
            return None;
        }
        let leaf = |kind, pages| Leaf {
            tables: self.tables,
            slot,
            entry,
            above: Some(above),
            kind,
            pfn: entry.frame(0, PTE_SHIFT, self.tables.address_mask()),
            pages,
        };
        // Device memory has both bits here. One call for each kind, so that the compiler knows it in
        // what is inlined.
        match entry.bits() & (Entry::DEVMAP | Entry::SPECIAL) {
            0 => self
                .visitor
                .visit(&leaf(Kind::Normal, 1))
                .then_some((1, None)),
            Entry::SPECIAL => None,
            _ => {
                let mask = self.tables.address_mask();
                let tables = self.tables;
                let run = entry.run(most, mask, move |n| tables.read(slot.nth(n)));
                self.visitor
                    .visit(&leaf(Kind::Device, run.0))
                    .then_some(run)
            }
        }
    }

    /// A leaf of a pud or pmd, or nothing.
    #[inline(always)]
    fn large(&mut self, slot: Slot, entry: Entry, (start, end): (u64, u64), shift: u32) -> bool {
        // Anything else is no leaf: an entry that is being split is not present, either.
        if !entry.has(Entry::LARGE) || !self.access.is_permitted(entry) {
            return false;
        }
        let leaf = |kind| Leaf {
            tables: self.tables,
            slot,
            entry,
            above: None,
            kind,
            pfn: entry.frame(start, shift, self.tables.address_mask()),
            // CAST: At most 2^18.
            pages: (end.wrapping_sub(start) >> PTE_SHIFT) as usize,
        };
        match entry.bits() & (Entry::DEVMAP | Entry::SPECIAL) {
            0 => self.visitor.visit(&leaf(Kind::Normal)),
            Entry::DEVMAP => self.visitor.visit(&leaf(Kind::Device)),
            _ => false,
        }
    }
}
