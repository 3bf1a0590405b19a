// SPDX-License-Identifier: GPL-2.0

//! XArray: a sparse array of pointers, indexed by `usize`, read without locks.
//!
//! This is the part of the XArray that a table of ranges needs: a range of indices refers to one
//! object, lookups run under RCU in any context, changes are rare and may sleep.
//!
//! The array does not own what it refers to. An object is put in by [`XArray::store_range`], whose
//! caller promises that it stays where it is until it was erased *and* a grace period has passed.
//! A lookup borrows the object from its [`rcu::Guard`], and cannot keep it for longer than that.
//!
//! ```text
//!   store_range ----> found by load/find ----> erase_range ----> rcu::synchronize_rcu ----> gone
//!                     (borrowed from a Guard)      (not found by new readers)
//! ```
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use crate::{
    alloc::Flags,
    bindings,
    error::{code::EINVAL, to_result, Result},
    init::PinInit,
    pin_init,
    prelude::*,
    sync::rcu,
    types::Opaque,
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    ptr::{addr_of, NonNull},
};

mod node;

/// An array of references to `T`. C: `struct xarray`.
///
/// # Invariants
///
/// Every entry is a pointer to a `T` that is valid and shared from before it was stored until a
/// grace period after it was erased. It is aligned to 4 bytes, so that it cannot be mistaken for
/// one of the array's internal entries.
///
/// # Examples
///
/// ```
/// use kernel::{sync::rcu, xarray::XArray};
///
/// static SEVEN: u64 = 7;
/// let array = KBox::pin_init(XArray::<u64>::new(), GFP_KERNEL)?;
/// // SAFETY: a static is never freed.
/// unsafe { array.store_range(0x1000, 0x11ff, (&SEVEN).into(), GFP_KERNEL)? };
/// {
///     let guard = rcu::read_lock();
///     assert_eq!(array.load(0x11ff, &guard), Some(&7));
///     assert_eq!(array.load(0x1200, &guard), None);
///     // A range that contains the entry finds it though neither end is in it.
///     assert!(array.find(0, usize::MAX, &guard).is_some());
///     assert!(array.find(0x1200, usize::MAX, &guard).is_none());
/// }
/// array.erase_range(0x1000, 0x11ff)?;
/// assert!(array.load(0x1100, &rcu::read_lock()).is_none());
/// # Ok::<(), Error>(())
/// ```
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub struct XArray<T> {
    #[pin]
    inner: Opaque<bindings::xarray>,
    _entries: PhantomData<*const T>,
}

// SAFETY: The array hands out shared references to `T` only, on whatever thread asks; it has its
// own lock.
unsafe impl<T: Sync> Send for XArray<T> {}
// SAFETY: As for `Send`.
unsafe impl<T: Sync> Sync for XArray<T> {}

