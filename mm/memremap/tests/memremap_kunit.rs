// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the pgmap registry, by the API for drivers in Rust.
//!
//! They run with the registry in Rust and in C. A name that begins with `differs_` marks a test
//! that proves an intended difference: it passes with Rust and fails with C.
//!
//! The memory is a part of the physical address space with nothing behind it: a pgmap only needs
//! `struct page`s, and these are real.

use kernel::prelude::*;

mod binding;
mod fixture;
mod killed;
mod lifetime;
mod lookup;
mod refused;

module! {
    type: MemremapKunit,
    name: "memremap_kunit",
    author: "rust-dax developers",
    description: "KUnit tests of the pgmap registry",
    license: "GPL",
}

struct MemremapKunit;

impl kernel::Module for MemremapKunit {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
