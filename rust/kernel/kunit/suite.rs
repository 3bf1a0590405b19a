// SPDX-License-Identifier: GPL-2.0

//! KUnit suites written in Rust.
//!
//! [`#[kunit_tests]`](macros::kunit_tests) turns a module of `#[test]` functions into a KUnit
//! suite. Its output uses the types and functions of this file. A test that provokes a warning
//! announces it with [`expect_splat`].
//!
//! The unsafe code here encapsulates the structures that KUnit reads and writes.
//!
//! C header: [`include/kunit/test.h`](srctree/include/kunit/test.h)

use crate::{bindings, prelude::*};
use core::{cell::UnsafeCell, ffi::CStr, mem::MaybeUninit};

/// A test function, as KUnit calls it.
#[doc(hidden)]
pub type TestFn = unsafe extern "C" fn(*mut bindings::kunit);

/// The cases of a suite, of which the last one must be [`kunit_case_null`]. C:
/// `struct kunit_case []`.
#[doc(hidden)]
#[repr(transparent)]
pub struct Cases<const N: usize>(UnsafeCell<[bindings::kunit_case; N]>);

// SAFETY: Rust code only takes the address. KUnit, which writes to the cases, runs one suite at a
// time.
unsafe impl<const N: usize> Sync for Cases<N> {}

impl<const N: usize> Cases<N> {
    /// Creates the list.
    pub const fn new(cases: [bindings::kunit_case; N]) -> Self {
        Self(UnsafeCell::new(cases))
    }

    /// Returns the C pointer.
    pub const fn as_ptr(&self) -> *mut bindings::kunit_case {
        self.0.get().cast()
    }
}

/// Creates a case. C: `KUNIT_CASE()`.
#[doc(hidden)]
#[doc(alias = "KUNIT_CASE")]
pub const fn kunit_case(name: &'static CStr, run_case: TestFn) -> bindings::kunit_case {
    bindings::kunit_case {
        run_case: Some(run_case),
        name: name.as_ptr().cast(),
        ..kunit_case_null()
    }
}

/// Creates the case that ends a list of cases.
#[doc(hidden)]
pub const fn kunit_case_null() -> bindings::kunit_case {
    // SAFETY: All fields are integers, arrays of bytes, or pointers and functions that may be null.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// A suite. C: `struct kunit_suite`.
#[doc(hidden)]
#[repr(transparent)]
pub struct Suite(UnsafeCell<bindings::kunit_suite>);

// SAFETY: Rust code only takes the address. KUnit, which writes to the suite, does its own locking.
unsafe impl Sync for Suite {}

impl Suite {
    /// Creates a suite. The name must be shorter than 256 bytes, or the build fails.
    #[inline]
    pub const fn new(name: &'static str, cases: *mut bindings::kunit_case) -> Self {
        let bytes = name.as_bytes();
        // SAFETY: All fields are integers, arrays of bytes, or pointers and functions that may be
        // null.
        let mut suite: bindings::kunit_suite = unsafe { MaybeUninit::zeroed().assume_init() };
        assert!(bytes.len() < suite.name.len());
        let mut i = 0;
        while i < bytes.len() {
            suite.name[i] = bytes[i] as _;
            i += 1;
        }
        suite.test_cases = cases;
        Self(UnsafeCell::new(suite))
    }
}

/// A pointer to a suite, for the section in which KUnit looks for suites. C: `kunit_test_suites()`.
#[doc(hidden)]
#[repr(transparent)]
pub struct SuitePtr(pub *const Suite);

// SAFETY: The pointer is that of a static. Rust code does not dereference it.
unsafe impl Sync for SuitePtr {}

/// Announces a warning that a test is about to provoke. Any context.
///
/// The guest harness fails a run for each splat in the kernel log that was not announced by a line
/// like this one, and also if an announced splat does not come. `what` is a part of the splat's
/// text.
///
/// # Examples
///
/// ```
/// use kernel::kunit::{expect_splat, expect_splat_end};
///
/// /// Tests that a range which is registered twice is refused with a warning.
/// fn twice(register: impl Fn() -> Result) {
///     expect_splat("conflicting pgmap");
///     assert!(register().is_err());
///     expect_splat_end("conflicting pgmap");
/// }
/// ```
pub fn expect_splat(what: &str) {
    pr_info!("rust-dax-expect: {what}\n");
}

/// Ends the part of a test that [`expect_splat`] began. Any context.
pub fn expect_splat_end(what: &str) {
    pr_info!("rust-dax-expect-end: {what}\n");
}
