// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Access to the memory of a DAX device while the device is known to be alive.
//!
//! A [`DaxReadGuard`] delays the killing of DAX devices: `kill_dax()` waits until every guard that
//! was taken before is dropped. So what a device returns, a [`DirectAccess`], borrows from the
//! guard and cannot outlive it.
//!
//! ```text
//!  DaxReadGuard::new() --> guard.access(extent, ..) --> DirectAccess<'guard> --> copy, zero, flush
//!                                                           |
//!                                                           v
//!                                                EntryMemory<'guard> --> DAX entry, page table
//! ```
//!
//! An [`EntryMemory`] is a direct access that has passed the checks for an entry of its size.
//!
//! This file encapsulates calls of the device's operations, and reads and writes of device memory by
//! address.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use crate::{debugfs::Reason, entry::Size, owner::EntryRef};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    dax::{call_direct_access, Access, AccessMode, PageOffset, ReadGuard},
    error::{
        code::{EFAULT, EHWPOISON, EINVAL, EIO, ENXIO, EOPNOTSUPP},
        to_result, Error, Result,
    },
    ffi::c_void,
    iomap::Iomap,
    iov_iter::IovIter,
    mm::{pfn::Pfn, pfn_t::PfnT},
    page::{PAGE_MASK, PAGE_SHIFT, PAGE_SIZE},
};

/// A guard that keeps DAX devices from being killed, and so gives access to the memory of the devices
/// of extents.
///
/// The holder may sleep.
#[must_use = "the section is closed at once when the guard is dropped"]
pub(crate) struct DaxReadGuard(#[expect(dead_code, reason = "it is dropped")] ReadGuard);

impl DaxReadGuard {
    /// Opens a section. Any context.
    #[inline]
    pub(crate) fn new() -> Self {
        Self(ReadGuard::new())
    }

    /// Returns access to up to `len` bytes of a file from `position` on, as far as they are
    /// contiguous on the device. The access starts at the beginning of the page of `position`. May
    /// sleep. C: `dax_iomap_direct_access()`, `dax_direct_access()`.
    ///
    /// # Errors
    ///
    /// Returns `EHWPOISON` for bad memory, unless `mode` is recovery; `ENXIO` if the device is
    /// dead; `EOPNOTSUPP` if the extent has no DAX device; `EFAULT` for memory that the kernel has
    /// not mapped; and other errors of the driver.
    #[doc(alias = "dax_iomap_direct_access")]
    #[doc(alias = "dax_direct_access")]
    #[inline]
    pub(crate) fn access<'r>(
        &'r self,
        iomap: Iomap<'_>,
        position: i64,
        len: usize,
        mode: AccessMode,
    ) -> Result<DirectAccess<'r>> {
        let at = iomap.dax_pgoff(position);
        let device = NonNull::new(iomap.dax_device()).ok_or(EOPNOTSUPP)?;
        // SAFETY: The filesystem of the extent holds the device, so it is valid. The SRCU section,
        // open for `'r`, keeps it from being killed, so the memory that it returns stays for as
        // long.
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
        // INVARIANT: The device has returned this memory for the page of the extent, and is not
        // killed while `self` is borrowed.
        Ok(DirectAccess {
            access,
            at,
            device: DaxDeviceRef(device, PhantomData),
        })
    }

    /// Returns memory that can back the entry of this size at `position` of the file. May sleep.
    ///
    /// # Errors
    ///
    /// Returns why the memory there cannot back the entry.
    #[inline]
    pub(crate) fn entry_memory<'r>(
        &'r self,
        iomap: Iomap<'_>,
        position: i64,
        size: Size,
    ) -> Result<EntryMemory<'r>, UnsuitableMemory> {
        let access = self
            .access(iomap, position, size.bytes(), AccessMode::Normal)
            .map_err(UnsuitableMemory::Inaccessible)?;
        EntryMemory::new(access, size)
    }

    /// Fills the page of the file at `position` with zeroes and flushes it. Sleeps. C:
    /// `dax_zero_page_range()`.
    ///
    /// # Errors
    ///
    /// Returns `EIO` for bad memory; `ENXIO` if the device is dead; `EOPNOTSUPP` if the extent has
    /// no DAX device; and other errors of the driver.
    #[doc(alias = "dax_zero_page_range")]
    #[inline]
    pub(crate) fn zero_page(&self, iomap: Iomap<'_>, position: i64) -> Result {
        let at = iomap.dax_pgoff(position).as_raw();
        let device = NonNull::new(iomap.dax_device()).ok_or(EOPNOTSUPP)?;
        // SAFETY: The filesystem of the extent holds the device, so it is valid; the SRCU section
        // is open.
        to_result(unsafe { bindings::dax_zero_page_range(device.as_ptr(), at, 1) })
    }
}

