// SPDX-License-Identifier: GPL-2.0

//! Faults of several threads read and write slots at the same time.

//@ within: samples/rust/rust_migrate.rs
//@ error: E0277 `Cell<usize>` cannot be shared between threads safely

use kernel::mm::migrate::{PageBytes, Store};

//@ wrong
pub type Count = core::cell::Cell<usize>;
//@ right
pub type Count = core::sync::atomic::AtomicUsize;
//@ end

pub struct Counting(pub Count);

impl Store for Counting {
    fn write(&self, _slot: usize, _page: &PageBytes) {}

    fn read(&self, _slot: usize, page: &mut PageBytes) {
        page.fill(0);
    }
}
