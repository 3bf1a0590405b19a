// SPDX-License-Identifier: GPL-2.0

//! Drivers for namespaces of persistent memory.
//!
//! ```text
//!  bus - region ---- namespace0.0         no claim: an info block decides, or it is raw
//!          |    \--- btt0.0 --------+     claims a namespace: atomic sectors
//!          |     \-- pfn0.0 -------/|     claims a namespace: filesystem DAX
//!        flushes      what a driver binds to; the namespace behind it has the memory
//! ```
//!
//! To write a driver for namespaces, do the following:
//!
//! 1. Implement [`Driver`] for a type: the driver's name, the types of device it binds to, and what
//!    it keeps per device ([`Driver::Data`]).
//! 2. In [`Driver::probe`], look at the [`Claim`] of the [`Context`], and get the [`Namespace`] from
//!    it ([`Context::namespace`]).
//! 3. Reserve the memory of the namespace ([`Namespace::reserve`]) and map it as
//!    [`DeviceMemory`](crate::mm::device_memory::DeviceMemory), with or without pages.
//! 4. Make the memory available: as a [disk](crate::block::disk), and perhaps as a
//!    [DAX device](crate::dax). Return what owns them.
//! 5. Keep a [`Region`] where data has to be made durable or media errors cleared.
//! 6. Register the driver with a [`Registration`] in the module's structure.
//!
//! There is nothing to undo in [`Driver::remove`]: dropping the data releases it in the order of
//! its fields.
//!
//! The types here that have direct C counterparts are:
//!
//! - [`Driver`] and [`Registration`]: `struct nd_device_driver`.
//! - [`Namespace`]: `struct nd_namespace_common`.
//! - [`NdPfn`], [`NdBtt`] and [`Btt`]: `struct nd_pfn` and `struct nd_btt`.
//! - [`InfoBlock`]: `struct nd_pfn_sb`.
//! - [`Region`]: `struct nd_region`.
//! - [`pmem::PmemDevice`]: `struct pmem_device`.
//!
//! libnvdimm may be a module, so nothing in here is part of the kernel image: all functions are
//! inline or generic, and compiled into the driver.
//!
//! These files encapsulate the calls into libnvdimm, which rely on the lock and the binding of a
//! device: a [`Context`] exists only while both are given.
//!
//! C headers: [`include/linux/nd.h`](srctree/include/linux/nd.h),
//! [`drivers/nvdimm/nd.h`](srctree/drivers/nvdimm/nd.h)
//!
//! # Examples
//!
//! A driver that reserves and maps namespaces, and makes a `T` of the memory. (A module registers
//! it in its `init()`; `samples/rust/rust_nd_rom.rs` is a whole one. Examples are linked into the
//! kernel image for KUnit, where libnvdimm may not be: code that calls it must stay generic there.)
//!
//! ```
//! use core::marker::PhantomData;
//! use kernel::{
//!     c_str,
//!     mm::device_memory::DeviceMemory,
//!     nvdimm::{Claim, Context, Driver, DriverFlags, Event},
//!     prelude::*,
//! };
//!
//! struct MapDriver<T>(PhantomData<T>);
//!
//! impl<T: From<DeviceMemory<()>> + Send + Sync + 'static> Driver for MapDriver<T> {
//!     const NAME: &'static CStr = c_str!("nd_map");
//!     const FLAGS: DriverFlags = DriverFlags::NAMESPACE_IO.or(DriverFlags::NAMESPACE_PMEM);
//!
//!     type Data = T;
//!
//!     fn probe(context: &Context<'_>) -> Result<T> {
//!         let Claim::None = context.claim() else {
//!             // A device that claims a namespace is for another driver.
//!             return Err(ENODEV);
//!         };
//!         let namespace = context.namespace()?;
//!         Ok(DeviceMemory::map(namespace.reserve()?)?.into())
//!     }
//!
//!     fn remove(_context: &Context<'_>, data: T) {
//!         drop(data);
//!     }
//!
//!     fn shutdown(_context: &Context<'_>, _data: &T) {}
//!
//!     fn notify(_context: &Context<'_>, _data: &T, _event: Event) {}
//! }
//! ```

