// SPDX-License-Identifier: GPL-2.0

//! The page tables of this process: the kernel prints them in
//! `/sys/kernel/debug/page_tables/current_kernel`, the user's half as well.

use anyhow::{Context, Result};

use crate::system;

/// A page table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub level: Level,
    /// Whether stores need no fault.
    pub writable: bool,
    /// `_PAGE_PCD` or `_PAGE_PWT`; if neither is set, memory is cached.
    pub uncached: bool,
}

/// The level of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// 4 KiB.
    Pte,
    /// 2 MiB.
    Pmd,
    /// 1 GiB.
    Pud,
}

/// Returns whether the page tables can be read in a reasonable time. The file
/// also holds those of the kernel, which have many millions of entries with
/// KASAN: reading takes minutes, which not even a signal ends.
pub fn are_readable() -> Result<bool> {
    Ok(!system::is_slow()?)
}

/// A snapshot of the page tables.
pub struct PageTables {
    text: String,
}

impl PageTables {
    pub fn read() -> Result<Self> {
        let path = system::debugfs()?.join("page_tables/current_kernel");
        let text = system::read(path).context("the kernel needs CONFIG_PTDUMP_DEBUGFS")?;
        Ok(Self { text })
    }

    /// Returns the entry that maps `addr` in this process, or `None` if nothing
    /// is mapped.
    pub fn entry_at(&self, addr: usize) -> Option<Entry> {
        entry_in(&self.text, addr)
    }
}

/// Parses lines of the form `0x00007f0000000000-0x00007f0040000000   1G USR RW
/// PCD PSE   NX pud`: start and end (exclusive), flags if something is mapped,
/// the level.
fn entry_in(text: &str, addr: usize) -> Option<Entry> {
    let hex = |text: &str| usize::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        if !(hex(start)?..hex(end)?).contains(&addr) {
            return None;
        }
        let words: Vec<&str> = words.collect();
        let has = |word: &str| words.contains(&word);
        if !has("RW") && !has("ro") {
            return None;
        }
        let level = match *words.last()? {
            "pte" => Level::Pte,
            "pmd" => Level::Pmd,
            "pud" => Level::Pud,
            _ => return None,
        };
        Some(Entry {
            level,
            writable: has("RW"),
            uncached: has("PCD") || has("PWT"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let text = "---[ User Space ]---\n\
            0x0000000000000000-0x00007f0000000000     127T                               pgd\n\
            0x00007f0000000000-0x00007f0000001000       4K USR ro                     NX pte\n\
            0x00007f0000001000-0x00007f0000200000    2044K                               pte\n\
            0x00007f0000200000-0x00007f0000400000       2M USR RW         PSE         NX pmd\n\
            0x00007f0040000000-0x00007f0080000000       1G USR RW     PCD PSE         NX pud\n";
        let entry = |level, writable, uncached| {
            Some(Entry {
                level,
                writable,
                uncached,
            })
        };
        assert_eq!(
            entry_in(text, 0x7f00_0000_0fff),
            entry(Level::Pte, false, false)
        );
        assert_eq!(entry_in(text, 0x7f00_0000_1000), None);
        assert_eq!(
            entry_in(text, 0x7f00_0020_0000),
            entry(Level::Pmd, true, false)
        );
        assert_eq!(
            entry_in(text, 0x7f00_4000_0000),
            entry(Level::Pud, true, true)
        );
        assert_eq!(entry_in(text, 0x7f00_8000_0000), None);
    }
}
