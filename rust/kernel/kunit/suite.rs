// SPDX-License-Identifier: GPL-2.0

//! KUnit suites written in Rust.
//!
//! [`#[kunit_tests]`](macros::kunit_tests) turns a module of `#[test]` functions into a KUnit
//! suite; what is here is the part that the macro's output calls.

use crate::{bindings, prelude::*};
use core::ffi::CStr;

/// A test function that KUnit calls.
#[doc(hidden)]
pub type TestFn = unsafe extern "C" fn(*mut bindings::kunit);

/// A list of cases that ends with an empty one, in the form that KUnit walks and writes to.
#[doc(hidden)]
#[repr(transparent)]
pub struct Cases<const N: usize>(core::cell::UnsafeCell<[bindings::kunit_case; N]>);

// SAFETY: KUnit alone touches the cases, one suite at a time.
unsafe impl<const N: usize> Sync for Cases<N> {}

impl<const N: usize> Cases<N> {
    /// The cases of a suite. The last one has to be empty.
    pub const fn new(cases: [bindings::kunit_case; N]) -> Self {
        Self(core::cell::UnsafeCell::new(cases))
    }

    /// What KUnit gets.
    pub const fn as_ptr(&self) -> *mut bindings::kunit_case {
        self.0.get().cast()
    }
}

/// One case of a suite.
#[doc(hidden)]
pub const fn case(name: &'static CStr, run: TestFn) -> bindings::kunit_case {
    bindings::kunit_case {
        run_case: Some(run),
        name: name.as_ptr().cast(),
        ..empty_case()
    }
}

/// The case that ends the list.
#[doc(hidden)]
pub const fn empty_case() -> bindings::kunit_case {
    // SAFETY: All fields are integers, arrays of bytes, and pointers or functions that may be
    // null.
    unsafe { core::mem::MaybeUninit::zeroed().assume_init() }
}

/// A suite of cases.
#[doc(hidden)]
#[repr(transparent)]
pub struct Suite(core::cell::UnsafeCell<bindings::kunit_suite>);

// SAFETY: KUnit alone touches a suite, and locks where it has to.
unsafe impl Sync for Suite {}

impl Suite {
    /// A suite of the given name, which C keeps in 256 bytes.
    #[inline]
    pub const fn new(name: &'static str, cases: *mut bindings::kunit_case) -> Self {
        let bytes = name.as_bytes();
        // SAFETY: All fields are integers, arrays of bytes, and pointers or functions that may be
        // null.
        let mut suite: bindings::kunit_suite =
            unsafe { core::mem::MaybeUninit::zeroed().assume_init() };
        assert!(bytes.len() < suite.name.len());
        let mut i = 0;
        while i < bytes.len() {
            suite.name[i] = bytes[i] as _;
            i += 1;
        }
        suite.test_cases = cases;
        Self(core::cell::UnsafeCell::new(suite))
    }
}

/// A pointer to a suite in the section where KUnit looks for them.
#[doc(hidden)]
#[repr(transparent)]
pub struct SuitePtr(pub *const Suite);

// SAFETY: It points to a static, and KUnit alone follows it.
unsafe impl Sync for SuitePtr {}

/// Announces a warning that a test provokes, to whoever reads the log.
///
/// The guest harness fails a run for every splat in the kernel log, unless a line like this one
/// has announced it; and it fails the run as well if an announced splat does not come.
pub fn expect_splat(what: &str) {
    pr_info!("rust-dax-expect: {what}\n");
}

/// The end of the stretch in which [`expect_splat`] expects its splat.
pub fn expect_splat_end(what: &str) {
    pr_info!("rust-dax-expect-end: {what}\n");
}
