// SPDX-License-Identifier: GPL-2.0

//! Drivers for the namespaces of persistent memory.
//!
//! ```text
//!  bus - region ---- namespace0.0         raw
//!          |    \--- btt0.0 --------+     claims a namespace: atomic sectors
//!          |     \-- pfn0.0 -------/|     claims one: filesystem DAX
//!        flushes      what a driver binds to; the namespace behind it has the memory
//! ```
//!
//! A [`Driver`] is asked to bind to a device that is a namespace or claims one, and gets a
//! [`Context`]. From it come the [`Namespace`] with its resource, the [`Region`] that makes data
//! durable and clears media errors, and what kind of device it is ([`Claim`]).
//!
//! libnvdimm may be a module, so nothing in here is part of the kernel image: all of it is compiled
//! into the driver.
//!
//! C headers: [`include/linux/nd.h`](srctree/include/linux/nd.h),
//! [`drivers/nvdimm/nd.h`](srctree/drivers/nvdimm/nd.h)

mod driver;
mod namespace;
pub mod pmem;
mod region;

pub use driver::{Driver, DriverFlags, Event, Registration};
pub use namespace::{Btt, Claim, EnabledNamespace, InfoBlock, Namespace, NdBtt, NdPfn};
pub use region::{Flushing, Region};

use crate::{
    bindings,
    block::disk::{GenDisk, Operations},
    device::Device,
    devres::BoundDevice,
    mm::node::Node,
};

/// A device that a driver is bound to, or just binding to.
///
/// # Invariants
///
/// The token's device is on the nvdimm bus, is a namespace or claims one, and its parent is a
/// region. Its lock is held.
pub struct Context<'a> {
    token: &'a BoundDevice,
}

impl<'a> Context<'a> {
    /// # Safety
    ///
    /// As the invariant of the type says.
    #[inline]
    unsafe fn new(token: &'a BoundDevice) -> Self {
        // INVARIANT: The caller's promise.
        Self { token }
    }

    /// The device.
    #[inline]
    pub fn device(&self) -> &'a Device {
        self.token.device()
    }

    #[inline]
    fn as_raw(&self) -> *mut bindings::device {
        self.device().as_raw()
    }

    /// The node that its memory is near, if it is near one.
    #[inline]
    pub fn node(&self) -> Node {
        Node::of(self.device())
    }

    /// What kind of device it is.
    #[inline]
    pub fn claim(&self) -> Claim<'a> {
        Claim::of(self.token)
    }

    /// The region that it is in.
    #[inline]
    pub fn region(&self) -> Region {
        Region::of(self.token)
    }

    /// Whether the region's memory is to get pages without an info block saying so: e820 and
    /// virtio memory. C: `pmem_should_map_pages()`.
    #[doc(alias = "pmem_should_map_pages")]
    #[inline]
    pub fn should_map_pages(&self) -> bool {
        // SAFETY: By the invariant a device that libnvdimm knows.
        unsafe { bindings::pmem_should_map_pages(self.as_raw()) }
    }

    /// Makes a disk of this device read-only or writable, as its region is. May sleep. C:
    /// `nvdimm_check_and_set_ro()`.
    #[doc(alias = "nvdimm_check_and_set_ro")]
    #[inline]
    pub fn check_and_set_read_only<T: Operations>(&self, disk: &GenDisk<T>) {
        if core::ptr::eq(disk.parent(), self.device()) {
            // SAFETY: The disk is added under a device whose parent is a region.
            unsafe { bindings::nvdimm_check_and_set_ro(disk.as_raw()) };
        }
    }
}
