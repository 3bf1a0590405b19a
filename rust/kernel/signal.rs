// SPDX-License-Identifier: GPL-2.0

//! Signals of the task that runs.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::{bindings, ffi::c_ulong, percpu::current_task};
use core::ptr::addr_of;

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
#[inline(always)]
fn is_pending() -> bool {
    // SAFETY: The task runs, so it is there. Volatile: others set the flag.
    let flags = unsafe { addr_of!((*current_task()).thread_info.flags).read_volatile() };
    flags & bindings::_TIF_SIGPENDING as c_ulong != 0
}
