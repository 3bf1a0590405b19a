// SPDX-License-Identifier: GPL-2.0

//! The hook by which teardown of a pgmap revokes its pages from files.
//!
//! A filesystem may be mounted when the driver of its device is unbound. Its files then have pages
//! that are about to lose their `struct page`. Only fs/dax can find these files, but mm must not
//! depend on it, so fs/dax registers a function here.
//!
//! This file encapsulates the promise that the registered function is built in.

use super::ZoneDevicePage;
use crate::sync::SetOnce;

/// A function that removes the pages of the page's pgmap from the files of the filesystem that this
/// page belongs to, and from page tables. Returns whether there were any.
///
/// It sleeps, and takes locks of the filesystem, so its caller must not hold any.
pub type RevokeHook = fn(ZoneDevicePage<'_>) -> bool;

static REVOKE_HOOK: SetOnce<RevokeHook> = SetOnce::new();

/// Registers the function that revokes pages from files. Any context.
///
/// Only the first call has an effect. A teardown that begins earlier does not wait for files.
///
/// # Examples
///
/// ```
/// use kernel::mm::memremap::{set_revoke_hook, ZoneDevicePage};
///
/// /// Finds no files, so it removes no pages from any.
/// fn revoke(_page: ZoneDevicePage<'_>) -> bool {
///     false
/// }
///
/// fn init() {
///     // SAFETY: This code is built in, so the function stays.
///     unsafe { set_revoke_hook(revoke) };
/// }
/// ```
///
/// # Safety
///
/// The function must be built in: it is never unregistered.
pub unsafe fn set_revoke_hook(hook: RevokeHook) {
    let _ = REVOKE_HOOK.populate(hook);
}

/// Returns the function that revokes pages from files, or `None` if fs/dax in Rust is not built.
/// Any context.
pub fn revoke_hook() -> Option<RevokeHook> {
    REVOKE_HOOK.as_ref().copied()
}
