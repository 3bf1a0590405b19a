// SPDX-License-Identifier: GPL-2.0-only

//! Page tables of processes, for whoever puts something into them.
//!
//! ```text
//!   Slot ---- lock() ----> Found::Vacant ---- install(Leaf) ----> mapped
//!                     \
//!                      +-> Found::Occupied -- allow_stores(frame) --> writable
//! ```
//!
//! An entry can change until its table is locked. So nothing can be put into a [`Slot`]: locking it
//! tells what is there, and that decides what can be done. Where there is nothing, a [`Leaf`] can be
//! installed. What is there stays, and can only be opened for stores, by who can name its frame. Both
//! are the lock at the same time; it is let go when they are dropped.
//!
//! The lock order is C's: a page table lock comes after all that sleeps, and before the records of
//! the memory that is mapped.
//!
//! What reads page tables without any lock is elsewhere: `arch/x86/mm/gup/`.

mod entry;
mod slot;

pub use entry::{Entry, Frames, Leaf, Level, Pmd, Pte, Pud};
pub use slot::{Found, Occupied, OtherFrame, Slot, Table, Upper, Vacant};
