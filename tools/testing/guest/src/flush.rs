// SPDX-License-Identifier: GPL-2.0

//! What a program does to make its stores durable where it may do so itself,
//! in a `MAP_SYNC` mapping or in device-dax memory.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use crate::mapping::Mapping;

const LINE: usize = 64;

/// How a line of the CPU's caches is written back, the best first.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// And stays.
    Clwb,
    /// Not in order with other lines.
    Clflushopt,
    /// One after the other.
    Clflush,
}

impl Way {
    fn best() -> Self {
        static BEST: OnceLock<Way> = OnceLock::new();
        *BEST.get_or_init(|| {
            // SAFETY: every CPU of x86-64 has CPUID; a leaf that it has not is
            // answered with the last that it has, which at worst picks one of
            // the three and not another.
            let features = unsafe { __cpuid_count(7, 0) }.ebx;
            match features {
                f if f & (1 << 24) != 0 => Self::Clwb,
                f if f & (1 << 23) != 0 => Self::Clflushopt,
                _ => Self::Clflush,
            }
        })
    }
}

/// Writes the caches for `len` bytes from `at` on back, and waits for it.
pub fn persist(map: &Mapping, at: usize, len: usize) {
    map.check(at, len);
    let (from, way) = (map.addr() + at, Way::best());
    for line in (from / LINE * LINE..from + len).step_by(LINE) {
        // SAFETY: the line is in the mapping, which has whole lines, and its
        // bytes do not change; CPUID has the instruction.
        unsafe {
            match way {
                Way::Clwb => asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)),
                Way::Clflushopt => {
                    asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags))
                }
                Way::Clflush => {
                    asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags))
                }
            }
        }
    }
    // SAFETY: waits, and changes nothing.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}
