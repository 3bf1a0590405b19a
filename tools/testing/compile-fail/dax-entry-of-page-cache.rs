// SPDX-License-Identifier: GPL-2.0

//! A value entry in the mapping of a file with a page cache is the shadow of an evicted folio. Its
//! number must not be taken for PFNs, and entries of DAX must not take the place of folios.

//@ within: fs/dax/dax.rs
//@ error: E0308 mismatched types

use crate::{
    entry::Size,
    entry_array::{Cursor, Slot},
    mapping::DaxMapping,
};
use kernel::fs::inode::Inode;

fn is_hole(inode: &Inode) -> Option<bool> {
    //@ wrong
    let mapping = inode.mapping();
    //@ right
    let mapping = DaxMapping::of(inode)?;
    //@ end
    let mut cursor = Cursor::new(mapping, 0, Size::Pte);
    let slot = cursor.lock().load();
    Some(slot.entry().is_some_and(|entry| entry.is_zero()) || slot == Slot::Empty)
}
