// SPDX-License-Identifier: GPL-2.0

//! Completions: waiting for an event that happens once.
//!
//! The unsafe code here encapsulates an initialised `struct completion`.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use crate::{bindings, init::PinInit, pin_init, prelude::*, time::Jiffies, types::Opaque};

/// A one-way signal from the task that completes an action to tasks that wait for it. C: `struct
/// completion`.
///
/// # Examples
///
/// ```
/// use kernel::sync::completion::Completion;
///
/// let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
/// assert!(!done.is_done());
/// done.complete_all();
/// assert!(done.is_done());
/// done.wait_for_completion();
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "completion")]
#[pin_data]
#[repr(transparent)]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: A completion has no ties to the thread that created it.
unsafe impl Send for Completion {}
// SAFETY: All methods only call C functions that take the lock of the completion, so they may be
// called from several threads at once.
unsafe impl Sync for Completion {}

impl Completion {
    /// Creates a completion that is not done. C: `init_completion()`.
    #[doc(alias = "init_completion")]
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` is valid for writes, and the structure does not move afterwards.
                unsafe { bindings::init_completion(slot) }
            }),
        })
    }

    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised `struct completion` that stays valid for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::completion) -> &'a Self {
        // SAFETY: The type is transparent over `struct completion`, and the caller promises that
        // `ptr` is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Wakes one waiter, the first. If there is none, the next one does not sleep. Any context. C:
    /// `complete()`.
    #[inline]
    pub fn complete(&self) {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Wakes all waiters. Later ones do not sleep. Any context. C: `complete_all()`.
    #[inline]
    pub fn complete_all(&self) {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Waits until the completion is done. Sleeps, and cannot be interrupted. C:
    /// `wait_for_completion()`.
    #[inline]
    pub fn wait_for_completion(&self) {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::wait_for_completion(self.inner.get()) };
    }

    /// Waits until the completion is done, or for `timeout` jiffies. Returns whether it is done.
    /// Sleeps, and cannot be interrupted. C: `wait_for_completion_timeout()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{sync::completion::Completion, time::msecs_to_jiffies};
    ///
    /// let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
    /// assert!(!done.wait_for_completion_timeout(msecs_to_jiffies(1)));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn wait_for_completion_timeout(&self, timeout: Jiffies) -> bool {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout as _) != 0 }
    }

    /// Returns whether a waiter would not sleep. Any context. C: `completion_done()`.
    #[doc(alias = "completion_done")]
    #[inline]
    pub fn is_done(&self) -> bool {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::completion_done(self.inner.get()) }
    }
}
