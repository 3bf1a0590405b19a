// SPDX-License-Identifier: GPL-2.0

//! Per-CPU variables, with one instruction for each access.
//!
//! [`crate::percpu`] is the interface. x86 has the base of this CPU in a segment register and adds
//! it within the instruction. So a migration or an interrupt comes before or after the access,
//! never between the computation of the address and the access. A kernel for one CPU has no
//! segment, and the offset is the address.
//!
//! This file encapsulates the instructions.
//!
//! C header: [`arch/x86/include/asm/percpu.h`](srctree/arch/x86/include/asm/percpu.h)

use crate::bindings;
use core::{arch::asm, mem::offset_of};

/// The prefix that makes an operand relative to this CPU, in AT&T syntax. C: `__percpu_prefix`.
#[cfg(CONFIG_SMP)]
macro_rules! this_cpu {
    () => {
        "%gs:"
    };
}

/// The prefix that makes an operand relative to this CPU, in AT&T syntax. C: `__percpu_prefix`.
#[cfg(not(CONFIG_SMP))]
macro_rules! this_cpu {
    () => {
        ""
    };
}

/// Adds one to a counter of this CPU. C: `this_cpu_inc()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU counter of 64 bits.
#[inline(always)]
pub(crate) unsafe fn increment(offset: usize) {
    // SAFETY: The caller promises that there is a counter at the offset, so with the base of this
    // CPU it is a valid address, and the instruction writes nothing else.
    unsafe {
        asm!(
            concat!("incq ", this_cpu!(), "({})"),
            in(reg) offset,
            options(att_syntax, nostack),
        )
    };
}

/// Subtracts one from a counter of this CPU. C: `this_cpu_dec()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU counter of 64 bits.
#[inline(always)]
pub(crate) unsafe fn decrement(offset: usize) {
    // SAFETY: The caller promises that there is a counter at the offset, so with the base of this
    // CPU it is a valid address, and the instruction writes nothing else.
    unsafe {
        asm!(
            concat!("decq ", this_cpu!(), "({})"),
            in(reg) offset,
            options(att_syntax, nostack),
        )
    };
}

/// Reads a byte of this CPU. C: `this_cpu_read()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU byte.
#[inline(always)]
pub(crate) unsafe fn read_byte(offset: usize) -> i8 {
    let value: i8;
    // SAFETY: The caller promises that there is a byte at the offset, so with the base of this CPU
    // it is a valid address, and the instruction writes nothing.
    unsafe {
        asm!(
            concat!("movb ", this_cpu!(), "({}), {}"),
            in(reg) offset,
            out(reg_byte) value,
            options(att_syntax, nostack, preserves_flags, readonly),
        )
    };
    value
}

/// Writes a byte of this CPU. C: `this_cpu_write()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU byte.
#[inline(always)]
pub(crate) unsafe fn write_byte(offset: usize, value: i8) {
    // SAFETY: The caller promises that there is a byte at the offset, so with the base of this CPU
    // it is a valid address, and the instruction writes nothing else.
    unsafe {
        asm!(
            concat!("movb {}, ", this_cpu!(), "({})"),
            in(reg_byte) value,
            in(reg) offset,
            options(att_syntax, nostack, preserves_flags),
        )
    };
}

/// Returns the running task. C: `current`.
#[inline(always)]
pub(crate) fn current_task() -> *const bindings::task_struct {
    const {
        assert!(
            offset_of!(
                bindings::pcpu_hot,
                __bindgen_anon_1.__bindgen_anon_1.current_task
            ) == 0
        )
    };
    let task;
    // SAFETY: The instruction reads the pointer to the task that this CPU runs, which is the first
    // field of `pcpu_hot`. The value is the same on every CPU that the running task migrates to, so
    // the compiler may reuse it, and the asm is not volatile.
    unsafe {
        asm!(
            concat!("movq ", this_cpu!(), "{hot}, {task}"),
            hot = sym bindings::pcpu_hot,
            task = out(reg) task,
            options(att_syntax, nostack, preserves_flags, readonly),
        )
    };
    task
}
