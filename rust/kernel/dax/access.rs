// SPDX-License-Identifier: GPL-2.0

//! Direct access to the memory of a DAX device: offsets, modes, and what the driver returns.
//!
//! The functions at the end convert between [`Access`] and the return value and output pointers of
//! C's `->direct_access()`, in both directions; their `unsafe` code writes through and reads from
//! those pointers.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use crate::{
    bindings,
    error::{Error, Result},
    ffi::{c_int, c_long, c_ulong, c_void},
    mm::pfn_t::PfnT,
    page::{PAGE_SHIFT, PAGE_SIZE},
};
use core::{marker::PhantomData, ptr::null_mut};

/// The number of a page of a DAX device, counted from the start of the device. C: `pgoff_t pgoff`.
///
/// # Examples
///
/// ```
/// use kernel::{dax::PageOffset, page::PAGE_SIZE};
///
/// assert_eq!(PageOffset::new(2).bytes(), Some(2 * PAGE_SIZE as u64));
/// assert_eq!(PageOffset::new(u64::MAX).bytes(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageOffset(u64);

impl PageOffset {
    /// Creates the offset of the page number `nr`.
    #[inline]
    pub const fn new(nr: u64) -> Self {
        Self(nr)
    }

    /// Returns the offset in bytes, or `None` if it does not fit into 64 bits.
    #[inline]
    pub const fn bytes(self) -> Option<u64> {
        let bytes = self.0 << PAGE_SHIFT;
        if bytes >> PAGE_SHIFT == self.0 {
            Some(bytes)
        } else {
            None
        }
    }

    /// Returns the offset in pages, as C functions take it.
    #[inline]
    pub const fn as_raw(self) -> c_ulong {
        self.0 as c_ulong
    }
}

/// The purpose of an access. C: `enum dax_access_mode`.
#[doc(alias = "dax_access_mode")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessMode {
    /// Reading and writing. Access to bad memory is refused. C: `DAX_ACCESS`.
    #[doc(alias = "DAX_ACCESS")]
    Normal,
    /// Overwriting bad memory by
    /// [`Operations::recovery_write`](super::Operations::recovery_write). C: `DAX_RECOVERY_WRITE`.
    #[doc(alias = "DAX_RECOVERY_WRITE")]
    Recovery,
}

impl AccessMode {
    /// Converts from C's constant. Values that are not known are [`AccessMode::Normal`].
    #[inline]
    pub(crate) const fn from_raw(mode: bindings::dax_access_mode) -> Self {
        if mode == bindings::dax_access_mode_DAX_RECOVERY_WRITE {
            Self::Recovery
        } else {
            Self::Normal
        }
    }

    /// Converts to C's constant.
    #[inline]
    const fn as_raw(self) -> bindings::dax_access_mode {
        match self {
            Self::Normal => bindings::dax_access_mode_DAX_ACCESS,
            Self::Recovery => bindings::dax_access_mode_DAX_RECOVERY_WRITE,
        }
    }
}

/// Contiguous memory of a DAX device that the kernel can access directly during `'m`.
///
/// # Invariants
///
/// `pfn` is the PFN of the first of `pages` contiguous pages, which exist during `'m`. They are
/// mapped from `address` on, unless that is null: then the kernel has no mapping of them.
#[derive(Clone, Copy)]
pub struct Access<'m> {
    pages: usize,
    address: *mut c_void,
    pfn: PfnT,
    _memory: PhantomData<&'m ()>,
}

