// SPDX-License-Identifier: GPL-2.0

//! The last reference to a page is dropped inside a section, which a sleeping owner would end.

//@ crate: kernel
//@ error: E0200 requires an `unsafe impl` declaration

use kernel::{
    mm::memremap::{Operations, ZoneDevicePage},
    prelude::*,
    sync::{Arc, ArcBorrow, Mutex},
};

struct Gpu;

//@ wrong
impl Operations for Gpu {
    type Data = Arc<Mutex<usize>>;

    fn page_free(free: ArcBorrow<'_, Mutex<usize>>, _page: ZoneDevicePage<'_>) {
        *free.lock() += 1;
    }
}
//@ right
// SAFETY: Looking at the page does not sleep.
unsafe impl Operations for Gpu {
    type Data = Arc<Mutex<usize>>;

    fn page_free(_free: ArcBorrow<'_, Mutex<usize>>, page: ZoneDevicePage<'_>) {
        let _ = page.pfn();
    }
}
//@ end
