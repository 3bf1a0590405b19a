// SPDX-License-Identifier: GPL-2.0

//! The kernel's own users of pages that files share. The mapping of such a page is a flag, which
//! is also the flag of anonymous memory: code that asks only for the flag takes the page for one
//! that it is not.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};

use super::{clone, large, per_config, small, Config, Fixture, REFLINK};
use crate::command::timeout;
use crate::data;
use crate::gup::{Device, Method};
use crate::mapping::{Mapping, PAGE};
use crate::memory::HUGE;
use crate::process::{spawn, Gate};
use crate::tests::Test;
use crate::vmstat::require_unpinned;

const LEN: usize = 2 * HUGE;

pub fn tests() -> Vec<Test> {
    let mut tests = per_config(
        &[REFLINK],
        "shared::differs_pin",
        120,
        "a read-only pin of a page that files share does not end until the process is killed, or a pin of one is taken \
         for a pin of anonymous memory: with DEBUG_VM that is a BUG",
        pin,
    );
    tests.extend(per_config(
        &[REFLINK],
        "shared::differs_futex",
        60,
        "a futex in a block that was shared when it was first stored to is not the same one for two processes: the wake-up \
         is lost",
        futex,
    ));
    tests
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

/// Returns a word of the mapping.
fn word(map: &Mapping, at: usize) -> &AtomicU32 {
    map.check(at, 4);
    assert!(at % 4 == 0);
    // SAFETY: The word is aligned and inside the mapping, which lives as long.
    unsafe { AtomicU32::from_ptr((map.addr() + at) as *mut u32) }
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
        word(&map, at).store(1, Ordering::SeqCst);
        let ready = Gate::new()?;
        let child = spawn(|| {
            let own = large(file, LEN)?;
            ensure!(own.addr() != map.addr(), "both mappings are at one address");
            ready.open()?;
            let long = libc::timespec {
                tv_sec: timeout(Duration::from_secs(20)).as_secs() as i64,
                tv_nsec: 0,
            };
            // SAFETY: The address is a word of the mapping; not FUTEX_PRIVATE_FLAG.
            let ret = unsafe {
                libc::syscall(libc::SYS_futex, word(&own, at), libc::FUTEX_WAIT, 1, &long)
            };
            let e = io::Error::last_os_error();
            ensure!(ret == 0, "FUTEX_WAIT: {e}");
            Ok(())
        })?;
        ready.pass()?;
        // The wake-up is repeated until the process waits.
        let end = Instant::now() + timeout(Duration::from_secs(10));
        loop {
            // SAFETY: The address is a word of the mapping, as for the wait.
            let woken =
                unsafe { libc::syscall(libc::SYS_futex, word(&map, at), libc::FUTEX_WAKE, 1) };
            match woken {
                1 => break,
                0 if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                n => bail!("FUTEX_WAKE at {at:#x} of a file that was cloned woke {n} processes"),
            }
        }
        child.join(30, "the process that waits")?;
    }
    let words = places.len();
    drop((first, second));
    fixture.finish()?;
    Ok(format!("{words} words"))
}
