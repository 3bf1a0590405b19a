// SPDX-License-Identifier: GPL-2.0

//! The error that is no failure: the machine lacks what a test needs.

use std::fmt;

/// The reason why a test was skipped. It is carried as an error, so that it can
/// leave any depth of a test; the runner distinguishes it from a failure.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends the function with a [`Skip`] of this reason.
macro_rules! skip {
    ($($why:tt)+) => {
        return Err($crate::skip::Skip(format!($($why)+)).into())
    };
}