impl Access<'_> {
    /// Creates an access to `pages` pages that begin at `address` and `pfn`.
    ///
    /// # Safety
    ///
    /// `pfn` must be the PFN of the first of `pages` contiguous pages, which must exist during the
    /// lifetime of the value, and stay mapped from `address` on unless that is null.
    #[inline]
    pub(crate) const unsafe fn new(pages: usize, address: *mut c_void, pfn: PfnT) -> Self {
        // INVARIANT: The caller guarantees the pages, their mapping, and that `pfn` is the first.
        Self {
            pages,
            address,
            pfn,
            _memory: PhantomData,
        }
    }

    /// Returns the number of pages.
    #[inline]
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// Returns the PFN of the first page, with its flags.
    #[inline]
    pub const fn pfn(&self) -> PfnT {
        self.pfn
    }

    /// Returns the kernel address of the first page, or null if the kernel has no mapping of it.
    ///
    /// The memory may be written by user space at the same time, and reading it may raise a machine
    /// check.
    #[inline]
    pub const fn address(&self) -> *mut c_void {
        self.address
    }

    /// Returns the access limited to the first `pages` pages.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::dax::Access;
    ///
    /// /// Returns the first of the pages, as some firmware clears errors in one page at a time only.
    /// fn first_page(access: Access<'_>) -> Access<'_> {
    ///     access.at_most(1)
    /// }
    /// ```
    #[inline]
    #[must_use]
    pub fn at_most(self, pages: usize) -> Self {
        // INVARIANT: The pages are the first ones of those that `self` gives access to.
        Self {
            pages: self.pages.min(pages),
            ..self
        }
    }
}

/// A write to memory that may be bad, which [`Operations::recovery_write`] carries out.
///
/// # Invariants
///
/// `address` is what [`Operations::direct_access`] returned for the page `at`, plus an offset into
/// that page. The access covers `len` bytes from there on. `data` is a valid iterator that the
/// value borrows exclusively.
///
/// # Examples
///
/// ```
/// use kernel::{dax::RecoveryWrite, page::PAGE_SIZE};
///
/// /// Writes whole pages only: the device clears errors by the page.
/// fn recovery_write(write: RecoveryWrite<'_>) -> usize {
///     if write.offset_in_page() != 0 || write.len() % PAGE_SIZE != 0 {
///         return 0;
///     }
///     write.copy()
/// }
/// ```
///
/// [`Operations::recovery_write`]: super::Operations::recovery_write
/// [`Operations::direct_access`]: super::Operations::direct_access
pub struct RecoveryWrite<'a> {
    at: PageOffset,
    address: *mut c_void,
    len: usize,
    data: *mut bindings::iov_iter,
    _data: PhantomData<&'a mut bindings::iov_iter>,
}

impl RecoveryWrite<'_> {
    /// Creates a write from the arguments of C's `->recovery_write()`.
    ///
    /// # Safety
    ///
    /// While the value lives, `address` must be what `->direct_access()` returned for the page
    /// `at`, plus an offset into that page, with `len` bytes accessible from there on; and `data`
    /// must point to a valid iterator that nothing else uses.
    #[inline]
    pub(super) const unsafe fn new(
        at: PageOffset,
        address: *mut c_void,
        len: usize,
        data: *mut bindings::iov_iter,
    ) -> Self {
        // INVARIANT: The caller guarantees what the type requires of address, length and iterator.
        Self {
            at,
            address,
            len,
            data,
            _data: PhantomData,
        }
    }

    /// Returns the page that contains the first byte.
    #[inline]
    pub const fn at(&self) -> PageOffset {
        self.at
    }

    /// Returns the number of bytes to write.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the offset of the first byte in its page, in bytes.
    #[inline]
    pub fn offset_in_page(&self) -> usize {
        self.address as usize & (PAGE_SIZE - 1)
    }

    /// Faults the buffers with the data in, and returns whether all of it can be read. Sleeps.
    ///
    /// A driver that destroys the old content before it copies asks this first. The answer may be
    /// out of date by the time the data is copied.
    ///
    /// C: `fault_in_iov_iter_readable()`.
    #[doc(alias = "fault_in_iov_iter_readable")]
    #[inline]
    pub fn fault_in(&self) -> bool {
        // SAFETY: By the type invariants the iterator is valid and not used elsewhere. The function
        // does not advance it.
        unsafe { bindings::fault_in_iov_iter_readable(self.data, self.len) == 0 }
    }

    /// Copies the data as [`copy`](Self::copy) does, to an address at the start of a page, and
    /// returns the number of bytes in pages that were copied as a whole. If the data ends early, the
    /// rest of it is not taken from the buffers. May sleep.
    #[inline]
    pub fn copy_pages(self) -> usize {
        let data = self.data;
        let copied = self.copy();
        let rest = copied % PAGE_SIZE;
        if rest != 0 {
            // SAFETY: `data` was borrowed exclusively by `self`, whose lifetime has not ended. It has
            // just been advanced by more than `rest` bytes, or as many.
            unsafe { bindings::iov_iter_revert(data, rest) };
        }
        copied.wrapping_sub(rest)
    }

    /// Copies the data, bypassing the CPU caches, and returns the number of bytes copied. May
    /// sleep.
    ///
    /// C: `_copy_from_iter_flushcache()`.
    #[doc(alias = "_copy_from_iter_flushcache")]
    #[inline]
    pub fn copy(self) -> usize {
        // SAFETY: By the type invariants `len` bytes from `address` on are mapped, and the iterator
        // is valid and not used elsewhere, so the function may write the former and advance the
        // latter.
        unsafe { bindings::_copy_from_iter_flushcache(self.address, self.len, self.data) }
    }
}

