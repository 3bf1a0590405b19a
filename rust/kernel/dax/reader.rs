// SPDX-License-Identifier: GPL-2.0

//! Access to the memory of a DAX device, for as long as the device is sure to be alive.
//!
//! A [`Reader`] keeps a device from being killed: who kills it waits until every reader is gone. So
//! what a device answers, a [`Direct`], borrows from the reader, and cannot be used after it.
//!
//! ```text
//!  Reader::new() ----> reader.access(map, ..) ----> Direct<'reader> ----> entry, page tables
//!                                                    copied, zeroed, flushed
//! ```
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use super::{call_direct_access, Access, AccessMode, PageOffset};
use crate::{
    bindings,
    error::{
        code::{EFAULT, EINVAL, EIO},
        to_result, Error, Result,
    },
    ffi::{c_int, c_void},
    iomap::Map,
    iov_iter::IovIter,
    mm::{pfn::Pfn, pfn_t::PfnT},
    page::{PAGE_MASK, PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
};
use core::{marker::PhantomData, ptr::NonNull};

/// Evidence that no DAX device is being killed. C: `dax_read_lock()`.
///
/// It may be held while sleeping.
///
/// # Invariants
///
/// The read-side section (SRCU) of that number is open, in this task.
#[must_use = "the section closes at once when the guard is dropped"]
pub struct Reader(c_int, PhantomData<*mut ()>);

impl Reader {
    /// Opens a section.
    #[doc(alias = "dax_read_lock")]
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        // INVARIANT: Just opened.
        // SAFETY: No preconditions; closed by `drop`.
        Self(unsafe { bindings::dax_read_lock() }, PhantomData)
    }

    /// Access to `len` bytes of a file from `position` on, as far as they are in one piece on the
    /// device: from the beginning of the page. May sleep. C: `dax_direct_access()`.
    ///
    /// # Errors
    ///
    /// `EHWPOISON` for bad memory, unless the access is for recovery; `ENXIO` if the device is
    /// dead; `EOPNOTSUPP` without one; `EFAULT` for memory that the kernel has not mapped; others
    /// of the driver.
    #[doc(alias = "dax_direct_access")]
    #[inline]
    pub fn access<'r>(
        &'r self,
        map: Map<'_>,
        position: i64,
        len: usize,
        mode: AccessMode,
    ) -> Result<Direct<'r>> {
        let at = map.page_at(position);
        let device = NonNull::new(map.dax_device()).ok_or(EOPNOTSUPP)?;
        // SAFETY: The filesystem that the extent is of has the device. The section is open for `'r`,
        // and no device is killed meanwhile.
        let access = unsafe {
            call_direct_access(
                at,
                len >> PAGE_SHIFT,
                mode,
                |at, pages, mode, address, pfn| {
                    bindings::dax_direct_access(device.as_ptr(), at, pages, mode, address, pfn)
                },
            )
        }?;
        if access.address().is_null() {
            return Err(EFAULT);
        }
        // INVARIANT: What the device has answered, and no device is killed while the reader is.
        Ok(Direct {
            access,
            at,
            device: Device(device, PhantomData),
        })
    }

    /// Fills a page of the file with zeroes, and flushes it. Sleeps. C: `dax_zero_page_range()`.
    ///
    /// # Errors
    ///
    /// `EIO` for bad memory; `ENXIO` if the device is dead; `EOPNOTSUPP` without one; others of the
    /// driver.
    #[doc(alias = "dax_zero_page_range")]
    #[inline]
    pub fn zero_page(&self, map: Map<'_>, position: i64) -> Result {
        let at = map.page_at(position).as_raw();
        let device = NonNull::new(map.dax_device()).ok_or(EOPNOTSUPP)?;
        // SAFETY: The filesystem that the extent is of has the device. The section is open.
        to_result(unsafe { bindings::dax_zero_page_range(device.as_ptr(), at, 1) })
    }
}

impl Drop for Reader {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant it is open.
        unsafe { bindings::dax_read_unlock(self.0) };
    }
}

/// Bad memory is an I/O error for who reads and writes. C: `dax_mem2blk_err()`.
#[doc(alias = "dax_mem2blk_err")]
#[inline]
pub fn as_block_error(error: Error) -> Error {
    if error == EHWPOISON {
        EIO
    } else {
        error
    }
}

/// A DAX device that a filesystem has.
///
/// # Invariants
///
/// It is valid for `'a`.
#[derive(Clone, Copy)]
pub struct Device<'a>(NonNull<bindings::dax_device>, PhantomData<&'a ()>);

impl Device<'_> {
    /// The device that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is valid as the type's invariant says.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::dax_device>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr, PhantomData)
    }

    /// Writes the CPU's caches for the frames back, if that is necessary. C: `dax_flush()`.
    #[inline]
    pub(super) fn flush_frames(self, pfn: Pfn, bytes: usize) {
        let Some(phys) = pfn.phys() else {
            return;
        };
        // SAFETY: A valid device; frames of an entry are in the linear mapping, because they have
        // pages.
        unsafe { bindings::dax_flush(self.0.as_ptr(), bindings::__va(phys), bytes) };
    }
}

