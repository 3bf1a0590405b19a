// SPDX-License-Identifier: GPL-2.0

//! Lists of the sectors of a disk that are known to be bad.
//!
//! This file encapsulates `struct badblocks`, which has a lock of its own and is initialised in
//! place.
//!
//! C header: [`include/linux/badblocks.h`](srctree/include/linux/badblocks.h)

use crate::{
    bindings,
    error::to_result,
    ffi::c_int,
    init::{pin_init_from_closure, PinInit},
    prelude::*,
    types::Opaque,
};
use core::ptr::addr_of;

/// A list of bad ranges of sectors. C: `struct badblocks`.
///
/// # Invariants
///
/// The structure is initialised.
///
/// # Examples
///
/// ```
/// use kernel::block::badblocks::Badblocks;
///
/// let bad = KBox::pin_init(Badblocks::new(), GFP_KERNEL)?;
/// assert!(bad.is_empty());
/// bad.set_bad(8, 2)?;
/// assert_eq!(bad.first_bad(0, 16), Some(8));
/// assert_eq!(bad.first_bad(10, 16), None);
/// bad.clear(8, 2);
/// assert!(bad.is_empty());
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "badblocks")]
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub struct Badblocks {
    #[pin]
    inner: Opaque<bindings::badblocks>,
}

// SAFETY: The list is not bound to the task that created it, so any thread may use and free it.
unsafe impl Send for Badblocks {}
// SAFETY: The functions that take a shared reference lock the list, or read one word of it.
unsafe impl Sync for Badblocks {}

impl Badblocks {
    /// Creates an empty list. Sleeps. C: `badblocks_init()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[doc(alias = "badblocks_init")]
    pub fn new() -> impl PinInit<Self, Error> {
        let init = |slot: *mut Self| {
            // SAFETY: The slot is valid for writes and pinned from here on, and the type is
            // transparent over `struct badblocks`.
            unsafe { Self::init_raw(slot.cast()) }
        };
        // SAFETY: On success the list is initialised. On an error it owns no memory, so there is
        // nothing to release.
        unsafe { pin_init_from_closure(init) }
    }

    /// Initialises a list inside a C structure. Sleeps. C: `badblocks_init()`.
    ///
    /// # Safety
    ///
    /// `slot` must be valid for writes, and the list must stay at that address until
    /// [`Self::exit_raw`].
    pub(crate) unsafe fn init_raw(slot: *mut bindings::badblocks) -> Result {
        // SAFETY: The caller guarantees that the slot is valid for writes, and zero is valid for
        // every field.
        unsafe { slot.write_bytes(0, 1) };
        // SAFETY: The structure is zeroed, and the caller keeps it at its address.
        to_result(unsafe { bindings::badblocks_init(slot, 1) })
    }

    /// Frees the memory of an initialised list. C: `badblocks_exit()`.
    ///
    /// # Safety
    ///
    /// `slot` must be initialised by [`Self::init_raw`], and must not be used after this.
    #[doc(alias = "badblocks_exit")]
    pub(crate) unsafe fn exit_raw(slot: *mut bindings::badblocks) {
        // SAFETY: The caller guarantees that the list is initialised and not used any more.
        unsafe { bindings::badblocks_exit(slot) };
    }

    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised list that stays valid for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::badblocks) -> &'a Self {
        // SAFETY: The type is transparent over `struct badblocks`, and the caller guarantees that
        // the list is initialised and valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the list as C functions take it.
    #[inline]
    pub(crate) const fn as_raw(&self) -> *mut bindings::badblocks {
        self.inner.get()
    }

    /// Returns whether no sector is bad. Any context.
    ///
    /// This reads one word without the lock, for hot paths.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: By the type invariants the list is initialised. The count may change
        // concurrently, hence one volatile read.
        unsafe { addr_of!((*self.as_raw()).count).read_volatile() == 0 }
    }

    /// Returns the first bad sector in the `sectors` sectors from `from` on. Any context.
    ///
    /// C takes the number of sectors as an `int`; here a longer range is checked in parts. C:
    /// `badblocks_check()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::block::badblocks::Badblocks;
    ///
    /// let bad = KBox::pin_init(Badblocks::new(), GFP_KERNEL)?;
    /// bad.set_bad(100, 50)?;
    /// // The first bad sector of the range, even if the bad sectors begin before the range.
    /// assert_eq!(bad.first_bad(120, 1), Some(120));
    /// // The range may be longer than an `int`.
    /// assert_eq!(bad.first_bad(0, 1 << 40), Some(100));
    /// assert_eq!(bad.first_bad(150, 1 << 40), None);
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "badblocks_check")]
    #[inline]
    pub fn first_bad(&self, from: u64, sectors: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        self.check(from, sectors)
    }

    /// Checks a range of a list that is not empty.
    #[cold]
    fn check(&self, mut from: u64, mut sectors: u64) -> Option<u64> {
        const MAX_SECTORS: u64 = 1 << 30;

        while sectors != 0 {
            let part = sectors.min(MAX_SECTORS);
            let (mut first, mut bad) = (0, 0);
            // SAFETY: By the type invariants the list is initialised. The part fits into an `int`,
            // and both outputs are valid for writes.
            let found = unsafe {
                bindings::badblocks_check(self.as_raw(), from, part as c_int, &mut first, &mut bad)
            };
            if found != 0 {
                // C returns the start of the bad range, which may be before the range checked.
                return Some(first.max(from));
            }
            from = from.checked_add(part)?;
            sectors = sectors.wrapping_sub(part);
        }
        None
    }

    /// Adds `sectors` sectors from `from` on, as acknowledged. Any context. C: `badblocks_set()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the number of sectors does not fit into an `int`; `ENOSPC` if the list is full.
    #[doc(alias = "badblocks_set")]
    pub fn set_bad(&self, from: u64, sectors: u64) -> Result {
        let sectors = c_int::try_from(sectors)?;
        // SAFETY: By the type invariants the list is initialised.
        let full = unsafe { bindings::badblocks_set(self.as_raw(), from, sectors, 1) };
        if full != 0 {
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Removes `sectors` sectors from `from` on. The caller must have interrupts enabled; they are
    /// enabled on return.
    ///
    /// If the list is full, and removing a part of a range would split it, the range stays. It also
    /// stays if the number of sectors does not fit into an `int`. C: `badblocks_clear()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::block::badblocks::Badblocks;
    ///
    /// let bad = KBox::pin_init(Badblocks::new(), GFP_KERNEL)?;
    /// bad.set_bad(0, 24)?;
    /// bad.clear(8, 8);
    /// assert_eq!(bad.first_bad(0, 8), Some(0));
    /// assert_eq!(bad.first_bad(8, 8), None);
    /// assert_eq!(bad.first_bad(8, 16), Some(16));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "badblocks_clear")]
    pub fn clear(&self, from: u64, sectors: u64) {
        let Ok(sectors) = c_int::try_from(sectors) else {
            return;
        };
        if sectors != 0 {
            // An error means that the list is full: then the range stays bad.
            // SAFETY: By the type invariants the list is initialised.
            let _ = unsafe { bindings::badblocks_clear(self.as_raw(), from, sectors) };
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Badblocks {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the list is initialised, and it is not used after this.
        unsafe { Self::exit_raw(self.as_raw()) };
    }
}
