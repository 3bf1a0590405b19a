// SPDX-License-Identifier: GPL-2.0

//! Faults of several threads read and write slots at the same time.

//@ within: samples/rust/rust_migrate.rs
//@ error: E0277 cannot be shared between threads safely

use core::{cell::Cell, sync::atomic::AtomicUsize};
use kernel::mm::migrate::{PageBytes, Store};

//@ wrong
type Count = Cell<usize>;
//@ right
type Count = AtomicUsize;
//@ end

struct Counting(Count);

impl Store for Counting {
    fn write(&self, _slot: usize, _page: &PageBytes) {}

    fn read(&self, _slot: usize, page: &mut PageBytes) {
        page.fill(0);
    }
}
