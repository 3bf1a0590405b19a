// SPDX-License-Identifier: GPL-2.0

//! After the copy the page is freed, or a program's again.

//@ within: samples/rust/rust_migrate.rs
//@ error: E0521 borrowed data escapes outside of method

use kernel::{
    mm::migrate::{PageBytes, Store},
    sync::SetOnce,
};

pub struct Keeper;

pub static FIRST: SetOnce<&'static PageBytes> = SetOnce::new();
pub static BYTE: SetOnce<u8> = SetOnce::new();

impl Store for Keeper {
    fn write(&self, _slot: usize, page: &PageBytes) {
        //@ wrong
        FIRST.populate(page);
        //@ right
        BYTE.populate(page[0]);
        //@ end
    }

    fn read(&self, _slot: usize, page: &mut PageBytes) {
        page.fill(0);
    }
}
