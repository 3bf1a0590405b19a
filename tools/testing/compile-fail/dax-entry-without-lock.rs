// SPDX-License-Identifier: GPL-2.0

//! An entry that another task has locked must not be removed, and one with memory not without taking
//! the file from the owners of its pages.

//@ within: fs/dax/dax.rs
//@ error: E0133 call to unsafe function `EntryArray::<'_, '_>::remove`

use crate::{
    entry::Size,
    entry_array::Cursor,
    entry_lock::{get_unlocked, UnlockedSlot},
    mapping::DaxMapping,
};

fn remove(mapping: &DaxMapping) {
    let mut cursor = Cursor::new(mapping, 0, Size::Pte);
    let mut array = cursor.lock();
    //@ wrong
    array.load();
    array.remove();
    //@ right
    if let UnlockedSlot::Entry(found) = get_unlocked(&mut array, Size::Pte) {
        found.remove(false);
    }
    //@ end
}
