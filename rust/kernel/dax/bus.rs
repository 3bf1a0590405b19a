// SPDX-License-Identifier: GPL-2.0

//! Drivers for devices of the dax bus, `dax0.0`.
//!
//! Such a device is a part of a region of memory: all of a namespace of persistent memory in mode
//! `devdax`, or what `daxctl create-device` cut out of memory of CXL or of a platform. The driver that
//! it is bound to decides what the memory is for: device_dax lets programs map `/dev/dax0.0`, kmem makes
//! RAM of it. A driver in Rust serves it to a filesystem, which becomes the
//! [holder](super::Held) of the device.
//!
//! To write such a driver, do the following:
//!
//! 1. Implement [`Operations`] for the driver's data.
//! 2. Implement [`Driver`]: in [`Driver::probe`], map the memory ([`Context::map_pages`]) and return the
//!    data that owns it.
//! 3. Register the driver with a [`Registration`] in the module's structure.
//!
//! ```text
//!  probe:  Driver::probe() maps the memory --> /dev/dax0.0 --> operations set --> alive
//!  remove: the holder is notified --> dead, accesses have ended --> operations taken away
//!          --> /dev/dax0.0 removed --> the driver's data is dropped, which waits for pages in use
//! ```
//!
//! Programs can open `/dev/dax0.0`, to name the device to a filesystem, but not map it.
//!
//! A device is bound by hand: `echo dax0.0 > /sys/bus/dax/drivers/NAME/new_id`, after device_dax was
//! unbound from it.
//!
//! This file encapsulates the table of functions that C calls, the driver data of a device, and the
//! fields of `struct dev_dax`, under the lock of the bus for its ranges; `dax/bus/character_device.rs`
//! the registration of `/dev/dax0.0`.
//!
//! C headers: `drivers/dax/bus.h`, `drivers/dax/dax-private.h`

use super::{DataSource, DaxDevice, DeviceNumber, Operations, PageOffset, Table};
use crate::{
    bindings,
    device::Device,
    devres::{Binding, BoundDevice},
    error::{
        code::{EINVAL, ENXIO},
        from_result, to_result, Result,
    },
    ffi::{c_int, c_void},
    mm::{
        device_memory::{DeviceMemory, FailureHandler, PgmapParams, Reservation},
        node::Node,
        pfn::PhysRange,
    },
    prelude::*,
    str::CStr,
    sync::Arc,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut, null, null_mut},
};

mod character_device;
mod memory;

use character_device::CharacterDevice;
pub use memory::{Memory, Part};

/// A driver for devices of the dax bus. C: `struct dax_device_driver`.
///
/// The driver core serialises all calls for one device by the device's lock, and the calls may sleep.
///
/// # Examples
///
/// ```
/// use kernel::{
///     c_str,
///     dax::{
///         bus::{Context, Driver, Memory},
///         Access, AccessMode, Operations, PageOffset, RecoveryWrite,
///     },
///     prelude::*,
/// };
///
/// /// The memory of a device.
/// struct Served(Memory<()>);
///
/// impl Operations for Served {
///     fn direct_access(&self, at: PageOffset, _: usize, _: AccessMode) -> Result<Access<'_>> {
///         self.0.access(at)
///     }
///
///     fn zero_page(&self, at: PageOffset) -> Result {
///         self.0.zero_page(at)
///     }
///
///     fn recovery_write(&self, write: RecoveryWrite<'_>) -> usize {
///         write.copy()
///     }
/// }
///
/// struct Serve;
///
/// impl Driver for Serve {
///     const NAME: &'static CStr = c_str!("serve");
///
///     type Data = Served;
///
///     fn probe(context: &Context<'_>) -> Result<Served> {
///         Ok(Served(context.map_pages(|_part| ())?))
///     }
/// }
/// ```
#[doc(alias = "dax_device_driver")]
pub trait Driver: 'static {
    /// The name of the driver.
    const NAME: &'static CStr;
    /// The data of the driver for each bound device, which answers the operations.
    type Data: Operations;

    /// Binds to a device, and returns the driver's data for it. The device is alive after that; it is
    /// dead, and its operations have ended, before the data is dropped.
    ///
    /// # Errors
    ///
    /// Any error if the device cannot be bound.
    fn probe(context: &Context<'_>) -> Result<Self::Data>;
}

