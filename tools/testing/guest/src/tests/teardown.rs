// SPDX-License-Identifier: GPL-2.0

//! The teardown of a pgmap that is still in use.
//!
//! memunmap_pages() of C does not wait for pinned pages, so a pin that outlives the teardown oopses
//! on the kernel with which results are compared. The race of lookups
//! cannot hold a pin across the teardown: each call takes a single page and puts it
//! without a point in between at which the task could be scheduled, on a kernel
//! without preemption; and between the removal of the device's mappings and the
//! removal of its struct pages the kernel waits for an RCU grace period, which
//! such a call delays.

pub mod bound;
mod killed;
mod locked;
mod matrix;
mod mounted;
pub mod pinned;
pub mod soak;
mod storm;
mod takers;
mod waiter;

use crate::gup::{Device, Method};
use crate::tests::prelude::*;

pub use bound::Bound;

const LEN: usize = 4 << 20;
const ROUNDS: u64 = 8;
const KINDS: [Want; 3] = [
    want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
    want(Mode::Devdax, 2 * MIB, Map::Dev, Bus::Acpi),
    want(Mode::Devdax, GIB, Map::Mem, Bus::Acpi),
];

/// Skips a test on a kernel with preemption, to which the argument of this file does not apply.
pub fn require_no_preemption() -> Result<()> {
    let config = system::kernel_config()?;
    let has = |option: &str| config.lines().any(|l| l == format!("{option}=y"));
    if has("CONFIG_PREEMPT") || has("CONFIG_PREEMPT_RT") || has("CONFIG_PREEMPT_DYNAMIC") {
        skip!("the kernel is preemptible: a task may be off the CPU with a page taken");
    }
    Ok(())
}

declare! {
    /// get_dev_pagemap() returns a dying pgmap or misses a live one: GUP on the mapping of a device
    /// that is being disabled fails with another errno than EFAULT, the disable hangs, or the kernel
    /// complains
    "teardown::lookup-race" for KINDS, 480 s, essential "devdax-2M-dev-acpi" => race
}
fn race(want: &Want) -> Result<String> {
    require_no_preemption()?;
    let mut namespace = Namespace::create(want)?;
    let bytes = data::bytes(91, LEN);
    let mut total = 0;
    for round in 0..ROUNDS {
        let node = namespace.node()?;
        let (ready, stop) = (Gate::new()?, Gate::new()?);
        let counts = Mapping::shared_memory(PAGE)?;
        let child = spawn(|| {
            let file = open_rw(&node, false)?;
            let len = LEN.next_multiple_of(want.align as usize);
            let map = Mapping::shared(&file, 0, len, (want.align as usize).max(2 << 20))?;
            map.write(0, &bytes);
            // The device is open only through the mapping, so the disable has to wait
            // only for the end of the mapping.
            drop(file);
            let gup = Device::open()?;
            ready.open()?;
            let (taken, refused) = hammer(&gup, &map)?;
            counts.word64(0).store(taken, Ordering::SeqCst);
            counts.word64(8).store(refused, Ordering::SeqCst);
            stop.pass()
        })?;
        ready.pass()?;
        std::thread::sleep(Duration::from_millis(50 + 37 * round));
        namespace.disable()?;
        stop.open()?;
        child.join(60, "the process that takes pages")?;
        let [taken, refused] = [0, 8].map(|at| counts.word64(at).load(Ordering::SeqCst));
        ensure!(
            taken > 0 && refused > 0,
            "round {round} proves nothing: {taken} pages taken, {refused} refused"
        );
        total += taken;
        require_unpinned("the race")?;
        namespace.enable()?;
    }
    namespace.destroy()?;
    Ok(format!("{ROUNDS} rounds, {total} pages taken and released"))
}

/// Takes and releases single pages until the device is disabled: until enough in a
/// row were refused to conclude that no page is left.
fn hammer(gup: &Device, map: &Mapping) -> Result<(u64, u64)> {
    let (mut taken, mut refused, mut row) = (0u64, 0u64, 0);
    let limit = Instant::now() + timeout(Duration::from_secs(50));
    let mut page = 0;
    while row < 2 * LEN / PAGE {
        ensure!(
            Instant::now() < limit,
            "pages could still be taken at the end of the wait, although the device was being disabled"
        );
        page = (page + 7) % (LEN / PAGE);
        let method = if page % 2 == 0 {
            Method::PinFast
        } else {
            Method::GupFast
        };
        match gup
            .cycle(method, map, page * PAGE, PAGE, 1, true)
            .context("GUP during teardown")?
        {
            0 => (refused, row) = (refused + 1, row + 1),
            n => (taken, row) = (taken + n, 0),
        }
    }
    Ok((taken, refused))
}

declare! {
    /// a process that touches its mapping of a device that was disabled does not get SIGBUS but
    /// another signal or stale bytes, or direct I/O into it does not fail with EFAULT
    "teardown::sigbus" for KINDS, 90 s, essential "devdax-2M-dev-acpi" => sigbus
}
fn sigbus(want: &Want) -> Result<()> {
    let target = Target::create(want, LEN as u64)?;
    let disk = super::direct_io::scratch()?;
    let (ready, gone) = (Gate::new()?, Gate::new()?);
    let mut child = spawn(|| {
        let map = target.map(LEN)?;
        map.write(0, &data::bytes(92, LEN));
        ready.open()?;
        gone.pass()?;
        let read = pread_once(&disk, &map, 0, PAGE, 0);
        require_errno(
            read,
            libc::EFAULT,
            "direct I/O into the mapping of a disabled device",
        )?;
        map.peek(0);
        bail!("the mapping of a disabled device can still be read")
    })?;
    ready.pass()?;
    let Target {
        file, namespace, ..
    } = target;
    drop(file);
    namespace.disable()?;
    gone.open()?;
    match child.wait_signal(30, "the process that touches the mapping")? {
        Some(libc::SIGBUS) => {}
        Some(other) => bail!("the process died of signal {other}, not of SIGBUS"),
        None => bail!("the process was not killed"),
    }
    require_unpinned("the disable")?;
    namespace.destroy()
}
