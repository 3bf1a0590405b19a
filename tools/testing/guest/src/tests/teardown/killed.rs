// SPDX-License-Identifier: GPL-2.0

//! The task that unbinds a driver waits for pages of the device, and is killed.
//!
//! On C the task does not wait, and these tests fail as those of `pinned.rs` do.

use std::process::Child;

use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::Pid;

use super::mounted::fsdax;
use super::pinned::{dying, Pinned};
use crate::command::poll;
use crate::tests::prelude::*;

declare! {
    /// a task that unbinds a driver while a pipe holds pages of its device survives SIGKILL, or its
    /// death frees the pages: their bytes are lost, releasing them oopses, the device can be bound
    /// meanwhile, or never again
    "teardown::differs_killed" for MAPPED_KINDS, 120 s => |want| killed(Pinned::new(want)?)
}

declare! {
    /// the same, where the driver is bound again to the device that is still there, with the memmap
    /// that it set aside: refusing it warns
    "teardown::differs_killed_device" for [DEVICE_DAX], 120 s
        => |want| killed(Pinned::device_dax(want)?)
}

declare! {
    /// a task that unbinds a driver while a pipe holds pages of its device is killed, and a driver
    /// gets the memory in another mode while the pages are in the pipe, or none gets it afterwards
    "teardown::differs_killed_next" for [fsdax(Map::Dev), fsdax(Map::Mem)], 180 s
        => |want| killed_then(Pinned::new(want)?, refused_modes, used_in_each_mode)
}

declare! {
    /// the same, and the driver that makes device-dax RAM gets the memory while the pages are in the
    /// pipe
    "teardown::differs_killed_kmem" for [DEVICE_DAX], 120 s
        => |want| killed_then(Pinned::device_dax(want)?, refused_kmem, Pinned::require_kept)
}

declare! {
    /// a signal that a task handles, or that stops it, ends its wait for pages of a device whose driver
    /// it unbinds, as if the task had been killed
    "teardown::differs_signalled" for [DEVICE_DAX], 120 s
        => |want| signalled(Pinned::device_dax(want)?)
}

extern "C" fn nothing(_: libc::c_int) {}

fn signalled(mut pinned: Pinned) -> Result<String> {
    // Longer than the second after which the waiter looks again.
    const WATCH: Duration = Duration::from_millis(1500);
    let mut child = pinned.bound.unbind_in_child(|| {
        let action = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: The handler does nothing.
        unsafe { sigaction(Signal::SIGALRM, &action) }.context("sigaction")?;
        Ok(())
    })?;
    let waited = (|| -> Result<()> {
        let mut sent = None;
        for signal in [
            None,
            Some(Signal::SIGALRM),
            Some(Signal::SIGSTOP),
            Some(Signal::SIGCONT),
        ] {
            if let Some(signal) = signal {
                nix::sys::signal::kill(Pid::from_raw(child.pid()), signal).context("kill")?;
            }
            sent = signal.or(sent);
            let end = Instant::now() + WATCH;
            while Instant::now() < end {
                ensure!(
                    child.is_running("unbinding the driver")?,
                    "unbinding the driver ended after the signal {sent:?}, while pages were pinned"
                );
                thread::sleep(Duration::from_millis(50));
            }
        }
        pinned.require_reported()?;
        ensure!(
            !pinned.log()?.contains(": waiter killed after "),
            "the log says that the waiter was killed, which got signals that kill nothing"
        );
        Ok(())
    })();
    pinned.release(waited)?;
    let start = Instant::now();
    child.join(20, "unbinding the driver")?;
    let took = start.elapsed();
    require_unpinned("unbinding")?;
    pinned.require_kept()?;
    Ok(format!("unbound after {} ms", took.as_millis()))
}

const DEVICE_DAX: Want = want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi);

fn killed(pinned: Pinned) -> Result<String> {
    killed_then(pinned, refused, Pinned::require_kept)
}

/// Kills the task that unbinds the driver, and calls `refused` while the pages are in the pipe and
/// `after` when they were released.
fn killed_then(
    mut pinned: Pinned,
    refused: impl FnOnce(&mut Pinned) -> Result<()>,
    after: impl FnOnce(Pinned) -> Result<()>,
) -> Result<String> {
    let mut child = pinned.bound.unbind_in_process()?;
    let waited = must_wait(&mut child).and_then(|()| pinned.require_reported());
    let died = waited.and_then(|()| kill(&mut child));
    let took = *died.as_ref().unwrap_or(&Duration::ZERO);
    let refused = died.and_then(|_| {
        left_alone(&pinned)?;
        pinned.unmount()?;
        refused(&mut pinned)
    });
    let released = pinned.release(refused);
    // Checked before an error is reported, because that binds the device again.
    let gone = unmapped(&pinned, released.is_ok());
    released?;
    let gone = gone?;
    require_unpinned("unbinding")?;
    after(pinned)?;
    Ok(format!(
        "dead after {} ms, unmapped after {} ms",
        took.as_millis(),
        gone.as_millis()
    ))
}

