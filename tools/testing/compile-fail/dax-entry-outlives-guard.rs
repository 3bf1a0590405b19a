// SPDX-License-Identifier: GPL-2.0

//! An entry for device memory that is stored after the device was killed would not be found by the
//! teardown of its pgmap.

//@ within: fs/dax/dax.rs
//@ error: E0505 cannot move out of `guard` because it is borrowed

use crate::{
    direct_access::DaxReadGuard,
    entry::{NewEntry, Size},
    entry_lock::LockedEntry,
};
use kernel::iomap::Iomap;

fn store(locked: &mut LockedEntry<'_, '_>, iomap: Iomap<'_>) {
    let guard = DaxReadGuard::new();
    let Ok(memory) = guard.entry_memory(iomap, 0, Size::Pte) else {
        return;
    };
    let new = NewEntry::for_memory(&memory);
    //@ wrong
    drop(guard);
    drop(locked.replace(new, false));
    //@ right
    drop(locked.replace(new, false));
    drop(guard);
    //@ end
}
