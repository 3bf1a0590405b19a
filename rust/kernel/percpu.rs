// SPDX-License-Identifier: GPL-2.0

//! Per-CPU variables, by one instruction each.
//!
//! The address of a per-CPU variable is an offset. x86 adds this CPU's base, which is that of a
//! segment, within the instruction; so a migration or an interrupt before or after one of these does
//! no harm, and there is nothing to be done in between. A kernel for one CPU has no segment, and the
//! offset is the address.
//!
//! Two of them in a row are of one CPU only while the task cannot move to another.
//!
//! C header: [`arch/x86/include/asm/percpu.h`](srctree/arch/x86/include/asm/percpu.h)

use crate::bindings;
use core::{arch::asm, mem::offset_of};

/// What makes an operand relative to this CPU, in AT&T syntax. C: `__percpu_prefix`.
#[cfg(CONFIG_SMP)]
macro_rules! this_cpu {
    () => {
        "%gs:"
    };
}

/// What makes an operand relative to this CPU, in AT&T syntax. C: `__percpu_prefix`.
#[cfg(not(CONFIG_SMP))]
macro_rules! this_cpu {
    () => {
        ""
    };
}

/// Adds one to a counter of this CPU. C: `this_cpu_inc()`. Any context.
///
/// # Safety
///
/// `offset` is that of a per-CPU counter of 64 bits.
#[doc(alias = "this_cpu_inc")]
#[inline(always)]
pub unsafe fn increment(offset: usize) {
    // SAFETY: The caller's promise.
    unsafe {
        asm!(
            concat!("incq ", this_cpu!(), "({})"),
            in(reg) offset,
            options(att_syntax, nostack),
        )
    };
}

/// Subtracts one from a counter of this CPU. C: `this_cpu_dec()`. Any context.
///
/// # Safety
///
/// `offset` is that of a per-CPU counter of 64 bits.
#[doc(alias = "this_cpu_dec")]
#[inline(always)]
pub unsafe fn decrement(offset: usize) {
    // SAFETY: The caller's promise.
    unsafe {
        asm!(
            concat!("decq ", this_cpu!(), "({})"),
            in(reg) offset,
            options(att_syntax, nostack),
        )
    };
}

/// The task that runs. C: `current`.
#[doc(alias = "current")]
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
    // SAFETY: Reads the word for the task that this CPU runs, which is the first of `pcpu_hot`. It
    // is the same on whichever CPU the task is: not volatile, therefore.
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