/// Requires that the task waits; an unbinding without a wait takes less than two seconds on every kernel.
pub fn must_wait(child: &mut Child) -> Result<()> {
    match poll(child, timeout(Duration::from_secs(2)))? {
        None => Ok(()),
        Some(status) => bail!("unbinding the driver did not wait: {status}"),
    }
}

pub fn kill(child: &mut Child) -> Result<Duration> {
    let start = Instant::now();
    child.kill().context("cannot kill the unbinding task")?;
    match poll(child, timeout(Duration::from_secs(15)))? {
        Some(_) => Ok(start.elapsed()),
        None => bail!(
            "the unbinding task survives SIGKILL ({})",
            whereabouts(child.id())
        ),
    }
}

/// Requires that the pgmap still exists, and is dying, after the driver's resources are released.
fn left_alone(pinned: &Pinned) -> Result<()> {
    thread::sleep(Duration::from_millis(500));
    ensure!(
        dying()?.is_some(),
        "the pgmap of pinned pages was freed when the waiting task was killed"
    );
    ensure!(
        pinned.log()?.contains(": waiter killed after "),
        "the log does not say that the waiter was killed"
    );
    Ok(())
}

/// Requires that no driver can be bound while the memory is in use.
fn refused(pinned: &mut Pinned) -> Result<()> {
    if pinned.bound.by_ndctl() {
        // Completes the disable that the killed ndctl did not finish.
        pinned.bound.disable()?;
    }
    ensure!(
        pinned.bound.bind().is_err(),
        "a driver was bound to memory with pinned pages"
    );
    require_logged(pinned, 1)
}

/// Requires that the log says at least `times` times that a driver did not get the memory.
fn require_logged(pinned: &Pinned, times: usize) -> Result<()> {
    const WHY: &str = ": pages of an earlier use are still in use, not given to ";

    let log = pinned.log()?;
    ensure!(
        log.matches(WHY).count() >= times,
        "the log does not say {times} times why a driver could not be bound: {log}"
    );
    Ok(())
}

/// The modes that a namespace can have, other than that in which it was unbound.
const MODES: [&str; 3] = ["raw", "sector", "devdax"];

/// Changes the mode of the namespace. Returns whether a driver is bound to it then.
fn reconfigure(dev: &str, mode: &str) -> Result<bool> {
    let done = ndctl::try_create(&format!("-f -e {dev} -m {mode}"))?;
    Ok(done.status.success())
}

/// Requires that no driver gets the memory in another mode while it is in use.
fn refused_modes(pinned: &mut Pinned) -> Result<()> {
    for (n, mode) in MODES.into_iter().enumerate() {
        let dev = pinned.namespace().dev();
        ensure!(
            !reconfigure(dev, mode)?,
            "memory with pinned pages was given to a driver, as {mode}"
        );
        require_logged(pinned, n + 1)?;
    }
    Ok(())
}

/// Requires that the memory can be used in each of these modes.
fn used_in_each_mode(pinned: Pinned) -> Result<()> {
    let namespace = pinned.into_namespace();
    for mode in MODES {
        ensure!(
            reconfigure(namespace.dev(), mode)?,
            "memory whose pages were released is not given to a driver, as {mode}"
        );
    }
    namespace.destroy()
}

/// Requires that the memory does not become RAM while it is in use.
fn refused_kmem(pinned: &mut Pinned) -> Result<()> {
    const DRIVER: &str = "/sys/bus/dax/drivers/kmem";

    Cmd::new("modprobe kmem").ok()?;
    let name = pinned.bound.name()?.to_owned();
    let driver = Path::new(DRIVER);
    // This binds the driver, too; its result does not say whether that failed.
    fs::write(driver.join("new_id"), &name).context("kmem/new_id")?;
    let bound = driver.join(&name).exists();
    if bound {
        fs::write(driver.join("unbind"), &name).context("kmem/unbind")?;
    }
    fs::write(driver.join("remove_id"), &name).context("kmem/remove_id")?;
    ensure!(!bound, "memory with pinned pages became RAM");
    require_logged(pinned, 1)
}

/// Waits until no pgmap is being torn down and, with `and_logged`, the log says so.
fn unmapped(pinned: &Pinned, and_logged: bool) -> Result<Duration> {
    let (start, limit) = (Instant::now(), timeout(Duration::from_secs(20)));
    let mut gone = None;
    loop {
        match (dying()?, gone) {
            (Some(line), _) => ensure!(
                start.elapsed() < limit,
                "the pgmap remains after its last page was released: {line}"
            ),
            (None, None) => gone = Some(start.elapsed()),
            (None, Some(gone)) => {
                // The counters and a grace period follow the removal of the entry.
                if !and_logged || pinned.log()?.contains(": unmapped") {
                    return Ok(gone);
                }
                ensure!(
                    start.elapsed() < limit,
                    "the log does not say that the memory was unmapped"
                );
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}
