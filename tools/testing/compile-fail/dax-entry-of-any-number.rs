// SPDX-License-Identifier: GPL-2.0

//! The pages of an entry exist only while a mapping has the entry, so an entry made of any number,
//! such as the shadow of an evicted folio, must not lead to pages.

//@ within: fs/dax/dax.rs
//@ error: E0133 call to unsafe function `EntryRef

use crate::{entry::Entry, entry_lock::LockedEntry, owner::EntryRef};

fn is_busy(number: usize, locked: &LockedEntry<'_, '_>) -> bool {
    let entry = Entry::from_word(number);
    //@ wrong
    let entry = entry.map(|entry| EntryRef::new(entry));
    //@ right
    let entry = entry.map(|_| locked.entry_ref());
    //@ end
    entry.is_some_and(|entry| entry.busy_page().is_some())
}
