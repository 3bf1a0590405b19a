// SPDX-License-Identifier: GPL-2.0

//! Signals of the task that runs.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::bindings;

/// Whether the current task is being killed. C: `fatal_signal_pending(current)`.
///
/// Process context.
#[doc(alias = "fatal_signal_pending")]
#[inline]
pub fn is_fatal_pending() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::fatal_signal_pending_current() }
}
