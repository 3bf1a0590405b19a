// SPDX-License-Identifier: GPL-2.0

//! The processes of a user: each uses the memory, releases its pins on request, and then finds out
//! whether the memory is gone.

use nix::sys::signal::{signal, SigHandler, Signal};

use super::hold::hold;
use super::place::{Spot, LEN};
use super::user::{Devices, User};
use crate::tests::fsdax::Dm;
use crate::tests::prelude::*;

/// Values of the shared word.
const THERE: u32 = 1;
const GONE: u32 = 2;

/// Time in which a use of memory that is gone must fail.
const FAILS: Duration = Duration::from_secs(10);

/// The steps of a process, and whether the memory is gone.
struct Steps {
    ready: Gate,
    /// The outcome of the removal is known, but for its end.
    known: Gate,
    release: Gate,
    judge: Gate,
    state: Mapping,
}

impl Steps {
    fn new() -> Result<Self> {
        Ok(Self {
            ready: Gate::new()?,
            known: Gate::new()?,
            release: Gate::new()?,
            judge: Gate::new()?,
            state: Mapping::shared_memory(PAGE)?,
        })
    }

    fn is_gone(&self) -> bool {
        self.state.word(0).load(Ordering::SeqCst) == GONE
    }

    /// Reports that the memory is in use, and waits until the outcome is known and the removal has
    /// ended. Returns whether the memory is gone.
    fn use_until_judged(&self) -> Result<bool> {
        self.ready.open()?;
        self.release.pass()?;
        self.judge.pass()?;
        Ok(self.is_gone())
    }
}

/// The running processes of a user.
pub struct Using {
    all: Vec<(Child, Steps)>,
    /// The signal by which they end if the memory is gone.
    signal: Option<i32>,
    /// The disk that must answer before they can be killed.
    slow: Option<PathBuf>,
}

impl Drop for Using {
    fn drop(&mut self) {
        if let Some(slow) = &self.slow {
            clean_up(Dm::call("resume").arg(slow).ok());
        }
    }
}

impl Using {
    pub fn start(user: User, spot: &Spot, devices: &Devices) -> Result<Self> {
        let count = if user == User::Two { 2 } else { 1 };
        let mut all = Vec::new();
        for n in 0..count {
            let steps = Steps::new()?;
            let child = spawn(|| {
                // XFS signals it to each process that has a page mapped; only an access kills then.
                // SAFETY: No handler is installed.
                unsafe { signal(Signal::SIGBUS, SigHandler::SigIgn) }.context("signal")?;
                live(user, n > 0, spot, devices, &steps)
            })?;
            all.push((child, steps));
        }
        for (child, steps) in &mut all {
            wait_ready(child, &steps.ready)?;
        }
        Ok(Self {
            all,
            signal: user.touches(spot).then_some(libc::SIGBUS),
            slow: devices.slow(),
        })
    }

    /// Tells them whether the memory is gone, or will be as soon as they release it.
    pub fn tell(&self, gone: bool) -> Result<()> {
        for (_, steps) in &self.all {
            let state = if gone { GONE } else { THERE };
            steps.state.word(0).store(state, Ordering::SeqCst);
            steps.known.open()?;
        }
        Ok(())
    }

    /// Releases the pins.
    pub fn release(&self) -> Result<()> {
        for (_, steps) in &self.all {
            steps.release.open()?;
        }
        Ok(())
    }

    /// Lets them try the memory, and waits until they end, as they should.
    pub fn end(mut self, gone: bool) -> Result<()> {
        for (mut child, steps) in std::mem::take(&mut self.all) {
            steps.judge.open()?;
            let ended = child.wait_signal(30, "the user of the memory")?;
            let expected = self.signal.filter(|_| gone);
            ensure!(
                ended == expected,
                "the user of the memory ended with signal {ended:?}, not {expected:?}"
            );
        }
        Ok(())
    }
}

