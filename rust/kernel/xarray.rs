// SPDX-License-Identifier: GPL-2.0

//! XArrays: sparse arrays of pointers, indexed by `usize`, that are read without locks.
//!
//! This is the part of the XArray that a table of ranges needs: a range of indices refers to one
//! object, lookups run under RCU in any context, and changes are rare and may sleep. (Upstream's
//! type of this name owns its entries and takes the lock for each access.)
//!
//! The array does not own its entries. The caller of [`XArray::store_range`] promises that the
//! object stays valid until it was erased *and* a grace period has passed. A lookup returns a
//! reference that borrows from the [`rcu::Guard`], so it cannot be used after the read-side
//! critical section.
//!
//! ```text
//!   store_range ----> found by load/find ----> erase_range ----> synchronize_rcu ----> may be freed
//!                    (borrows from a Guard)   (new readers do
//!                                              not find it)
//! ```
//!
//! The unsafe code here encapsulates an initialised `struct xarray`, and the walk over its nodes in
//! [`XArray::load`].
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
/// Each entry points to a `T` that is valid, and accessed only through shared references, from
/// before it is stored until a grace period after it was erased. Its address is a multiple of 4, so
/// that it is not mistaken for an internal entry.
///
/// # Examples
///
/// ```
/// use kernel::{sync::rcu, xarray::XArray};
///
/// static SEVEN: u64 = 7;
/// let array = KBox::pin_init(XArray::<u64>::new(), GFP_KERNEL)?;
/// // SAFETY: A static is never freed.
/// unsafe { array.store_range(0x1000, 0x11ff, (&SEVEN).into(), GFP_KERNEL)? };
/// {
///     // SAFETY: Nothing sleeps until the guard is dropped.
///     let guard = unsafe { rcu::read_lock() };
///     assert_eq!(array.load(0x11ff, &guard), Some(&7));
///     assert_eq!(array.load(0x1200, &guard), None);
///     // A range that contains the entry finds it, although neither end is in the entry.
///     assert!(array.find(0, usize::MAX, &guard).is_some());
///     assert!(array.find(0x1200, usize::MAX, &guard).is_none());
/// }
/// array.erase_range(0x1000, 0x11ff)?;
/// // SAFETY: Nothing sleeps in this statement.
/// assert!(array.load(0x1100, &unsafe { rcu::read_lock() }).is_none());
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "xarray")]
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub struct XArray<T> {
    #[pin]
    inner: Opaque<bindings::xarray>,
    _entries: PhantomData<*const T>,
}

// SAFETY: The array does not own its entries: a thread that it is sent to can only get shared
// references to them, which `T: Sync` allows.
unsafe impl<T: Sync> Send for XArray<T> {}
// SAFETY: Several threads can get shared references to the entries at once, which `T: Sync` allows.
// Changes take the lock of the array.
unsafe impl<T: Sync> Sync for XArray<T> {}

