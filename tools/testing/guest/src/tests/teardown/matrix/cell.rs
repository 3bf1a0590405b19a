// SPDX-License-Identifier: GPL-2.0

//! One cell: users, mostly one, a removal, and the judgement.

use std::sync::mpsc;

use super::child::Using;
use super::place::{Ground, Spot, LEN};
use super::removal::{Removal, Removed};
use super::user::{Devices, User};
use super::Outcome;
use crate::tests::prelude::*;

/// Time in which a removal must end that waits for no page, and after the last page was released.
const ENDS: u64 = 15;
const WOKEN: u64 = 5;

pub fn check(
    ground: &mut Ground<'_>,
    users: &[User],
    removal: Removal,
    expected: Outcome,
) -> Result<()> {
    let lane = ground.lane;
    ground.write()?;
    let spot = ground.spot()?;
    let gone = expected != Outcome::Refused;
    // Dropped last: the memory is given back when nothing uses it.
    let mut removed = Removed::prepare(ground, removal)?;
    let devices = users
        .iter()
        .map(|user| Devices::for_user(*user, &spot, lane));
    let devices = devices.collect::<Result<Vec<_>>>()?;
    let using = users.iter().zip(&devices);
    let using = using.map(|(user, devices)| Using::start(*user, &spot, devices));
    let using = using.collect::<Result<Vec<_>>>()?;
    let bad = match removal {
        Removal::Failure => Some(BadPage::prepare(&spot)?),
        _ => None,
    };

    removed.start();
    if let Some(bad) = &bad {
        bad.go.open()?;
    }
    match expected {
        Outcome::Refused => {
            removed.must_be_refused(lane)?;
            all(&using, |using| using.tell(gone))?;
            all(&using, Using::release)?;
        }
        Outcome::Ends => {
            removed.must_end(lane, ENDS)?;
            all(&using, |using| using.tell(gone))?;
            all(&using, Using::release)?;
        }
        Outcome::Waits => {
            removed.must_wait(lane)?;
            all(&using, |using| using.tell(gone))?;
            others_go_on(&spot)?;
            all(&using, Using::release)?;
            removed.must_end(lane, WOKEN)?;
        }
    }
    bad.map_or(Ok(()), BadPage::end)?;
    for using in using {
        using.end(gone)?;
    }
    drop(devices);
    lane.require_unpinned("the removal")?;
    if gone {
        ground.take_down()?;
        removed.undo(ground)?;
    }
    if !(gone && removal.loses()) {
        ground.require()?;
    }
    Ok(())
}

fn all(using: &[Using], step: impl Fn(&Using) -> Result<()>) -> Result<()> {
    using.iter().try_for_each(step)
}

/// Requires that other programs go on while the removal waits.
fn others_go_on(spot: &Spot) -> Result<()> {
    let (tx, done) = mpsc::channel();
    let dir = spot.dir.clone();
    // Not joined: if it hangs, the caller releases the pages and reports it.
    thread::spawn(move || tx.send(use_others(dir.as_deref())));
    match done.recv_timeout(timeout(Duration::from_secs(5))) {
        Ok(result) => result.context("another task, while the removal waits"),
        Err(_) => bail!("another task hangs while the removal waits"),
    }
}

fn use_others(dir: Option<&Path>) -> Result<()> {
    for dir in ["/", "/dev", "/sys/bus/nd/devices"] {
        fs::read_dir(dir)
            .with_context(|| format!("ls {dir}"))?
            .count();
    }
    if let Some(dir) = dir {
        // An error is right: the filesystem has lost its device.
        drop(fs::read_dir(dir));
    }
    let path = std::env::temp_dir().join(format!("guest-test-{}", std::process::id()));
    fs::write(&path, [0; PAGE]).context("writing a file")?;
    fs::remove_file(&path).context("removing a file")?;
    nix::unistd::sync();
    Ok(())
}

/// A process that makes a page of the memory bad.
struct BadPage {
    child: Child,
    go: Gate,
}

impl BadPage {
    fn prepare(spot: &Spot) -> Result<Self> {
        let (ready, go) = (Gate::new()?, Gate::new()?);
        let child = spawn(|| {
            let file = spot.open()?;
            let map = spot.map(&file)?;
            // Not one of those that are pinned, where pages are small.
            let at = LEN - PAGE;
            map.peek(at);
            ready.open()?;
            go.pass()?;
            // The removal may be anywhere by then, or may not have begun.
            thread::sleep(Duration::from_millis(u64::from(spot.bytes[0]) / 8));
            match map.advise(at, PAGE, libc::MADV_HWPOISON) {
                // It is signalled by its next access at the latest.
                Ok(()) => drop(map.peek(at)),
                Err(e) if e.raw_os_error() == Some(libc::EFAULT) => {}
                Err(e) => return Err(e).context("MADV_HWPOISON"),
            }
            Ok(())
        })?;
        ready.pass()?;
        Ok(Self { child, go })
    }

    fn end(mut self) -> Result<()> {
        match self.child.wait_signal(20, "the process with bad memory")? {
            None | Some(libc::SIGBUS) => Ok(()),
            Some(signal) => bail!("the process with bad memory died of signal {signal}"),
        }
    }
}
