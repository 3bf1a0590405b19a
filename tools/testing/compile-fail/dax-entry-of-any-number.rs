// SPDX-License-Identifier: GPL-2.0

//! An entry made of any number, such as the shadow of an evicted folio, would lead to PFNs that are
//! not memory of the file.

//@ within: fs/dax/dax.rs
//@ error: E0423 cannot initialize a tuple struct which contains private fields

use crate::entry::{Entry, Size};

fn entry(number: usize) -> Entry {
    //@ wrong
    Entry(number)
    //@ right
    let _ = number;
    Entry::empty(Size::Pte)
    //@ end
}
