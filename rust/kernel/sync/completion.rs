// SPDX-License-Identifier: GPL-2.0

//! Completions: wait for something to be done once.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use crate::{bindings, init::PinInit, pin_init, prelude::*, time::Jiffies, types::Opaque};

/// One-way signal from whoever does something to whoever waits for it. C: `struct completion`.
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
/// done.wait();
/// # Ok::<(), Error>(())
/// ```
#[pin_data]
#[repr(transparent)]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: `struct completion` is used from several threads by design; it has its own lock.
unsafe impl Send for Completion {}
// SAFETY: As for `Send`.
unsafe impl Sync for Completion {}

impl Completion {
    /// A completion that is not done yet. C: `init_completion()`.
    #[doc(alias = "init_completion")]
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` is valid for writes and pinned from here on.
                unsafe { bindings::init_completion(slot) }
            }),
        })
    }

    /// A completion that C code has in one of its structures.
    ///
    /// # Safety
    ///
    /// `ptr` points to an initialised `struct completion` that stays valid for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::completion) -> &'a Self {
        // SAFETY: The type is transparent over `struct completion`, and the caller vouches for
        // the rest.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Wakes one waiter, and one only. C: `complete()`. Any context.
    #[inline]
    pub fn complete(&self) {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::complete(self.inner.get()) };
    }

    /// Wakes all waiters, those that come later too. C: `complete_all()`. Any context.
    #[inline]
    pub fn complete_all(&self) {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::complete_all(self.inner.get()) };
    }

    /// Sleeps until it is done; cannot be interrupted. C: `wait_for_completion()`.
    #[doc(alias = "wait_for_completion")]
    #[inline]
    pub fn wait(&self) {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::wait_for_completion(self.inner.get()) };
    }

    /// Sleeps until it is done, for `timeout` jiffies at most; cannot be interrupted. Returns whether
    /// it is done. C: `wait_for_completion_timeout()`.
    #[doc(alias = "wait_for_completion_timeout")]
    #[inline]
    pub fn wait_for(&self, timeout: Jiffies) -> bool {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout as _) != 0 }
    }

    /// Whether a waiter would go through at once. C: `completion_done()`.
    #[doc(alias = "completion_done")]
    #[inline]
    pub fn is_done(&self) -> bool {
        // SAFETY: `self` is an initialised completion.
        unsafe { bindings::completion_done(self.inner.get()) }
    }
}
