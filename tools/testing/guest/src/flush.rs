// SPDX-License-Identifier: GPL-2.0

//! The way in which a program makes its stores durable itself, in a `MAP_SYNC`
//! mapping or in device-dax memory.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use crate::mapping::Mapping;

const LINE: usize = 64;

/// The instruction that writes a cache line back, the best first.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The line stays in the cache.
    Clwb,
    /// Not ordered with other lines.
    Clflushopt,
    /// Lines are flushed one after another.
    Clflush,
}

impl Way {
    fn best() -> Self {
        static BEST: OnceLock<Way> = OnceLock::new();
        *BEST.get_or_init(|| {
            // SAFETY: Every x86-64 CPU has CPUID. For an unsupported leaf it
            // returns the data of the highest supported one, so at worst
            // another of the three instructions is picked.
            let features = unsafe { __cpuid_count(7, 0) }.ebx;
            match features {
                f if f & (1 << 24) != 0 => Self::Clwb,
                f if f & (1 << 23) != 0 => Self::Clflushopt,
                _ => Self::Clflush,
            }
        })
    }
}

/// Writes back the cache lines of `len` bytes from `at`, and waits until that
/// is done.
pub fn persist(map: &Mapping, at: usize, len: usize) {
    map.check(at, len);
    let (from, way) = (map.addr() + at, Way::best());
    for line in (from / LINE * LINE..from + len).step_by(LINE) {
        // SAFETY: The line is in the mapping, which consists of whole lines,
        // and its bytes do not change; CPUID reports the instruction.
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
    // SAFETY: The instruction orders earlier stores and changes no memory.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}
