// SPDX-License-Identifier: GPL-2.0

//! Splitting takes as many nodes as were allocated for it, and needs an entry of 2 MiB that this task
//! has locked.

//@ within: fs/dax/dax.rs
//@ error: E0133 call to unsafe function `entry_array::Cursor::<'a>::split`

use crate::{
    entry::{Entry, Size},
    entry_array::{Cursor, Gfp},
    entry_lock::LockedEntry,
};

fn split(cursor: &mut Cursor<'_>, locked: &mut LockedEntry<'_, '_>) {
    //@ wrong
    cursor.allocate();
    drop(cursor.split(Entry::empty(Size::Pte), Gfp::Kernel));
    //@ right
    cursor.allocate();
    let _ = locked.split(Gfp::Kernel);
    //@ end
}
