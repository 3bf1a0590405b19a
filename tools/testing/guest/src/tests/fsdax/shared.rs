// SPDX-License-Identifier: GPL-2.0

//! The kernel's own users of pages that files share. The mapping of such a page is a flag, which
//! is also the flag of anonymous memory: code that asks only for the flag takes the page for one
//! that it is not.

use super::{clone, large, small, Config, Fixture, REFLINK};
use crate::futex::wakes_other;
use crate::gup::{Device, Method};
use crate::tests::prelude::*;

const LEN: usize = 2 * HUGE;

declare! {
    /// a read-only pin of a page that files share does not end until the process is killed, or a pin
    /// of one is taken for a pin of anonymous memory: with DEBUG_VM that is a BUG
    "fsdax::shared::differs_pin" for [REFLINK], 120 s, essential "xfs-reflink-dev-e820" => pin
}
/// Pins pages of both files, with the entries there or not, by each function.
fn pin(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let want = data::bytes(1, LEN);
    let first = fixture.written("first", &want)?;
    let mut pages = 0;
    for wide in [true, false] {
        for write in [false, true] {
            let second = fixture.sparse("second", 0)?;
            clone(&first, &second)?;
            let maps = [&first, &second].map(|file| match wide {
                true => large(file, LEN),
                false => small(file, LEN),
            });
            let [one, two] = maps;
            let maps = [one?, two?];
            for map in &maps {
                for at in (0..LEN).step_by(PAGE) {
                    map.peek(at);
                }
            }
            for method in [Method::PinFast, Method::Pin, Method::GupFast, Method::Gup] {
                for map in &maps {
                    let what = format!(
                        "{method:?} (write: {write}) of a shared mapping of {} pages",
                        if wide { "2 MiB" } else { "4 KiB" }
                    );
                    // In a process of its own, which is killed if the call does not end.
                    let child = spawn(|| {
                        let device = Device::open()?;
                        // A few pages, so that writes leave others shared for the next method.
                        for at in [PAGE, HUGE + 5 * PAGE] {
                            let got = device.cycle(method, map, at, 4 * PAGE, 4, write)?;
                            ensure!(got == 4, "{got} pages were taken at {at:#x}");
                        }
                        Ok(())
                    })?;
                    child.join(10, &what)?;
                    require_unpinned(&what)?;
                    pages += 8;
                }
            }
            for (map, name) in maps.iter().zip(["first", "second"]) {
                map.require(0, &want, &format!("the {name} file after the pins"))?;
            }
            drop(maps);
            drop(second);
            std::fs::remove_file(fixture.path("second"))?;
        }
    }
    drop(first);
    fixture.finish()?;
    Ok(format!("{pages} pages"))
}

declare! {
    /// a futex in a block that was shared when it was first stored to is not the same one for two
    /// processes: the wake-up is lost
    "fsdax::shared::differs_futex" for [REFLINK], 60 s, essential "xfs-reflink-dev-e820" => futex
}
/// Waits in one process and wakes in another, in blocks that were shared until each was stored to.
fn futex(config: &Config) -> Result<String> {
    let fixture = Fixture::create(config)?;
    let first = fixture.written("first", &data::bytes(1, LEN))?;
    let second = fixture.sparse("second", 0)?;
    clone(&first, &second)?;
    let places = [(&first, 0), (&second, 0), (&second, HUGE + 3 * PAGE)];
    for (file, at) in places {
        let map = large(file, LEN)?;
        wakes_other(&map, at, || large(file, LEN))?;
    }
    let words = places.len();
    drop((first, second));
    fixture.finish()?;
    Ok(format!("{words} words"))
}
