// SPDX-License-Identifier: GPL-2.0

//! Pages taken and released in every way, and requests that must be refused.

use crate::gup::{take, take_counted, Device, Method};
use crate::memory::{free_huge_pages, Kind, Memory};
use crate::tests::prelude::*;

const LEN: usize = 4 * HUGE;
const PAGES: u64 = (LEN / PAGE) as u64;
/// Offset on the scratch disk at which these tests write.
const DISK_AT: u64 = 512 << 20;

declare! {
    /// GUP takes fewer or more pages than there are, takes pages that the mapping does not permit or
    /// that lie beyond a hole, refuses with another errno than EFAULT, or does not release what it
    /// took: the vmstat counters differ or a huge page does not return to the pool
    "gup::cycle" for Kind::TAKEN, 180 s, essential "thp" => cycle
}
fn cycle(&kind: &Kind) -> Result<String> {
    let device = Device::open()?;
    let huge = free_huge_pages()?;
    let memory = Memory::create(kind, LEN, 2)?;
    let map = &memory.map;
    let anonymous = matches!(kind, Kind::Anon | Kind::Thp);
    if anonymous {
        memory.touch()?;
    }
    let mut cycles = 0;
    for method in Method::ALL {
        // Inside one huge page, across their borders with odd ends, and all; few pages per call,
        // and more than a huge page has.
        for (range, per_call) in [
            ((0, LEN), 512),
            ((0, LEN), 1024),
            ((5 * PAGE, 64 * PAGE), 1),
            ((3 * PAGE, 61 * PAGE), 16),
            ((HUGE - 5 * PAGE, HUGE + 9 * PAGE), 512),
            ((LEN - PAGE, PAGE), 1),
        ] {
            if !anonymous {
                // The mapping is empty again, so the first call has to fault.
                memory.zap()?;
            }
            for write in [false, true] {
                let got = take(&device, method, map, range, per_call, write)?;
                // Without this refusal, the kernel could not track when such a page is dirty.
                let refused = kind == Kind::File && method == Method::PinLongterm && write;
                let pages = if refused { 0 } else { (range.1 / PAGE) as u64 };
                ensure!(
                    got == pages,
                    "{method:?} (write: {write}) of {range:x?}, {per_call} per call, took {got} pages instead of {pages}"
                );
                cycles += 1;
            }
        }
    }
    // The mapping, which is writable now, will be made read-only.
    if kind != Kind::File {
        memory.touch()?;
    }
    protections(&device, kind, map)?;
    hole(&device, kind, map)?;
    require_unpinned("all cycles")?;
    drop(memory);
    ensure!(
        free_huge_pages()? == huge,
        "a huge page did not return to the pool: a reference is left"
    );
    Ok(format!("{cycles} cycles"))
}

/// Tests a read-only mapping, one without access, and the restored rights.
fn protections(device: &Device, kind: Kind, map: &Mapping) -> Result<()> {
    let both = libc::PROT_READ | libc::PROT_WRITE;
    for (prot, reads, writes) in [
        (libc::PROT_READ, true, false),
        (libc::PROT_NONE, false, false),
        (both, true, true),
    ] {
        map.protect(0, LEN, prot).context("mprotect")?;
        for method in Method::ALL {
            for (write, granted) in [(false, reads), (true, writes)] {
                let granted =
                    granted && !(kind == Kind::File && method == Method::PinLongterm && write);
                let got = take(device, method, map, (0, LEN), 512, write)?;
                let want = if granted { PAGES } else { 0 };
                ensure!(
                    got == want,
                    "{method:?} (write: {write}) of a mapping with rights {prot} took {got} pages instead of {want}"
                );
            }
        }
        if prot != both {
            refused(device, map, true, libc::EFAULT)?;
        }
    }
    Ok(())
}

/// Requires that both paths refuse a long-term pin.
pub fn refused(device: &Device, map: &Mapping, write: bool, errno: i32) -> Result<()> {
    for fast in [false, true] {
        let pin = device.pin_longterm(map, map.len(), write, fast);
        let what = format!("a long-term pin (write: {write}, fast: {fast})");
        require_errno(pin, errno, what)?;
    }
    require_unpinned("a refused pin")?;
    Ok(())
}

/// Requires that the pages before a hole are taken, and none beyond it.
fn hole(device: &Device, kind: Kind, map: &Mapping) -> Result<()> {
    let at = 2 * HUGE;
    let before = (at / PAGE) as u64;
    map.punch(at, HUGE).context("munmap of a part")?;
    for method in Method::ALL {
        for (write, per_call) in [(true, 512), (true, 1000), (false, 1024), (false, 16)] {
            if kind == Kind::File && method == Method::PinLongterm && write {
                continue;
            }
            let (got, counted) = take_counted(device, method, map, (0, LEN), per_call, write)?;
            // The device counts complete calls, the kernel pages.
            let per_call = u64::from(per_call);
            let calls = before.div_ceil(per_call) * per_call;
            ensure!(
                got == calls,
                "{method:?} (write: {write}) took {got} pages instead of {before} before a hole, {per_call} per call"
            );
            ensure!(
                !method.pins() || counted == before,
                "{method:?} (write: {write}) pinned {counted} pages instead of {before} before a hole"
            );
        }
        let got = take(device, method, map, (at, HUGE), 512, false)?;
        ensure!(got == 0, "{method:?} took {got} pages of a hole");
    }
    refused(device, map, false, libc::EFAULT)
}

declare! {
    /// the zero page is counted as pinned (its count would eventually overflow), or a long-term pin
    /// keeps it although the process may write later
    "gup::cycle::zero", 60 s => zero
}
/// Tests only plain references and long-term pins of the test device, because it complains about
/// pages whose count does not show a pin; direct I/O pins briefly.
fn zero() -> Result<String> {
    const LEN: usize = 64 * PAGE;
    let device = Device::open()?;
    let disk: File = scratch()?;
    let memory = Memory::create(Kind::Anon, LEN, 1)?;
    let map = &memory.map;
    for _ in 0..2 {
        memory.zap()?;
        for at in (0..LEN).step_by(2 * PAGE) {
            ensure!(map.peek(at) == 0, "new memory is not zero");
        }
        for method in [Method::GupFast, Method::Gup] {
            let got = take(&device, method, map, (0, LEN), 16, false)?;
            ensure!(got == 64, "{method:?} took {got} of 64 zero pages");
        }
        let pinned = |what: &str| -> Result<u64> {
            let before = settled()?.acquired;
            let n = pwrite_once(&disk, map, 0, LEN, DISK_AT).context("direct write")?;
            ensure!(n == LEN, "a direct write from {what} wrote {n} bytes");
            Ok(require_unpinned("a direct write")?.acquired - before)
        };
        let zero_pages = pinned("zero pages")?;
        ensure!(
            zero_pages == 0,
            "{zero_pages} zero pages were counted as pinned"
        );
        map.prefault_write(4 * PAGE);
        let mixed = pinned("both kinds of pages")?;
        ensure!(
            mixed == 16,
            "{mixed} pages were counted as pinned, 16 are the process's own"
        );
        let got = take(&device, Method::PinLongterm, map, (0, LEN), 16, false)?;
        ensure!(got == 64, "a long-term pin took {got} of 64 pages");
    }
    require_unpinned("all requests")?;
    Ok(String::new())
}
