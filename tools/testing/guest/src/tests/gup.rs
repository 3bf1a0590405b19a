// SPDX-License-Identifier: GPL-2.0

//! GUP on memory that is not DAX: the lockless walk has to take the same pages as the slow path,
//! for every kind of memory, and during concurrent changes.

mod cycle;
mod fast;
mod fork;
mod held;
mod levels;
mod order;
mod pkey;
mod storm;
mod undo;

pub use storm::idle;