/// A device that a driver is being bound to, during the call of the driver.
///
/// # Invariants
///
/// The device is that of a `struct dev_dax`. Its lock is held.
pub struct Context<'a> {
    bound: &'a BoundDevice,
}

impl<'a> Context<'a> {
    /// Creates the context of a call of the driver.
    ///
    /// # Safety
    ///
    /// `bound` must be a device of the dax bus. Its lock must be held while the value exists.
    unsafe fn new(bound: &'a BoundDevice) -> Self {
        // INVARIANT: The caller guarantees the kind of device and that its lock is held.
        Self { bound }
    }

    /// Returns the device.
    pub fn device(&self) -> &'a Device {
        self.bound
    }

    /// Returns the device as the C functions of the bus take it.
    fn as_raw(&self) -> *mut bindings::dev_dax {
        // SAFETY: By the type invariants the device is the field of such a structure.
        unsafe { crate::container_of!(self.bound.as_raw(), bindings::dev_dax, dev) }.cast_mut()
    }

    /// Returns the NUMA node of the device, if it is close to one. C: `dev_to_node()`.
    #[doc(alias = "dev_to_node")]
    pub fn node(&self) -> Option<Node> {
        Node::of(self.device())
    }

    /// Returns the DAX device, which may outlive the binding. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENODEV` if it is gone.
    pub fn dax_device(&self) -> Result<Arc<DaxDevice>> {
        // SAFETY: By the type invariants the device is valid. Its number is set when it is added.
        let number = unsafe { (*self.bound.as_raw()).devt };
        let device = DaxDevice::find(DeviceNumber::from_raw(number))?;
        Ok(Arc::new(device, GFP_KERNEL)?)
    }

    /// Returns the number of parts of the device's memory. Sleeps.
    fn nr_parts(&self) -> Result<usize> {
        let _lock = RangesLock::new();
        // SAFETY: By the type invariants the device is valid, and the lock under which its ranges change
        // is held.
        Ok(usize::try_from(unsafe { (*self.as_raw()).nr_range })?)
    }

    /// Returns a part of the device's memory, in the order in which the bus has them. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENXIO` if there are fewer parts; `EINVAL` if the bus has a range that is none.
    fn part(&self, index: usize) -> Result<Part> {
        let device = self.as_raw();
        let _lock = RangesLock::new();
        // SAFETY: By the type invariants the device is valid, and the lock under which its ranges change
        // is held. There are more of them than `index`.
        let raw = unsafe {
            if index >= usize::try_from((*device).nr_range)? {
                return Err(ENXIO);
            }
            (*device).ranges.add(index).read()
        };
        let range = PhysRange::from_raw(raw.range).ok_or(EINVAL)?;
        Ok(Part::new(PageOffset::new(raw.pgoff as u64), range))
    }

    /// Reserves the memory of the device and maps it, with pages for a filesystem. `handler` makes the
    /// handler of memory that turns bad, for each part. Sleeps.
    ///
    /// Parts that `daxctl` adds later are not part of the memory before the device is bound again.
    ///
    /// The memmap is where the creator of the device said: in RAM, or in the first part of the memory
    /// itself (namespaces with `--map=dev`).
    ///
    /// # Errors
    ///
    /// `EBUSY`, with a line in the log, if the memory is in use; `EINVAL` for a device that has no
    /// memory, or whose creator described its pages in a way that does not match; errors of the pgmap
    /// registry, which says why; `ENOMEM`.
    pub fn map_pages<H: FailureHandler>(
        &self,
        mut handler: impl FnMut(&Part) -> H,
    ) -> Result<Memory<H>> {
        let parts = self.nr_parts()?;
        if parts == 0 {
            return Err(EINVAL);
        }
        let mut memory = Memory::with_capacity(parts)?;
        for index in 0..parts {
            let part = self.part(index)?;
            let (reservation, params, offset) = self.reserve(&part)?;
            let mapped = DeviceMemory::map_pages(reservation, params, offset, handler(&part))?;
            memory.push(part, mapped)?;
        }
        Ok(memory)
    }

    /// Reserves a part. Returns it with the parameters of its pgmap, and where the data begins in that.
    fn reserve(&self, part: &Part) -> Result<(Reservation, PgmapParams, u64)> {
        let data = part.range();
        // SAFETY: By the type invariants the device's lock is held, which this value does not outlive:
        // what it returns is not `Send`. The bus says that the range is memory of the device.
        let reservation = unsafe { Reservation::new(self.bound, data, self.device()) }?;
        // SAFETY: By the type invariants the device is valid. A static device has a pgmap from its
        // creator; others have none before a driver gives them one, which those in Rust do not.
        let prepared = unsafe { (*self.as_raw()).pgmap };
        if prepared.is_null() {
            return Ok((reservation, PgmapParams::for_range(data)?, 0));
        }
        // SAFETY: The creator has set the pgmap up, and while this driver is being bound no other one
        // maps it.
        let params = unsafe { PgmapParams::from_prepared(prepared) }?;
        let range = params.range().ok_or(EINVAL)?;
        let offset = data.start().checked_sub(range.start()).ok_or(EINVAL)?;
        if data.end() != range.end() {
            return Err(EINVAL);
        }
        // SAFETY: What lies between the start of the pgmap and the data is metadata of the creator. It
        // has reserved that, and is bound to its own device for longer than this driver is.
        let reservation = unsafe { reservation.with_metadata(range) };
        Ok((reservation, params, offset))
    }
}

