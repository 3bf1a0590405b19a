// SPDX-License-Identifier: GPL-2.0

//! Tests of the page table walk of `get_user_pages_fast()`, on the host.
//!
//! The walk (`arch/x86/mm/gup/walk.rs`, and `pte.rs` with what an entry means) reads its tables
//! from behind a trait and has nothing of the kernel in it, so the very files that go into the
//! kernel are compiled here, once more, and walk tables that were made up:
//!
//! ```text
//!   memory    an array of words that is page tables, and a log of what was read
//!   invent    random worlds: tables, ranges of addresses, rights
//!   model     what the manual says of one address: slow, one page at a time, nothing shared
//!             with the walk, its constants neither
//!   seen      what the walk showed, and how to compare it
//! ```
//!
//! [`cases`](self) and [`entries`](self) are written out by hand; [`random`](self) compares millions of walks with the
//! model, with the arithmetic checked, and [`changing`](self) changes the tables meanwhile.
//!
//! `PAGETABLE_WORLDS` says how many worlds there are to be (the default takes some seconds), and
//! `PAGETABLE_SEED` with which to begin: a failure names its own.

#![cfg(test)]

mod pte;
// The kernel's oldest compiler has no `is_none_or()`.
#[allow(clippy::unnecessary_map_or)]
mod walk;

mod invent;
mod memory;
mod model;
mod seen;

mod cases;
mod changing;
mod entries;
mod random;
