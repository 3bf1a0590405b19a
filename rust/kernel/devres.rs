// SPDX-License-Identifier: GPL-2.0

//! Resources that a driver holds only while it is bound to a device.
//!
//! In C, the driver core releases such resources after the driver's `remove()` ("devm"). Here, each
//! resource is a value, and dropping the value releases it, so a driver's structure releases its
//! resources in the order in which its fields are declared.
//!
//! ```text
//!  Binding::begin()                                remove()          released by the driver core
//!    |---- Binding ----------------------------------|-- wait_idle() --|
//!        |---- BoundDevice (in every resource) ----------|   all BoundDevices are dropped
//! ```
//!
//! A [`BoundDevice`] proves that its device is bound to a driver, as mainline's `Device<Bound>`
//! does. Each resource holds one, so it is counted instead of being tied to a lifetime. The code
//! that binds a driver owns the [`Binding`], and does not let an unbind proceed while there are
//! `BoundDevice`s. So a resource cannot outlive the binding, wherever the driver keeps it: a driver
//! that drops its data in `remove()` never waits, and one that leaked a resource is named in the
//! log.
//!
//! A thread that drops the last `BoundDevice` still executes a few instructions of the driver after
//! that, and the driver's module may be unloaded once it is unbound. So the wait ends with a grace
//! period of RCU tasks: until every thread has slept, or returned to user space. A thread of the
//! driver that goes on after it has slept is the driver's to stop.
//!
//! A [`DevresGroup`] owns resources that a C function has put on the device's devres list.
//!
//! This file encapsulates the obligations of that list: which lock guards it, and that groups
//! neither nest nor overlap.
//!
//! C header: [`include/linux/device/devres.h`](srctree/include/linux/device/devres.h)

