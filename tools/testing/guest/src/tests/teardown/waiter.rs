// SPDX-License-Identifier: GPL-2.0

//! A task waits for a pinned page of its file, in order to free blocks, while the driver of the
//! device is unbound.
//!
//! The waiting task has no reference to the page. So it must not touch the page once teardown may
//! have removed the memmap, and must not wait for a page that its file has lost. In C teardown does
//! not wait for the pin, and these tests fail as those of `pinned.rs` do.

use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;

use super::mounted::fsdax;
use super::pinned::Pinned;
use crate::filesystem::Kind;
use crate::tests::prelude::*;

// On ext4: XFS is frozen when it is notified that its device goes, so there unbinding the driver
// begins by waiting for the truncation.
const KIND: Kind = Kind::Ext4;

declare! {
    /// a truncation waits for a page that its file has lost, because the device is being unbound: it
    /// sleeps until the page is released
    "teardown::differs_waiter" for [KIND], 90 s => |_| ends()
}
fn ends() -> Result<String> {
    let mut pinned = Pinned::on(&fsdax(Map::Dev), KIND)?;
    let file = pinned.file()?;
    let truncation = Background::start(move || {
        // The device may be dead when this goes on, so an error is right, too.
        let _ = file.set_len(0);
        Ok(())
    });
    let waited = truncation.must_wait("ftruncate");
    if waited.is_err() {
        pinned.release(Ok(()))?;
        waited?;
    }
    let unbinding = pinned.bound.unbind();
    let mut ended = Ok(Duration::ZERO);
    let waited = unbinding
        .must_wait("unbinding the driver")
        .and_then(|()| pinned.require_reported());
    if waited.is_ok() {
        ended = truncation.must_end("ftruncate of a file whose device is being unbound");
    }
    pinned.release(waited)?;
    unbinding.must_end("unbinding the driver")?;
    let took = ended?;
    require_unpinned("unbinding")?;
    pinned.finish()?;
    Ok(format!("ftruncate ended after {} ms", took.as_millis()))
}

/// The CPU from which the waiting task is kept; everything else runs on the first one.
pub const HOGGED: usize = 1;

declare! {
    /// a truncation that waits for a page and gets the CPU only when the device is gone reads the struct
    /// page that is no longer there: it oopses, or waits for ever
    "teardown::differs_late_waiter" for [KIND], 120 s => |_| late()
}
fn late() -> Result<String> {
    let mut pinned = Pinned::on(&fsdax(Map::Dev), KIND)?;
    let file = pinned.file()?;
    let _first = OnCpu::pin(0)?;
    let _none = NoFairServer::on(HOGGED)?;
    let state = Mapping::shared_memory(PAGE)?;
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let mut truncation = spawn(|| {
        run_on(HOGGED)?;
        ready.open()?;
        // The device is dead when this goes on, so an error is right, too.
        let _ = file.set_len(0);
        Ok(())
    })?;
    drop(file);
    let mut hog = spawn(|| {
        run_on(HOGGED)?;
        go.pass()?;
        hog(&state)
    })?;
    ready.pass()?;
    let asleep = wait_asleep(&mut truncation);
    if asleep.is_err() {
        pinned.release(Ok(()))?;
        asleep?;
    }
    go.open()?;
    wait_for(&state, HOGGING, "the task that keeps the CPU busy")?;

    let unbinding = pinned.bound.unbind();
    let waited = unbinding
        .must_wait("unbinding the driver")
        .and_then(|()| pinned.require_reported());
    pinned.release(waited)?;
    let took = unbinding.must_end("unbinding the driver")?;
    let was_late = truncation.is_running("ftruncate")?;
    state.word(0).store(STOP, Ordering::Release);
    hog.wait_signal(20, "the task that keeps the CPU busy")?;
    ensure!(
        was_late,
        "this proves nothing: ftruncate ended although its CPU was busy"
    );
    truncation.join(20, "ftruncate after the device was unbound")?;
    require_unpinned("unbinding")?;
    pinned.finish()?;
    Ok(format!("unbound after {} ms", took.as_millis()))
}

/// Waits until the child sleeps in `ftruncate()`, where a signal can wake it.
fn wait_asleep(child: &mut Child) -> Result<()> {
    let (proc, limit) = (
        format!("/proc/{}", child.pid()),
        Instant::now() + timeout(Duration::from_secs(10)),
    );
    let is_asleep = || -> Result<bool> {
        let call = system::read(format!("{proc}/syscall"))?;
        let stat = system::read(format!("{proc}/stat"))?;
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        Ok(call.starts_with(&format!("{} ", libc::SYS_ftruncate)) && state.starts_with('S'))
    };
    while !is_asleep()? {
        ensure!(
            child.is_running("ftruncate")?,
            "ftruncate did not wait: the pages were still held"
        );
        ensure!(
            Instant::now() < limit,
            "ftruncate does not sleep interruptibly ({})",
            whereabouts(child.pid() as u32)
        );
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub const HOGGING: u32 = 1;
pub const STOP: u32 = 2;

pub fn wait_for(state: &Mapping, value: u32, what: &str) -> Result<()> {
    let limit = Instant::now() + timeout(Duration::from_secs(10));
    while state.word(0).load(Ordering::Acquire) != value {
        ensure!(Instant::now() < limit, "{what} did not start");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Takes the CPU from every ordinary task until it is told to stop, or a minute has passed.
pub fn hog(state: &Mapping) -> Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: The parameters are valid for reads; 0 is this process.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } != 0 {
        return Err(io::Error::last_os_error()).context("SCHED_FIFO");
    }
    let end = Instant::now() + timeout(Duration::from_secs(60));
    state.word(0).store(HOGGING, Ordering::Release);
    while state.word(0).load(Ordering::Acquire) != STOP && Instant::now() < end {
        std::hint::spin_loop();
    }
    Ok(())
}

/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

/// Moves the calling thread to a CPU.
pub fn run_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(SELF, &set).context("sched_setaffinity")
}

/// The calling thread, and what it starts, on one CPU until this is dropped.
pub struct OnCpu(CpuSet);

impl OnCpu {
    pub fn pin(cpu: usize) -> Result<Self> {
        let before = sched_getaffinity(SELF).context("sched_getaffinity")?;
        run_on(cpu)?;
        Ok(Self(before))
    }
}

impl Drop for OnCpu {
    fn drop(&mut self) {
        clean_up(sched_setaffinity(SELF, &self.0));
    }
}

/// A CPU on which the scheduler keeps no time for ordinary tasks until this is dropped.
pub struct NoFairServer {
    file: PathBuf,
    before: String,
}

impl NoFairServer {
    pub fn on(cpu: usize) -> Result<Self> {
        let file = system::debugfs()?.join(format!("sched/fair_server/cpu{cpu}/runtime"));
        if !file.exists() {
            skip!("the kernel has no SCHED_DEBUG, so a realtime task cannot take all of a CPU");
        }
        let before = system::read(&file)?;
        fs::write(&file, "0").with_context(|| file.display().to_string())?;
        Ok(Self { file, before })
    }
}

impl Drop for NoFairServer {
    fn drop(&mut self) {
        if let Err(e) = fs::write(&self.file, self.before.trim()) {
            eprintln!("clean-up: {}: {e}", self.file.display());
        }
    }
}
