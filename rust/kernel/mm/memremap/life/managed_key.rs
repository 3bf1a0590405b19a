// SPDX-License-Identifier: GPL-2.0

//! `devmap_managed_key`: whether there is FS DAX memory at all, so that dropping a page reference
//! has to look at what kind of page it is. C: `static_branch_inc()` and `static_branch_dec()`.

use super::{DevPagemap, MemoryType};
use crate::bindings;

pub(super) fn get(pgmap: &DevPagemap) {
    if pgmap.memory_type() == Some(MemoryType::FsDax) {
        // SAFETY: No preconditions; may sleep, as may the caller.
        unsafe { bindings::devmap_managed_key_inc() };
    }
}

pub(super) fn put(pgmap: &DevPagemap) {
    if pgmap.memory_type() == Some(MemoryType::FsDax) {
        // SAFETY: Balances the `get` when the mapping was started.
        unsafe { bindings::devmap_managed_key_dec() };
    }
}
