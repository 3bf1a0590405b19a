// SPDX-License-Identifier: GPL-2.0

//! Signals of the current task.
//!
//! The `unsafe` code in this file encapsulates the flags of the current task.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::{bindings, ffi::c_ulong, percpu::current_task};
use core::ptr::addr_of;

/// Returns whether the current task is being killed. C: `fatal_signal_pending(current)`.
///
/// Process context.
///
/// # Examples
///
/// ```
/// // A task that runs tests is not being killed.
/// assert!(!kernel::signal::is_fatal_pending());
/// ```
#[doc(alias = "fatal_signal_pending")]
#[inline]
pub fn is_fatal_pending() -> bool {
    // SAFETY: The current task is valid as long as it runs, and the helper only reads its signals.
    is_pending() && unsafe { bindings::fatal_signal_pending(current_task().cast_mut()) != 0 }
}

/// Returns whether the current task has any pending signal, which is rare, so this makes no call.
/// C: `task_sigpending(current)`.
#[inline(always)]
fn is_pending() -> bool {
    // SAFETY: The current task is valid as long as it runs. The read is volatile, because other
    // tasks set the flag.
    let flags = unsafe { addr_of!((*current_task()).thread_info.flags).read_volatile() };
    flags & bindings::_TIF_SIGPENDING as c_ulong != 0
}
