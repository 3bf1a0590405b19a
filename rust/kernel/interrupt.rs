// SPDX-License-Identifier: GPL-2.0

//! Disabled interrupts, as a type.
//!
//! [`LocalInterruptDisabled`] proves that interrupts are disabled on this CPU. Code that needs that
//! takes one by value, which costs nothing: the type has no size.
//!
//! This file encapsulates the pairing of `local_irq_save()` and `local_irq_restore()`.
//!
//! C header: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use crate::{bindings, ffi::c_ulong};
use core::marker::PhantomData;

/// A proof that interrupts are disabled on this CPU for `'irq`.
///
/// While they are disabled, this CPU does not switch tasks, no RCU grace period ends, and an
/// interrupt that another CPU sends to this one is not handled. Code that frees page tables or
/// splits a huge page waits for one of these, so page tables and folios that were found during
/// `'irq` stay valid. In return the code must not sleep, nor allocate memory in a way that may
/// sleep: the scheduler enables interrupts and runs other tasks, so none of the above would hold.
/// The value cannot be sent to another thread.
///
/// # Invariants
///
/// Interrupts are disabled on this CPU during `'irq`, in which the task does not sleep, and the
/// value stays on it.
///
/// # Examples
///
/// ```
/// use kernel::interrupt::{self, LocalInterruptDisabled};
///
/// /// Does work that an interrupt handler on this CPU must not see half done.
/// fn update(_irq: LocalInterruptDisabled<'_>, pair: &mut (u32, u32)) {
///     pair.0 += 1;
///     pair.1 += 1;
/// }
///
/// let mut pair = (0, 0);
/// // SAFETY: `update` does not sleep.
/// unsafe { interrupt::with_disabled(|irq| update(irq, &mut pair)) };
/// assert_eq!(pair, (1, 1));
/// ```
#[derive(Clone, Copy)]
pub struct LocalInterruptDisabled<'irq>(PhantomData<(&'irq (), *mut ())>);

impl LocalInterruptDisabled<'_> {
    /// Creates a proof from the caller's knowledge. With lockdep it is checked. C:
    /// `lockdep_assert_irqs_disabled()`.
    ///
    /// # Safety
    ///
    /// Interrupts must be disabled on this CPU, and stay disabled until the value and what borrows
    /// from it are gone. The task must not sleep until then.
    #[doc(alias = "lockdep_assert_irqs_disabled")]
    #[inline(always)]
    pub unsafe fn assume() -> Self {
        #[cfg(CONFIG_PROVE_LOCKING)]
        // SAFETY: The check may be called in any context.
        unsafe {
            bindings::lockdep_assert_irqs_disabled()
        };
        // INVARIANT: The caller promises that interrupts are disabled during the lifetime.
        Self(PhantomData)
    }
}

/// Calls `f` with interrupts disabled on this CPU, and restores their state afterwards. Any
/// context. C: `local_irq_save()`, `local_irq_restore()`.
///
/// With lockdep, or with `CONFIG_DEBUG_ATOMIC_SLEEP`, a task that sleeps in `f` is reported.
///
/// # Safety
///
/// `f` must not sleep as long as it uses its argument or what borrows from it.
///
/// # Examples
///
/// ```
/// // SAFETY: Nothing sleeps.
/// let sum = unsafe { kernel::interrupt::with_disabled(|_irq| 1 + 1) };
/// assert_eq!(sum, 2);
/// ```
#[doc(alias = "local_irq_save")]
#[inline(always)]
pub unsafe fn with_disabled<T>(f: impl for<'irq> FnOnce(LocalInterruptDisabled<'irq>) -> T) -> T {
    let _restore = Restore::new();
    // SAFETY: `_restore` keeps interrupts disabled until it is dropped, after `f` has returned. `f`
    // accepts any lifetime, so what it returns cannot borrow from the value. By the caller's promise
    // `f` does not sleep while it uses the value.
    f(unsafe { LocalInterruptDisabled::assume() })
}

/// The state of interrupts before they were disabled. Dropping it restores that state.
///
/// # Invariants
///
/// The flags are those of this CPU before this value disabled interrupts on it.
struct Restore(c_ulong, PhantomData<*mut ()>);

impl Restore {
    /// Disables interrupts on this CPU. C: `local_irq_save()`.
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: The function may be called in any context.
        // INVARIANT: It returns the flags from before it disabled interrupts.
        Self(unsafe { bindings::local_irq_save() }, PhantomData)
    }
}

impl Drop for Restore {
    /// Restores the state of interrupts. C: `local_irq_restore()`.
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: By the type invariants these are the flags of this CPU from before, and the value
        // is not `Send`, so it is dropped on the same CPU.
        unsafe { bindings::local_irq_restore(self.0) };
    }
}
