// SPDX-License-Identifier: GPL-2.0

//! Regions: what makes data durable, and what knows of media errors.

use super::Context;
use crate::{
    bindings,
    block::{badblocks::Badblocks, bio::Bio},
    devres::BoundDevice,
    error::{to_result, Error, Result},
    ffi::{c_int, c_uint},
    mm::pfn::PhysRange,
};
use core::ptr::{null_mut, NonNull};

/// How a region's data becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushing {
    /// By flushing it: there are hints to write to, or a host to ask.
    Needed,
    /// By itself, once it is out of the CPU's caches.
    NotNeeded,
    /// Nobody can tell.
    Unknown,
}

/// The region of a device that a driver is bound to. C: `struct nd_region`.
///
/// # Invariants
///
/// `raw` is the region that the token's device is in: it is enabled as long as that is bound.
#[doc(alias = "nd_region")]
pub struct Region {
    raw: NonNull<bindings::nd_region>,
    token: BoundDevice,
}

// SAFETY: A region has no thread of its own, and locks where it needs them.
unsafe impl Send for Region {}
// SAFETY: As for `Send`.
unsafe impl Sync for Region {}

impl Region {
    /// The region of a context's device.
    #[inline]
    pub(super) fn of(token: &BoundDevice) -> Self {
        // SAFETY: A token that comes from a context is for a device whose parent is a region.
        let raw = unsafe { bindings::to_nd_region((*token.device().as_raw()).parent) };
        // INVARIANT: As above. It is inside of the parent, which is not null.
        Self {
            // SAFETY: As above.
            raw: unsafe { NonNull::new_unchecked(raw) },
            token: token.clone(),
        }
    }

    #[inline]
    fn as_raw(&self) -> *mut bindings::nd_region {
        self.raw.as_ptr()
    }

    /// How data becomes durable. C: `nvdimm_has_flush()`.
    #[doc(alias = "nvdimm_has_flush")]
    #[inline]
    pub fn flushing(&self) -> Flushing {
        // SAFETY: By the invariant the region is enabled.
        match unsafe { bindings::nvdimm_has_flush(self.as_raw()) } {
            0 => Flushing::NotNeeded,
            1.. => Flushing::Needed,
            _ => Flushing::Unknown,
        }
    }

    /// Whether the CPU's caches are lost with the power. C: `nvdimm_has_cache()`.
    #[doc(alias = "nvdimm_has_cache")]
    #[inline]
    pub fn has_cache(&self) -> bool {
        // SAFETY: By the invariant the region is enabled.
        unsafe { bindings::nvdimm_has_cache(self.as_raw()) != 0 }
    }

    /// Whether a store is durable without asking anybody. C: `is_nvdimm_sync()`.
    #[doc(alias = "is_nvdimm_sync")]
    #[inline]
    pub fn is_synchronous(&self) -> bool {
        // SAFETY: By the invariant the region is enabled.
        unsafe { bindings::is_nvdimm_sync(self.as_raw()) }
    }

    /// Makes what was written durable. May sleep. C: `nvdimm_flush()`.
    ///
    /// # Errors
    ///
    /// `EIO` if the host could not; `ENOMEM`.
    #[doc(alias = "nvdimm_flush")]
    #[inline]
    pub fn flush(&self) -> Result {
        // SAFETY: By the invariant the region is enabled.
        match unsafe { bindings::nvdimm_flush(self.as_raw(), null_mut()) } {
            0 => Ok(()),
            errno => to_result(errno),
        }
    }

    /// The same on behalf of a bio, which is ended with the result, now or when the host has
    /// answered. May sleep.
    #[inline]
    pub fn flush_and_end(&self, bio: Bio) {
        let raw = bio.into_raw();
        // SAFETY: By the invariant the region is enabled; the bio has not ended. C ends it if it
        // says so by a positive number.
        let answer = unsafe { bindings::nvdimm_flush(self.as_raw(), raw) };
        if answer > 0 {
            return;
        }
        if let Some(raw) = NonNull::new(raw) {
            // SAFETY: C has not taken it, so it is ours again.
            unsafe { Bio::from_raw(raw) }.end(to_result(answer));
        }
    }

    /// Asks the device to clear media errors, and returns how many bytes from `phys` on are good
    /// then. Sleeps. C: `nvdimm_clear_poison()`.
    ///
    /// # Errors
    ///
    /// What the firmware answers.
    #[doc(alias = "nvdimm_clear_poison")]
    #[inline]
    pub fn clear_poison(&self, phys: u64, len: usize) -> Result<usize> {
        let len = c_uint::try_from(len)?;
        // SAFETY: By the invariant the device is one that libnvdimm knows.
        let cleared =
            unsafe { bindings::nvdimm_clear_poison(self.token.device().as_raw(), phys, len) };
        match usize::try_from(cleared) {
            Ok(cleared) => Ok(cleared),
            Err(_) => Err(Error::from_errno(c_int::try_from(cleared)?)),
        }
    }

    /// Fills the list with the bad sectors of a range, counted from its start. May sleep. C:
    /// `nvdimm_badblocks_populate()`.
    #[doc(alias = "nvdimm_badblocks_populate")]
    #[inline]
    pub fn populate(&self, bad: &Badblocks, range: PhysRange) {
        let range = range.as_raw();
        // SAFETY: By the invariant the region is enabled; the list is initialised.
        unsafe { bindings::nvdimm_badblocks_populate(self.as_raw(), bad.as_raw(), &range) };
    }
}

impl Context<'_> {
    /// Flushes the region, at the end of everything; an error has nobody to go to.
    #[inline]
    pub fn flush_region(&self) {
        if let Err(error) = self.region().flush() {
            crate::dev_err!(
                self.device(),
                "the last flush failed ({}): data may be lost with the power\n",
                error.to_errno()
            );
        }
    }
}
