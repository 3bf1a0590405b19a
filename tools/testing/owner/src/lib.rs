// SPDX-License-Identifier: GPL-2.0

//! All interleavings of files that add and remove entries for the same pages, and of the teardown
//! of their pgmap, on the host.
//!
//! `fs/dax/owner_state.rs` uses nothing of the kernel, so the same file that is built into the
//! kernel is compiled here (by a symbolic link) and changes the pages of an invented memory:
//!
//! ```text
//!   memory     the words of the pages, their lock, what each task knows of the accesses of others,
//!              and the memmap, which teardown frees
//!   explore    tasks that are run one access at a time, in every order
//!   tests      files, their entries, teardown; and broken protocols, which must be found out
//! ```

#![cfg(test)]

mod owner_state;

mod explore;
mod memory;

mod tests;