/// Returns the error that `read()` and `write()` report for an error of memory: `EIO` for bad
/// memory. C: `dax_mem2blk_err()`.
#[doc(alias = "dax_mem2blk_err")]
#[inline]
pub(crate) fn as_block_error(error: Error) -> Error {
    if error == EHWPOISON {
        EIO
    } else {
        error
    }
}

/// A DAX device that a filesystem holds. C: `struct dax_device`.
///
/// # Invariants
///
/// The device is valid for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct DaxDeviceRef<'a>(NonNull<bindings::dax_device>, PhantomData<&'a ()>);

impl DaxDeviceRef<'_> {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a DAX device that stays valid for the lifetime of the result.
    #[inline]
    pub(crate) unsafe fn from_raw(ptr: NonNull<bindings::dax_device>) -> Self {
        // INVARIANT: The caller promises that the device stays valid.
        Self(ptr, PhantomData)
    }

    /// Writes back the CPU caches for the memory of an entry, if the device needs it. C:
    /// `dax_flush()`.
    #[inline]
    pub(crate) fn flush_entry(self, entry: EntryRef<'_>) {
        let Some(phys) = entry.pfn().and_then(Pfn::phys) else {
            return;
        };
        let bytes = entry.size().bytes();
        // SAFETY: By the type invariants the device is valid. By those of `EntryRef` the PFNs have
        // a `struct page`, so they are in the linear mapping.
        unsafe { bindings::dax_flush(self.0.as_ptr(), bindings::__va(phys), bytes) };
    }
}

/// Device memory that may be accessed during `'r`.
///
/// Other code accesses it at the same time: processes have it mapped. So its bytes are copied, and
/// never borrowed.
///
/// # Invariants
///
/// `device` has returned `access` for the page `at`, which is where an extent of a file lies, and
/// is not killed during `'r`. So the memory is that of the file. It is mapped for the kernel: the
/// address is not null.
#[derive(Clone, Copy)]
pub(crate) struct DirectAccess<'r> {
    access: Access<'r>,
    at: PageOffset,
    device: DaxDeviceRef<'r>,
}

impl DirectAccess<'_> {
    /// Returns how many bytes may be accessed.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.access.pages() << PAGE_SHIFT
    }

    /// Returns the address of `len` bytes from `offset` on.
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

    /// Returns the address of the first page, of which all bytes may be read.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if there is less than a page.
    #[inline]
    pub(crate) fn page_address(&self) -> Result<*mut c_void> {
        self.range(0, PAGE_SIZE)
    }

    /// Fills `len` bytes from `offset` on with zeroes.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if there are fewer bytes.
    #[inline]
    pub(crate) fn zero(&self, offset: usize, len: usize) -> Result {
        let to = self.range(offset, len)?;
        // SAFETY: By the type invariants the range, which has just been checked, is mapped for the
        // kernel. It is written as a process would write it, and nothing borrows it.
        unsafe { bindings::memset(to, 0, len) };
        Ok(())
    }

    /// Copies `len` bytes at `other_offset` of `other` to `offset` here. C: `copy_mc_to_kernel()`.
    ///
    /// # Errors
    ///
    /// Returns `EIO` if some of the bytes are bad; `EINVAL` if one of the two has fewer bytes, or for
    /// 4 GiB and more.
    #[doc(alias = "copy_mc_to_kernel")]
    #[inline]
    pub(crate) fn copy_from(
        &self,
        offset: usize,
        other: &DirectAccess<'_>,
        other_offset: usize,
        len: usize,
    ) -> Result {
        let (to, from) = (self.range(offset, len)?, other.range(other_offset, len)?);
        let len = u32::try_from(len).map_err(|_| EINVAL)?;
        // SAFETY: By the type invariants both ranges, which have just been checked, are mapped for
        // the kernel.
        let left = unsafe { bindings::copy_mc_to_kernel(to, from, len) };
        if left == 0 {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Returns whether `len` bytes at `offset` are equal to those at `other_offset` of `other`.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if one of the two has fewer bytes.
    pub(crate) fn equals(
        &self,
        offset: usize,
        other: &DirectAccess<'_>,
        other_offset: usize,
        len: usize,
    ) -> Result<bool> {
        let (one, two) = (self.range(offset, len)?, other.range(other_offset, len)?);
        // SAFETY: By the type invariants both ranges, which have just been checked, are mapped for
        // the kernel.
        Ok(unsafe { bindings::memcmp(one, two, len) } == 0)
    }

    /// Writes back the CPU caches for `len` bytes from `offset` on, if the device needs it. C:
    /// `dax_flush()`.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if there are fewer bytes.
    #[doc(alias = "dax_flush")]
    #[inline]
    pub(crate) fn flush(&self, offset: usize, len: usize) -> Result {
        let from = self.range(offset, len)?;
        // SAFETY: By the type invariants the device is valid, and this is mapped memory of it.
        unsafe { bindings::dax_flush(self.device.0.as_ptr(), from, len) };
        Ok(())
    }

    /// Copies up to `len` bytes between `offset` and the buffers of a process. May sleep. Returns
    /// how many bytes were copied. C: `dax_copy_from_iter()`, `dax_copy_to_iter()`,
    /// `dax_recovery_write()`.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if there are fewer bytes here.
    #[doc(alias = "dax_copy_from_iter")]
    #[doc(alias = "dax_copy_to_iter")]
    #[doc(alias = "dax_recovery_write")]
    #[inline]
    pub(crate) fn transfer(
        &self,
        direction: Direction,
        offset: usize,
        len: usize,
        data: &mut IovIter,
    ) -> Result<usize> {
        let memory = self.range(offset, len)?;
        let (device, at, data) = (self.device.0.as_ptr(), self.at.as_raw(), data.as_raw());
        // SAFETY: By the type invariants the device is valid, and `memory` is mapped memory of it.
        // The exclusive borrow of `data` keeps other code from using the iterator.
        Ok(unsafe {
            match direction {
                Direction::Read => bindings::dax_copy_to_iter(device, at, memory, len, data),
                Direction::Write => bindings::dax_copy_from_iter(device, at, memory, len, data),
                Direction::RecoveryWrite => {
                    bindings::dax_recovery_write(device, at, memory, len, data)
                }
            }
        })
    }

    /// Returns why nothing was copied: `ENXIO` if the device has died since it gave access, which ends
    /// all copying; `EFAULT` if the process has no memory at its buffer. C: `dax_alive()`.
    #[doc(alias = "dax_alive")]
    #[cold]
    pub(crate) fn copied_nothing(&self) -> Error {
        // SAFETY: By the type invariants the device is valid; the section of the guard, in which it was
        // alive, is open.
        if unsafe { bindings::dax_alive(self.device.0.as_ptr()) } {
            EFAULT
        } else {
            ENXIO
        }
    }
}

/// The direction in which data is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device to the process.
    Read,
    /// From the process to the device.
    Write,
    /// From the process to the device, over bad memory.
    RecoveryWrite,
}

