// SPDX-License-Identifier: GPL-2.0

//! Futexes of two processes in one page, which each has mapped at an address of its own.

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};

use crate::command::timeout;
use crate::mapping::Mapping;
use crate::process::{spawn, Gate};

/// Requires that a wake-up of the word at `at` reaches another process, which waits for the same
/// word in the mapping that `again` makes there.
pub fn wakes_other(map: &Mapping, at: usize, again: impl Fn() -> Result<Mapping>) -> Result<()> {
    map.word(at).store(1, Ordering::SeqCst);
    let ready = Gate::new()?;
    let child = spawn(|| {
        let own = again()?;
        ensure!(own.addr() != map.addr(), "both mappings are at one address");
        ready.open()?;
        let long = libc::timespec {
            tv_sec: timeout(Duration::from_secs(20)).as_secs() as i64,
            tv_nsec: 0,
        };
        // SAFETY: The address is a word of the mapping; not FUTEX_PRIVATE_FLAG.
        let ret =
            unsafe { libc::syscall(libc::SYS_futex, own.word(at), libc::FUTEX_WAIT, 1, &long) };
        let e = io::Error::last_os_error();
        ensure!(ret == 0, "FUTEX_WAIT: {e}");
        Ok(())
    })?;
    ready.pass()?;
    // The wake-up is repeated until the process waits.
    let end = Instant::now() + timeout(Duration::from_secs(10));
    loop {
        // SAFETY: The address is a word of the mapping, as for the wait.
        let woken = unsafe { libc::syscall(libc::SYS_futex, map.word(at), libc::FUTEX_WAKE, 1) };
        match woken {
            1 => break,
            0 if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
            n => bail!("FUTEX_WAKE at {at:#x} woke {n} processes"),
        }
    }
    child.join(30, "the process that waits")
}
