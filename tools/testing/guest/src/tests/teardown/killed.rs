// SPDX-License-Identifier: GPL-2.0

//! Who waits for the pages of a device to come back, and is killed.
//!
//! On C nobody waits, and these tests fail as those of `pinned.rs` do.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::pinned::{dying, Pinned};
use crate::command::{patient, poll, whereabouts};
use crate::ndctl::{Mode, Want};
use crate::tests::{mapped_kinds, per_kind, Test};
use crate::vmstat::require_unpinned;

pub fn tests() -> Vec<Test> {
    per_kind(
        &mapped_kinds(),
        "teardown::differs_killed",
        120,
        "who unbinds a driver while a pipe holds pages of its device survives SIGKILL, or takes the pages with \
         him: their bytes are lost, giving them back oopses, the device can be bound meanwhile, or never again",
        killed,
    )
}

fn killed(want: &Want) -> Result<String> {
    let mut pinned = Pinned::new(want)?;
    let mut child = pinned.bound.unbind_in_process()?;
    let waited = must_wait(&mut child).and_then(|()| pinned.told());
    let died = waited.and_then(|()| kill(&mut child));
    let took = *died.as_ref().unwrap_or(&Duration::ZERO);
    if died.is_ok() {
        left_alone(&pinned)?;
        pinned.unmount()?;
        refused(want, &mut pinned)?;
    }
    pinned.give_back(died.map(drop))?;
    let gone = unmapped()?;
    require_unpinned("unbinding")?;
    ensure!(
        pinned.log()?.contains(" is unmapped at last"),
        "the log does not say that the memory went in the end"
    );
    pinned.require_kept()?;
    Ok(format!(
        "dead after {} ms, unmapped after {} ms",
        took.as_millis(),
        gone.as_millis()
    ))
}

/// Two seconds are enough on every kernel for what does not wait.
fn must_wait(child: &mut Child) -> Result<()> {
    match poll(child, patient(Duration::from_secs(2)))? {
        None => Ok(()),
        Some(status) => bail!("unbinding the driver did not wait: {status}"),
    }
}

fn kill(child: &mut Child) -> Result<Duration> {
    let start = Instant::now();
    child.kill().context("cannot kill who unbinds")?;
    match poll(child, patient(Duration::from_secs(15)))? {
        Some(_) => Ok(start.elapsed()),
        None => bail!(
            "who unbinds the driver survives SIGKILL ({})",
            whereabouts(child.id())
        ),
    }
}

/// The page map is still there, and dead, after all that the driver had is gone.
fn left_alone(pinned: &Pinned) -> Result<()> {
    thread::sleep(Duration::from_millis(500));
    ensure!(
        dying()?.is_some(),
        "the page map of pinned pages is gone since who waited for them was killed"
    );
    ensure!(
        pinned.log()?.contains("because who waited was killed"),
        "the log does not say who has left the page map alone"
    );
    Ok(())
}

/// The memory is in use, so no driver gets it.
fn refused(want: &Want, pinned: &mut Pinned) -> Result<()> {
    if want.mode == Mode::Devdax {
        // What is left to do of it when the kernel is back.
        pinned.bound.disable()?;
    }
    ensure!(
        pinned.bound.bind().is_err(),
        "a driver was bound to memory of which somebody has pages"
    );
    let log = pinned.log()?;
    ensure!(
        log.contains("pages of it are still in use"),
        "the log does not say why the driver could not be bound: {log}"
    );
    Ok(())
}

/// Waits until no page map is being torn down.
fn unmapped() -> Result<Duration> {
    let (start, limit) = (Instant::now(), patient(Duration::from_secs(20)));
    while let Some(line) = dying()? {
        if start.elapsed() > limit {
            bail!("the page map stays after its last page was given back: {line}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}
