// SPDX-License-Identifier: GPL-2.0

//! The time stamp counter, for measuring.
//!
//! Under QEMU's `-icount shift=0` it counts instructions. The measured stretch lies between two
//! no-ops that the TCG plugin of `make bench` knows; the ones that `guest-test` executes in user
//! space are the same. Anywhere else they do nothing.

use crate::irq;
use core::arch::{asm, x86_64::_rdtsc};

/// What work cost, in ticks of the counter, and what it returned.
pub struct Measured<T> {
    /// Ticks.
    pub ticks: u64,
    /// The work's result.
    pub result: T,
}

/// Measures `work`, interrupts and all.
///
/// # Examples
///
/// ```
/// use kernel::tsc;
///
/// let measured = tsc::measure(|| 7);
/// assert_eq!(measured.result, 7);
/// ```
#[inline]
pub fn measure<T>(work: impl FnOnce() -> T) -> Measured<T> {
    start_mark();
    let begin = read();
    let result = work();
    let ticks = read().wrapping_sub(begin);
    stop_mark();
    Measured { ticks, result }
}

/// Measures `work` with interrupts off on this CPU: it must not sleep.
#[inline]
pub fn measure_uninterrupted<T>(work: impl FnOnce() -> T) -> Measured<T> {
    irq::with_disabled(|_irq| measure(work))
}

#[inline]
fn read() -> u64 {
    // SAFETY: Every x86-64 CPU has the instruction.
    unsafe { _rdtsc() }
}

/// `nopl 0x01584144(%rax,%rax,8)`, in bytes: these are what is looked for.
#[inline]
fn start_mark() {
    // SAFETY: A no-op. That it counts as an access to memory keeps the work behind it.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x01",
            options(nostack)
        )
    };
}

/// The same with 0x02.
#[inline]
fn stop_mark() {
    // SAFETY: As in `start_mark`.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x02",
            options(nostack)
        )
    };
}
