// SPDX-License-Identifier: GPL-2.0

//! A fault at an entry that names a page which the CPU cannot address.
//!
//! The `unsafe` code in this file encapsulates the fields of the fault.

use super::ZoneDevicePage;
use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};

/// A fault at an entry that names a page of device-private memory, which the owner of the pgmap has to
/// bring back to RAM (`kernel::mm::migrate`). C: `struct vm_fault`.
///
/// # Invariants
///
/// C has called `migrate_to_ram()` with this fault, and does not return from it during `'a`: the VMA is
/// locked, and C holds a reference to the page.
pub struct PrivateFault<'a>(NonNull<bindings::vm_fault>, PhantomData<&'a mut ()>);

impl<'a> PrivateFault<'a> {
    /// Creates a value from a C pointer.
    ///
    /// # Safety
    ///
    /// C must have called `migrate_to_ram()` with it, and must not return from that during `'a`.
    pub(super) unsafe fn from_raw(ptr: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: The caller promises it.
        Self(ptr, PhantomData)
    }

    /// Returns the C pointer.
    pub(crate) fn as_raw(&self) -> *mut bindings::vm_fault {
        self.0.as_ptr()
    }

    /// Returns the page.
    pub fn page(&self) -> Option<ZoneDevicePage<'a>> {
        // SAFETY: By the type invariants the fault is valid.
        let page = NonNull::new(unsafe { (*self.as_raw()).page })?;
        // SAFETY: By the type invariants it is a page of a pgmap, to which C holds a reference.
        Some(unsafe { ZoneDevicePage::from_raw(page) })
    }
}
