// SPDX-License-Identifier: GPL-2.0

//! Pages of DAX mappings taken and released by every command of the kernel's
//! test device.

use crate::gup::{take, Device, Method};
use crate::tests::prelude::*;

const LEN: usize = 8 << 20;

fn devdax() -> impl Iterator<Item = Want> {
    let all = MAPPED_KINDS.into_iter();
    all.filter(|want| want.mode == Mode::Devdax)
}

declare! {
    /// GUP takes fewer pages than requested, a long-term pin of fsdax is not refused with EOPNOTSUPP,
    /// a read-only mapping can be pinned for writing, or a reference is lost: nr_foll_pin_acquired
    /// and nr_foll_pin_released differ at the end
    "pins::cycle" for MAPPED_KINDS, 180 s, essential "fsdax-2M-dev-acpi" "devdax-2M-mem-acpi" "devdax-1G-mem-acpi"
        => cycle
}
fn cycle(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let device = Device::open()?;
    let mut cycles = 0;
    for method in Method::ALL {
        let refused = target.is_fsdax() && method == Method::PinLongterm;
        // From one byte range inside a huge page to several pages with odd
        // ends; few pages per call, and more than a 2 MiB page has.
        for (range, per_call) in [
            ((0, LEN), 512),
            ((0, LEN), 1024),
            ((0, 64 * PAGE), 1),
            ((3 * PAGE, 64 * PAGE), 16),
            (((2 << 20) - 5 * PAGE, (2 << 20) + 9 * PAGE), 512),
        ] {
            // An untouched mapping, then a touched one.
            let map = target.map(LEN)?;
            for write in [false, true] {
                let got = take(&device, method, &map, range, per_call, write)?;
                let pages = if refused { 0 } else { (range.1 / PAGE) as u64 };
                ensure!(
                    got == pages,
                    "{method:?} (write: {write}) of {range:x?}, {per_call} per call, took {got} pages instead of {pages}"
                );
                cycles += 1;
            }
        }
    }
    if want.align >= GIB {
        let map = target.map(LEN)?;
        for method in [Method::GupFast, Method::PinFast, Method::PinLongterm] {
            let pages = (map.len() / PAGE) as u64;
            let got = take(&device, method, &map, (0, map.len()), pages as u32, true)?;
            ensure!(
                got == pages,
                "{method:?} of a whole 1 GiB page took {got} pages"
            );
            cycles += 1;
        }
    }
    if target.is_fsdax() {
        longterm_refused(&device, &target)?;
    }
    read_only(&device, &target)?;
    require_unpinned("all cycles")?;
    drop(device);
    target.finish()?;
    Ok(format!("{cycles} cycles"))
}

/// Requires that both paths refuse a long-term pin, and checks the errno.
fn longterm_refused(device: &Device, target: &Target) -> Result<()> {
    let map = target.map(LEN)?;
    for touched in [false, true] {
        if touched {
            map.prefault_write(PAGE);
        }
        for fast in [false, true] {
            let pin = device.pin_longterm(&map, LEN, true, fast);
            let what = format!("a long-term pin of fsdax (fast: {fast})");
            require_errno(pin, libc::EOPNOTSUPP, what)?;
        }
    }
    Ok(())
}

/// Checks that a read-only mapping provides pages for reading only.
fn read_only(device: &Device, target: &Target) -> Result<()> {
    let map = target.map_with(LEN, libc::PROT_READ, libc::MAP_SHARED)?;
    // Fault it in for reading, so that the fast path finds the entry.
    map.peek(0);
    for method in [Method::GupFast, Method::PinFast, Method::Gup, Method::Pin] {
        let read = take(device, method, &map, (0, 4 * PAGE), 4, false)?;
        let write = take(device, method, &map, (0, 4 * PAGE), 4, true)?;
        ensure!(
            (read, write) == (4, 0),
            "{method:?} of a read-only mapping took {read} of 4 pages for reading and {write} of 0 for writing"
        );
    }
    Ok(())
}

