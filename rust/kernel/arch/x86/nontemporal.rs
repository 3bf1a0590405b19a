// SPDX-License-Identifier: GPL-2.0

//! Non-temporal stores of whole cache lines.
//!
//! They go to memory without reading the line before and without displacing what the caches hold,
//! which pays for memory that is written once and not read soon. Each x86-64 processor has `movnti`.
//!
//! The stores are weakly ordered: only [`NonTemporal::drop`] orders them before later stores. A task
//! that is preempted or migrated meanwhile executes locked instructions, which order them as well.
//!
//! This file encapsulates the instructions.

use core::{arch::asm, marker::PhantomData};

/// The contents of a cache line.
pub type Line = [usize; 8];

/// The eight stores of a line at an offset from the address in `to`.
macro_rules! line {
    ($at:literal) => {
        concat!(
            "movnti qword ptr [{to} + ",
            $at,
            "], {w0}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 8], {w1}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 16], {w2}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 24], {w3}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 32], {w4}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 40], {w5}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 48], {w6}\n",
            "movnti qword ptr [{to} + ",
            $at,
            " + 56], {w7}\n",
        )
    };
}

/// The right to store without temporal locality. Dropping it orders the stores before all later
/// ones. C: `movnti`, `sfence`.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::nontemporal::{Line, NonTemporal};
///
/// let mut lines: [Line; 7] = [[0; 8]; 7];
/// let stores = NonTemporal::begin();
/// // SAFETY: The array has seven lines, of which this writes the middle five.
/// unsafe { stores.fill(lines.as_mut_ptr().add(1), 5, &[1, 2, 3, 4, 5, 6, 7, 8]) };
/// drop(stores);
/// assert_eq!(lines[0], [0; 8]);
/// assert_eq!(lines[1], [1, 2, 3, 4, 5, 6, 7, 8]);
/// assert_eq!(lines[5], lines[1]);
/// assert_eq!(lines[6], lines[0]);
/// ```
pub struct NonTemporal(PhantomData<*mut ()>);

impl NonTemporal {
    /// Begins to store. Any context.
    #[inline]
    pub fn begin() -> Self {
        Self(PhantomData)
    }

    /// Stores the same contents to `count` consecutive lines from `to` on. Any context.
    ///
    /// # Safety
    ///
    /// The lines must be valid for writes, and no other code may access them before this value is
    /// dropped.
    #[inline]
    pub unsafe fn fill(&self, to: *mut Line, count: usize, line: &Line) {
        let [w0, w1, w2, w3, w4, w5, w6, w7] = *line;
        let (mut to, mut left) = (to, count);
        while left >= 4 {
            // SAFETY: At least four lines are left, which the caller allows to be written. The
            // instructions write nothing else, and change no flags.
            unsafe {
                asm!(
                    concat!(line!("0"), line!("64"), line!("128"), line!("192")),
                    to = in(reg) to,
                    w0 = in(reg) w0, w1 = in(reg) w1, w2 = in(reg) w2, w3 = in(reg) w3,
                    w4 = in(reg) w4, w5 = in(reg) w5, w6 = in(reg) w6, w7 = in(reg) w7,
                    options(nostack, preserves_flags),
                )
            };
            to = to.wrapping_add(4);
            left = left.wrapping_sub(4);
        }
        for _ in 0..left {
            // SAFETY: A line is left, which the caller allows to be written. The instructions write
            // nothing else, and change no flags.
            unsafe {
                asm!(
                    line!("0"),
                    to = in(reg) to,
                    w0 = in(reg) w0, w1 = in(reg) w1, w2 = in(reg) w2, w3 = in(reg) w3,
                    w4 = in(reg) w4, w5 = in(reg) w5, w6 = in(reg) w6, w7 = in(reg) w7,
                    options(nostack, preserves_flags),
                )
            };
            to = to.wrapping_add(1);
        }
    }
}

impl Drop for NonTemporal {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The instruction only orders stores. The compiler takes it for an access to memory,
        // so it moves no access across.
        unsafe { asm!("sfence", options(nostack, preserves_flags)) };
    }
}