/// The lock under which the ranges of devices change. C: `dax_dev_rwsem`.
struct RangesLock;

impl RangesLock {
    /// Takes the lock for reading. Sleeps.
    fn new() -> Self {
        // SAFETY: The lock is a static, and `drop` releases it.
        unsafe { bindings::down_read(addr_of_mut!(bindings::dax_dev_rwsem)) };
        Self
    }
}

impl Drop for RangesLock {
    fn drop(&mut self) {
        // SAFETY: The value took the lock, in this task.
        unsafe { bindings::up_read(addr_of_mut!(bindings::dax_dev_rwsem)) };
    }
}

/// The driver data of a bound device. C: `dev_get_drvdata()`.
struct DriverData<T: Driver> {
    binding: Arc<Binding>,
    data: T::Data,
    node: CharacterDevice,
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
/// use kernel::dax::bus::{Driver, Registration};
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
    driver: KBox<Opaque<bindings::dax_device_driver>>,
    _driver: PhantomData<T>,
}

// SAFETY: A driver may be unregistered by any task.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver. Sleeps. C: `__dax_driver_register()`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a driver of this name is registered; `ENOMEM`.
    #[doc(alias = "__dax_driver_register")]
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: All fields are pointers, functions or integers, for which zero is valid.
        let zeroed = unsafe { MaybeUninit::<bindings::dax_device_driver>::zeroed().assume_init() };
        let driver = KBox::new(Opaque::new(zeroed), GFP_KERNEL)?;
        let raw: *mut bindings::dax_device_driver = driver.get();
        // SAFETY: The structure is owned exclusively until it is registered. It stays at its address
        // until it is unregistered, because the value that owns the box does that when dropped.
        to_result(unsafe {
            (*raw).type_ = bindings::dax_driver_type_DAXDRV_FSDEV_TYPE;
            (*raw).probe = Some(Adapter::<T>::probe);
            (*raw).remove = Some(Adapter::<T>::remove);
            bindings::__dax_driver_register(raw, module.as_ptr(), T::NAME.as_char_ptr())
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
        unsafe { bindings::dax_driver_unregister(self.driver.get()) };
    }
}

/// The functions that C calls, for the driver `T`.
struct Adapter<T>(PhantomData<T>);

// SAFETY: The private data of a device of the dax bus is its `struct dev_dax`, and `publish` gives the
// operations only to those. The driver data is null or what `probe` stored. It is taken only after the
// device was killed and its operations have ended.
unsafe impl<T: Driver> DataSource<T::Data> for Adapter<T> {
    unsafe fn data(private: *mut c_void) -> *const T::Data {
        let device = private.cast::<bindings::dev_dax>();
        // SAFETY: The caller guarantees the private data of a live device, which is a `struct dev_dax`.
        let bound = unsafe { addr_of!((*device).dev.driver_data).read() }.cast::<DriverData<T>>();
        if bound.is_null() {
            return null();
        }
        // SAFETY: The driver data is that of this driver, and stays as long as the device is alive.
        unsafe { addr_of!((*bound).data) }
    }
}