declare! {
    /// a held long-term pin of device-dax reaches other memory than the mapping, or does not survive
    /// the munmap and the close of the device
    "pins::held" for devdax(), 120 s, essential "devdax-2M-dev-acpi" => held
}
fn held(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let device = Device::open()?;
    for fast in [false, true] {
        let map = target.map(LEN)?;
        let bytes = data::bytes(0x9e1d + u64::from(fast), LEN);
        let before = settled()?;
        device
            .pin_longterm(&map, LEN, true, fast)
            .with_context(|| format!("long-term pin (fast: {fast})"))?;
        let pinned = settled()?.pinned() - before.pinned();
        ensure!(
            pinned == (LEN / PAGE) as i64,
            "{pinned} pages are pinned instead of {}",
            LEN / PAGE
        );
        // Written after the pin, read through the pinned pages.
        map.write(0, &bytes);
        drop(map);
        let copy = Mapping::anonymous(LEN)?;
        device
            .read_pinned(&copy)
            .context("reading the pinned pages")?;
        copy.require(0, &bytes, "the pinned pages")?;
        device.unpin().context("unpin")?;
        require_unpinned("the unpin")?;
        // A pin that is no longer backed by a user's mapping or descriptor.
        let map = target.map(LEN)?;
        let file = target.file.try_clone().context("dup")?;
        device
            .pin_longterm(&map, LEN, true, fast)
            .context("second pin")?;
        drop(map);
        drop(file);
        device
            .read_pinned(&copy)
            .context("reading the pinned pages")?;
        copy.require(0, &bytes, "the pinned pages after munmap")?;
        device.unpin().context("unpin")?;
        require_unpinned("the unpin after munmap")?;
    }
    refuse_second(&device, &target)?;
    drop(device);
    target.finish()?;
    Ok(format!("{} pages, both paths", LEN / PAGE))
}

/// Checks that the test device holds one pin at a time, and that a close drops
/// it.
fn refuse_second(device: &Device, target: &Target) -> Result<()> {
    let map = target.map(LEN)?;
    let other = Device::open()?;
    other.pin_longterm(&map, LEN, true, true).context("pin")?;
    let second: io::Result<()> = device.pin_longterm(&map, LEN, true, true);
    ensure!(second.is_err(), "the test device held two pins");
    drop(other);
    require_unpinned("the close of the test device")?;
    Ok(())
}

declare! {
    /// the kernel's own gup_test program fails on a DAX mapping, or leaves pages pinned
    "pins::gup_test" for MAPPED_KINDS, 180 s => program
}
fn program(want: &Want) -> Result<String> {
    const PROGRAM: &str = "/usr/local/bin/gup_test";
    if !std::path::Path::new(PROGRAM).exists() {
        skip!("the guest has no {PROGRAM}");
    }
    let target = Target::create(want, LEN as u64)?;
    let path = match &target.mount {
        Some(mount) => mount.path("data"),
        None => target.namespace.node()?,
    };
    // It maps the size of -m, which device-dax requires in whole units.
    let mib = (target.map(LEN)?.len() >> 20).to_string();
    let mut details = Vec::new();
    for (mode, name) in [
        ("-u", "GUP_FAST"),
        ("-a", "PIN_FAST"),
        ("-L", "PIN_LONGTERM"),
        ("-U", "GUP_BASIC"),
        ("-b", "PIN_BASIC"),
    ] {
        if target.is_fsdax() && mode == "-L" {
            continue;
        }
        let out = Cmd::new(&format!("{PROGRAM} {mode} -S -w -n 512 -r 2 -m {mib} -f"))
            .arg(&path)
            .limit_secs(120)
            .ok()?;
        ensure!(
            !out.stdout.contains("truncated"),
            "gup_test {mode} took fewer pages than requested: {}",
            out.stdout.trim()
        );
        details.push(name);
    }
    require_unpinned("gup_test")?;
    target.finish()?;
    Ok(details.join(", "))
}
