// SPDX-License-Identifier: GPL-2.0
// Derived from `drivers/nvdimm/pmem.c` (`__pmem_direct_access()`) and `drivers/nvdimm/pmem.h`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! The layout of `struct pmem_device`, which the mock platform of `tools/testing/nvdimm` reads.
//!
//! The modules of the mock platform are linked from the same objects as the driver, but with
//! another `__pmem_direct_access()`, which reads `struct pmem_device`. So the [`Memory`] of the
//! driver includes a [`PmemDevice`] with that layout, and the driver calls that symbol for each
//! direct access:
//!
//! ```text
//!  PmemDevice::direct_access() --> __pmem_direct_access() -+-> the driver's function (a weak symbol,
//!                                                          |   see export_direct_access!)
//!                                                          +-> tools/testing/nvdimm/pmem-dax.c
//! ```
//!
//! This file encapsulates that structure, and the promise that its addresses are mapped.
//! Only nd_pmem uses it; it is not in the driver because the driver has no `unsafe` code.
//!
//! C header: [`drivers/nvdimm/pmem.h`](srctree/drivers/nvdimm/pmem.h)

use crate::{
    bindings,
    block::badblocks::Badblocks,
    dax::{self, serve_direct_access, Access, AccessMode, PageOffset},
    error::{Error, Result},
    ffi::{c_long, c_ulong, c_void},
    init::{pin_init_from_closure, PinInit},
    mm::device_memory::{DeviceMemory, FailureHandler},
    prelude::*,
    types::Opaque,
};
use core::{ops::Deref, ptr::addr_of_mut};

/// Device memory together with its description for C code.
///
/// # Invariants
///
/// `device` describes `memory`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::device_memory::DeviceMemory,
///     nvdimm::pmem::Memory,
/// };
///
/// /// Allocates the description of mapped memory, with an empty list of bad blocks.
/// fn describe(memory: DeviceMemory<()>) -> Result<Pin<KBox<Memory<()>>>> {
///     KBox::pin_init(Memory::new(memory), GFP_KERNEL)
/// }
/// ```
#[pin_data]
pub struct Memory<H: FailureHandler> {
    #[pin]
    device: PmemDevice,
    memory: DeviceMemory<H>,
}

impl<H: FailureHandler> Memory<H> {
    /// Creates the description of `memory`, with an empty list of bad blocks. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the sizes do not fit into C's fields.
    #[inline]
    pub fn new(memory: DeviceMemory<H>) -> impl PinInit<Self, Error> {
        // INVARIANT: The description is made from the memory.
        try_pin_init!(Self {
            device <- PmemDevice::new(&memory),
            memory,
        })
    }

    /// Returns the description for C code.
    #[inline]
    pub fn pmem_device(&self) -> &PmemDevice {
        &self.device
    }
}

impl<H: FailureHandler> Deref for Memory<H> {
    type Target = DeviceMemory<H>;

    #[inline]
    fn deref(&self) -> &DeviceMemory<H> {
        &self.memory
    }
}

/// The description of a driver's memory for C code. C: `struct pmem_device`.
///
/// # Invariants
///
/// The value is part of a [`Memory`]. The structure is initialised, including its list of bad
/// blocks, and nothing but that list changes.
#[doc(alias = "pmem_device")]
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub struct PmemDevice {
    #[pin]
    inner: Opaque<bindings::pmem_device>,
}

// SAFETY: The fields are constant except for the list of bad blocks, which has a lock of its own,
// so any thread may use and drop the value.
unsafe impl Send for PmemDevice {}
// SAFETY: Concurrent accesses read constant fields, or the list of bad blocks under its lock.
unsafe impl Sync for PmemDevice {}

