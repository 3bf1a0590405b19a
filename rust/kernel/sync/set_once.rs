// SPDX-License-Identifier: GPL-2.0

//! A container that is populated at most once, and then read without locks.
//!
//! The unsafe code here encapsulates the one write of the value: the state decides which thread may
//! write it, and no thread gets a reference before the write is complete.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicU8, Ordering},
};

const EMPTY: u8 = 0;
const POPULATING: u8 = 1;
const POPULATED: u8 = 2;

/// A container that can be populated at most once.
///
/// It suits a value that becomes known only after the structure that holds it was shared. Readers
/// see either no value or the complete value, which never changes afterwards.
///
/// # Invariants
///
/// * `state` goes from `EMPTY` over `POPULATING` to `POPULATED` and never back.
/// * If `state` is `POPULATED`, `value` is initialised and is not written any more.
/// * While `state` is `POPULATING`, only the caller of [`SetOnce::populate`] that set it accesses
///   `value`.
///
/// # Examples
///
/// ```
/// use kernel::sync::SetOnce;
///
/// let name = SetOnce::new();
/// assert_eq!(name.as_ref(), None);
/// assert!(name.populate("pmem0"));
/// assert!(!name.populate("pmem1"));
/// assert_eq!(name.as_ref(), Some(&"pmem0"));
/// ```
pub struct SetOnce<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: Sending the container sends the value, and `T` is `Send`.
unsafe impl<T: Send> Send for SetOnce<T> {}
// SAFETY: Through a shared reference one thread may store a value that another thread drops, so `T`
// must be `Send`; and several threads may get `&T`, so `T` must be `Sync`. Both are required. The
// accesses to `value` are ordered by `state`, so they are not data races.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Creates an empty container.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::sync::SetOnce;
    ///
    /// static FIRST_NODE: SetOnce<usize> = SetOnce::new();
    /// assert!(FIRST_NODE.as_ref().is_none());
    /// ```
    pub const fn new() -> Self {
        // INVARIANT: The state is `EMPTY`, of which the invariants demand nothing.
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Stores `value`, and returns whether it was stored. Any context.
    ///
    /// If the container already has a value, or another thread is storing one at this moment, the
    /// container does not change, and `value` is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::sync::SetOnce;
    ///
    /// let once = SetOnce::new();
    /// assert!(once.populate(7));
    /// assert!(!once.populate(8));
    /// ```
    pub fn populate(&self, value: T) -> bool {
        if self
            .state
            .compare_exchange(EMPTY, POPULATING, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        // SAFETY: This thread changed the state to `POPULATING`, so by the type invariants no other
        // thread accesses `value`.
        unsafe { (*self.value.get()).write(value) };
        // INVARIANT: `value` was just initialised. The release pairs with the acquire in `as_ref`,
        // so a reader that sees `POPULATED` also sees the value.
        self.state.store(POPULATED, Ordering::Release);
        true
    }

    /// Returns a reference to the value, or `None` if the container is not populated. Any context.
    #[inline]
    pub fn as_ref(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != POPULATED {
            return None;
        }
        // SAFETY: The state is `POPULATED`, so by the type invariants the value is initialised and
        // is not written as long as the container is borrowed.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == POPULATED {
            // SAFETY: The state is `POPULATED`, so the value is initialised. `&mut self` shows that
            // no reference to it exists, and it is not accessed after the drop.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}
