// SPDX-License-Identifier: GPL-2.0

//! The clock of the rows, and the marks around what it measures.
//!
//! Under QEMU's `-icount shift=0` the guest's clock takes one nanosecond per
//! instruction, and so does its TSC: a difference of two readings is a number
//! of instructions. If a row sleeps, the clock jumps to the next timer; then
//! the time that the scheduler accounted to this thread is used instead.
//!
//! Around each reading are two no-ops that a TCG plugin recognises: the n-th
//! start mark since boot opens window n. The count is in a file on /run, so
//! that all processes of one boot and the plugin agree.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::fs::OpenOptions;
use std::path::Path;

use anyhow::{Context, Result};

use crate::mapping::{Mapping, PAGE};

const COUNTER: &str = "/run/guest-test-windows";

/// The cost of one repeat, and its window of the plugin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub cost: u64,
    /// `None` if the repeat is a part of a window.
    pub window: Option<u32>,
}

pub struct Clock {
    counter: Mapping,
}

impl Clock {
    pub fn open() -> Result<Self> {
        Self::at(Path::new(COUNTER))
    }

    fn at(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        file.set_len(PAGE as u64)
            .with_context(|| format!("cannot make {} a page long", path.display()))?;
        let counter = Mapping::shared(&file, 0, PAGE, PAGE)?;
        Ok(Self { counter })
    }

    /// Returns the number of the next window, which counts as opened.
    fn next(&self) -> u32 {
        let next = self.opened();
        self.skip(1);
        next
    }

    /// Returns the number of windows opened since boot.
    pub fn opened(&self) -> u32 {
        let mut bytes = [0; 4];
        self.counter.read(0, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Counts windows that the kernel opens.
    pub fn skip(&self, windows: u32) {
        let opened = self.opened().wrapping_add(windows);
        self.counter.write(0, &opened.to_le_bytes());
    }

    /// Times `work` by the TSC.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Span) {
        let window = Some(self.next());
        start_mark();
        let begin = tsc();
        let result = work();
        let cost = tsc().wrapping_sub(begin);
        stop_mark();
        (result, Span { cost, window })
    }

    /// Times work that may sleep. If it did, the result is the nanoseconds that
    /// this thread ran, as accounted by the scheduler; they are less exact than
    /// the TSC, which is used if the thread did not sleep.
    pub fn time_running<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Span)> {
        let window = Some(self.next());
        let before = times_slept()?;
        let ran = thread_ns()?;
        start_mark();
        let begin = tsc();
        let result = work();
        let cost = tsc().wrapping_sub(begin);
        stop_mark();
        let ran = thread_ns()?.saturating_sub(ran);
        let slept = times_slept()? != before;
        let cost = if slept { ran } else { cost };
        Ok((result, Span { cost, window }))
    }
}

/// Returns whether the TSC counts instructions, by timing a loop of known
/// length.
pub fn is_exact() -> bool {
    const ROUNDS: u64 = 100_000;
    // Other runs of the loop may have included a timer tick.
    let best = (0..5).map(|_| spin(ROUNDS)).min().unwrap_or(0);
    (2 * ROUNDS..2 * ROUNDS + 100).contains(&best)
}

/// Runs a loop of two instructions per round.
fn spin(rounds: u64) -> u64 {
    let begin = tsc();
    // SAFETY: The code only counts a register down; it accesses neither memory
    // nor the stack.
    unsafe {
        asm!("2:", "dec {0}", "jnz 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
    tsc().wrapping_sub(begin)
}

fn tsc() -> u64 {
    // SAFETY: Every x86-64 processor has the instruction, and Linux permits it
    // in user space.
    unsafe { _rdtsc() }
}

/// Executes `nopl 0x01584144(%rax,%rax,8)`, in bytes: the plugin compares
/// these.
fn start_mark() {
    // SAFETY: The instruction is a no-op. The compiler must treat it as an
    // access to memory, which keeps the work after it.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x01",
            options(nostack)
        )
    };
}

/// Executes the same no-op with 0x02.
fn stop_mark() {
    // SAFETY: As in `start_mark`, the instruction is a no-op.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x02",
            options(nostack)
        )
    };
}

fn thread_ns() -> Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes and outlives the call.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) } {
        0 => Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64),
        _ => Err(std::io::Error::last_os_error()).context("cannot read this thread's running time"),
    }
}

/// Returns how often this thread has yielded the CPU to wait.
fn times_slept() -> Result<i64> {
    // SAFETY: The structure consists of integers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for writes and outlives the call.
    match unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) } {
        0 => Ok(usage.ru_nvcsw),
        _ => Err(std::io::Error::last_os_error()).context("cannot read this thread's resources"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted_across_openings() -> Result<()> {
        let path = std::env::temp_dir().join(format!("guest-test-clock-{}", std::process::id()));
        let clock = Clock::at(&path)?;
        let (value, first) = clock.time(|| 7);
        assert_eq!((value, first.window), (7, Some(0)));
        clock.skip(3);
        let again = Clock::at(&path)?;
        let ((), later) = again.time_running(|| ())?;
        assert_eq!((later.window, clock.opened()), (Some(4), 5));
        std::fs::remove_file(&path)?;
        Ok(())
    }

    #[test]
    fn a_loop_takes_time() {
        assert!(spin(100_000) > 0);
    }
}