impl<T> XArray<T> {
    /// An empty array. C: `xa_init()`.
    #[doc(alias = "xa_init")]
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: it has no entry.
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::xarray| {
                // SAFETY: `slot` is valid for writes and pinned from here on.
                unsafe { bindings::xa_init(slot) }
            }),
            _entries: PhantomData,
        })
    }

    /// An array that C code defines.
    ///
    /// # Safety
    ///
    /// `ptr` points to an initialised array that stays valid for `'a`, and whose entries are as
    /// the type's invariant says.
    #[inline]
    pub const unsafe fn from_raw<'a>(ptr: *mut bindings::xarray) -> &'a Self {
        // SAFETY: The type is transparent over `struct xarray`, and the caller vouches for the
        // rest.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// What is stored at `index`. C: `xa_load()`. Any context.
    #[doc(alias = "xa_load")]
    #[inline]
    pub fn load<'rcu>(&self, index: usize, rcu: &'rcu rcu::Guard) -> Option<&'rcu T> {
        // SAFETY: `self` is an initialised array, and the guard keeps its nodes.
        let entry = unsafe { node::load(addr_of!((*self.inner.get()).xa_head), index, rcu) };
        // SAFETY: By the invariant an entry is valid until a grace period after its erasure, so
        // for as long as the section that the guard stands for.
        NonNull::new(entry.cast::<T>()).map(|entry| unsafe { entry.as_ref() })
    }

    /// The first entry at an index from `first` to `last`, both included, with that index. C:
    /// `xa_find()`. Any context.
    #[doc(alias = "xa_find")]
    pub fn find<'rcu>(
        &self,
        first: usize,
        last: usize,
        _rcu: &'rcu rcu::Guard,
    ) -> Option<(usize, &'rcu T)> {
        let mut index = first as _;
        // SAFETY: `self` is an initialised array; `index` is ours. `XA_PRESENT` asks for any entry
        // that is not empty.
        let entry = unsafe {
            bindings::xa_find(
                self.inner.get(),
                &mut index,
                last as _,
                bindings::XA_PRESENT,
            )
        };
        // SAFETY: As in `load`.
        NonNull::new(entry.cast::<T>()).map(|entry| (index, unsafe { entry.as_ref() }))
    }

    /// Refers every index from `first` to `last`, both included, to `entry`. C:
    /// `xa_store_range()`. Sleeps if `flags` let it.
    ///
    /// Earlier entries of the range are replaced. It is not atomic: a reader may see the first
    /// part of the range before the last.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that is none, and for an `entry` whose address reads as one of the
    /// array's own; `ENOMEM`. A part of the range may refer to `entry` then: C leaves it there,
    /// and the caller has to [erase](Self::erase_range) it before `entry` goes.
    ///
    /// # Safety
    ///
    /// `entry` stays valid and shared until it was erased and a grace period has passed, also if
    /// this fails.
    #[doc(alias = "xa_store_range")]
    pub unsafe fn store_range(
        &self,
        first: usize,
        last: usize,
        entry: NonNull<T>,
        flags: Flags,
    ) -> Result {
        if first > last || entry.as_ptr() as usize & 3 != 0 {
            return Err(EINVAL);
        }
        // INVARIANT: The caller promises what the invariant asks of the entry; the alignment was
        // checked.
        // SAFETY: `self` is an initialised array.
        let old = unsafe {
            bindings::xa_store_range(
                self.inner.get(),
                first as _,
                last as _,
                entry.as_ptr().cast(),
                flags.as_raw(),
            )
        };
        to_result(xa_err(old))
    }

    /// Empties every index from `first` to `last`, both included. C: `xa_store_range()` of `NULL`.
    /// Sleeps.
    ///
    /// Readers that found an entry before may go on using it until the end of their section.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a range that is none; `ENOMEM` if an entry had to be split and could not be:
    /// never for a range that was stored as one.
    pub fn erase_range(&self, first: usize, last: usize) -> Result {
        if first > last {
            return Err(EINVAL);
        }
        // SAFETY: `self` is an initialised array; an empty entry keeps the invariant.
        let old = unsafe {
            bindings::xa_store_range(
                self.inner.get(),
                first as _,
                last as _,
                core::ptr::null_mut(),
                bindings::GFP_KERNEL,
            )
        };
        to_result(xa_err(old))
    }
}

#[pinned_drop]
impl<T> PinnedDrop for XArray<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: No one else can reach the array any more. The objects it refers to are not ours.
        unsafe { bindings::xa_destroy(self.inner.get()) };
    }
}

/// The errno in an entry that is one, else 0. C: `xa_err()`.
fn xa_err(entry: *mut c_void) -> i32 {
    const MAX_ERRNO: isize = bindings::MAX_ERRNO as isize;

    // An internal entry has `10` in its low bits; one that is an errno is negative.
    let value = entry as isize;
    if value & 3 == 2 && (-MAX_ERRNO..0).contains(&(value >> 2)) {
        (value >> 2) as i32
    } else {
        0
    }
}
