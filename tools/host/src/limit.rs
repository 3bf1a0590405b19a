// SPDX-License-Identifier: GPL-2.0

//! A time limit, after which no more work is started.

use std::time::{Duration, Instant};

/// Reason of a result that is skipped because of the limit.
pub const NO_TIME: &str = "no time was left for it";

/// The time after which no more work is started, if there is one.
#[derive(Clone, Copy)]
pub struct Limit(Option<Instant>);

impl Limit {
    /// Creates the limit of `LIMIT=seconds`.
    pub fn starting_now(seconds: Option<u64>) -> Limit {
        Limit(seconds.and_then(|s| Instant::now().checked_add(Duration::from_secs(s))))
    }

    /// Returns the time that is left; `None` without a limit.
    pub fn left(self) -> Option<Duration> {
        Some(self.0?.saturating_duration_since(Instant::now()))
    }

    /// Returns whether no time is left.
    pub fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}
