// SPDX-License-Identifier: GPL-2.0

//! The registration of a driver on the nvdimm bus.
//!
//! This file encapsulates the table of functions that C calls, and the driver data of a device:
//! `probe` stores it, `remove` takes it, and the device's lock orders all accesses.

use super::Context;
use crate::{
    bindings,
    device::Device,
    devres::Binding,
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

/// The types of device that a driver binds to. C: `enum nd_driver_flags`.
///
/// # Examples
///
/// ```
/// use kernel::nvdimm::DriverFlags;
///
/// /// The types of device that nd_pmem binds to.
/// const FLAGS: DriverFlags = DriverFlags::NAMESPACE_IO.or(DriverFlags::NAMESPACE_PMEM);
/// ```
#[doc(alias = "nd_driver_flags")]
#[derive(Clone, Copy)]
pub struct DriverFlags(c_ulong);

impl DriverFlags {
    /// Namespaces without labels, and devices that claim one. C: `ND_DRIVER_NAMESPACE_IO`.
    #[doc(alias = "ND_DRIVER_NAMESPACE_IO")]
    pub const NAMESPACE_IO: Self = Self(bindings::nd_driver_flags_ND_DRIVER_NAMESPACE_IO as _);
    /// Namespaces with labels. C: `ND_DRIVER_NAMESPACE_PMEM`.
    #[doc(alias = "ND_DRIVER_NAMESPACE_PMEM")]
    pub const NAMESPACE_PMEM: Self = Self(bindings::nd_driver_flags_ND_DRIVER_NAMESPACE_PMEM as _);

    /// Returns the union of both sets of types.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An event of which the bus notifies a driver. C: `enum nvdimm_event`.
#[doc(alias = "nvdimm_event")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The list of bad ranges has changed. C: `NVDIMM_REVALIDATE_POISON`.
    #[doc(alias = "NVDIMM_REVALIDATE_POISON")]
    RevalidatePoison,
    /// The region has become read-only or writable. C: `NVDIMM_REVALIDATE_REGION`.
    #[doc(alias = "NVDIMM_REVALIDATE_REGION")]
    RevalidateRegion,
    /// An event with this number, which is not known here.
    Unknown(u32),
}

/// A driver for namespaces. C: `struct nd_device_driver`.
///
/// The bus serialises all calls for one device by the device's lock, and the calls may sleep.
#[doc(alias = "nd_device_driver")]
pub trait Driver: 'static {
    /// The name of the driver.
    const NAME: &'static CStr;
    /// The types of device that the driver binds to.
    const FLAGS: DriverFlags;
    /// The data of the driver for each bound device.
    type Data: Send + Sync + 'static;

    /// Binds to a device, and returns the driver's data for it.
    ///
    /// # Errors
    ///
    /// `ENXIO` if a device that claims the namespace takes its place; `EOPNOTSUPP` if the namespace
    /// is meant for the driver but cannot be used; any other error if the device cannot be bound.
    fn probe(context: &Context<'_>) -> Result<Self::Data>;

    /// Unbinds from a device and drops its data. The device may have been removed, or gets another
    /// driver next.
    fn remove(context: &Context<'_>, data: Self::Data);

    /// Prepares a device for the shutdown of the system.
    fn shutdown(context: &Context<'_>, data: &Self::Data);

    /// Handles an event.
    fn notify(context: &Context<'_>, data: &Self::Data, event: Event);
}

/// The driver data of a bound device. C: `dev_get_drvdata()`.
struct DriverData<T: Driver> {
    binding: Arc<Binding>,
    data: T::Data,
}

/// A registered driver. Dropping it unregisters the driver, which unbinds its devices. Sleeps.
///
/// # Invariants
///
/// The driver is registered, with the functions of `Adapter<T>`.
///
/// # Examples
///
/// ```
/// use kernel::nvdimm::{Driver, Registration};
///
/// /// The structure of a module, which registers the driver `T` while it is loaded.
/// struct DriverModule<T: Driver> {
///     _driver: Registration<T>,
/// }
///
/// impl<T: Driver> kernel::Module for DriverModule<T> {
///     fn init(module: &'static ThisModule) -> Result<Self> {
///         Ok(Self { _driver: Registration::new(module)? })
///     }
/// }
/// ```
pub struct Registration<T: Driver> {
    driver: KBox<Opaque<bindings::nd_device_driver>>,
    _driver: PhantomData<T>,
}

// SAFETY: A driver may be unregistered by any task.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver, and binds it to its devices. Sleeps. C: `__nd_driver_register()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a driver of this name is registered; `ENOMEM`.
    #[doc(alias = "__nd_driver_register")]
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: All fields are pointers, functions or integers, for which zero is valid.
        let zeroed = unsafe { MaybeUninit::<bindings::nd_device_driver>::zeroed().assume_init() };
        let driver = KBox::new(Opaque::new(zeroed), GFP_KERNEL)?;
        let raw: *mut bindings::nd_device_driver = driver.get();
        // SAFETY: The structure is owned exclusively until it is registered. It stays at its
        // address until it is unregistered, because the value that owns the box does that when
        // dropped.
        to_result(unsafe {
            (*raw).drv.name = T::NAME.as_char_ptr();
            (*raw).type_ = T::FLAGS.0;
            (*raw).probe = Some(Adapter::<T>::probe);
            (*raw).remove = Some(Adapter::<T>::remove);
            (*raw).shutdown = Some(Adapter::<T>::shutdown);
            (*raw).notify = Some(Adapter::<T>::notify);
            bindings::__nd_driver_register(raw, module.as_ptr(), T::NAME.as_char_ptr())
        })?;
        // INVARIANT: The driver was just registered, with these functions.
        Ok(Self {
            driver,
            _driver: PhantomData,
        })
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the driver is registered, and it is not used after this.
        unsafe { bindings::driver_unregister(addr_of_mut!((*self.driver.get()).drv)) };
    }
}

/// The functions that C calls, for the driver `T`.
struct Adapter<T>(PhantomData<T>);

impl<T: Driver> Adapter<T> {
    /// Calls `f` with the context and the data of a device, if the device has data.
    ///
    /// # Safety
    ///
    /// `dev` must be a device that this driver is bound to, and its lock must be held.
    unsafe fn with<R>(
        dev: *mut bindings::device,
        f: impl FnOnce(&Context<'_>, &T::Data) -> R,
    ) -> Option<R> {
        // SAFETY: The caller guarantees that this driver is bound to the device, so its driver data
        // is null or what `probe` stored, and that the lock is held, so it is not taken meanwhile.
        let bound = unsafe {
            addr_of!((*dev).driver_data)
                .read()
                .cast::<DriverData<T>>()
                .as_ref()
        }?;
        // SAFETY: The driver data exists, and `remove` takes it before it waits for the end of the
        // binding, so the wait has not begun. The lock keeps it so.
        let device = unsafe { bound.binding.bound_device() };
        // SAFETY: The nvdimm bus has bound this driver to the device, so it is a namespace or
        // claims one, below a region. The caller guarantees that its lock is held.
        let context = unsafe { Context::new(&device) };
        Some(f(&context, &bound.data))
    }

    /// Binds the driver to a device. C: `->probe()`.
    ///
    /// # Safety
    ///
    /// `dev` must be a device of the nvdimm bus that is being bound to this driver, with its lock
    /// held.
    unsafe extern "C" fn probe(dev: *mut bindings::device) -> c_int {
        from_result(|| {
            // The allocation comes first, because nothing may fail once the driver is bound.
            let slot = KBox::<DriverData<T>>::new_uninit(GFP_KERNEL)?;
            // SAFETY: The caller guarantees that the device is valid and being bound, with its lock
            // held. `wait_idle` is called below if that fails, and otherwise in `remove`.
            let binding = unsafe { Binding::begin(Device::as_ref(dev)) }?;
            let data = {
                // SAFETY: The binding has just begun, and the wait for its end comes after this.
                let device = unsafe { binding.bound_device() };
                // SAFETY: The nvdimm bus offers only namespaces and devices that claim one, below a
                // region, and the caller guarantees that the device's lock is held.
                T::probe(&unsafe { Context::new(&device) })
            };
            match data {
                Ok(data) => {
                    let bound = slot.write(DriverData { binding, data });
                    // SAFETY: The driver data of a device belongs to its driver, which is this one
                    // from now on, and the device's lock is held.
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

    /// Unbinds the driver from a device. C: `->remove()`.
    ///
    /// # Safety
    ///
    /// `dev` must be a device that this driver is bound to, and its lock must be held.
    unsafe extern "C" fn remove(dev: *mut bindings::device) {
        // SAFETY: The caller guarantees that this driver is bound, so its driver data is null or a
        // box that `probe` stored. The lock is held and the pointer is set to null, so nothing else
        // uses or frees the box.
        let bound = unsafe {
            let data = addr_of_mut!((*dev).driver_data).replace(core::ptr::null_mut());
            if data.is_null() {
                return;
            }
            KBox::<DriverData<T>>::from_raw(data.cast())
        };
        let DriverData { binding, data } = KBox::into_inner(bound);
        {
            // SAFETY: The wait for the end of the binding comes after this.
            let device = unsafe { binding.bound_device() };
            // SAFETY: The nvdimm bus has bound this driver to the device, so it is a namespace or
            // claims one, below a region. The caller guarantees that its lock is held.
            T::remove(&unsafe { Context::new(&device) }, data);
        }
        binding.wait_idle();
    }

    /// Prepares a device for the shutdown of the system. C: `->shutdown()`.
    ///
    /// # Safety
    ///
    /// `dev` must be a device that this driver is bound to, and its lock must be held.
    unsafe extern "C" fn shutdown(dev: *mut bindings::device) {
        // SAFETY: The caller guarantees what `with` requires: a bound device with its lock held.
        unsafe { Self::with(dev, |context, data| T::shutdown(context, data)) };
    }

    /// Notifies the driver of an event. C: `->notify()`.
    ///
    /// # Safety
    ///
    /// `dev` must be a device that this driver is bound to, and its lock must be held.
    unsafe extern "C" fn notify(dev: *mut bindings::device, event: bindings::nvdimm_event) {
        let event = match event {
            bindings::nvdimm_event_NVDIMM_REVALIDATE_POISON => Event::RevalidatePoison,
            bindings::nvdimm_event_NVDIMM_REVALIDATE_REGION => Event::RevalidateRegion,
            other => Event::Unknown(other),
        };
        // SAFETY: The caller guarantees what `with` requires: a bound device with its lock held.
        unsafe { Self::with(dev, |context, data| T::notify(context, data, event)) };
    }
}