/// Memory of a device that may be used as long as `'r`.
///
/// Others use it at the same time: user space has it mapped. So its bytes are copied, and no
/// reference to them is given out.
///
/// # Invariants
///
/// `access` is what `device` has answered for `at`, and the device is not killed during `'r`: the
/// memory is mapped for the kernel, and not null.
#[derive(Clone, Copy)]
pub struct Direct<'r> {
    access: Access<'r>,
    at: PageOffset,
    device: Device<'r>,
}

impl Direct<'_> {
    /// How many bytes there are.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.access.pages() << PAGE_SHIFT
    }

    /// How many pages there are.
    #[inline]
    pub fn pages(&self) -> usize {
        self.access.pages()
    }

    /// The first frame.
    #[inline]
    pub fn pfn(&self) -> PfnT {
        self.access.pfn()
    }

    /// The address of `len` bytes from `offset` on.
    #[inline]
    fn range(&self, offset: usize, len: usize) -> Result<*mut c_void> {
        match offset.checked_add(len) {
            Some(end) if end <= self.bytes() => Ok(self
                .access
                .address()
                .cast::<u8>()
                .wrapping_add(offset)
                .cast()),
            _ => Err(EINVAL),
        }
    }

    /// The address of its first page, for a page that is copied by C.
    #[inline]
    pub(crate) fn page_address(&self) -> Result<*mut c_void> {
        self.range(0, PAGE_SIZE)
    }

    /// Fills `len` bytes from `offset` on with zeroes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many.
    #[inline]
    pub fn zero(&self, offset: usize, len: usize) -> Result {
        let to = self.range(offset, len)?;
        // SAFETY: By the invariant the memory is mapped; it is written as a program would.
        unsafe { bindings::memset(to, 0, len) };
        Ok(())
    }

    /// Copies `len` bytes from `offset` on from the same place of another. C:
    /// `copy_mc_to_kernel()`.
    ///
    /// # Errors
    ///
    /// `EIO` if some of them are bad; `EINVAL` if there are not as many.
    #[doc(alias = "copy_mc_to_kernel")]
    #[inline]
    pub fn copy_from(&self, other: &Direct<'_>, offset: usize, len: usize) -> Result {
        let (to, from) = (self.range(offset, len)?, other.range(offset, len)?);
        // SAFETY: By the invariant both are mapped.
        let left = unsafe { bindings::dax_copy_mc(to, from, len) };
        if left == 0 {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Whether `len` bytes from `offset` on are the same as those of another from `other_offset`
    /// on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many.
    pub fn equals(
        &self,
        offset: usize,
        other: &Direct<'_>,
        other_offset: usize,
        len: usize,
    ) -> Result<bool> {
        let (one, two) = (self.range(offset, len)?, other.range(other_offset, len)?);
        // SAFETY: By the invariant both are mapped.
        Ok(unsafe { bindings::memcmp(one, two, len) } == 0)
    }

    /// Writes the CPU's caches for `len` bytes from `offset` on back, if the device needs that. C:
    /// `dax_flush()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many.
    #[doc(alias = "dax_flush")]
    #[inline]
    pub fn flush(&self, offset: usize, len: usize) -> Result {
        let from = self.range(offset, len)?;
        // SAFETY: A valid device, and memory of it.
        unsafe { bindings::dax_flush(self.device.0.as_ptr(), from, len) };
        Ok(())
    }

    /// Copies up to `len` bytes from or to a process, as `way` says. May sleep. Returns how many
    /// were copied. C: `dax_copy_from_iter()`, `dax_copy_to_iter()`, `dax_recovery_write()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many.
    #[doc(alias = "dax_copy_from_iter")]
    #[doc(alias = "dax_copy_to_iter")]
    #[doc(alias = "dax_recovery_write")]
    #[inline]
    pub fn transfer(
        &self,
        way: Way,
        offset: usize,
        len: usize,
        data: &mut IovIter,
    ) -> Result<usize> {
        let memory = self.range(offset, len)?;
        let (device, at, data) = (self.device.0.as_ptr(), self.at.as_raw(), data.as_raw());
        // SAFETY: A valid device that is not killed, memory of it, and data that is ours.
        Ok(unsafe {
            match way {
                Way::Read => bindings::dax_copy_to_iter(device, at, memory, len, data),
                Way::Write => bindings::dax_copy_from_iter(device, at, memory, len, data),
                Way::Recover => bindings::dax_recovery_write(device, at, memory, len, data),
            }
        })
    }
}

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a process.
    Read,
    /// From a process.
    Write,
    /// From a process, over bad memory.
    Recover,
}

/// What is left of `position` in its page.
#[inline]
pub const fn offset_in_page(position: i64) -> usize {
    // CAST: The low bits only.
    position as usize & !PAGE_MASK
}
