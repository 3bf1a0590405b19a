// SPDX-License-Identifier: GPL-2.0

//! The task that unbinds a driver waits for a lock of a file, which it needs in order to revoke the
//! pages of the device from the file, and is killed.
//!
//! The task that has the lock is kept from its CPU meanwhile. It punches thousands of extents out of
//! the file, each by a transaction of its own, and so holds `invalidate_lock` for long.

use super::bound::Bound;
use super::killed::{kill, must_wait};
use super::mounted::fsdax;
use super::pinned::dying;
use super::waiter::{hog, run_on, wait_for, NoFairServer, OnCpu, HOGGED, HOGGING, STOP};
use crate::filesystem::Kind;
use crate::tests::prelude::*;

/// Number of extents of the file behind its first 2 MiB.
const EXTENTS: usize = 6000;

declare! {
    /// a task that unbinds a driver and waits for invalidate_lock of a file, which another task has,
    /// survives SIGKILL; or the memory is never unmapped after the lock was released
    "teardown::killed-locked", 240 s => locked
}
fn locked() -> Result<String> {
    if live::ask()?.registry.implementation == Language::C {
        skip!("the registry is in C, which does not revoke pages from files");
    }
    let namespace = Namespace::create(&fsdax(Map::Dev))?;
    let node = namespace.node()?;
    // With a reverse mapping XFS is frozen first, when it is notified that its device goes, and that
    // waits for the task that punches.
    Cmd::new("mkfs.xfs -q -f -m reflink=0,rmapbt=0 -d agcount=2")
        .arg(&node)
        .limit_secs(120)
        .ok()?;
    let mount = DaxMount::mount(Kind::Xfs, &node, &mount_point())?;
    let mut bound = Bound::of(&namespace)?;
    let _first = OnCpu::pin(0)?;
    let _none = NoFairServer::on(HOGGED)?;
    let state = Mapping::shared_memory(PAGE)?;
    let file = Arc::new(open_fragmented(&mount)?);
    let (mut punch, hog) = caught(&file, &state)?;
    drop(file);

    let unbound = (|| -> Result<Duration> {
        let mut child = bound.unbind_in_process()?;
        must_wait(&mut child)?;
        let place = whereabouts(child.id());
        let killed = kill(&mut child);
        // Else this proves nothing, whether it could be killed or not.
        ensure!(
            place.contains("lock_invalidate"),
            "the unbinding task does not wait for invalidate_lock: {place}"
        );
        killed
    })();
    let has_lock = punch.is_running("punching holes")?;
    state.word(0).store(STOP, Ordering::Release);
    hog.join(20, "the task that keeps the CPU busy")?;
    // It fails, because the device is dead, or has ended before; but not by a signal.
    let signal = punch.wait_signal(60, "punching holes in a file of a dead device")?;
    let took = unbound?;
    ensure!(has_lock, "this proves nothing: the holes were punched");
    ensure!(signal.is_none(), "punching holes ended with {signal:?}");

    let start = Instant::now();
    while let Some(line) = dying()? {
        ensure!(
            start.elapsed() < timeout(Duration::from_secs(20)),
            "the memory is not unmapped after the lock was released: {line}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    mount.unmount()?;
    require_unpinned("unbinding")?;
    bound.bind()?;
    namespace.destroy()?;
    Ok(format!("dead after {} ms", took.as_millis()))
}

/// Creates a file of 2 MiB, a page of which has an entry, with many extents behind that.
fn open_fragmented(mount: &DaxMount) -> Result<File> {
    let file = mount.file("data", HUGE as u64)?;
    for n in 0..EXTENTS {
        let at = HUGE + 2 * n * PAGE;
        fallocate(&file, 0, at as u64, PAGE as u64).context("allocating a page")?;
    }
    let map = Mapping::shared(&file, 0, HUGE, HUGE)?;
    map.poke(0, 1);
    file.sync_all().context("fsync")?;
    Ok(file)
}

/// Starts to punch the extents of the file on a CPU, and takes the CPU away in the middle of that.
/// Returns the task that punches, and the one that has the CPU.
fn caught(file: &Arc<File>, state: &Mapping) -> Result<(Child, Child)> {
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let hog = spawn(|| {
        run_on(HOGGED)?;
        ready.open()?;
        go.pass()?;
        hog(state)
    })?;
    ready.pass()?;
    let mut punch = spawn(|| {
        run_on(HOGGED)?;
        ready.open()?;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // The device may be dead when this goes on, so an error is right, too.
        let _ = fallocate(file, mode, HUGE as u64, (2 * EXTENTS * PAGE) as u64);
        Ok(())
    })?;
    ready.pass()?;
    // Some of the extents are gone when the blocks are fewer.
    let blocks = || -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(file.metadata().context("fstat")?.blocks())
    };
    let (all, limit) = (blocks()?, Instant::now() + timeout(Duration::from_secs(20)));
    while blocks()? + 8 * 16 > all {
        ensure!(
            punch.is_running("punching holes")? && Instant::now() < limit,
            "the file does not become smaller"
        );
    }
    go.open()?;
    wait_for(state, HOGGING, "the task that keeps the CPU busy")?;
    let place = whereabouts(punch.pid() as u32);
    ensure!(
        punch.is_running("punching holes")? && place.contains("xfs_"),
        "this proves nothing: no hole is being punched: {place}"
    );
    Ok((punch, hog))
}
