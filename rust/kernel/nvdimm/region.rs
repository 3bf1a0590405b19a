// SPDX-License-Identifier: GPL-2.0

//! Regions: how data is made durable, and which media errors are known.
//!
//! This file encapsulates the calls that need an enabled region: a [`Region`] keeps the device
//! below it bound.

use super::Context;
use crate::{
    bindings,
    block::{badblocks::Badblocks, bio::Bio},
    devres::BoundDevice,
    error::{to_result, Error, Result},
    ffi::{c_int, c_uint},
    mm::pfn::PhysRange,
};
use core::ptr::{addr_of, null_mut, NonNull};

/// The way in which data of a region becomes durable. C: the result of `nvdimm_has_flush()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushing {
    /// The region must be flushed, by flush hint addresses or by a request to the host. C: 1.
    Needed,
    /// Data is durable as soon as it has left the CPU caches. C: 0.
    NotNeeded,
    /// The platform does not describe it. C: a negative errno.
    Unknown,
}

/// The region of a device that a driver is bound to. C: `struct nd_region`.
///
/// # Invariants
///
/// `raw` is the region that contains the bound device, and it stays enabled while that is bound.
///
/// # Examples
///
/// ```
/// use kernel::nvdimm::{Flushing, Region};
///
/// /// Returns whether a store with a CPU cache flush is durable without a flush of the region.
/// fn stores_are_durable(region: &Region) -> bool {
///     region.is_synchronous() && region.flushing() == Flushing::NotNeeded
/// }
/// ```
#[doc(alias = "nd_region")]
pub struct Region {
    raw: NonNull<bindings::nd_region>,
    bound: BoundDevice,
}

// SAFETY: The functions of a region are not bound to a task, and lock where they need to.
unsafe impl Send for Region {}
// SAFETY: The functions that take a shared reference may run concurrently, as they lock where they
// need to.
unsafe impl Sync for Region {}

impl Region {
    /// Returns the region of the device of a context. C: `to_nd_region()`.
    #[inline]
    pub(super) fn of(bound: &BoundDevice) -> Self {
        // SAFETY: The bound device comes from a context, so its parent is a region, which the
        // conversion requires.
        let raw = unsafe { bindings::to_nd_region((*bound.as_raw()).parent) };
        // INVARIANT: It is the parent of the bound device, and libnvdimm keeps it enabled while
        // devices below it are bound.
        Self {
            // SAFETY: The region contains the parent device, which is not null, so it is not null.
            raw: unsafe { NonNull::new_unchecked(raw) },
            bound: bound.clone(),
        }
    }

    /// Returns the region as C functions take it.
    #[inline]
    fn as_raw(&self) -> *mut bindings::nd_region {
        self.raw.as_ptr()
    }

    /// Returns how data becomes durable. C: `nvdimm_has_flush()`.
    #[doc(alias = "nvdimm_has_flush")]
    #[inline]
    pub fn flushing(&self) -> Flushing {
        // SAFETY: By the type invariants the region is valid and enabled.
        match unsafe { bindings::nvdimm_has_flush(self.as_raw()) } {
            0 => Flushing::NotNeeded,
            1.. => Flushing::Needed,
            _ => Flushing::Unknown,
        }
    }

    /// Returns whether the contents of the CPU caches are lost at a power failure. C:
    /// `nvdimm_has_cache()`.
    #[doc(alias = "nvdimm_has_cache")]
    #[inline]
    pub fn has_cache(&self) -> bool {
        // SAFETY: By the type invariants the region is valid and enabled.
        unsafe { bindings::nvdimm_has_cache(self.as_raw()) != 0 }
    }