impl<T: Driver> Adapter<T> {
    /// Binds the driver to a device. C: `->probe()`.
    ///
    /// # Safety
    ///
    /// `device` must be a device that is being bound to this driver, with its lock held.
    unsafe extern "C" fn probe(device: *mut bindings::dev_dax) -> c_int {
        from_result(|| {
            // The allocation comes first, because nothing may fail once the driver is bound.
            let slot = KBox::<DriverData<T>>::new_uninit(GFP_KERNEL)?;
            // SAFETY: The caller guarantees a valid device.
            let dev = unsafe { addr_of_mut!((*device).dev) };
            // SAFETY: The caller guarantees that the device is being bound, with its lock held.
            // `wait_idle` is called below if that fails, and otherwise in `remove`.
            let binding = unsafe { Binding::begin(Device::as_ref(dev)) }?;
            let data = {
                // SAFETY: The binding has just begun, and the wait for its end comes after this.
                let bound = unsafe { binding.bound_device() };
                // SAFETY: The device is one of the dax bus, and the caller guarantees that its lock is
                // held.
                T::probe(&unsafe { Context::new(&bound) })
            };
            // SAFETY: The device is being bound, with its lock held.
            let made = data.and_then(|data| Ok((data, unsafe { CharacterDevice::new(device) }?)));
            let (data, node) = match made {
                Ok(made) => made,
                Err(error) => {
                    binding.wait_idle();
                    return Err(error);
                }
            };
            let bound = slot.write(DriverData {
                binding,
                data,
                node,
            });
            // SAFETY: The driver data of a device belongs to its driver, which is this one from now on,
            // and the device's lock is held. No operation is called before the device is published. The
            // driver data, which these operations need, is taken only after it was withdrawn.
            unsafe {
                addr_of_mut!((*dev).driver_data).write(KBox::into_raw(bound).cast());
                publish(device, const { &Table::<T::Data, Self>::OPERATIONS });
            }
            Ok(0)
        })
    }

    /// Unbinds the driver from a device. C: `->remove()`.
    ///
    /// # Safety
    ///
    /// `device` must be a device that this driver is bound to, with its lock held.
    unsafe extern "C" fn remove(device: *mut bindings::dev_dax) {
        // SAFETY: The caller guarantees a device that is bound, so it was published, and its driver data
        // is a box that `probe` stored. Its lock is held. Nothing uses the box after the withdrawal.
        let bound = unsafe {
            withdraw(device);
            let data = addr_of_mut!((*device).dev.driver_data).replace(null_mut());
            KBox::<DriverData<T>>::from_raw(data.cast())
        };
        let DriverData {
            binding,
            data,
            node,
        } = KBox::into_inner(bound);
        drop(node);
        drop(data);
        binding.wait_idle();
    }
}

/// Makes a device available: it gets its operations and is alive.
///
/// # Safety
///
/// `device` must be a device that is being bound to a driver, with its lock held. The operations must
/// be fit for it until [`withdraw`] returns.
unsafe fn publish(device: *mut bindings::dev_dax, operations: &'static bindings::dax_operations) {
    // SAFETY: The caller guarantees a device that is bound, so it is valid with all its parts, and is
    // dead, because a device is alive only between `publish` and `withdraw` of its driver.
    unsafe {
        let dax = (*device).dax_dev;
        bindings::dax_set_ops(dax, operations);
        // Programs that map files expect their stores to be durable after fsync().
        bindings::dax_write_cache(dax, true);
        bindings::run_dax(dax);
    }
}

/// Undoes [`publish`]: the holder is notified, the device is dead, and all operations have ended. Sleeps.
///
/// # Safety
///
/// `device` must be a device that was published and not withdrawn yet, with its lock held.
unsafe fn withdraw(device: *mut bindings::dev_dax) {
    // SAFETY: The caller guarantees a published device.
    unsafe {
        let dax = (*device).dax_dev;
        bindings::kill_dev_dax(device);
        // A section that has seen the holder before it was taken away may still call the operations,
        // which refuse because the device is dead.
        bindings::dax_synchronize();
        bindings::dax_write_cache(dax, false);
        bindings::dax_set_ops(dax, null());
    }
}
