// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the pgmap registry, through the API that Rust drivers use.
//!
//! They run with the registry in Rust and in C. A test whose name begins with `differs_` proves a
//! difference that is on purpose: it passes with Rust and fails with C.
//!
//! The memory is a stretch of the physical address space where nothing is: a pgmap needs
//! `struct page`s only, and these are real.

use kernel::prelude::*;

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
