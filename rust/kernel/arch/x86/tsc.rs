// SPDX-License-Identifier: GPL-2.0

//! Measurements with the time stamp counter.
//!
//! Under QEMU's `-icount shift=0` the counter counts instructions. The measured code lies between
//! two no-op instructions that the TCG plugin of `make bench` recognises; the guest program
//! executes the same ones in user space. On real hardware they have no effect.
//!
//! This file encapsulates the instructions.

use crate::interrupt;
use core::arch::{asm, x86_64::_rdtsc};

/// The cost of some work, and its result.
pub struct Measured<T> {
    /// The ticks of the counter.
    pub ticks: u64,
    /// The result of the work.
    pub result: T,
}

/// Measures `work`, including the interrupts that come meanwhile. Any context.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::tsc;
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

/// Measures `work` with interrupts disabled on this CPU, so it must not sleep. Any context.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::tsc;
///
/// let measured = tsc::measure_uninterrupted(|| 1 + 1);
/// assert_eq!(measured.result, 2);
/// ```
#[inline]
pub fn measure_uninterrupted<T>(work: impl FnOnce() -> T) -> Measured<T> {
    // SAFETY: The proof is dropped before `work` is called, which does not get it.
    unsafe { interrupt::with_disabled(|_irq| measure(work)) }
}

/// Returns the counter. C: `rdtsc()`.
#[doc(alias = "rdtsc")]
#[inline]
fn read() -> u64 {
    // SAFETY: Every x86-64 processor has the instruction, and the kernel may execute it.
    unsafe { _rdtsc() }
}

/// Executes the no-op that begins a measured window: `nopl 0x01584144(%rax,%rax,8)`, as the bytes
/// that the plugin looks for.
#[inline]
fn start_mark() {
    // SAFETY: The instruction has no effect. The compiler takes it for an access to memory, so it
    // does not move the measured code across.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x01",
            options(nostack)
        )
    };
}

/// Executes the no-op that ends a measured window: the same with 0x02.
#[inline]
fn stop_mark() {
    // SAFETY: The instruction has no effect. The compiler takes it for an access to memory, so it
    // does not move the measured code across.
    unsafe {
        asm!(
            ".byte 0x0f,0x1f,0x84,0xc0,0x44,0x41,0x58,0x02",
            options(nostack)
        )
    };
}
