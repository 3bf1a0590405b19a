// SPDX-License-Identifier: GPL-2.0

//! Which memory of a DAX device somebody may use, and what for.

use crate::{
    bindings,
    error::{Error, Result},
    ffi::{c_int, c_long, c_ulong, c_void},
    mm::pfn_t::PfnT,
    page::{PAGE_SHIFT, PAGE_SIZE},
};
use core::{marker::PhantomData, ptr::null_mut};

/// A page of a DAX device, counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageOffset(u64);

impl PageOffset {
    /// The page with this number.
    #[inline]
    pub const fn new(nr: u64) -> Self {
        Self(nr)
    }

    /// Its offset in bytes, unless that is more than 64 bits.
    #[inline]
    pub const fn bytes(self) -> Option<u64> {
        let bytes = self.0 << PAGE_SHIFT;
        if bytes >> PAGE_SHIFT == self.0 {
            Some(bytes)
        } else {
            None
        }
    }

    #[inline]
    pub(crate) const fn as_raw(self) -> c_ulong {
        self.0 as c_ulong
    }
}

/// What somebody wants access for. C: `enum dax_access_mode`.
#[doc(alias = "dax_access_mode")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To read and write. Bad memory is refused.
    Normal,
    /// To write over bad memory, by [`Operations::recovery_write`](super::Operations::recovery_write).
    Recovery,
}

impl Mode {
    /// From C's way to name it.
    #[doc(hidden)]
    #[inline]
    pub const fn from_raw(mode: bindings::dax_access_mode) -> Self {
        if mode == bindings::dax_access_mode_DAX_RECOVERY_WRITE {
            Self::Recovery
        } else {
            Self::Normal
        }
    }

    #[inline]
    const fn as_raw(self) -> bindings::dax_access_mode {
        match self {
            Self::Normal => bindings::dax_access_mode_DAX_ACCESS,
            Self::Recovery => bindings::dax_access_mode_DAX_RECOVERY_WRITE,
        }
    }
}

/// Memory that somebody may use directly.
///
/// # Invariants
///
/// `pages` pages from `address` on are mapped during `'m`, and `pfn` is the frame of the first.
#[derive(Clone, Copy)]
pub struct Access<'m> {
    pages: usize,
    address: *mut c_void,
    pfn: PfnT,
    _memory: PhantomData<&'m ()>,
}

impl Access<'_> {
    /// So many pages.
    ///
    /// # Safety
    ///
    /// As the invariant of the type says.
    #[inline]
    pub(crate) const unsafe fn new(pages: usize, address: *mut c_void, pfn: PfnT) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            pages,
            address,
            pfn,
            _memory: PhantomData,
        }
    }

    /// How many pages there are.
    #[inline]
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// The frame of the first.
    #[inline]
    pub const fn pfn(&self) -> PfnT {
        self.pfn
    }

    /// The address of the first.
    #[cfg(CONFIG_RUST_FS_DAX)]
    #[inline]
    pub(crate) const fn address(&self) -> *mut c_void {
        self.address
    }

    /// No more than `pages` of them.
    #[inline]
    #[must_use]
    pub fn at_most(self, pages: usize) -> Self {
        // INVARIANT: A part of what was there.
        Self {
            pages: self.pages.min(pages),
            ..self
        }
    }
}

/// Data for memory that may be bad.
///
/// # Invariants
///
/// `address` is what [`Operations::direct_access`](super::Operations::direct_access) has given for `at`, plus an offset into the
/// page; `len` bytes from there on are what it gave access to.
pub struct RecoveryWrite<'a> {
    at: PageOffset,
    address: *mut c_void,
    len: usize,
    data: *mut bindings::iov_iter,
    _data: PhantomData<&'a mut bindings::iov_iter>,
}

impl RecoveryWrite<'_> {
    /// What C code hands over.
    ///
    /// # Safety
    ///
    /// As the invariant of the type says, for as long as the value lives.
    #[inline]
    pub(super) const unsafe fn new(
        at: PageOffset,
        address: *mut c_void,
        len: usize,
        data: *mut bindings::iov_iter,
    ) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            at,
            address,
            len,
            data,
            _data: PhantomData,
        }
    }

    /// The page that it begins in.
    #[inline]
    pub const fn at(&self) -> PageOffset {
        self.at
    }

    /// How many bytes there are.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The offset of the first byte in its page.
    #[inline]
    pub fn offset_in_page(&self) -> usize {
        self.address as usize & (PAGE_SIZE - 1)
    }

    /// Copies the data, past the caches of the CPU, and returns how many bytes were copied. C:
    /// `_copy_from_iter_flushcache()`.
    #[doc(alias = "_copy_from_iter_flushcache")]
    #[inline]
    pub fn copy(self) -> usize {
        // SAFETY: By the invariant the memory may be written, and the data is ours for the time.
        unsafe { bindings::_copy_from_iter_flushcache(self.address, self.len, self.data) }
    }
}

/// Turns an answer to `->direct_access()` into what C wants.
///
/// # Safety
///
/// `kaddr` and `pfn` are each null or valid for writes.
#[doc(hidden)]
#[inline]
pub unsafe fn answer<'m>(
    pages: c_long,
    ask: impl FnOnce(usize) -> Result<Access<'m>>,
    kaddr: *mut *mut c_void,
    pfn: *mut bindings::pfn_t,
) -> c_long {
    let access = usize::try_from(pages).map_err(Error::from).and_then(ask);
    match access {
        Ok(access) => {
            // SAFETY: The caller's promise.
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

/// The other way round: asks a C function of that kind.
///
/// # Safety
///
/// `ask` answers as C's `->direct_access()` does: with an errno, or with as many pages as it
/// returns behind what it writes, which are mapped during `'m`.
#[inline]
pub(crate) unsafe fn ask<'m>(
    at: PageOffset,
    pages: usize,
    mode: Mode,
    ask: impl FnOnce(
        c_ulong,
        c_long,
        bindings::dax_access_mode,
        *mut *mut c_void,
        *mut bindings::pfn_t,
    ) -> c_long,
) -> Result<Access<'m>> {
    let (mut address, mut pfn) = (null_mut(), bindings::pfn_t { val: 0 });
    let pages = c_long::try_from(pages).unwrap_or(c_long::MAX);
    let answer = ask(at.as_raw(), pages, mode.as_raw(), &mut address, &mut pfn);
    match usize::try_from(answer) {
        // SAFETY: The caller's promise.
        Ok(pages) => Ok(unsafe { Access::new(pages, address, PfnT::from_raw(pfn)) }),
        Err(_) => Err(Error::from_errno(c_int::try_from(answer)?)),
    }
}
