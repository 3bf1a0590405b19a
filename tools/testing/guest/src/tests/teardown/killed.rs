// SPDX-License-Identifier: GPL-2.0

//! Who waits for the pages of a device to come back, and is killed.
//!
//! On C nobody waits, and these tests fail as those of `pinned.rs` do.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::pinned::{dying, Pinned};
use crate::command::{poll, timeout, whereabouts};
use crate::ndctl::{Bus, Map, Mode, Want, MIB};
use crate::tests::{mapped_kinds, per_kind, want, Test};
use crate::vmstat::require_unpinned;

pub fn tests() -> Vec<Test> {
    let mut tests = per_kind(
        &mapped_kinds(),
        "teardown::differs_killed",
        120,
        "who unbinds a driver while a pipe holds pages of its device survives SIGKILL, or takes the pages with \
         him: their bytes are lost, giving them back oopses, the device can be bound meanwhile, or never again",
        |want| killed(Pinned::new(want)?),
    );
    tests.extend(per_kind(
        &[DEVICE_DAX],
        "teardown::differs_killed_device",
        120,
        "the same, where the driver is bound again to the device that is still there, with the memmap that it \
         set aside: refusing it warns",
        |want| killed(Pinned::device_dax(want)?),
    ));
    tests
}

const DEVICE_DAX: Want = want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi);

fn killed(mut pinned: Pinned) -> Result<String> {
    let mut child = pinned.bound.unbind_in_process()?;
    let waited = must_wait(&mut child).and_then(|()| pinned.told());
    let died = waited.and_then(|()| kill(&mut child));
    let took = *died.as_ref().unwrap_or(&Duration::ZERO);
    let refused = died.and_then(|_| {
        left_alone(&pinned)?;
        pinned.unmount()?;
        refused(&mut pinned)
    });
    let given_back = pinned.give_back(refused);
    // Before an error is told: the device is bound again then.
    let gone = unmapped(&pinned, given_back.is_ok());
    given_back?;
    let gone = gone?;
    require_unpinned("unbinding")?;
    pinned.require_kept()?;
    Ok(format!(
        "dead after {} ms, unmapped after {} ms",
        took.as_millis(),
        gone.as_millis()
    ))
}

/// Two seconds are enough on every kernel for what does not wait.
fn must_wait(child: &mut Child) -> Result<()> {
    match poll(child, timeout(Duration::from_secs(2)))? {
        None => Ok(()),
        Some(status) => bail!("unbinding the driver did not wait: {status}"),
    }
}

fn kill(child: &mut Child) -> Result<Duration> {
    let start = Instant::now();
    child.kill().context("cannot kill who unbinds")?;
    match poll(child, timeout(Duration::from_secs(15)))? {
        Some(_) => Ok(start.elapsed()),
        None => bail!(
            "who unbinds the driver survives SIGKILL ({})",
            whereabouts(child.id())
        ),
    }
}

/// The pgmap is still there, and dead, after all that the driver had is gone.
fn left_alone(pinned: &Pinned) -> Result<()> {
    thread::sleep(Duration::from_millis(500));
    ensure!(
        dying()?.is_some(),
        "the pgmap of pinned pages is gone since who waited for them was killed"
    );
    ensure!(
        pinned.log()?.contains(": waiter killed after "),
        "the log does not say who has left the pgmap alone"
    );
    Ok(())
}

/// The memory is in use, so no driver gets it.
fn refused(pinned: &mut Pinned) -> Result<()> {
    if pinned.bound.by_ndctl() {
        // What is left to do of it when the kernel is back.
        pinned.bound.disable()?;
    }
    ensure!(
        pinned.bound.bind().is_err(),
        "a driver was bound to memory of which somebody has pages"
    );
    let log = pinned.log()?;
    ensure!(
        log.contains("pages of the namespace are still in use") || log.contains(" range that is being unmapped"),
        "the log does not say why the driver could not be bound: {log}"
    );
    Ok(())
}

/// Waits until no pgmap is being torn down, and, if so, the log has said so.
fn unmapped(pinned: &Pinned, and_said: bool) -> Result<Duration> {
    let (start, limit) = (Instant::now(), timeout(Duration::from_secs(20)));
    let mut gone = None;
    loop {
        match (dying()?, gone) {
            (Some(line), _) => ensure!(
                start.elapsed() < limit,
                "the pgmap stays after its last page was given back: {line}"
            ),
            (None, None) => gone = Some(start.elapsed()),
            (None, Some(gone)) => {
                // The counters and a grace period come after the entry.
                if !and_said || pinned.log()?.contains(": unmapped") {
                    return Ok(gone);
                }
                ensure!(
                    start.elapsed() < limit,
                    "the log does not say that the memory went in the end"
                );
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}
