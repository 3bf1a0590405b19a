// SPDX-License-Identifier: GPL-2.0

//! What a driver has of a device only while it is bound to it.
//!
//! C releases such resources behind the driver's back when it is unbound ("devm"). Here each is a
//! value, and dropping the value releases it, so the order of release is the order in which the
//! fields of a driver's structure are declared.
//!
//! ```text
//!  bound                                          remove()              released
//!    |---- Binding ------------------------------------|-- wait_idle() -----|
//!        |---- BoundDevice (in every resource) -----|   every BoundDevice is gone
//! ```
//!
//! A [`BoundDevice`] says that the device is bound. Whoever binds drivers owns the [`Binding`] and does not
//! let an unbind go on while there are tokens, so a resource cannot outlive the binding, wherever a
//! driver puts it. A driver that drops its data in `remove()` never waits; one that leaked some is
//! named in the log.
//!
//! C header: [`include/linux/device/devres.h`](srctree/include/linux/device/devres.h)

use crate::{
    bindings, dev_err,
    device::Device,
    error::{code::ENOMEM, Result},
    ffi::c_void,
    prelude::*,
    sync::Arc,
    types::ARef,
};
use core::{
    ptr::{null_mut, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The time in which a device is bound to a driver.
pub struct Binding {
    device: ARef<Device>,
    tokens: AtomicUsize,
}

impl Binding {
    /// Begins it. Sleeps.
    ///
    /// # Safety
    ///
    /// `device` is being bound to a driver, and its lock is held. The caller calls
    /// [`Binding::wait_idle`] before the driver core takes the binding apart, be it that the bind
    /// failed or that the driver is unbound.
    pub unsafe fn begin(device: &Device) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                device: device.into(),
                tokens: AtomicUsize::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    /// Proof that the device is bound.
    ///
    /// # Safety
    ///
    /// [`Binding::wait_idle`] was not called yet.
    pub unsafe fn token(self: &Arc<Self>) -> BoundDevice {
        self.tokens.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: Counted, and not waited for yet by the caller's promise.
        BoundDevice(self.clone())
    }

    /// Ends it: sleeps until there is no token any more.
    pub fn wait_idle(&self) {
        const STEP_MS: u32 = 10;
        const FIRST_REPORT_MS: u32 = 1000;

        let (mut waited, mut report) = (0_u32, FIRST_REPORT_MS);
        // Pairs with the release in `BoundDevice::drop`: what the last holder did is done.
        while self.tokens.load(Ordering::Acquire) != 0 {
            // SAFETY: We may sleep.
            unsafe { bindings::msleep(STEP_MS) };
            waited = waited.saturating_add(STEP_MS);
            if waited >= report {
                report = report.saturating_mul(4);
                dev_err!(
                    &self.device,
                    "the driver still has {} of the device's resources, {} s after it should have \
                     dropped them; waiting\n",
                    self.tokens.load(Ordering::Relaxed),
                    waited / 1000
                );
            }
        }
    }
}

/// Proof that a device is bound to a driver, and stays so.
///
/// # Invariants
///
/// It is counted in the binding, and the binding has not been waited for.
pub struct BoundDevice(Arc<Binding>);

impl BoundDevice {
    /// The device.
    #[inline]
    pub fn device(&self) -> &Device {
        &self.0.device
    }
}

impl Clone for BoundDevice {
    fn clone(&self) -> Self {
        self.0.tokens.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: Counted; as long as `self` is, nobody is done waiting.
        Self(self.0.clone())
    }
}

impl Drop for BoundDevice {
    fn drop(&mut self) {
        self.0.tokens.fetch_sub(1, Ordering::Release);
    }
}

/// Resources that C put on the device's list together, released together. C: a devres group.
///
/// # Invariants
///
/// `id` names a closed group of the token's device, with nothing of another's on the list between
/// its ends: groups are opened under the device's lock and closed before another is, so they
/// neither nest nor overlap.
pub struct DevresGroup {
    token: BoundDevice,
    id: NonNull<c_void>,
}

// SAFETY: The list of a device's resources has a lock of its own, and releasing leaves other groups
// as they are.
unsafe impl Send for DevresGroup {}
// SAFETY: Nothing is changed through a shared reference.
unsafe impl Sync for DevresGroup {}

impl DevresGroup {
    /// Runs `acquire`, and owns whatever it put on the device's list. If it fails, that is released
    /// at once. Sleeps. C: `devres_open_group()`.
    ///
    /// # Safety
    ///
    /// The caller holds the device's lock, as everybody does who puts something on its list. What
    /// `acquire` puts there is the caller's to release, and no group.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what `acquire` returns.
    #[doc(alias = "devres_open_group")]
    pub unsafe fn acquire<T>(
        token: &BoundDevice,
        acquire: impl FnOnce(&Device) -> Result<T>,
    ) -> Result<(Self, T)> {
        let device = token.device();
        // SAFETY: A valid device, which is bound.
        let id = unsafe {
            bindings::devres_open_group(device.as_raw(), null_mut(), bindings::GFP_KERNEL)
        };
        let id = NonNull::new(id).ok_or(ENOMEM)?;
        let acquired = acquire(device);
        // SAFETY: The group was opened above.
        unsafe { bindings::devres_close_group(device.as_raw(), id.as_ptr()) };
        // INVARIANT: Just closed. By the caller's promise nobody but `acquire` has used the list.
        let group = Self {
            token: token.clone(),
            id,
        };
        // On an error the group is dropped.
        Ok((group, acquired?))
    }

    /// The device that it is for.
    #[inline]
    pub fn token(&self) -> &BoundDevice {
        &self.token
    }
}

impl Drop for DevresGroup {
    fn drop(&mut self) {
        // SAFETY: By the invariant the group is on the list of the device, which is bound.
        unsafe {
            bindings::devres_release_group(self.token.device().as_raw(), self.id.as_ptr());
        }
    }
}
