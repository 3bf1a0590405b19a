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
//! C headers: [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

/// The entries of a table.
const ENTRIES: u64 = 512;
const PTE_SHIFT: u32 = 12;
const PMD_SHIFT: u32 = 21;
const PUD_SHIFT: u32 = 30;
const P4D_SHIFT: u32 = 39;
const PGD_SHIFT: u32 = 48;

/// An entry of any level, as the processor reads it. C: `pgd_t` to `pte_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Entry(u64);

impl Entry {
    pub(crate) const PRESENT: u64 = 1 << 0;
    pub(crate) const WRITE: u64 = 1 << 1;
    pub(crate) const USER: u64 = 1 << 2;
    /// In a pud or a pmd: a leaf. C: `_PAGE_PSE`.
    pub(crate) const LARGE: u64 = 1 << 7;
    /// There is no `struct page`, or it is not to be used. C: `_PAGE_SPECIAL`.
    pub(crate) const SPECIAL: u64 = 1 << 9;
    /// Device memory with a page map. C: `_PAGE_DEVMAP`.
    pub(crate) const DEVMAP: u64 = 1 << 57;
    /// The first of four bits. C: `_PAGE_PKEY_BIT0`.
    pub(crate) const PKEY_SHIFT: u32 = 59;

    /// The entry with these bits.
    #[inline]
    pub(crate) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// Whether a leaf that the entry is can be written. C: `pte_write()`.
    #[inline]
    pub(crate) const fn is_writable(self) -> bool {
        self.has(Self::WRITE)
    }

    #[inline]
    const fn protection_key(self) -> u32 {
        // CAST: Four bits.
        ((self.0 >> Self::PKEY_SHIFT) & 0xf) as u32
    }
}

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

    /// The next entry of the same table.
    #[inline]
    const fn next(self) -> Self {
        Self(self.0.wrapping_add(8))
    }
}

/// Where page tables are read from.
pub(crate) trait Tables {
    /// Reads an entry: once, and as a whole.
    fn read(&self, slot: Slot) -> Entry;

    /// The bits of an entry that are a physical address. C: `PTE_PFN_MASK`.
    fn address_mask(&self) -> u64;
}

/// What the walk asks of a leaf before it shows it to anybody. C: `pte_access_permitted()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    needed: u64,
    denied: u32,
}

impl Access {
    /// Access from user space: to write if `write`, to read else, with the rights that the
    /// register PKRU of this thread gives to protection keys (two bits a key: no access, no
    /// writing).
    #[inline]
    pub(crate) const fn user(write: bool, pkru: u32) -> Self {
        let no_access = pkru & 0x5555_5555;
        let no_write = pkru & 0xaaaa_aaaa;
        match write {
            true => Self {
                needed: Entry::PRESENT | Entry::USER | Entry::WRITE,
                denied: no_access | (no_write >> 1),
            },
            false => Self {
                needed: Entry::PRESENT | Entry::USER,
                denied: no_access,
            },
        }
    }

    /// Whether a leaf permits it.
    #[inline]
    pub(crate) const fn is_permitted(self, leaf: Entry) -> bool {
        leaf.0 & self.needed == self.needed
            && (self.denied == 0 || (self.denied >> (2 * leaf.protection_key())) & 1 == 0)
    }
}

/// What a leaf maps. (A special one maps nothing that may be referred to, and ends the walk.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Memory with a `struct page` that counts being mapped.
    Normal,
    /// Device memory, whose life is its page map's.
    Device,
}

/// A leaf that permits the access, and the part of it that the walk is about.
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

    /// The frame that the first address of the walk in it is mapped to.
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

    /// Whether the entry is a pte.
    #[inline]
    pub(crate) fn is_pte(&self) -> bool {
        self.above.is_some()
    }

    /// Whether the entry, and with a pte the one above it, still is what was read.
    #[inline]
    pub(crate) fn unchanged(&self) -> bool {
        self.above
            .map_or(true, |(slot, entry)| self.tables.read(slot) == entry)
            && self.tables.read(self.slot) == self.entry
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
        (entry.0 & (Entry::PRESENT | Entry::LARGE) == Entry::PRESENT)
            .then(|| Table(entry.0 & self.tables.address_mask()))
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
                Some(table) => self.pte(table, (slot, entry), start, next),
                None => self.large(slot, entry, (start, next), shift),
            };
            if !more {
                return false;
            }
            if next == end {
                return true;
            }
            (start, slot) = (next, slot.next());
            entry = self.tables.read(slot);
        }
    }

    /// What the ptes of a table map.
    #[inline(always)]
    fn pte(&mut self, table: Table, above: (Slot, Entry), mut start: u64, end: u64) -> bool {
        let mut slot = table.slot(start, PTE_SHIFT);
        while start < end {
            let entry = self.tables.read(slot);
            if !self.access.is_permitted(entry) {
                return false;
            }
            let leaf = |kind| Leaf {
                tables: self.tables,
                slot,
                entry,
                above: Some(above),
                kind,
                pfn: (entry.0 & self.tables.address_mask()) >> PTE_SHIFT,
                pages: 1,
            };
            // Device memory has both bits here. One call for each kind, so that the compiler knows
            // it in what is inlined.
            let more = match entry.0 & (Entry::DEVMAP | Entry::SPECIAL) {
                0 => self.visitor.visit(&leaf(Kind::Normal)),
                Entry::SPECIAL => false,
                _ => self.visitor.visit(&leaf(Kind::Device)),
            };
            if !more {
                return false;
            }
            slot = slot.next();
            start = start.wrapping_add(1 << PTE_SHIFT);
        }
        true
    }

    /// A leaf of a pud or pmd, or nothing.
    #[inline(always)]
    fn large(&mut self, slot: Slot, entry: Entry, (start, end): (u64, u64), shift: u32) -> bool {
        // Anything else is no leaf: an entry that is being split is not present, either.
        if !entry.has(Entry::LARGE) || !self.access.is_permitted(entry) {
            return false;
        }
        let inside = (1 << shift) - 1;
        // The lowest bit of the address is used for something else in a leaf of these levels.
        let phys = entry.0 & self.tables.address_mask() & !inside;
        let leaf = |kind| Leaf {
            tables: self.tables,
            slot,
            entry,
            above: None,
            kind,
            pfn: (phys | (start & inside)) >> PTE_SHIFT,
            // CAST: At most 2^18.
            pages: (end.wrapping_sub(start) >> PTE_SHIFT) as usize,
        };
        match entry.0 & (Entry::DEVMAP | Entry::SPECIAL) {
            0 => self.visitor.visit(&leaf(Kind::Normal)),
            Entry::DEVMAP => self.visitor.visit(&leaf(Kind::Device)),
            _ => false,
        }
    }
}
