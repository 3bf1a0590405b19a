// SPDX-License-Identifier: GPL-2.0

//! What the processor, or the hypervisor in its place, can do.
//!
//! This file encapsulates the reads of the array of features, which is written early at boot.
//!
//! C header: [`arch/x86/include/asm/cpufeature.h`](srctree/arch/x86/include/asm/cpufeature.h)

use crate::bindings;

/// Returns whether this machine has a feature, `X86_FEATURE_*`. Any context. C: `boot_cpu_has()`.
///
/// # Examples
///
/// ```
/// use kernel::{arch::x86::cpufeature::boot_cpu_has, bindings};
///
/// // Every processor in 64-bit mode has it.
/// assert!(boot_cpu_has::<{ bindings::X86_FEATURE_LM }>());
/// ```
#[doc(alias = "cpu_feature_enabled")]
#[inline(always)]
pub fn boot_cpu_has<const FEATURE: u32>() -> bool {
    // SAFETY: The array has a word for each 32 features, and is written early at boot only, so the
    // read is not a data race.
    let word = unsafe {
        core::ptr::addr_of!(bindings::boot_cpu_data.__bindgen_anon_2.x86_capability)
            .cast::<u32>()
            .add(FEATURE as usize / 32)
            .read()
    };
    word & (1 << (FEATURE % 32)) != 0
}
