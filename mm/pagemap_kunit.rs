// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the page map registry, through the API that Rust drivers use.
//!
//! They run with the registry in Rust and in C. A test whose name begins with `differs_` proves a
//! difference that is on purpose: it passes with Rust and fails with C.
//!
//! The memory is a stretch of the physical address space where nothing is: a page map needs
//! `struct page`s only, and these are real.

use kernel::prelude::*;

#[cfg(CONFIG_RUST_DEV_PAGEMAP)]
#[path = "pagemap_kunit/awaited.rs"]
mod awaited;
#[path = "pagemap_kunit/fixture.rs"]
mod fixture;
#[path = "pagemap_kunit/killed.rs"]
mod killed;
#[path = "pagemap_kunit/lifetime.rs"]
mod lifetime;
#[path = "pagemap_kunit/lookup.rs"]
mod lookup;
#[path = "pagemap_kunit/refused.rs"]
mod refused;

module! {
    type: PagemapKunit,
    name: "pagemap_kunit",
    author: "rust-dax developers",
    description: "KUnit tests of the page map registry",
    license: "GPL",
}

struct PagemapKunit;

impl kernel::Module for PagemapKunit {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
