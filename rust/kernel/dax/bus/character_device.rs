// SPDX-License-Identifier: GPL-2.0

//! The character device of a device of the dax bus, which names it to a filesystem.
//!
//! device_dax registers the `struct cdev` that is part of the DAX device, and initialises it anew each
//! time it is bound, whatever refers to it. A program that opened `/dev/dax0.0` then still has the
//! operations of device_dax, and could map memory that is a filesystem's now. So a device is refused
//! while that `struct cdev` is in use, and this one is another, which is counted.
//!
//! This file encapsulates a registered `struct cdev`.
//!
//! C header: [`include/linux/cdev.h`](srctree/include/linux/cdev.h)

use crate::{
    bindings, dev_warn,
    device::Device,
    error::{
        code::{EBUSY, ENOMEM},
        to_result, Result,
    },
};
use core::{
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut, NonNull},
};

/// The operations. They are built in, so they have no owner; the driver's module owns the `struct cdev`.
const OPERATIONS: bindings::file_operations = bindings::file_operations {
    llseek: Some(bindings::noop_llseek),
    // SAFETY: All fields are integers, or pointers or functions that may be null.
    ..unsafe { MaybeUninit::zeroed().assume_init() }
};

/// A registered character device. Dropping it removes it; programs that have it open may go on.
///
/// # Invariants
///
/// The device is registered, and the value owns a reference to it.
pub(super) struct CharacterDevice(NonNull<bindings::cdev>);

// SAFETY: A character device may be removed by any task.
unsafe impl Send for CharacterDevice {}
// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for CharacterDevice {}

impl CharacterDevice {
    /// Registers the character device of a device. Sleeps. C: `cdev_alloc()`, `cdev_add()`.
    ///
    /// # Errors
    ///
    /// `EBUSY`, with a line in the log, if a program has had the device open since device_dax was bound
    /// to it; `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `device` must be a device that is being bound to a driver, with its lock held.
    #[doc(alias = "cdev_add")]
    pub(super) unsafe fn new(device: *mut bindings::dev_dax) -> Result<Self> {
        // SAFETY: The caller guarantees a valid device with its lock held. No driver is bound to it, so
        // its own `struct cdev` is not registered, and is referenced only by files that are open.
        let in_use = unsafe {
            let own = (*bindings::dax_inode((*device).dax_dev))
                .__bindgen_anon_4
                .i_cdev;
            let count = addr_of!((*own).kobj.kref.refcount.refs.counter);
            count.read_volatile() != 0
        };
        if in_use {
            // SAFETY: The caller guarantees a valid device.
            let device = unsafe { Device::as_ref(addr_of_mut!((*device).dev)) };
            dev_warn!(
                device,
                "a program has it open since it was bound to device_dax, and could map its memory\n"
            );
            return Err(EBUSY);
        }
        // SAFETY: The function allocates a device with one reference.
        let cdev = NonNull::new(unsafe { bindings::cdev_alloc() }).ok_or(ENOMEM)?;
        // SAFETY: The device was just allocated and is not registered. The driver that the other one is
        // being bound to is set, the operations are a constant, and the parent is referenced.
        let added = to_result(unsafe {
            let raw = cdev.as_ptr();
            let dev = addr_of_mut!((*device).dev);
            (*raw).owner = (*(*dev).driver).owner;
            (*raw).ops = const { &OPERATIONS };
            bindings::cdev_set_parent(raw, addr_of_mut!((*dev).kobj));
            bindings::cdev_add(raw, (*dev).devt, 1)
        });
        if let Err(error) = added {
            // SAFETY: The device is not registered, so this drops its only reference.
            unsafe { bindings::kobject_put(addr_of_mut!((*cdev.as_ptr()).kobj)) };
            return Err(error);
        }
        // INVARIANT: It was just registered, with the reference of its allocation.
        Ok(Self(cdev))
    }
}

impl Drop for CharacterDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the device is registered, and the reference is given up here.
        unsafe { bindings::cdev_del(self.0.as_ptr()) };
    }
}
