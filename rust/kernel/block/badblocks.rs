// SPDX-License-Identifier: GPL-2.0

//! Which sectors of a disk are known to be bad.
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
/// # Examples
///
/// ```
/// use kernel::block::badblocks::Badblocks;
///
/// let bad = KBox::pin_init(Badblocks::new(), GFP_KERNEL)?;
/// assert!(bad.is_empty());
/// bad.set(8, 2)?;
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

// SAFETY: The list has a lock of its own and no thread.
unsafe impl Send for Badblocks {}
// SAFETY: As for `Send`.
unsafe impl Sync for Badblocks {}

impl Badblocks {
    /// An empty list. Sleeps. C: `badblocks_init()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[doc(alias = "badblocks_init")]
    pub fn new() -> impl PinInit<Self, Error> {
        let init = |slot: *mut Self| {
            // SAFETY: The slot is valid for writes, and pinned from here on; the type is
            // transparent over `struct badblocks`.
            unsafe { Self::init_raw(slot.cast()) }
        };
        // SAFETY: On success the list is initialised, on an error nothing has to be given back.
        unsafe { pin_init_from_closure(init) }
    }

    /// The same for a list inside a C structure.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes, and its content does not move until [`Self::exit_raw`].
    pub(crate) unsafe fn init_raw(slot: *mut bindings::badblocks) -> Result {
        // SAFETY: The caller's promise; zero is valid for every field.
        unsafe { slot.write_bytes(0, 1) };
        // SAFETY: As above.
        to_result(unsafe { bindings::badblocks_init(slot, 1) })
    }

    /// Frees what an initialised list has.
    ///
    /// # Safety
    ///
    /// `slot` was initialised, and is not used any more.
    pub(crate) unsafe fn exit_raw(slot: *mut bindings::badblocks) {
        // SAFETY: The caller's promise.
        unsafe { bindings::badblocks_exit(slot) };
    }

    /// The list that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is initialised and stays so for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut bindings::badblocks) -> &'a Self {
        // SAFETY: The type is transparent over `struct badblocks`, and the caller vouches for the
        // rest.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// What C code takes.
    #[inline]
    pub(crate) const fn as_raw(&self) -> *mut bindings::badblocks {
        self.inner.get()
    }

    /// Whether nothing is bad: one load, for hot paths. Any context.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: By the invariant it is initialised; the count is read once.
        unsafe { addr_of!((*self.as_raw()).count).read_volatile() == 0 }
    }

    /// The first bad sector among `sectors` sectors from `from` on. Any context. C:
    /// `badblocks_check()`.
    ///
    /// C takes the number as an `int`; here a longer range is asked for in parts.
    #[doc(alias = "badblocks_check")]
    #[inline]
    pub fn first_bad(&self, from: u64, sectors: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        self.find(from, sectors)
    }

    #[cold]
    fn find(&self, mut from: u64, mut sectors: u64) -> Option<u64> {
        const MOST: u64 = 1 << 30;

        while sectors != 0 {
            let part = sectors.min(MOST);
            let (mut first, mut bad) = (0, 0);
            // SAFETY: The list is initialised; the part fits into an `int`.
            let found = unsafe {
                bindings::badblocks_check(self.as_raw(), from, part as c_int, &mut first, &mut bad)
            };
            if found != 0 {
                // C reports where the bad range begins, which may be before what was asked for.
                return Some(first.max(from));
            }
            from = from.checked_add(part)?;
            sectors = sectors.wrapping_sub(part);
        }
        None
    }

    /// Makes sectors bad, as acknowledged by the disk. Any context. C: `badblocks_set()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for more sectors than an `int` holds; `ENOSPC` if the list is full.
    #[doc(alias = "badblocks_set")]
    pub fn set(&self, from: u64, sectors: u64) -> Result {
        let sectors = c_int::try_from(sectors)?;
        // SAFETY: The list is initialised.
        let full = unsafe { bindings::badblocks_set(self.as_raw(), from, sectors, 1) };
        if full != 0 {
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Makes sectors good again. Interrupts have to be on, and are on after it. C:
    /// `badblocks_clear()`.
    #[doc(alias = "badblocks_clear")]
    pub fn clear(&self, from: u64, sectors: u64) {
        let Ok(sectors) = c_int::try_from(sectors) else {
            return;
        };
        if sectors != 0 {
            // A full list cannot hold two halves of a range; the range stays bad then.
            // SAFETY: The list is initialised.
            let _ = unsafe { bindings::badblocks_clear(self.as_raw(), from, sectors) };
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Badblocks {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariant it is initialised, and this comes once.
        unsafe { Self::exit_raw(self.as_raw()) };
    }
}
