// SPDX-License-Identifier: GPL-2.0

//! The lockless walk takes what is mapped itself. If it refused, the slow path would take the same
//! pages, and only be slower, so no other test would notice.

use crate::gup::{Device, Method};
use crate::kprobe::Kprobe;
use crate::memory::{Kind, Memory};
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;
/// The function that the slow path begins with, in C and in Rust.
const SLOW: &str = "__get_user_pages";

/// Takes pages that are mapped, and requires that the slow path takes none of them.
fn require_fast(map: &Mapping) -> Result<()> {
    let device = Device::open()?;
    let slow = Kprobe::start("slow", &[SLOW.to_owned()])?;
    // Otherwise the probe may be at a function that is not called.
    device.cycle(Method::Gup, map, 0, LEN, 512, false)?;
    ensure!(slow.take_count()? > 0, "this proves nothing: no {SLOW}()");
    for method in [Method::GupFast, Method::PinFast] {
        for (at, len, per_call) in [(0, LEN, 512), (HUGE - 3 * PAGE, 6 * PAGE, 6), (0, LEN, 1)] {
            for write in [false, true] {
                let got = device.cycle(method, map, at, len, per_call, write)?;
                ensure!(got == (len / PAGE) as u64, "{method:?} took {got} pages");
                let calls = slow.take_count()?;
                ensure!(
                    calls == 0,
                    "{method:?} (write: {write}) of {len:#x} bytes at {at:#x}, {per_call} pages per \
                     call, had {calls} calls of {SLOW}()"
                );
            }
        }
    }
    Ok(())
}

declare! {
    /// the lockless walk refuses pages that are mapped, and the slow path takes them
    "gup::fast" for [Kind::Anon, Kind::Thp, Kind::Hugetlb, Kind::Shmem], 60 s => memory
}
fn memory(&kind: &Kind) -> Result<()> {
    let memory = Memory::create(kind, LEN, 2)?;
    memory.touch()?;
    require_fast(&memory.map)
}

/// Files and devices, each with entries of both sizes.
const DEVICES: [Want; 4] = [
    want(Mode::Fsdax, 4 * KIB, Map::Dev, Bus::Acpi),
    want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi),
    want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
];

declare! {
    /// the lockless walk refuses pages of a device that are mapped, and the slow path takes them
    "gup::fast-device" for DEVICES, 60 s, essential "fsdax-2M-dev-acpi" => device
}
fn device(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    map.prefault_write(PAGE);
    require_fast(&map)?;
    drop(map);
    target.finish()
}
