// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/gup.c`.

//! The walk over what x86-64 page tables map in a range of addresses.
//!
//! The levels and the entries are described in [`pgtable`](super::pgtable).
//!
//! No lock is held. Each entry is read once, all decisions are made by that copy, and
//! [`Leaf::unchanged`] says whether the entry in the table is still the same. The trait [`Tables`]
//! hides where tables are read from, so this file uses nothing of the kernel: the host tests
//! compile it as it is and let it walk invented tables.
//!
//! C: `gup_fast_pgd_range()` and the functions that it calls, in [`mm/gup.c`](srctree/mm/gup.c)

use super::{
    pgtable::{Entry, LeafKind, ENTRIES, P4D_SHIFT, PGD_SHIFT, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT},
    pte::{pte_run, Access},
};

/// The physical address of a page table, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Table(u64);

impl Table {
    /// Creates the reference to the table at a physical address, in bytes.
    #[inline]
    pub(crate) const fn at(phys: u64) -> Self {
        Self(phys)
    }

    /// Returns the slot of the entry for `address`, if this is a table of the level that maps from
    /// bit `shift` on. C: `pte_offset_map()` and its like.
    #[inline]
    const fn slot(self, address: u64, shift: u32) -> Slot {
        Slot(self.0 | (((address >> shift) % ENTRIES) * 8))
    }
}

/// The physical address of an entry, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(u64);

impl Slot {
    /// Returns the physical address, in bytes.
    #[inline]
    pub(crate) const fn phys(self) -> u64 {
        self.0
    }

    /// Returns the slot of the `n`-th entry behind this one in the same table.
    #[inline]
    const fn nth(self, n: usize) -> Self {
        Self(self.0.wrapping_add((n as u64).wrapping_mul(8)))
    }
}

/// The memory that page tables are read from.
pub(crate) trait Tables {
    /// Reads a whole entry of the level that maps from bit `shift` on, once. C:
    /// `ptep_get_lockless()` and its like.
    fn read(&self, slot: Slot, shift: u32) -> Entry;

    /// Returns the bits of an entry that are a physical address. C: `PTE_PFN_MASK`.
    fn address_mask(&self) -> u64;
}

/// A leaf that permits the access, and the part of it that is in the range of the walk. Or a run of
/// neighbouring ptes of device memory, which map consecutive pages and are the same in all other
/// bits.
#[derive(Debug)]
pub(crate) struct Leaf<'a, T> {
    tables: &'a T,
    slot: Slot,
    shift: u32,
    entry: Entry,
    /// The entry that points to the table of a pte: collapsing a huge page clears that one first.
    above: Option<(Slot, Entry)>,
    kind: LeafKind,
    pfn: u64,
    pages: usize,
}

impl<T: Tables> Leaf<'_, T> {
    /// Returns what the leaf maps. It is never [`LeafKind::Special`]: that ends the walk.
    #[inline]
    pub(crate) fn kind(&self) -> LeafKind {
        self.kind
    }

    /// Returns the PFN of the first page in the range of the walk. The other pages follow it.
    #[inline]
    pub(crate) fn pfn(&self) -> u64 {
        self.pfn
    }

    /// Returns the number of pages in the range of the walk, at least 1.
    #[inline]
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Returns whether the entry permits writing. C: `pte_write()`.
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.entry.is_writable()
    }

    /// Returns whether the entry, or each entry of the run, is a pte.
    #[inline]
    pub(crate) fn is_pte(&self) -> bool {
        self.above.is_some()
    }

    /// Returns whether the entry is unchanged; for a pte, also the entry above it. Of a run, each
    /// pte is read again.
    #[inline(always)]
    pub(crate) fn unchanged(&self) -> bool {
        let is = |slot, shift, entry| self.tables.read(slot, shift) == entry;
        match self.above {
            None => is(self.slot, self.shift, self.entry),
            Some((slot, entry)) => {
                is(slot, PMD_SHIFT, entry)
                    && (0..self.pages)
                        .all(|n| is(self.slot.nth(n), PTE_SHIFT, self.entry.nth_page(n)))
            }
        }
    }
}