impl PmemDevice {
    /// Creates the description, for [`Memory::new`].
    #[inline]
    fn new<H: FailureHandler>(memory: &DeviceMemory<H>) -> impl PinInit<Self, Error> + '_ {
        let init = move |slot: *mut Self| -> Result {
            let raw = slot.cast::<bindings::pmem_device>();
            let (all, mapped) = (memory.reserved().len(), memory.range().len());
            // OVERFLOW: The data is a part of what is mapped.
            let data_offset = mapped.wrapping_sub(memory.data().len());
            // SAFETY: The slot is valid for writes and pinned from here on, and the type is
            // transparent over the structure. Zero is valid for all fields that are not set.
            unsafe {
                raw.write_bytes(0, 1);
                (*raw).phys_addr = memory.range().start();
                (*raw).data_offset = data_offset;
                (*raw).pfn_flags = memory.pfn_flags().bits();
                (*raw).virt_addr = memory.address();
                (*raw).size = usize::try_from(all)?;
                (*raw).pfn_pad = u32::try_from(all.checked_sub(mapped).ok_or(EINVAL)?)?;
                Badblocks::init_raw(addr_of_mut!((*raw).bb))
            }
        };
        // SAFETY: On success all fields are initialised. The list of bad blocks comes last and owns
        // nothing if it fails, so there is nothing to release on an error.
        unsafe { pin_init_from_closure(init) }
    }

    /// Returns the list of bad sectors, counted from the start of the data. C: `pmem->bb`.
    #[inline]
    pub fn badblocks(&self) -> &Badblocks {
        // SAFETY: By the type invariants the list is initialised, and stays so until the value that
        // is borrowed is dropped.
        unsafe { Badblocks::from_raw(addr_of_mut!((*self.inner.get()).bb)) }
    }

    /// Calls `__pmem_direct_access()`, whichever definition the module is linked with.
    ///
    /// # Errors
    ///
    /// Those of [`dax::Operations::direct_access`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     dax::{AccessMode, PageOffset},
    ///     nvdimm::pmem::PmemDevice,
    /// };
    ///
    /// /// Returns whether the first page can be accessed.
    /// fn first_page_is_good(device: &PmemDevice) -> bool {
    ///     device.direct_access(PageOffset::new(0), 1, AccessMode::Normal).is_ok()
    /// }
    /// ```
    #[doc(alias = "__pmem_direct_access")]
    #[inline]
    pub fn direct_access(
        &self,
        at: PageOffset,
        pages: usize,
        mode: AccessMode,
    ) -> Result<Access<'_>> {
        let raw = self.inner.get();
        // SAFETY: The function is that of the driver, as exported by the macro, or that of the mock
        // platform. Both return pages of the memory that the structure describes. By the type
        // invariants it is part of the same value, so it stays mapped while `self` is borrowed.
        unsafe {
            dax::call_direct_access(at, pages, mode, |at, pages, mode, kaddr, pfn| {
                bindings::__pmem_direct_access(raw, at, pages, mode, kaddr, pfn)
            })
        }
    }

    /// Returns access to the data from the page `at` to the end, without regard to bad blocks.
    ///
    /// # Errors
    ///
    /// `ERANGE` if the page is beyond the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     dax::{Access, AccessMode, PageOffset},
    ///     nvdimm::pmem::PmemDevice,
    /// };
    ///
    /// /// Answers `__pmem_direct_access()`: no access to a device with bad blocks.
    /// fn direct_access(
    ///     device: &PmemDevice,
    ///     at: PageOffset,
    ///     _pages: usize,
    ///     _mode: AccessMode,
    /// ) -> Result<Access<'_>> {
    ///     if !device.badblocks().is_empty() {
    ///         return Err(EHWPOISON);
    ///     }
    ///     device.access(at)
    /// }
    /// ```
    #[inline]
    pub fn access(&self, at: PageOffset) -> Result<Access<'_>> {
        let this = self.inner.get();
        // SAFETY: By the type invariants these fields are initialised and constant, so reading them
        // is not a data race.
        let (size, pfn_pad, data_offset, phys_addr, pfn_flags, virt_addr) = unsafe {
            (
                (*this).size,
                (*this).pfn_pad,
                (*this).data_offset,
                (*this).phys_addr,
                (*this).pfn_flags,
                (*this).virt_addr,
            )
        };
        // OVERFLOW: `new` has checked that `pfn_pad` is a part of `size`.
        let mapped = (size as u64).wrapping_sub(pfn_pad.into());
        let offset = at
            .bytes()
            .and_then(|bytes| bytes.checked_add(data_offset))
            .filter(|offset| *offset < mapped)
            .ok_or(ERANGE)?;
        let left = mapped.wrapping_sub(offset);
        let pfn = bindings::pfn_t {
            val: (phys_addr.wrapping_add(offset) >> crate::page::PAGE_SHIFT) | pfn_flags,
        };
        // SAFETY: `mapped` bytes are mapped from `virt_addr` and `phys_addr` on, and the pages lie
        // inside of them. By the type invariants the mapping is part of the same value, so it stays
        // while `self` is borrowed.
        Ok(unsafe {
            Access::new(
                (left >> crate::page::PAGE_SHIFT) as usize,
                virt_addr.wrapping_byte_add(offset as usize),
                crate::mm::pfn_t::PfnT::from_raw(pfn),
            )
        })
    }
}

