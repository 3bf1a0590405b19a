// SPDX-License-Identifier: GPL-2.0

//! The error that is none: what a test needs is not on this machine.

use std::fmt;

/// Why a test was skipped. Carried as an error, so that it can leave any
/// depth of a test; the runner tells it from a failure.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}
