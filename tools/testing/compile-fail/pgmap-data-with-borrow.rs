// SPDX-License-Identifier: GPL-2.0

//! A registration that is forgotten stays mapped, and the kernel would call its operations with data
//! that borrows from a function which has returned.

//@ crate: kernel
//@ error: E0310 the parameter type `T` may not live long enough

use core::marker::PhantomData;
use kernel::{
    mm::memremap::{Operations, ZoneDevicePage},
    types::ForeignOwnable,
};

struct Idle<T>(PhantomData<T>);

// SAFETY: `page_free` does nothing.
//@ wrong
unsafe impl<T: ForeignOwnable + Send + Sync> Operations for Idle<T> {
//@ right
unsafe impl<T: ForeignOwnable + Send + Sync + 'static> Operations for Idle<T> {
//@ end
    type Data = T;

    fn page_free(_data: T::Borrowed<'_>, _page: ZoneDevicePage<'_>) {}
}