#[pinned_drop]
impl PinnedDrop for PmemDevice {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the list is initialised, and the value that contains it is
        // being dropped, so it is not used after this.
        unsafe { Badblocks::exit_raw(addr_of_mut!((*self.inner.get()).bb)) };
    }
}

/// The function of a driver that answers `__pmem_direct_access()`.
pub type DirectAccess =
    for<'a> fn(&'a PmemDevice, PageOffset, usize, AccessMode) -> Result<Access<'a>>;

/// Answers a call of `__pmem_direct_access()` from C by `function`. May sleep.
///
/// [`export_direct_access!`](crate::export_direct_access) calls it.
///
/// # Safety
///
/// `pmem` must point into a [`PmemDevice`] that stays valid and pinned for the call. `kaddr` and
/// `pfn` must each be null or valid for writes.
#[inline]
pub unsafe fn serve_pmem_direct_access(
    function: DirectAccess,
    pmem: *mut bindings::pmem_device,
    pgoff: c_ulong,
    pages: c_long,
    mode: bindings::dax_access_mode,
    kaddr: *mut *mut c_void,
    pfn: *mut bindings::pfn_t,
) -> c_long {
    // SAFETY: `PmemDevice` is transparent over `struct pmem_device`, and the caller guarantees that
    // `pmem` is in a value of that type for the call, so it can be borrowed that long.
    let device = unsafe { &*pmem.cast::<PmemDevice>() };
    let at = PageOffset::new(pgoff as u64);
    let mode = AccessMode::from_raw(mode);
    // SAFETY: The caller guarantees that both places are null or valid for writes.
    unsafe { serve_direct_access(pages, |pages| function(device, at, pages, mode), kaddr, pfn) }
}

/// Defines the weak C symbol `__pmem_direct_access()` by a function of the type
/// [`DirectAccess`](crate::nvdimm::pmem::DirectAccess).
///
/// Another definition of the symbol in the same module replaces this one, as that of the mock
/// platform does.
#[macro_export]
macro_rules! export_direct_access {
    ($function:path) => {
        // Rust 1.85 has no stable way to make a function weak. A second name for it can be weak.
        ::core::arch::global_asm!(
            ".weak __pmem_direct_access",
            ".set __pmem_direct_access, pmem_direct_access",
        );

        const _: () = {
            // Both branches must be of one type, so this checks against the C prototype.
            if true {
                $crate::bindings::__pmem_direct_access
            } else {
                pmem_direct_access
            };
        };

        /// Answers C's `__pmem_direct_access()`.
        ///
        /// # Safety
        ///
        /// `pmem` must point into a `PmemDevice` that stays valid for the call. `kaddr` and `pfn`
        /// must each be null or valid for writes.
        #[no_mangle]
        unsafe extern "C" fn pmem_direct_access(
            pmem: *mut $crate::bindings::pmem_device,
            pgoff: $crate::ffi::c_ulong,
            pages: $crate::ffi::c_long,
            mode: $crate::bindings::dax_access_mode,
            kaddr: *mut *mut $crate::ffi::c_void,
            pfn: *mut $crate::bindings::pfn_t,
        ) -> $crate::ffi::c_long {
            // SAFETY: This function has the same requirements as the one that it calls, so its
            // caller meets them.
            unsafe {
                $crate::nvdimm::pmem::serve_pmem_direct_access(
                    $function, pmem, pgoff, pages, mode, kaddr, pfn,
                )
            }
        }
    };
}
