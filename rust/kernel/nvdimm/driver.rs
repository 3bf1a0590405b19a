// SPDX-License-Identifier: GPL-2.0

//! Registering a driver on the nvdimm bus.

use super::Context;
use crate::{
    bindings,
    device::Device,
    devres::{Binding, BoundDevice},
    error::{from_result, to_result, Result},
    ffi::{c_int, c_ulong},
    prelude::*,
    str::CStr,
    sync::Arc,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut},
};

/// Which types of device a driver binds to. C: `ND_DRIVER_*`.
#[derive(Clone, Copy)]
pub struct DriverFlags(c_ulong);

impl DriverFlags {
    /// Namespaces without labels, and what claims them. C: `ND_DRIVER_NAMESPACE_IO`.
    #[doc(alias = "ND_DRIVER_NAMESPACE_IO")]
    pub const NAMESPACE_IO: Self = Self(bindings::nd_driver_flags_ND_DRIVER_NAMESPACE_IO as _);
    /// Namespaces with labels. C: `ND_DRIVER_NAMESPACE_PMEM`.
    #[doc(alias = "ND_DRIVER_NAMESPACE_PMEM")]
    pub const NAMESPACE_PMEM: Self = Self(bindings::nd_driver_flags_ND_DRIVER_NAMESPACE_PMEM as _);

    /// Both.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the bus tells a driver of. C: `enum nvdimm_event`.
#[doc(alias = "nvdimm_event")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The list of bad ranges has changed.
    RevalidatePoison,
    /// The region has become read-only or writable.
    RevalidateRegion,
    /// Something that this version does not know.
    Unknown(u32),
}

