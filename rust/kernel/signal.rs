// SPDX-License-Identifier: GPL-2.0

//! Signals of the task that runs.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::bindings;
#[cfg(CONFIG_X86_64)]
use core::{mem::offset_of, ptr::addr_of};

/// Whether the current task is being killed. C: `fatal_signal_pending(current)`.
///
/// Process context.
#[doc(alias = "fatal_signal_pending")]
#[inline]
pub fn is_fatal_pending() -> bool {
    // SAFETY: No preconditions.
    is_pending() && unsafe { bindings::fatal_signal_pending_current() }
}

/// Whether the current task has any signal to look at: nearly never, so this is without a call. C:
/// `task_sigpending(current)`.
#[cfg(CONFIG_X86_64)]
#[inline(always)]
fn is_pending() -> bool {
    type Hot = bindings::pcpu_hot__bindgen_ty_1__bindgen_ty_1;
    const { assert!(offset_of!(Hot, current_task) == 0) };

    let task: *const bindings::task_struct;
    // SAFETY: Reads this CPU's word for the task that it runs, which is the first of `pcpu_hot`; the
    // same on whichever CPU the task is.
    unsafe {
        core::arch::asm!(
            "movq %gs:{hot}, {task}",
            hot = sym bindings::pcpu_hot,
            task = out(reg) task,
            options(att_syntax, nostack, preserves_flags, readonly),
        )
    };
    // SAFETY: The task runs, so it is there. Volatile: others set the flag.
    let flags = unsafe { addr_of!((*task).thread_info.flags).read_volatile() };
    flags & bindings::_TIF_SIGPENDING as crate::ffi::c_ulong != 0
}

#[cfg(not(CONFIG_X86_64))]
fn is_pending() -> bool {
    true
}
