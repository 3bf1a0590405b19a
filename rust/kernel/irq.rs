// SPDX-License-Identifier: GPL-2.0

//! Interrupts off, as a type.
//!
//! C header: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

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
pub struct IrqsDisabled<'irq>(PhantomData<(&'irq (), *mut ())>);

impl IrqsDisabled<'_> {
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
