// SPDX-License-Identifier: GPL-2.0

//! Tests of the page table walk of `get_user_pages_fast()`, on the host.
//!
//! The walk (`arch/x86/mm/gup/walk.rs` and `pte.rs`) and the entries
//! (`rust/kernel/arch/x86/pgtable.rs`) use nothing of the kernel, and the walk reads its tables
//! through a trait. So the same files that are built into the kernel are compiled here (by symbolic
//! links), and walk invented tables:
//!
//! ```text
//!   memory    an array of words that is page tables, and a log of the reads
//!   invent    random worlds: tables, ranges of addresses, rights
//!   model     what the manual says about one address: slow, one page at a time, with nothing
//!             shared with the walk, not even constants
//!   seen      what the walk showed, and the comparison with the model
//! ```
//!
//! [`cases`](self) and [`entries`](self) are written by hand. [`random`](self) compares millions of
//! walks with the model, with checked arithmetic, and [`changing`](self) changes the tables during
//! the walk.
//!
//! `PAGETABLE_WORLDS` is the number of worlds (the default takes some seconds), and
//! `PAGETABLE_SEED` is the first seed: a failure prints its seed.

#![cfg(test)]

mod pgtable;
mod pte;
mod walk;

mod invent;
mod memory;
mod model;
mod seen;

mod cases;
mod changing;
mod entries;
mod random;
