// SPDX-License-Identifier: GPL-2.0

//! A value that is set once, and from then on read by anybody.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::atomic::{AtomicU8, Ordering},
};

const EMPTY: u8 = 0;
const SETTING: u8 = 1;
const SET: u8 = 2;

/// A value that comes later than the structure it belongs to, and then stays.
///
/// # Invariants
///
/// * `state` goes from `EMPTY` over `SETTING` to `SET` and never back.
/// * `value` is initialised if `state` is `SET`, and is not written any more then.
/// * While `state` is `SETTING`, one caller of [`SetOnce::set`] alone touches `value`.
///
/// # Examples
///
/// ```
/// use kernel::sync::set_once::SetOnce;
///
/// let name = SetOnce::new();
/// assert_eq!(name.get(), None);
/// assert_eq!(name.set("pmem0"), Ok(()));
/// assert_eq!(name.set("pmem1"), Err("pmem1"));
/// assert_eq!(name.get(), Some(&"pmem0"));
/// ```
pub struct SetOnce<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: The value goes along.
unsafe impl<T: Send> Send for SetOnce<T> {}
// SAFETY: A shared reference lets one thread put a value in (`Send`) that others see (`Sync`).
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Without a value yet.
    pub const fn new() -> Self {
        // INVARIANT: Empty.
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Sets it. Any context.
    ///
    /// # Errors
    ///
    /// The value comes back if there is one already, or another thread is just setting it.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self
            .state
            .compare_exchange(EMPTY, SETTING, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return Err(value);
        }
        // SAFETY: By the invariant nobody else touches it: we are who made it `SETTING`.
        unsafe { (*self.value.get()).write(value) };
        // INVARIANT: Just initialised. Pairs with the acquire in `get`.
        self.state.store(SET, Ordering::Release);
        Ok(())
    }

    /// The value, once it is there. Any context.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != SET {
            return None;
        }
        // SAFETY: By the invariant it is initialised and not written any more.
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
        if *self.state.get_mut() == SET {
            // SAFETY: By the invariant it is initialised; nobody reads it after this.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}