/// Answers a call of C's `->direct_access()`: calls `access` with the number of pages, stores its
/// result through `kaddr` and `pfn`, and returns the number of pages or an errno.
///
/// # Safety
///
/// `kaddr` and `pfn` must each be null or valid for writes.
#[inline]
pub(crate) unsafe fn serve_direct_access<'m>(
    pages: c_long,
    access: impl FnOnce(usize) -> Result<Access<'m>>,
    kaddr: *mut *mut c_void,
    pfn: *mut bindings::pfn_t,
) -> c_long {
    let access = usize::try_from(pages).map_err(Error::from).and_then(access);
    match access {
        Ok(access) => {
            // SAFETY: The caller guarantees that both pointers are valid for writes unless they are
            // null, which is checked before each write.
            unsafe {
                if !kaddr.is_null() {
                    kaddr.write(access.address);
                }
                if !pfn.is_null() {
                    pfn.write(access.pfn.into_raw());
                }
            }
            c_long::try_from(access.pages).unwrap_or(c_long::MAX)
        }
        // CAST: An errno fits.
        Err(error) => error.to_errno() as c_long,
    }
}

/// Calls a C function with the signature of `->direct_access()` for `pages` pages from `at` on, and
/// returns its result as an [`Access`].
///
/// # Errors
///
/// Those of `function`.
///
/// # Safety
///
/// `function` must return either an errno, or a number of contiguous pages that exist during `'m`.
/// Then it must have stored, through its last two arguments, the address from which on they stay
/// mapped (or null) and the PFN of the first.
#[inline]
pub unsafe fn call_direct_access<'m>(
    at: PageOffset,
    pages: usize,
    mode: AccessMode,
    function: impl FnOnce(
        c_ulong,
        c_long,
        bindings::dax_access_mode,
        *mut *mut c_void,
        *mut bindings::pfn_t,
    ) -> c_long,
) -> Result<Access<'m>> {
    let (mut address, mut pfn) = (null_mut(), bindings::pfn_t { val: 0 });
    let pages = c_long::try_from(pages).unwrap_or(c_long::MAX);
    let returned = function(at.as_raw(), pages, mode.as_raw(), &mut address, &mut pfn);
    match usize::try_from(returned) {
        // SAFETY: The caller guarantees that a number which is not negative counts pages that exist
        // during `'m`, with the address and first PFN that were stored.
        Ok(pages) => Ok(unsafe { Access::new(pages, address, PfnT::from_raw(pfn)) }),
        Err(_) => Err(Error::from_errno(c_int::try_from(returned)?)),
    }
}