/// The receiver of the leaves.
pub(crate) trait Visitor<T> {
    /// Takes the next leaf. Returns whether the walk goes on.
    fn visit(&mut self, leaf: &Leaf<'_, T>) -> bool;
}

/// Shows `visitor` the leaves that map the addresses from `start` to `end` (exclusive), up to
/// the first that is missing or does not permit the access. C: `gup_fast_pgd_range()`.
///
/// Both addresses are in bytes and multiples of the page size, and `start < end < 2^56`.
#[doc(alias = "gup_fast_pgd_range")]
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
    // One iteration per entry of a pud. The levels above are read again for each gigabyte, which
    // costs less than keeping their state.
    while start < end {
        let next = addr_end(start, end, PUD_SHIFT);
        if !walk.pud(root, start, next) {
            return;
        }
        start = next;
    }
}

/// Shows `visitor` the leaf that maps the page at `start`, a multiple of the page size, if there is
/// one that permits the access.
///
/// Most calls of GUP are for one page, which needs no loop and no state.
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
    let entry = tables.read(slot, PUD_SHIFT);
    let Some(pmds) = walk.table(entry) else {
        walk.large(slot, entry, (start, end), PUD_SHIFT);
        return;
    };
    let slot = pmds.slot(start, PMD_SHIFT);
    let entry = tables.read(slot, PMD_SHIFT);
    let Some(ptes) = walk.table(entry) else {
        walk.large(slot, entry, (start, end), PMD_SHIFT);
        return;
    };
    let above = (slot, entry);
    let slot = ptes.slot(start, PTE_SHIFT);
    walk.pte(slot, tables.read(slot, PTE_SHIFT), above, 1);
}

/// The table that the processor begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Root {
    /// Of five levels.
    Pgd(Table),
    /// Of four levels: what C calls a pgd is read as a p4d.
    P4d(Table),
}

/// The state that does not change during a walk.
struct Walk<'a, T, V> {
    tables: &'a T,
    access: Access,
    visitor: &'a mut V,
}

/// Returns the end of the part of the range from `start` to `end` that one entry maps, at the level
/// that maps from bit `shift` on. C: `pmd_addr_end()`, `pud_addr_end()`.
#[doc(alias = "pmd_addr_end")]
#[doc(alias = "pud_addr_end")]
#[inline]
const fn addr_end(start: u64, end: u64, shift: u32) -> u64 {
    let next = (start | ((1 << shift) - 1)).wrapping_add(1);
    if next < end {
        next
    } else {
        end
    }
}

