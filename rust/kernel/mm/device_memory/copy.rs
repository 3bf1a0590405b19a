// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.
// Derived from `drivers/nvdimm/pmem.c`.

//! Copying from and to device memory, and what follows when an error of the device was cleared.

use super::{DeviceMemory, FailureHandler};
use crate::{
    bindings,
    error::{code::EIO, Result},
    ffi::c_uint,
    mm::segment::{Source, Target},
};
#[cfg(CONFIG_MEMORY_FAILURE)]
use crate::{mm::pfn::Pfn, page::PAGE_SIZE};

impl<H: FailureHandler> DeviceMemory<H> {
    /// Returns the address of `len` bytes at byte `offset` of the data.
    ///
    /// # Errors
    ///
    /// `EIO` if they are not all part of the data.
    #[inline]
    fn at(&self, offset: u64, len: usize) -> Result<*mut u8> {
        let end = offset.checked_add(len as u64).ok_or(EIO)?;
        if end > self.data.len() {
            return Err(EIO);
        }
        // CAST: The data is mapped, so its length is a difference of addresses.
        Ok(self.start.as_ptr().wrapping_add(offset as usize))
    }

    /// Copies data from byte `offset` on to `to`, and survives bad memory. Does not sleep. C:
    /// `copy_mc_to_kernel()`.
    ///
    /// # Errors
    ///
    /// `EIO` if the memory is bad, or the bytes are not all part of the data.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{device_memory::DeviceMemory, segment::Target};
    ///
    /// /// Fills `to` with the first bytes of the data.
    /// fn read_start(memory: &DeviceMemory<()>, to: Target<'_>) -> Result {
    ///     memory.read(0, to)
    /// }
    /// ```
    #[doc(alias = "copy_mc_to_kernel")]
    #[inline]
    pub fn read(&self, offset: u64, to: Target<'_>) -> Result {
        let from = self.at(offset, to.len())?;
        let len = c_uint::try_from(to.len())?;
        // SAFETY: By the type invariants the bytes from `from` on are mapped, and by those of
        // `Target` the bytes of `to` can be written.
        let left = unsafe { bindings::copy_mc_to_kernel(to.as_mut_ptr().cast(), from.cast(), len) };
        if left != 0 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Copies `from` to the data from byte `offset` on, bypassing the caches of the CPU. Does not
    /// sleep. C: `memcpy_flushcache()`.
    ///
    /// # Errors
    ///
    /// `EIO` if the bytes are not all part of the data.
    #[doc(alias = "memcpy_flushcache")]
    #[inline]
    pub fn write(&self, offset: u64, from: Source<'_>) -> Result {
        let to = self.at(offset, from.len())?;
        // SAFETY: By the type invariants the bytes from `to` on are mapped, and by those of
        // `Source` the bytes of `from` can be read.
        unsafe {
            bindings::__memcpy_flushcache(to.cast(), from.as_ptr().cast(), from.len() as _);
        }
        Ok(())
    }

    /// Makes `len` bytes at byte `offset` of the data usable again, after the device has cleared an
    /// error in the first `cleared` of them: their pages are not poisoned any more, and the caches
    /// drop their contents. May sleep. C: `pmem_mkpage_present()`, `arch_invalidate_pmem()`.
    #[doc(alias = "pmem_mkpage_present")]
    #[doc(alias = "arch_invalidate_pmem")]
    pub fn mark_good(&self, offset: u64, cleared: usize, len: usize) {
        let Ok(address) = self.at(offset, len) else {
            return;
        };
        #[cfg(CONFIG_MEMORY_FAILURE)]
        if self.linear && self.has_pages() {
            let first = Pfn::containing(self.data.start().wrapping_add(offset));
            let pages = cleared.min(len) / PAGE_SIZE;
            // SAFETY: The data has pages, which stay while the memory is mapped.
            unsafe { clear_poison(first, pages) };
        }
        #[cfg(not(CONFIG_MEMORY_FAILURE))]
        let _ = (cleared, self.linear);
        // SAFETY: By the type invariants the bytes are mapped.
        unsafe { bindings::arch_invalidate_pmem(address.cast(), len) };
    }
}

/// Takes the mark of poison off `pages` pages from `first` on, and maps those that had it again. C:
/// `clear_mce_nospec()`.
///
/// # Safety
///
/// The PFNs must have `struct page`s that stay valid for the call.
#[cfg(CONFIG_MEMORY_FAILURE)]
#[doc(alias = "clear_mce_nospec")]
unsafe fn clear_poison(first: Pfn, pages: usize) {
    for index in 0..pages {
        // OVERFLOW: The caller promises that there are so many PFNs.
        let nr = first.nr().wrapping_add(index);
        // SAFETY: The caller promises that the PFN has a valid page. A page that was poisoned is
        // not in the linear mapping, and its memory is good again, so it may be mapped.
        unsafe {
            if bindings::TestClearPageHWPoison(bindings::pfn_to_page(nr)) {
                // An error leaves the page unmapped, as in C.
                let _ = bindings::clear_mce_nospec(nr);
            }
        }
    }
}
