// SPDX-License-Identifier: GPL-2.0

//! What the mock platform of `tools/testing/nvdimm` looks at in the driver for persistent memory.
//!
//! Its modules are linked from the same objects, but with `__pmem_direct_access()` replaced by a
//! function of its own, which reads `struct pmem_device`. So the driver's [`Memory`] has a [`PmemDevice`] of
//! that layout, and the driver goes through that symbol. Whoever does not replace it gets what the driver has
//! defined with [`export_direct_access!`](crate::export_direct_access).
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

/// Memory that C code can look at.
///
/// # Invariants
///
/// `view` describes `memory`.
#[pin_data]
pub struct Memory<H: FailureHandler> {
    #[pin]
    view: PmemDevice,
    memory: DeviceMemory<H>,
}

impl<H: FailureHandler> Memory<H> {
    /// The memory, with an empty list of bad blocks. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if it is too long for C.
    #[inline]
    pub fn new(memory: DeviceMemory<H>) -> impl PinInit<Self, Error> {
        // INVARIANT: The view is made of the memory.
        try_pin_init!(Self {
            view <- PmemDevice::new(&memory),
            memory,
        })
    }

    /// What C code sees.
    #[inline]
    pub fn view(&self) -> &PmemDevice {
        &self.view
    }
}

impl<H: FailureHandler> Deref for Memory<H> {
    type Target = DeviceMemory<H>;

    #[inline]
    fn deref(&self) -> &DeviceMemory<H> {
        &self.memory
    }
}

/// A driver's memory as C code sees it. C: `struct pmem_device`.
///
/// # Invariants
///
/// It is part of a [`Memory`]. The structure is initialised, its list of bad blocks included; but
/// for that list nothing in it changes.
#[doc(alias = "pmem_device")]
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub struct PmemDevice {
    #[pin]
    inner: Opaque<bindings::pmem_device>,
}

// SAFETY: But for the list of bad blocks, which has its own lock, nothing changes.
unsafe impl Send for PmemDevice {}
// SAFETY: As for `Send`.
unsafe impl Sync for PmemDevice {}

impl PmemDevice {
    /// For [`Memory::new`].
    #[inline]
    fn new<H: FailureHandler>(memory: &DeviceMemory<H>) -> impl PinInit<Self, Error> + '_ {
        let init = move |slot: *mut Self| -> Result {
            let raw = slot.cast::<bindings::pmem_device>();
            let (all, mapped) = (memory.reserved().len(), memory.range().len());
            // OVERFLOW: The data is a part of what is mapped.
            let data_offset = mapped.wrapping_sub(memory.data().len());
            // SAFETY: The slot is valid for writes and pinned from here on. Zero is valid for all
            // fields that are not set.
            unsafe {
                raw.write_bytes(0, 1);
                (*raw).phys_addr = memory.range().start();
                (*raw).data_offset = data_offset;
                (*raw).pfn_flags = memory.frame_flags().bits();
                (*raw).virt_addr = memory.address();
                (*raw).size = usize::try_from(all)?;
                (*raw).pfn_pad = u32::try_from(all.checked_sub(mapped).ok_or(EINVAL)?)?;
                Badblocks::init_raw(addr_of_mut!((*raw).bb))
            }
        };
        // SAFETY: On success all of it is initialised, on an error nothing is to be given back.
        unsafe { pin_init_from_closure(init) }
    }

    /// The bad sectors of the data.
    #[inline]
    pub fn badblocks(&self) -> &Badblocks {
        // SAFETY: By the invariant the list is initialised.
        unsafe { Badblocks::from_raw(addr_of_mut!((*self.inner.get()).bb)) }
    }

    /// Asks `__pmem_direct_access()`, whoever has defined it.
    ///
    /// # Errors
    ///
    /// Those of [`dax::Operations::direct_access`].
    #[doc(alias = "__pmem_direct_access")]
    #[inline]
    pub fn direct_access(
        &self,
        at: PageOffset,
        pages: usize,
        mode: AccessMode,
    ) -> Result<Access<'_>> {
        let raw = self.inner.get();
        // SAFETY: The function is either the driver's, by the macro, or the mock platform's. Both
        // answer with the memory that is described, which stays as long as we do.
        unsafe {
            dax::call_direct_access(at, pages, mode, |at, pages, mode, kaddr, pfn| {
                bindings::__pmem_direct_access(raw, at, pages, mode, kaddr, pfn)
            })
        }
    }

    /// Access to the data from the page `at` on, to its end.
    ///
    /// # Errors
    ///
    /// `ERANGE` at or behind the end.
    #[inline]
    pub fn access(&self, at: PageOffset) -> Result<Access<'_>> {
        let this = self.inner.get();
        // SAFETY: By the invariant nothing of these changes.
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
        // OVERFLOW: `new` has seen that `pfn_pad` is a part of `size`.
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
        // SAFETY: The memory is mapped from `virt_addr` on, for so many bytes. By the invariant it is
        // part of the same value as we are, and so mapped as long as that is borrowed.
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
        // SAFETY: By the invariant the list is initialised, and this comes once.
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