/// Returns the offset of `position` in its page, in bytes.
#[inline]
pub(crate) const fn offset_in_page(position: i64) -> usize {
    // CAST: Only the low bits are used.
    position as usize & !PAGE_MASK
}

/// Why device memory cannot back an entry.
#[derive(Clone, Copy)]
pub(crate) enum UnsuitableMemory {
    /// There is no access to it.
    Inaccessible(Error),
    /// Less of it is contiguous than the entry maps.
    Short,
    /// It is not aligned to the size of the entry.
    Misaligned,
    /// It has no `struct page`, which owner and references are kept in.
    NoMemmap,
}

impl UnsuitableMemory {
    /// Returns the error of a PTE fault, which needs the memory.
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Inaccessible(error) => error,
            Self::Short | Self::Misaligned | Self::NoMemmap => EINVAL,
        }
    }

    /// Returns the reason for which a PMD fault falls back.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Inaccessible(_) => Reason::Other,
            Self::Short => Reason::Short,
            Self::Misaligned => Reason::Device,
            Self::NoMemmap => Reason::NoMemmap,
        }
    }
}

/// Device memory that can back an entry: an entry is made from it, and processes get it mapped.
///
/// # Invariants
///
/// `access`, which is memory of a file, has at least as many pages as an entry of `size`. The first
/// PFN is a multiple of that number, and the PFNs have a `struct page`.
#[derive(Clone, Copy)]
pub(crate) struct EntryMemory<'r> {
    access: DirectAccess<'r>,
    size: Size,
}

impl<'r> EntryMemory<'r> {
    /// Checks that memory can back an entry of this size.
    ///
    /// # Errors
    ///
    /// Returns why it cannot.
    #[inline(always)]
    fn new(access: DirectAccess<'r>, size: Size) -> Result<Self, UnsuitableMemory> {
        if access.access.pages() < size.pages() {
            return Err(UnsuitableMemory::Short);
        }
        if access.access.pfn().pfn().nr() & size.colour() != 0 {
            return Err(UnsuitableMemory::Misaligned);
        }
        if !access.access.pfn().is_devmap() {
            return Err(UnsuitableMemory::NoMemmap);
        }
        // INVARIANT: Length, alignment and memmap have just been checked.
        Ok(Self { access, size })
    }

    /// Returns the access.
    #[inline(always)]
    pub(crate) fn access(&self) -> DirectAccess<'r> {
        self.access
    }

    /// Returns the size of the entry.
    #[inline(always)]
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Returns the first PFN, with flags.
    #[inline(always)]
    pub(crate) fn pfn(&self) -> PfnT {
        self.access.access.pfn()
    }
}
