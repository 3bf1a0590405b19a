// SPDX-License-Identifier: GPL-2.0

//! Long-term pins: later stores must reach the pinned pages, and pins are refused if that is
//! impossible.

use super::cycle::refused;
use crate::gup::{take_counted, Device, Method};
use crate::memory::{Kind, Memory};
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;

declare! {
    /// a held pin reaches other pages than the mapping shows: a read-only pin was not made the
    /// process's own and a later store went to a copy. Or a file whose dirty pages are tracked can be
    /// pinned long-term for writing
    "gup::held" for Kind::TAKEN, 120 s, essential "private-file" => held
}
fn held(&kind: &Kind) -> Result<String> {
    let device = Device::open()?;
    let copy = Mapping::anonymous(LEN)?;
    let mut pins = 0;
    for fast in [false, true] {
        for touched in [false, true] {
            for write in [false, true] {
                let memory = Memory::create(kind, LEN, 2)?;
                let map = &memory.map;
                if touched {
                    memory.touch()?;
                } else {
                    // Read-only entries: of the zero page, or of the page cache.
                    for at in (0..LEN).step_by(3 * PAGE) {
                        map.peek(at);
                    }
                }
                if kind == Kind::File && write {
                    refused(&device, map, true, libc::EFAULT)?;
                    continue;
                }
                let what = format!("pin (fast: {fast}, touched: {touched}, write: {write})");
                let before = settled()?.pinned();
                device
                    .pin_longterm(map, LEN, write, fast)
                    .with_context(|| what.clone())?;
                let pinned = settled()?.pinned() - before;
                ensure!(
                    pinned == (LEN / PAGE) as i64,
                    "{what}: {pinned} pages are pinned instead of {}",
                    LEN / PAGE
                );
                let bytes = data::bytes(0x9e1e + pins, LEN);
                map.write(0, &bytes);
                device.read_pinned(&copy).context("reading the pages")?;
                copy.require(0, &bytes, &format!("{what}: pinned pages"))?;
                map.require(0, &bytes, &format!("{what}: mapping"))?;
                // The pin outlives the mapping.
                drop(memory);
                device.read_pinned(&copy).context("reading the pages")?;
                copy.require(0, &bytes, &format!("{what}: pinned pages after munmap"))?;
                device.unpin().context("unpin")?;
                require_unpinned(&what)?;
                pins += 1;
            }
        }
    }
    Ok(format!("{pins} pins of {} pages", LEN / PAGE))
}

declare! {
    /// memory of memfd_secret() can be taken by the kernel, or is refused with another errno than
    /// EFAULT
    "gup::held::secret", 60 s => secret
}
fn secret() -> Result<String> {
    const LEN: usize = 16 * PAGE;
    let device = Device::open()?;
    let memory = Memory::create(Kind::Secret, LEN, 1)?;
    let map = &memory.map;
    for touched in [false, true] {
        if touched {
            memory.touch()?;
        }
        for method in Method::ALL {
            for write in [false, true] {
                // The walk in C pins such a page briefly, and counts that; all acquired pins
                // were released.
                let (got, _) = take_counted(&device, method, map, (0, LEN), 4, write)?;
                ensure!(
                    got == 0,
                    "{method:?} (write: {write}, touched: {touched}) took {got} secret pages"
                );
            }
        }
        for write in [false, true] {
            refused(&device, map, write, libc::EFAULT)?;
        }
    }
    Ok(String::new())
}