use crate::{
    bindings, dev_err,
    device::Device,
    error::{code::ENOMEM, Result},
    ffi::c_void,
    prelude::*,
    sync::{completion::Completion, rcu, Arc},
    time::msecs_to_jiffies,
    types::ARef,
};
use core::{
    ops::Deref,
    ptr::{null_mut, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The period during which a device is bound to a driver.
#[pin_data]
pub struct Binding {
    device: ARef<Device>,
    /// The number of [`BoundDevice`]s.
    users: AtomicUsize,
    /// Completed each time when the number has dropped to 0.
    #[pin]
    idle: Completion,
}

impl Binding {
    /// Begins the binding of `device`. Sleeps.
    ///
    /// # Safety
    ///
    /// `device` must be in the course of being bound to a driver, with its lock held. The caller
    /// must call [`Binding::wait_idle`] before the driver core undoes the binding, both if the
    /// driver could not be bound and when it is unbound.
    pub unsafe fn begin(device: &Device) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                device: device.into(),
                users: AtomicUsize::new(0),
                idle <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns a proof that the device is bound.
    ///
    /// # Safety
    ///
    /// [`Binding::wait_idle`] must not have been called yet, and must not be called before this
    /// returns.
    pub unsafe fn bound_device(self: &Arc<Self>) -> BoundDevice {
        self.users.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: It was just counted, and the caller guarantees that the wait for the count has
        // not begun.
        BoundDevice(self.clone())
    }

    /// Waits until all [`BoundDevice`]s are dropped, and the threads that have dropped them have left
    /// the code that did so. Sleeps.
    ///
    /// After a second, and then at growing intervals, the log says how many are left.
    pub fn wait_idle(&self) {
        const FIRST_PERIOD_MS: u32 = 1000;

        let (mut waited, mut period) = (0_u32, FIRST_PERIOD_MS);
        // Pairs with the release in `BoundDevice::drop`, so that all accesses of the last resource
        // have completed. (The completion may be that of an earlier time, so the number decides.)
        while self.users.load(Ordering::Acquire) != 0 {
            if self
                .idle
                .wait_for_completion_timeout(msecs_to_jiffies(period))
            {
                continue;
            }
            waited = waited.saturating_add(period);
            // The next report is due when four times as long has passed.
            period = waited.saturating_mul(3);
            dev_err!(
                &self.device,
                "unbind: waiting for {} resources that the driver has not released ({} s)\n",
                self.users.load(Ordering::Relaxed),
                waited / 1000
            );
        }
        // A thread that dropped the last one may be anywhere between that and its return, also
        // preempted. It does not sleep there.
        rcu::synchronize_rcu_tasks();
    }
}

/// A counted proof that a device is bound to a driver. The device stays bound until it is dropped.
///
/// # Invariants
///
/// The value is counted in `users` of its binding, and [`Binding::wait_idle`] has not returned.
///
/// # Examples
///
/// ```
/// use kernel::{device::Device, devres::BoundDevice, types::ARef};
///
/// /// A resource, which keeps its device bound.
/// struct Resource {
///     device: BoundDevice,
/// }
///
/// impl Resource {
///     fn new(device: &BoundDevice) -> Self {
///         Self { device: device.clone() }
///     }
///
///     /// Returns a reference that may outlive the binding, without proof that the device is bound.
///     fn unbound(&self) -> ARef<Device> {
///         (&*self.device).into()
///     }
/// }
/// ```
pub struct BoundDevice(Arc<Binding>);

impl Deref for BoundDevice {
    type Target = Device;

    /// Returns the device.
    #[inline]
    fn deref(&self) -> &Device {
        &self.0.device
    }
}

impl Clone for BoundDevice {
    /// Counts one more proof of the same binding.
    fn clone(&self) -> Self {
        self.0.users.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: It was just counted. While `self` is counted, the wait for the count does not
        // end.
        Self(self.0.clone())
    }
}

impl Drop for BoundDevice {
    fn drop(&mut self) {
        // Pairs with the acquire in `Binding::wait_idle`. The `Arc`, which is dropped after this, keeps
        // the completion.
        if self.0.users.fetch_sub(1, Ordering::Release) == 1 {
            self.0.idle.complete();
        }
    }
}

/// Resources that one call has put on the device's devres list. Dropping the group releases them.
/// C: a devres group.
///
/// # Invariants
///
/// `id` names a closed group of `device`, with no resources of others between its two ends: groups
/// are opened with the device's lock held, and closed before another one is opened, so they neither
/// nest nor overlap.
pub struct DevresGroup {
    device: BoundDevice,
    id: NonNull<c_void>,
}

// SAFETY: The devres list has a lock of its own, and releasing one group leaves others untouched,
// so any thread may drop the group.
unsafe impl Send for DevresGroup {}
// SAFETY: A shared reference gives access to the device only, and that is `Sync`.
unsafe impl Sync for DevresGroup {}

impl DevresGroup {
    /// Runs `acquire` and takes the ownership of the resources that it puts on the device's list.
    /// If `acquire` fails, they are released at once. Sleeps.
    ///
    /// C: `devres_open_group()`, `devres_close_group()`.
    ///
    /// # Safety
    ///
    /// The caller must hold the device's lock, as everything that adds resources to its list does.
    /// The resources that `acquire` adds must be the caller's to release, and `acquire` must open
    /// no group.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `acquire`.
    #[doc(alias = "devres_open_group")]
    #[doc(alias = "devres_close_group")]
    pub unsafe fn acquire<T>(
        device: &BoundDevice,
        acquire: impl FnOnce(&Device) -> Result<T>,
    ) -> Result<(Self, T)> {
        // SAFETY: `device` is valid and bound, so resources may be added to its list.
        let id = unsafe {
            bindings::devres_open_group(device.as_raw(), null_mut(), bindings::GFP_KERNEL)
        };
        let id = NonNull::new(id).ok_or(ENOMEM)?;
        let acquired = acquire(device);
        // SAFETY: The group `id` of this device was opened above and is not closed yet.
        unsafe { bindings::devres_close_group(device.as_raw(), id.as_ptr()) };
        // INVARIANT: The group was just closed. The caller holds the lock with which resources are
        // added, so only those of `acquire` are in it.
        let group = Self {
            device: device.clone(),
            id,
        };
        // If `acquire` failed, returning drops the group.
        Ok((group, acquired?))
    }

    /// Returns the device that has the resources.
    #[inline]
    pub fn device(&self) -> &BoundDevice {
        &self.device
    }
}

impl Drop for DevresGroup {
    fn drop(&mut self) {
        // SAFETY: By the type invariants `id` is a closed group of the device, and the device is
        // still bound, so its list exists.
        unsafe { bindings::devres_release_group(self.device.as_raw(), self.id.as_ptr()) };
    }
}
