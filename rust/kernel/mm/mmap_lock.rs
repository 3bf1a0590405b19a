// SPDX-License-Identifier: GPL-2.0

//! The lock of an address space.
//!
//! The `unsafe` code in this file encapsulates the address space of the current task.
//!
//! C header: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)

use crate::{
    bindings, current,
    error::{code::EINVAL, to_result, Result},
    mm::virt::VmaRef,
};
use core::ptr::NonNull;

/// The address space of the current task, locked for reading. C: `mmap_read_lock()`.
///
/// # Invariants
///
/// The lock is held. The task has the address space until it returns to user space.
pub(crate) struct MmapReadLock(NonNull<bindings::mm_struct>);

impl MmapReadLock {
    /// Takes the lock. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` in a task without address space; `EINTR` if the task was killed.
    #[doc(alias = "mmap_read_lock_killable")]
    pub(crate) fn of_current() -> Result<Self> {
        let task = current!().0.get();
        // SAFETY: The current task exists, and only it changes this field.
        let mm = NonNull::new(unsafe { (*task).mm }).ok_or(EINVAL)?;
        // SAFETY: The task has the address space for this call.
        to_result(unsafe { bindings::mmap_read_lock_killable(mm.as_ptr()) })?;
        // INVARIANT: The lock was just taken.
        Ok(Self(mm))
    }

    /// Returns the VMA at an address. C: `vma_lookup()`.
    #[doc(alias = "vma_lookup")]
    pub(crate) fn vma_at(&self, address: usize) -> Option<VmaRef<'_>> {
        // SAFETY: By the type invariants the lock is held.
        let vma = NonNull::new(unsafe { bindings::find_vma(self.0.as_ptr(), address) })?;
        // SAFETY: The VMA was just found, and stays as long as the lock is held.
        Some(unsafe { VmaRef::from_raw(vma.as_ptr()) }).filter(|vma| vma.contains(address))
    }
}

impl Drop for MmapReadLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held.
        unsafe { bindings::mmap_read_unlock(self.0.as_ptr()) };
    }
}