    /// Returns whether the region is read-only. Any context.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants the region is valid. The field may change at any time, and
        // is an integer.
        unsafe { addr_of!((*self.as_raw()).ro).read_volatile() != 0 }
    }

    /// Returns whether data becomes durable without a request to the host. C: `is_nvdimm_sync()`.
    #[doc(alias = "is_nvdimm_sync")]
    #[inline]
    pub fn is_synchronous(&self) -> bool {
        // SAFETY: By the type invariants the region is valid and enabled.
        unsafe { bindings::is_nvdimm_sync(self.as_raw()) }
    }

    /// Makes the data durable that has left the CPU caches. May sleep. C: `nvdimm_flush()`.
    ///
    /// # Errors
    ///
    /// `EIO` if the host failed to flush; `ENOMEM`.
    #[doc(alias = "nvdimm_flush")]
    #[inline]
    pub fn flush(&self) -> Result {
        // SAFETY: By the type invariants the region is valid and enabled. Without a bio the
        // function completes before it returns.
        match unsafe { bindings::nvdimm_flush(self.as_raw(), null_mut()) } {
            0 => Ok(()),
            errno => to_result(errno),
        }
    }

    /// Flushes the region on behalf of a bio, which ends with the result: now, or when the host has
    /// completed the request. May sleep. C: `nvdimm_flush()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{block::bio::Bio, nvdimm::Region};
    ///
    /// /// Ends a bio after its transfer.
    /// fn finish(region: &Region, bio: Bio) {
    ///     if bio.is_fua() {
    ///         region.flush_and_end(bio);
    ///     } else {
    ///         bio.end(Ok(()));
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn flush_and_end(&self, bio: Bio) {
        let raw = bio.into_raw();
        // SAFETY: By the type invariants the region is enabled, and the bio has not ended. The
        // function takes over the bio if it returns a positive number, and only then.
        let status = unsafe { bindings::nvdimm_flush(self.as_raw(), raw) };
        if status > 0 {
            return;
        }
        if let Some(raw) = NonNull::new(raw) {
            // SAFETY: C has not taken over the bio, so the ownership that `into_raw` passed on is
            // still unused.
            unsafe { Bio::from_raw(raw) }.end(to_result(status));
        }
    }

    /// Asks the device to clear the media errors in `len` bytes from `phys` on, and returns the
    /// number of bytes from `phys` on that are free of errors then. Sleeps.
    ///
    /// C: `nvdimm_clear_poison()`.
    ///
    /// # Errors
    ///
    /// Those of the firmware.
    #[doc(alias = "nvdimm_clear_poison")]
    #[inline]
    pub fn clear_poison(&self, phys: u64, len: usize) -> Result<usize> {
        let len = c_uint::try_from(len)?;
        // SAFETY: The bound device is on the nvdimm bus below an enabled region by the type
        // invariants, and the function looks for the bus there.
        let cleared = unsafe { bindings::nvdimm_clear_poison(self.bound.as_raw(), phys, len) };
        match usize::try_from(cleared) {
            Ok(cleared) => Ok(cleared),
            Err(_) => Err(Error::from_errno(c_int::try_from(cleared)?)),
        }
    }

    /// Adds the bad sectors of a range to a list, counted from the start of the range. May sleep.
    ///
    /// C: `nvdimm_badblocks_populate()`.
    #[doc(alias = "nvdimm_badblocks_populate")]
    #[inline]
    pub fn populate_badblocks(&self, bad: &Badblocks, range: PhysRange) {
        let range = range.as_raw();
        // SAFETY: By the type invariants the region is valid and enabled, and `bad` is an
        // initialised list. The range is only read during the call.
        unsafe { bindings::nvdimm_badblocks_populate(self.as_raw(), bad.as_raw(), &range) };
    }
}

impl Context<'_> {
    /// Flushes the region for the last time; an error is logged. May sleep.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::nvdimm::Context;
    ///
    /// /// Removes a device: its data, as a disk, may still write while it is dropped.
    /// fn remove<T>(context: &Context<'_>, data: T) {
    ///     drop(data);
    ///     context.flush_region();
    /// }
    /// ```
    #[inline]
    pub fn flush_region(&self) {
        if let Err(error) = self.region().flush() {
            crate::dev_err!(
                self.device(),
                "final flush failed, recent writes may not be durable ({})\n",
                error.to_errno()
            );
        }
    }
}