impl<T: Tables, V: Visitor<T>> Walk<'_, T, V> {
    /// Returns the table that an entry points to, if it is present and not a leaf.
    #[inline]
    fn table(&self, entry: Entry) -> Option<Table> {
        (entry.bits() & (Entry::PRESENT | Entry::PSE) == Entry::PRESENT)
            .then(|| Table(entry.bits() & self.tables.address_mask()))
    }

    /// Returns the table of puds for `address`. C: `gup_fast_p4d_range()`.
    #[doc(alias = "gup_fast_p4d_range")]
    #[inline]
    fn puds(&self, root: Root, address: u64) -> Option<Table> {
        let p4ds = match root {
            Root::P4d(table) => table,
            Root::Pgd(table) => {
                let slot = table.slot(address, PGD_SHIFT);
                self.table(self.tables.read(slot, PGD_SHIFT))?
            }
        };
        let slot = p4ds.slot(address, P4D_SHIFT);
        self.table(self.tables.read(slot, P4D_SHIFT))
    }

    /// Walks over what a pud entry maps: itself, or the pmds below it. Returns whether the walk
    /// goes on. C: `gup_fast_pud_range()`, `gup_fast_pmd_range()`.
    #[doc(alias = "gup_fast_pud_range")]
    #[doc(alias = "gup_fast_pmd_range")]
    #[inline(always)]
    fn pud(&mut self, root: Root, mut start: u64, end: u64) -> bool {
        let Some(table) = self.puds(root, start) else {
            return false;
        };
        let mut slot = table.slot(start, PUD_SHIFT);
        let mut entry = self.tables.read(slot, PUD_SHIFT);
        let mut shift = PUD_SHIFT;
        if let Some(table) = self.table(entry) {
            slot = table.slot(start, PMD_SHIFT);
            entry = self.tables.read(slot, PMD_SHIFT);
            shift = PMD_SHIFT;
        }
        // From here on leaves of both levels are handled alike. A leaf of a pud is the only one in
        // this part.
        loop {
            let next = addr_end(start, end, shift);
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
            entry = self.tables.read(slot, shift);
        }
    }

    /// Walks over the ptes of a table. Returns whether the walk goes on. C: `gup_fast_pte_range()`.
    #[doc(alias = "gup_fast_pte_range")]
    #[inline(always)]
    fn ptes(&mut self, table: Table, above: (Slot, Entry), mut start: u64, end: u64) -> bool {
        let mut slot = table.slot(start, PTE_SHIFT);
        let mut entry = self.tables.read(slot, PTE_SHIFT);
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
                None => self.tables.read(slot, PTE_SHIFT),
            };
        }
    }

    /// Shows a pte, or the run of at most `most` ptes that begins with it. Returns the number of
    /// ptes shown, and the entry behind them if that was read, or `None` if the walk ends.
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
            shift: PTE_SHIFT,
            entry,
            above: Some(above),
            kind,
            pfn: entry.present_pfn_at(0, PTE_SHIFT, self.tables.address_mask()),
            pages,
        };
        // A pte of device memory has both bits. There is one call for each kind, so the compiler
        // knows the kind in the code that it inlines.
        match entry.bits() & (Entry::DEVMAP | Entry::SPECIAL) {
            0 => self
                .visitor
                .visit(&leaf(LeafKind::Normal, 1))
                .then_some((1, None)),
            Entry::SPECIAL => None,
            _ => {
                let mask = self.tables.address_mask();
                let tables = self.tables;
                let run = pte_run(entry, most, mask, move |n| {
                    tables.read(slot.nth(n), PTE_SHIFT)
                });
                self.visitor
                    .visit(&leaf(LeafKind::Devmap, run.0))
                    .then_some(run)
            }
        }
    }

    /// Shows an entry of a pud or pmd if it is a leaf. Returns whether the walk goes on. C:
    /// `gup_fast_pmd_leaf()`, `gup_fast_pud_leaf()`.
    #[doc(alias = "gup_fast_pmd_leaf")]
    #[doc(alias = "gup_fast_pud_leaf")]
    #[inline(always)]
    fn large(&mut self, slot: Slot, entry: Entry, (start, end): (u64, u64), shift: u32) -> bool {
        // An entry that is being split is not present, so no access is permitted.
        if !entry.has(Entry::PSE) || !self.access.is_permitted(entry) {
            return false;
        }
        let leaf = |kind| Leaf {
            tables: self.tables,
            slot,
            shift,
            entry,
            above: None,
            kind,
            pfn: entry.present_pfn_at(start, shift, self.tables.address_mask()),
            // CAST: At most 2^18.
            pages: (end.wrapping_sub(start) >> PTE_SHIFT) as usize,
        };
        match entry.bits() & (Entry::DEVMAP | Entry::SPECIAL) {
            0 => self.visitor.visit(&leaf(LeafKind::Normal)),
            Entry::DEVMAP => self.visitor.visit(&leaf(LeafKind::Devmap)),
            _ => false,
        }
    }
}