/// Waits until a child has opened the gate, or has failed.
fn wait_ready(child: &mut Child, ready: &Gate) -> Result<()> {
    let limit = Instant::now() + timeout(Duration::from_secs(30));
    while !ready.is_open()? {
        ensure!(
            child.is_running("the user of the memory")? && Instant::now() < limit,
            "the user of the memory does not begin"
        );
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Uses the memory, in a process of its own.
fn live(user: User, second: bool, spot: &Spot, devices: &Devices, steps: &Steps) -> Result<()> {
    match user {
        User::Open => opened(spot, steps),
        User::Journal => journal(spot, steps),
        User::Fault => faults(spot, steps),
        User::Loop => above(devices.above.as_deref(), spot, steps),
        User::Dm if !spot.is_dax => above(Some(&spot.path), spot, steps),
        User::Swap => steps.use_until_judged().map(drop),
        User::DirectIo | User::Pipe | User::ProcessVm | User::Fixed | User::Rdma | User::Fork => {
            pinned(user, spot, devices, steps)
        }
        User::Clean | User::Dirty | User::Two | User::Orphan | User::Unlinked | User::Dm => {
            mapped(user, second, spot, steps)
        }
    }
}

/// Requires that the mapping has the bytes, or that an access kills.
fn judge(map: &Mapping, spot: &Spot, gone: bool) -> Result<()> {
    if gone {
        map.peek(0);
        bail!("the mapping of memory that is gone can still be read");
    }
    map.require(0, &spot.bytes, "a mapping of memory that was not removed")
}

fn mapped(user: User, second: bool, spot: &Spot, steps: &Steps) -> Result<()> {
    let mut file = Some(match (user, &spot.dir) {
        (User::Unlinked, Some(dir)) => {
            let path = dir.join("unlinked");
            fs::write(&path, &spot.bytes).context("writing a file")?;
            let file = open_rw(&path, false)?;
            file.sync_all().context("fsync")?;
            fs::remove_file(&path).context("unlink")?;
            file
        }
        _ => spot.open()?,
    });
    let map = spot.map(file.as_ref().context("no file")?)?;
    match user {
        User::Clean => map.require(0, &spot.bytes, "the mapping")?,
        User::Two if second => map.require(0, &spot.bytes, "the second mapping")?,
        _ => map.write(0, &spot.bytes),
    }
    if user == User::Orphan {
        file = None;
    }
    let gone = steps.use_until_judged()?;
    judge(&map, spot, gone)?;
    drop(file);
    Ok(())
}

fn pinned(user: User, spot: &Spot, devices: &Devices, steps: &Steps) -> Result<()> {
    let file = spot.open()?;
    let map = Arc::new(spot.map(&file)?);
    map.require(0, &spot.bytes, "the mapping")?;
    let slow = devices.slow();
    let held = hold(user, &map, spot, slow.as_deref())?.context("nothing is pinned")?;
    let mut kept = Some((file, map));
    if user.closes() {
        kept = None;
    }
    steps.ready.open()?;
    if let (User::Fork, Some((_, map))) = (user, &kept) {
        steps.known.pass()?;
        forks(map, spot, steps.is_gone())?;
    }
    steps.release.pass()?;
    held()?;
    steps.judge.pass()?;
    match kept {
        Some((_file, map)) => judge(&map, spot, steps.is_gone()),
        None => Ok(()),
    }
}

/// Forks a process, which touches the mapping.
fn forks(map: &Mapping, spot: &Spot, gone: bool) -> Result<()> {
    let mut child = spawn(|| judge(map, spot, gone))?;
    let ended = child.wait_signal(20, "a process that was forked meanwhile")?;
    let expected = gone.then_some(libc::SIGBUS);
    ensure!(
        ended == expected,
        "a process that was forked meanwhile ended with signal {ended:?}, not {expected:?}"
    );
    Ok(())
}

/// Has it open: a file of a filesystem, a device, or a disk.
fn opened(spot: &Spot, steps: &Steps) -> Result<()> {
    let file = open_rw(&spot.path, !spot.is_dax)?;
    let is_device = spot.is_dax && spot.dir.is_none();
    let read = || -> Result<()> {
        if is_device {
            return spot.map(&file)?.require(0, &spot.bytes, "the device");
        }
        spot.read_direct(&file, spot.at)
    };
    read()?;
    let gone = steps.use_until_judged()?;
    match (gone, read()) {
        (true, Ok(())) => bail!("what was opened before the memory was removed can still be read"),
        (true, Err(_)) => Ok(()),
        (false, read) => read,
    }
}

/// Has a block device open that is above the memory.
fn above(node: Option<&Path>, spot: &Spot, steps: &Steps) -> Result<()> {
    let disk = open_rw(node.context("no device above the memory")?, true)?;
    spot.read_direct(&disk, spot.at)?;
    let gone = steps.use_until_judged()?;
    match (gone, spot.read_direct(&disk, spot.at)) {
        (true, Ok(())) => bail!("a device above memory that is gone can still be read"),
        (true, Err(_)) => Ok(()),
        (false, read) => read,
    }
}

/// Faults pages in all the time, until an access kills the process.
fn faults(spot: &Spot, steps: &Steps) -> Result<()> {
    let file = spot.open()?;
    let map = spot.map(&file)?;
    let stop = AtomicBool::new(false);
    let fault = |write: bool| -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            for at in (0..LEN).step_by(37 * PAGE) {
                match write {
                    true => map.poke(at, spot.bytes[at]),
                    false => drop(map.peek(at)),
                }
            }
            map.advise(0, map.len(), libc::MADV_DONTNEED)
                .context("MADV_DONTNEED")?;
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let threads = [true, false].map(|write| scope.spawn(move || fault(write)));
        let gone = steps.use_until_judged();
        if matches!(gone, Ok(true)) {
            // A thread has killed the process by then.
            thread::sleep(timeout(FAILS));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        judge(&map, spot, gone?)
    })
}

/// Makes, syncs and renames files all the time, until that fails.
fn journal(spot: &Spot, steps: &Steps) -> Result<()> {
    let dir = spot.dir.as_deref().context("no filesystem")?;
    let stop = AtomicBool::new(false);
    let work = || -> Result<()> {
        for n in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let (from, to) = (dir.join("new"), dir.join(format!("file{}", n % 8)));
            let file = File::create(&from).context("creating a file")?;
            file.write_all_at(&spot.bytes[..PAGE], 0)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&from, &to))
                .context("writing a file")?;
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let worker = scope.spawn(work);
        let gone = steps.use_until_judged();
        let limit = Instant::now() + timeout(FAILS);
        while matches!(gone, Ok(true)) && !worker.is_finished() && Instant::now() < limit {
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let worked = worker.join().map_err(|_| anyhow!("a thread panicked"))?;
        match (gone?, worked) {
            (true, Ok(())) => bail!("files can be synced on a device that is gone"),
            (true, Err(_)) => Ok(()),
            (false, worked) => worked,
        }
    })
}
