// SPDX-License-Identifier: GPL-2.0

//! The clock of the rows, and the marks around what it measures.
//!
//! Under QEMU's `-icount shift=0` the guest's clock takes one nanosecond per
//! instruction, and so does its TSC: a difference of two readings is a number
//! of instructions. Where a row sleeps, the clock leaps to the next timer;
//! then the time that the scheduler booked for this thread is taken instead.
//!
//! Around each reading stand two no-ops that a TCG plugin knows: the n-th
//! start mark since boot opens window n. The count lives in a file on /run, so
//! that all processes of one boot and the plugin agree.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::fs::OpenOptions;
use std::path::Path;

use anyhow::{Context, Result};

use crate::mapping::{Mapping, PAGE};

const COUNTER: &str = "/run/guest-test-windows";

/// What one repeat cost, and in which window of the plugin it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub cost: u64,
    /// None where the repeat is a part of a window.
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

    /// The number of the next window; it counts as opened.
    fn next(&self) -> u32 {
        let next = self.opened();
        self.skip(1);
        next
    }

    /// How many windows were opened since boot.
    pub fn opened(&self) -> u32 {
        let mut bytes = [0; 4];
        self.counter.read(0, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Counts windows that somebody else opens: the kernel.
    pub fn skip(&self, windows: u32) {
        let opened = self.opened().wrapping_add(windows);
        self.counter.write(0, &opened.to_le_bytes());
    }

    /// Times by the TSC.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> (T, Span) {
        let window = Some(self.next());
        start_mark();
        let begin = tsc();
        let result = work();
        let cost = tsc().wrapping_sub(begin);
        stop_mark();
        (result, Span { cost, window })
    }

    /// Times what may sleep. If it did, by the nanoseconds that this thread
    /// ran, as the scheduler has them; it is not as exact about them as the
    /// TSC, which is taken if the thread did not sleep.
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

/// Whether the TSC counts instructions: a loop of known length is timed.
pub fn is_exact() -> bool {
    const ROUNDS: u64 = 100_000;
    // Other runs of the loop may have met a timer's tick.
    let best = (0..5).map(|_| spin(ROUNDS)).min().unwrap_or(0);
    (2 * ROUNDS..2 * ROUNDS + 100).contains(&best)
}

/// Two instructions a round.
fn spin(rounds: u64) -> u64 {
    let begin = tsc();
    // SAFETY: Counts a register down; touches neither memory nor the stack.
    unsafe {
        asm!("2:", "dec {0}", "jnz 2b", inout(reg) rounds => _, options(nomem, nostack));
    }
    tsc().wrapping_sub(begin)
}

fn tsc() -> u64 {
    // SAFETY: Every x86-64 processor has the instruction, and Linux lets user
    // space use it.
    unsafe { _rdtsc() }
}

/// `nopl 0x01584144(%rax,%rax,8)`, in bytes: the plugin compares these.
fn start_mark() {
    // SAFETY: A no-op. That the compiler must take it for an access to memory
    // keeps the work behind it.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x01",
            options(nostack)
        )
    };
}

/// The same with 0x02.
fn stop_mark() {
    // SAFETY: As in `start_mark`.
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
    // SAFETY: `now` outlives the call.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) } {
        0 => Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64),
        _ => Err(std::io::Error::last_os_error()).context("cannot read this thread's running time"),
    }
}

/// How often this thread has given up the CPU to wait for something.
fn times_slept() -> Result<i64> {
    // SAFETY: The structure is integers only, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` outlives the call.
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
