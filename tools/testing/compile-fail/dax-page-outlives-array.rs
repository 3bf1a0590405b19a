// SPDX-License-Identifier: GPL-2.0

//! A page of an entry may be gone as soon as its entry is neither locked nor in a locked array: the
//! device may be removed.

//@ within: fs/dax/dax.rs
//@ error: E0505 cannot move out of `found` because it is borrowed

use crate::{
    entry::Size,
    entry_array::Cursor,
    entry_lock::{scan, Scanned, WakeMode},
    mapping::DaxMapping,
};

fn is_busy(mapping: &DaxMapping) -> bool {
    let mut cursor = Cursor::new(mapping, 0, Size::Pte);
    let mut array = cursor.lock();
    let Scanned::Entry(found) = scan(&mut array, usize::MAX, None, |_| true) else {
        return false;
    };
    let page = found.entry_ref().page_at(0);
    //@ wrong
    found.put(WakeMode::Next);
    page.is_some_and(|page| page.is_busy())
    //@ right
    let is_busy = page.is_some_and(|page| page.is_busy());
    found.put(WakeMode::Next);
    is_busy
    //@ end
}
