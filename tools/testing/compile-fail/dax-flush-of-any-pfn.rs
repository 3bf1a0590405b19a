// SPDX-License-Identifier: GPL-2.0

//! CPU caches are written back through the linear mapping, in which not every PFN is.

//@ within: fs/dax/dax.rs
//@ error: E0308 mismatched types

use crate::{direct_access::DaxDeviceRef, entry_lock::LockedEntry};
use kernel::mm::pfn::Pfn;

fn flush(device: DaxDeviceRef<'_>, locked: &LockedEntry<'_, '_>, pfn: Pfn) {
    //@ wrong
    locked.mapping().clean(device, pfn, locked.index());
    //@ right
    let _ = pfn;
    locked.mapping().clean(device, locked.entry_ref(), locked.index());
    //@ end
}
