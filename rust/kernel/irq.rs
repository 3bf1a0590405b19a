// SPDX-License-Identifier: GPL-2.0

//! Interrupts off, as a type.
//!
//! C header: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use crate::{bindings, ffi::c_ulong};
use core::marker::PhantomData;

/// Evidence that interrupts are off on this CPU, for as long as `'irq` lasts.
///
/// With interrupts off no task switch happens here, no RCU grace period ends, and an interrupt that
/// another CPU sends is not answered: who frees page tables or splits a huge page waits for one of
/// these. So it is what a walk without locks needs; and such a walk must not sleep, nor allocate in
/// a way that may sleep. The value cannot be sent to another thread.
///
/// # Invariants
///
/// Interrupts are off on this CPU during `'irq`, and the value stays on it.
#[derive(Clone, Copy)]
pub struct LocalInterruptDisabled<'irq>(PhantomData<(&'irq (), *mut ())>);

impl LocalInterruptDisabled<'_> {
    /// Takes note of what the caller knows. C: `lockdep_assert_irqs_disabled()`.
    ///
    /// # Safety
    ///
    /// Interrupts are off on this CPU, and stay so until the value and what borrows from it are
    /// gone.
    #[inline]
    pub unsafe fn assume() -> Self {
        // INVARIANT: The caller's promise.
        Self(PhantomData)
    }
}

/// Calls `f` with interrupts off on this CPU, and leaves them as they were. C: `local_irq_save()`.
///
/// Any context. `f` must not sleep.
///
/// # Examples
///
/// ```
/// let sum = kernel::irq::with_disabled(|_irq| 1 + 1);
/// assert_eq!(sum, 2);
/// ```
#[doc(alias = "local_irq_save")]
#[inline(always)]
pub fn with_disabled<T>(f: impl for<'irq> FnOnce(LocalInterruptDisabled<'irq>) -> T) -> T {
    let _restore = Restore::new();
    // SAFETY: They are off until `_restore` is dropped. What `f` returns can borrow nothing from
    // the value: it has to do with any lifetime.
    f(unsafe { LocalInterruptDisabled::assume() })
}

/// Interrupts are off. Dropped, it leaves them as they were.
struct Restore(c_ulong, PhantomData<*mut ()>);

impl Restore {
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: Allowed in any context.
        Self(unsafe { bindings::local_irq_save() }, PhantomData)
    }
}

impl Drop for Restore {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: What `new` was told, on the same CPU: the value is not `Send`.
        unsafe { bindings::local_irq_restore(self.0) };
    }
}
