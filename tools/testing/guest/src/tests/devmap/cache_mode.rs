// SPDX-License-Identifier: GPL-2.0

//! Memory that must not be cached: a range register of the processor says so,
//! the kernel records it when the device gets its pages, and every mapping to a
//! program has to follow it.
//!
//! In 6.12 the C code does not do so for entries of 1 GiB.

use super::{want, Level, READ_WRITE};
use crate::page_tables;
use crate::page_tables::{Entry, PageTables};
use crate::tests::prelude::*;

const MTRR: &str = "/proc/mtrr";

/// A range register, which is freed when dropped.
struct Uncached {
    base: u64,
}

impl Uncached {
    /// Makes the first 2 MiB from `base` uncached; `base` is a multiple of 2
    /// MiB.
    fn new(base: u64) -> Result<Self> {
        if !Path::new(MTRR).exists() {
            skip!("the processor has no range registers");
        }
        fs::write(
            MTRR,
            format!("base={base:#x} size={:#x} type=uncachable", 2 * MIB),
        )
        .context("cannot take a range register")?;
        Ok(Self { base })
    }

    fn register(&self) -> Result<String> {
        let text = system::read(MTRR)?;
        let base = format!("base=0x{:09x}", self.base);
        text.lines()
            .find(|line| line.contains(&base))
            .and_then(|line| line.strip_prefix("reg")?.split_once(':'))
            .map(|(number, _)| number.to_string())
            .with_context(|| format!("{MTRR} has no {base}"))
    }
}

impl Drop for Uncached {
    fn drop(&mut self) {
        let freed = self
            .register()
            .and_then(|n| fs::write(MTRR, format!("disable={n}")).context("cannot write"));
        if let Err(e) = freed {
            eprintln!("clean-up: {MTRR}: {e:#}");
        }
    }
}

const SMALL: [(&str, (u64, Level)); 2] =
    [("4K", (4 * KIB, Level::Pte)), ("2M", (2 * MIB, Level::Pmd))];

declare! {
    /// memory that must not be cached is mapped to a program as if it could be: what a device or
    /// another processor sees is not what was stored
    "devmap::cache-mode" for SMALL, 60 s, essential "2M"
        => |(_, (align, level))| uncached(*align, *level)
}
declare! {
    /// memory that must not be cached is mapped to a program as if it could be: what a device or
    /// another processor sees is not what was stored
    "devmap::differs_cache_mode_1G", 60 s, essential => || uncached(GIB, Level::Pud)
}
fn uncached(align: u64, level: Level) -> Result<()> {
    let want = &want(Mode::Devdax, align, Map::Mem, Bus::Acpi);
    if !page_tables::are_readable()? {
        skip!("with KASAN the page tables take too long to read");
    }
    let mut namespace = Namespace::create(want)?;
    let node = namespace.node()?;
    let name = node.file_name().context("a device has a name")?;
    let base = system::read_u64(
        Path::new("/sys/bus/dax/devices")
            .join(name)
            .join("resource"),
    )?;
    // The cache mode is recorded when the device is enabled.
    namespace.disable()?;
    let register = Uncached::new(base)?;
    namespace.enable()?;

    let len = want.align as usize;
    let file = open_rw(&namespace.node()?, false)?;
    let map = Mapping::with(&file, 0, len, len, READ_WRITE, libc::MAP_SHARED)?;
    let expected = Some(Entry {
        level,
        writable: true,
        uncached: true,
    });
    map.peek(0);
    let loaded = PageTables::read()?.entry_at(map.addr());
    map.poke(0, 0x5a);
    let stored = PageTables::read()?.entry_at(map.addr());
    ensure!(
        loaded == expected && stored == expected,
        "a load gets {loaded:?}, a store leaves {stored:?}; {expected:?} was expected"
    );
    map.require(0, &[0x5a], "uncached memory")?;
    drop(map);
    drop(file);
    namespace.disable()?;
    drop(register);
    namespace.enable()?;
    namespace.destroy()
}