mod driver;
mod info_block;
mod namespace;
pub mod pmem;
mod region;

pub use driver::{Driver, DriverFlags, Event, Registration};
pub use info_block::{BrokenRule, InfoBlock, Kind};
pub use namespace::{Btt, Claim, EnabledNamespace, Namespace, NdBtt, NdPfn, PfnSettings};
pub use region::{Flushing, Region};

use crate::{
    bindings,
    block::disk::{GenDisk, Operations},
    device::Device,
    devres::BoundDevice,
    mm::node::Node,
};

/// A device that a driver is bound to, or being bound to, during a call of the driver.
///
/// # Invariants
///
/// The device is on the nvdimm bus, is a namespace or claims one, and its parent is a region. Its
/// lock is held.
pub struct Context<'a> {
    bound: &'a BoundDevice,
}

impl<'a> Context<'a> {
    /// Creates the context of a call of the driver.
    ///
    /// # Safety
    ///
    /// `bound` must be a namespace or a device that claims one, on the nvdimm bus, and its parent a
    /// region. Its lock must be held while the value exists.
    #[inline]
    unsafe fn new(bound: &'a BoundDevice) -> Self {
        // INVARIANT: The caller guarantees the kind of device and that its lock is held.
        Self { bound }
    }

    /// Returns the device.
    #[inline]
    pub fn device(&self) -> &'a Device {
        self.bound
    }

    /// Returns the device as C functions take it.
    #[inline]
    fn as_raw(&self) -> *mut bindings::device {
        self.device().as_raw()
    }

    /// Returns the NUMA node of the device, if it is close to one. C: `dev_to_node()`.
    #[doc(alias = "dev_to_node")]
    #[inline]
    pub fn node(&self) -> Option<Node> {
        Node::of(self.device())
    }

    /// Returns how the device claims its namespace, if it is not the namespace itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::nvdimm::{Claim, Context};
    ///
    /// /// Returns what kind of disk a device becomes.
    /// fn kind(context: &Context<'_>) -> &'static str {
    ///     match context.claim() {
    ///         Claim::Btt(_) => "atomic sectors",
    ///         Claim::Pfn(_) => "with pages",
    ///         Claim::None => "as the info block says",
    ///     }
    /// }
    /// ```
    #[doc(alias = "is_nd_btt")]
    #[doc(alias = "is_nd_pfn")]
    #[inline]
    pub fn claim(&self) -> Claim<'a> {
        Claim::of(self.bound)
    }

    /// Returns the region that contains the device. C: `to_nd_region()`.
    #[doc(alias = "to_nd_region")]
    #[inline]
    pub fn region(&self) -> Region {
        Region::of(self.bound)
    }

    /// Returns whether the region's memory gets pages even without an info block that asks for
    /// them, as that of e820 and virtio does. C: `pmem_should_map_pages()`.
    #[doc(alias = "pmem_should_map_pages")]
    #[inline]
    pub fn should_map_pages(&self) -> bool {
        // SAFETY: By the type invariants the device is on the nvdimm bus below a region, as the
        // function expects.
        unsafe { bindings::pmem_should_map_pages(self.as_raw()) }
    }

    /// Makes a disk of this device read-only or writable, as its region is. May sleep.
    ///
    /// A disk that was added under another device is left as it is. C: `nvdimm_check_and_set_ro()`.
    #[doc(alias = "nvdimm_check_and_set_ro")]
    #[inline]
    pub fn check_and_set_read_only<T: Operations>(&self, disk: &GenDisk<T>) {
        if core::ptr::eq(disk.parent(), self.device()) {
            // SAFETY: The disk was added under the device of this context. By the type invariants
            // the parent of that is a region, and the function looks for the region there.
            unsafe { bindings::nvdimm_check_and_set_ro(disk.as_raw()) };
        }
    }
}
