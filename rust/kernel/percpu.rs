// SPDX-License-Identifier: GPL-2.0

//! Per-CPU variables.
//!
//! The address of a per-CPU variable is an offset, to which the base of a CPU has to be added. x86
//! adds this CPU's base within the instruction (`rust/kernel/arch/x86/percpu.rs`); on other
//! architectures the functions call C.
//!
//! Each function is atomic with respect to interrupts and migration, but two calls in a row are on
//! the same CPU only while the task cannot migrate.
//!
//! This file encapsulates the choice of the architecture's code. That an offset is the address of a
//! variable of the right type remains the caller's promise.
//!
//! C header: [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h)

#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
use crate::arch::x86::percpu as arch;
use crate::bindings;

/// The calls of C for architectures without instructions of their own here.
#[cfg(any(not(CONFIG_X86_64), CONFIG_UML))]
mod arch {
    use crate::bindings;

    /// Adds one to a counter of this CPU.
    ///
    /// # Safety
    ///
    /// `offset` must be the address of a per-CPU counter of 64 bits.
    #[inline]
    pub(super) unsafe fn increment(offset: usize) {
        // SAFETY: The caller promises that there is a counter of 64 bits at the offset.
        unsafe { bindings::this_cpu_inc_u64(offset as *mut u64) };
    }

    /// Subtracts one from a counter of this CPU.
    ///
    /// # Safety
    ///
    /// `offset` must be the address of a per-CPU counter of 64 bits.
    #[inline]
    pub(super) unsafe fn decrement(offset: usize) {
        // SAFETY: The caller promises that there is a counter of 64 bits at the offset.
        unsafe { bindings::this_cpu_dec_u64(offset as *mut u64) };
    }

    /// Returns the running task.
    #[inline]
    pub(super) fn current_task() -> *const bindings::task_struct {
        // SAFETY: The function may be called in any context.
        unsafe { bindings::get_current() }
    }
}

/// Adds one to a counter of this CPU. Any context. C: `this_cpu_inc()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU counter of 64 bits. Other code must access the counter
/// of this CPU on this CPU only, or accept that an update is lost.
///
/// # Examples
///
/// ```
/// use kernel::percpu;
///
/// /// Counts an event in one of `counters`, an array of per-CPU counters of 64 bits.
/// ///
/// /// # Safety
/// ///
/// /// `counters` must be the address of a per-CPU array with more than `event` elements.
/// unsafe fn count(counters: usize, event: usize) {
///     // SAFETY: The caller promises that there is a counter at this offset.
///     unsafe { percpu::increment(counters + event * 8) };
/// }
/// ```
#[doc(alias = "this_cpu_inc")]
#[inline(always)]
pub unsafe fn increment(offset: usize) {
    // SAFETY: The caller promises that there is a counter of 64 bits at the offset.
    unsafe { arch::increment(offset) };
}

/// Subtracts one from a counter of this CPU. Any context. C: `this_cpu_dec()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU counter of 64 bits. Other code must access the counter
/// of this CPU on this CPU only, or accept that an update is lost.
#[doc(alias = "this_cpu_dec")]
#[inline(always)]
pub unsafe fn decrement(offset: usize) {
    // SAFETY: The caller promises that there is a counter of 64 bits at the offset.
    unsafe { arch::decrement(offset) };
}

/// Reads a byte of this CPU. Any context. C: `this_cpu_read()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU byte. The caller must expect any value, unless no
/// other code can change the byte.
#[doc(alias = "this_cpu_read")]
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
#[inline(always)]
pub unsafe fn read_byte(offset: usize) -> i8 {
    // SAFETY: The caller promises that there is a byte at the offset.
    unsafe { arch::read_byte(offset) }
}

/// Writes a byte of this CPU. Any context. C: `this_cpu_write()`.
///
/// # Safety
///
/// `offset` must be the address of a per-CPU byte. Other code must access the byte of this CPU on
/// this CPU only, or accept that an update is lost.
#[doc(alias = "this_cpu_write")]
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
#[inline(always)]
pub unsafe fn write_byte(offset: usize, value: i8) {
    // SAFETY: The caller promises that there is a byte at the offset.
    unsafe { arch::write_byte(offset, value) };
}

/// Returns the running task. Any context. C: `current`.
#[doc(alias = "current")]
#[inline(always)]
pub(crate) fn current_task() -> *const bindings::task_struct {
    arch::current_task()
}
