// SPDX-License-Identifier: GPL-2.0

//! What the walk showed, and what the model expects.

use crate::memory::Memory;
use crate::model::{self, Rights};
use crate::pgtable::LeafKind;
use crate::pte::Access;
use crate::walk::{self, Leaf, Root, Table, Visitor};

/// The bytes that the ptes of a table map.
const TABLE: u64 = 2 << 20;

/// A range of addresses and the access asked for, for both the walk and the model.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub levels: u32,
    pub start: u64,
    pub end: u64,
    pub rights: Rights,
}

impl Question {
    fn root(&self, table: u64) -> Root {
        match self.levels {
            5 => Root::Pgd(Table::at(table)),
            _ => Root::P4d(Table::at(table)),
        }
    }

    fn access(&self) -> Access {
        Access::user(self.rights.write, self.rights.pkru)
    }

    /// Runs the walk, which begins with the table at `root`.
    pub fn walk(&self, memory: &Memory, root: u64, visitor: &mut impl Visitor<Memory>) {
        walk::walk(
            memory,
            self.root(root),
            (self.start, self.end),
            self.access(),
            visitor,
        );
    }

    /// Runs the walk for the first page.
    pub fn walk_page(&self, memory: &Memory, root: u64) -> Vec<Shown> {
        let mut seen = Collect::all();
        walk::walk_page(
            memory,
            self.root(root),
            self.start,
            self.access(),
            &mut seen,
        );
        seen.shown
    }

    /// Asks the model for the leaves as the walk must show them.
    pub fn model(&self, memory: &Memory, root: u64) -> Vec<Shown> {
        let mut shown = Vec::new();
        let mut address = self.start;
        while address < self.end {
            let Some(first) = model::page(memory, root, self.levels, address, self.rights) else {
                break;
            };
            // Page by page, as long as it is the same leaf, or a run of ptes of device memory in
            // one table.
            let leaf_end = address / first.size * first.size + first.size;
            let run_end = match first.device && first.size == 4096 {
                true => address / TABLE * TABLE + TABLE,
                false => leaf_end,
            };
            let mut pages = 0;
            while address < self.end && address < run_end {
                if pages > 0 && address >= leaf_end && !first.goes_on(memory, pages) {
                    break;
                }
                let page = model::page(memory, root, self.levels, address, self.rights);
                let expected = model::Page {
                    pfn: first.pfn + pages,
                    slot: match address < leaf_end {
                        true => first.slot,
                        false => first.slot + 8 * pages,
                    },
                    ..first
                };
                assert_eq!(page, Some(expected), "the model contradicts itself");
                pages += 1;
                address += 4096;
            }
            shown.push(Shown::new(&first, pages));
        }
        shown
    }
}

/// One leaf that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    pub pfn: u64,
    pub pages: u64,
    pub device: bool,
    pub writable: bool,
    pub is_pte: bool,
}

impl Shown {
    pub fn new(first: &model::Page, pages: u64) -> Self {
        Self {
            pfn: first.pfn,
            pages,
            device: first.device,
            writable: first.writable,
            is_pte: first.size == 4096,
        }
    }
}

impl From<&Leaf<'_, Memory>> for Shown {
    fn from(leaf: &Leaf<'_, Memory>) -> Self {
        Self {
            pfn: leaf.pfn(),
            pages: leaf.pages() as u64,
            device: leaf.kind() == LeafKind::Devmap,
            writable: leaf.is_writable(),
            is_pte: leaf.is_pte(),
        }
    }
}

/// A visitor that collects up to `limit` leaves and then ends the walk.
pub struct Collect {
    pub shown: Vec<Shown>,
    pub limit: usize,
}

impl Collect {
    pub fn all() -> Self {
        Self {
            shown: Vec::new(),
            limit: usize::MAX,
        }
    }
}

impl Visitor<Memory> for Collect {
    fn visit(&mut self, leaf: &Leaf<'_, Memory>) -> bool {
        assert!(
            self.shown.len() < self.limit,
            "the walk goes on after its end"
        );
        assert!(leaf.unchanged(), "a leaf changed without a write");
        self.shown.push(Shown::from(leaf));
        self.shown.len() < self.limit
    }
}