impl<T> XArray<T> {
    /// Creates an empty array. C: `xa_init()`.
    #[doc(alias = "xa_init")]
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: The array has no entries.
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::xarray| {
                // SAFETY: `slot` is valid for writes, and the structure does not move afterwards.
                unsafe { bindings::xa_init(slot) }
            }),
            _entries: PhantomData,
        })
    }

    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct xarray` that stays valid for `'a`. Each entry
    /// must point to a `T` at an address that is a multiple of 4, and must stay valid, and be
    /// accessed only through shared references, until a grace period after it was erased.
    #[inline]
    pub const unsafe fn from_raw<'a>(ptr: *mut bindings::xarray) -> &'a Self {
        // INVARIANT: The caller promises what the type invariants say of the entries.
        // SAFETY: The type is transparent over `struct xarray`, and the caller promises that `ptr`
        // is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the entry at `index`. Any context. C: `xa_load()`.
    #[doc(alias = "xa_load")]
    #[inline]
    pub fn load<'rcu>(&self, index: usize, rcu: &'rcu rcu::Guard) -> Option<&'rcu T> {
        // SAFETY: `self` is an initialised array. It is not freed before the section of the guard
        // ends, because it is borrowed for this call and nodes are freed after a grace period.
        let entry = unsafe { node::load(addr_of!((*self.inner.get()).xa_head), index, rcu) };
        // SAFETY: By the type invariants an entry is valid until a grace period after it was
        // erased, so at least until the section of the guard, in which it was found, ends.
        NonNull::new(entry.cast::<T>()).map(|entry| unsafe { entry.as_ref() })
    }

    /// Returns the first entry at an index from `first` to `last`, inclusive, and that index. Any
    /// context. C: `xa_find()`.
    #[doc(alias = "xa_find")]
    pub fn find<'rcu>(
        &self,
        first: usize,
        last: usize,
        _rcu: &'rcu rcu::Guard,
    ) -> Option<(usize, &'rcu T)> {
        let mut index = first as _;
        // SAFETY: `self` is an initialised array, and `index` is valid for reads and writes.
        // `XA_PRESENT` matches all entries.
        let entry = unsafe {
            bindings::xa_find(
                self.inner.get(),
                &mut index,
                last as _,
                bindings::XA_PRESENT,
            )
        };
        // SAFETY: By the type invariants an entry is valid until a grace period after it was
        // erased, so at least until the section of the guard, in which it was found, ends.
        NonNull::new(entry.cast::<T>()).map(|entry| (index, unsafe { entry.as_ref() }))
    }

    /// Stores `entry` at every index from `first` to `last`, inclusive. Sleeps if `flags` permit
    /// that. C: `xa_store_range()`.
    ///
    /// Earlier entries of the range are replaced. The store is not atomic: a reader may see the
    /// entry at the beginning of the range before it is stored at the end.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if `first` is greater than `last`, or if the address of `entry` is not a
    /// multiple of 4; `ENOMEM` if there is no memory for a node. In the latter case a part of the
    /// range may hold `entry`, because C does not undo it: the caller must
    /// [erase](Self::erase_range) the range before `entry` is freed.
    ///
    /// # Safety
    ///
    /// `entry` must be valid, and be accessed only through shared references, until it was erased
    /// and a grace period has passed, even if this function returns an error.
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
        // INVARIANT: The caller promises what the type invariants say of the entry, and the
        // alignment was checked.
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

    /// Erases every index from `first` to `last`, inclusive. Sleeps. C: `xa_store_range()` of
    /// `NULL`.
    ///
    /// Readers that have found an entry before may use it until their read-side critical section
    /// ends.
    ///
    /// # Errors
    ///
    /// Returns `EINVAL` if `first` is greater than `last`; `ENOMEM` if an entry must be split and
    /// there is no memory for that, which does not happen for a range that was stored by one call.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{sync::rcu, xarray::XArray};
    ///
    /// let array = KBox::pin_init(XArray::<u64>::new(), GFP_KERNEL)?;
    /// assert!(array.erase_range(1, 0).is_err());
    /// array.erase_range(0, 511)?;
    /// rcu::synchronize_rcu();
    /// # Ok::<(), Error>(())
    /// ```
    pub fn erase_range(&self, first: usize, last: usize) -> Result {
        if first > last {
            return Err(EINVAL);
        }
        // SAFETY: `self` is an initialised array. The type invariants say nothing of an empty
        // index.
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
        // SAFETY: `self` is an initialised array, which no other code can access any more. C frees
        // the nodes, and does not access the entries.
        unsafe { bindings::xa_destroy(self.inner.get()) };
    }
}

/// Returns the errno if the entry is one, otherwise 0. C: `xa_err()`.
fn xa_err(entry: *mut c_void) -> i32 {
    const MAX_ERRNO: isize = bindings::MAX_ERRNO as isize;

    // An internal entry has `10` in its two lowest bits; one that holds an errno is negative.
    let value = entry as isize;
    if value & 3 == 2 && (-MAX_ERRNO..0).contains(&(value >> 2)) {
        (value >> 2) as i32
    } else {
        0
    }
}
