// SPDX-License-Identifier: GPL-2.0

//! The section during which DAX devices are not killed.
//!
//! This file encapsulates the pairing of the two calls.

use crate::{bindings, ffi::c_int};
use core::marker::PhantomData;

/// A guard that keeps DAX devices from being killed. C: `dax_read_lock()`.
///
/// `kill_dax()` waits for all guards that exist when it is called, so a device that was alive after
/// the guard was created has its memory until the guard is dropped. The holder may sleep.
///
/// # Invariants
///
/// The SRCU read-side section with this index is open in the current task.
///
/// # Examples
///
/// ```
/// use kernel::dax::ReadGuard;
///
/// let guard = ReadGuard::new();
/// // No DAX device is killed here.
/// drop(guard);
/// ```
#[must_use = "the section is closed at once when the guard is dropped"]
pub struct ReadGuard(c_int, PhantomData<*mut ()>);

impl ReadGuard {
    /// Opens a section. Any context.
    #[doc(alias = "dax_read_lock")]
    #[expect(clippy::new_without_default)]
    #[inline]
    pub fn new() -> Self {
        // INVARIANT: The section has just been opened, and only `drop` closes it.
        // SAFETY: The function has no preconditions; `drop` closes the section.
        Self(unsafe { bindings::dax_read_lock() }, PhantomData)
    }
}

impl Drop for ReadGuard {
    /// Closes the section. C: `dax_read_unlock()`.
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the section with this index is open in this task.
        unsafe { bindings::dax_read_unlock(self.0) };
    }
}