/// A driver for namespaces. C: `struct nd_device_driver`.
///
/// All calls for a device come one after the other, under its lock, and may sleep.
#[doc(alias = "nd_device_driver")]
pub trait Driver: 'static {
    /// Its name.
    const NAME: &'static CStr;
    /// What it binds to.
    const FLAGS: DriverFlags;
    /// What it has for each device.
    type Data: Send + Sync + 'static;

    /// Binds to a device.
    ///
    /// # Errors
    ///
    /// `ENXIO` says that somebody else has it now; `EOPNOTSUPP` that it is what it should be but
    /// cannot be used here; the others that it cannot be bound.
    fn probe(context: &Context<'_>) -> Result<Self::Data>;

    /// The device goes away, or another driver comes.
    fn remove(context: &Context<'_>, data: Self::Data);

    /// The machine goes down.
    fn shutdown(context: &Context<'_>, data: &Self::Data);

    /// Something happened to the device.
    fn notify(context: &Context<'_>, data: &Self::Data, event: Event);
}

/// What hangs on a bound device.
struct DriverData<T: Driver> {
    binding: Arc<Binding>,
    data: T::Data,
}

/// A registered driver. Dropping it unregisters the driver (sleeps), which unbinds its devices.
///
/// # Invariants
///
/// The driver is registered, with the functions of `Adapter<T>`.
pub struct Registration<T: Driver> {
    driver: KBox<Opaque<bindings::nd_device_driver>>,
    _driver: PhantomData<T>,
}

// SAFETY: A driver has no thread of its own.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: Nothing can be done with a shared reference.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers it. Devices are bound before this returns. Sleeps. C: `__nd_driver_register()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one of this name; `ENOMEM`.
    #[doc(alias = "__nd_driver_register")]
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Zero is valid for all fields: pointers, functions and integers.
        let zeroed = unsafe { MaybeUninit::<bindings::nd_device_driver>::zeroed().assume_init() };
        let driver = KBox::new(Opaque::new(zeroed), GFP_KERNEL)?;
        let raw: *mut bindings::nd_device_driver = driver.get();
        // SAFETY: The structure is ours until it is registered, and stays until it is not any more.
        to_result(unsafe {
            (*raw).drv.name = T::NAME.as_char_ptr();
            (*raw).type_ = T::FLAGS.0;
            (*raw).probe = Some(Adapter::<T>::probe);
            (*raw).remove = Some(Adapter::<T>::remove);
            (*raw).shutdown = Some(Adapter::<T>::shutdown);
            (*raw).notify = Some(Adapter::<T>::notify);
            bindings::__nd_driver_register(raw, module.as_ptr(), T::NAME.as_char_ptr())
        })?;
        // INVARIANT: Just registered.
        Ok(Self {
            driver,
            _driver: PhantomData,
        })
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is registered.
        unsafe { bindings::driver_unregister(addr_of_mut!((*self.driver.get()).drv)) };
    }
}

struct Adapter<T>(PhantomData<T>);

impl<T: Driver> Adapter<T> {
    /// Runs `f` with the device and its data, if it has any.
    ///
    /// # Safety
    ///
    /// C calls with a device that this driver is bound to, under its lock.
    unsafe fn with<R>(
        dev: *mut bindings::device,
        f: impl FnOnce(&Context<'_>, &T::Data) -> R,
    ) -> Option<R> {
        // SAFETY: The driver's data is what `probe` has put there, and stays under the lock.
        let bound = unsafe {
            addr_of!((*dev).driver_data)
                .read()
                .cast::<DriverData<T>>()
                .as_ref()
        }?;
        // SAFETY: The device is bound, so nobody waits for the end of the binding.
        let token: BoundDevice = unsafe { bound.binding.token() };
        // SAFETY: A device that the bus has bound to us, under its lock.
        let context = unsafe { Context::new(&token) };
        Some(f(&context, &bound.data))
    }

    /// # Safety
    ///
    /// C calls it with a device that is being bound, under its lock.
    unsafe extern "C" fn probe(dev: *mut bindings::device) -> c_int {
        from_result(|| {
            // The memory comes first, for nothing may fail once the driver is bound.
            let slot = KBox::<DriverData<T>>::new_uninit(GFP_KERNEL)?;
            // SAFETY: The device is valid and being bound. `wait_idle` is called here if that
            // fails, and in `remove` if it does not.
            let binding = unsafe { Binding::begin(Device::as_ref(dev)) }?;
            let data = {
                // SAFETY: Nobody has waited yet.
                let token = unsafe { binding.token() };
                // SAFETY: A device that the bus offers to us, under its lock.
                T::probe(&unsafe { Context::new(&token) })
            };
            match data {
                Ok(data) => {
                    let bound = slot.write(DriverData { binding, data });
                    // SAFETY: The device is ours now.
                    unsafe { addr_of_mut!((*dev).driver_data).write(KBox::into_raw(bound).cast()) };
                    Ok(0)
                }
                Err(error) => {
                    binding.wait_idle();
                    Err(error)
                }
            }
        })
    }

    /// # Safety
    ///
    /// C calls it with a device that this driver is bound to, under its lock.
    unsafe extern "C" fn remove(dev: *mut bindings::device) {
        // SAFETY: The driver's data is what `probe` has put there; nobody else has it under the
        // lock, and after this nobody finds it.
        let bound = unsafe {
            let data = addr_of_mut!((*dev).driver_data).replace(core::ptr::null_mut());
            if data.is_null() {
                return;
            }
            KBox::<DriverData<T>>::from_raw(data.cast())
        };
        let DriverData { binding, data } = KBox::into_inner(bound);
        {
            // SAFETY: Nobody has waited yet.
            let token = unsafe { binding.token() };
            // SAFETY: The device is still bound, under its lock.
            T::remove(&unsafe { Context::new(&token) }, data);
        }
        binding.wait_idle();
    }

    /// # Safety
    ///
    /// As for `remove`.
    unsafe extern "C" fn shutdown(dev: *mut bindings::device) {
        // SAFETY: The caller's promise.
        unsafe { Self::with(dev, |context, data| T::shutdown(context, data)) };
    }

    /// # Safety
    ///
    /// As for `remove`.
    unsafe extern "C" fn notify(dev: *mut bindings::device, event: bindings::nvdimm_event) {
        let event = match event {
            bindings::nvdimm_event_NVDIMM_REVALIDATE_POISON => Event::RevalidatePoison,
            bindings::nvdimm_event_NVDIMM_REVALIDATE_REGION => Event::RevalidateRegion,
            other => Event::Unknown(other),
        };
        // SAFETY: The caller's promise.
        unsafe { Self::with(dev, |context, data| T::notify(context, data, event)) };
    }
}
