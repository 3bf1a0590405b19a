// SPDX-License-Identifier: GPL-2.0

//! A share of the tests, for guests that divide them.

use std::fmt;
use std::str::FromStr;

use anyhow::{ensure, Context, Error, Result};

/// The `number`th of `count` shares, counted from 1. Written `2/3`.
///
/// # Invariants
///
/// `1 <= number <= count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    number: usize,
    count: usize,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Share> {
        let (number, count) = text.split_once('/').context("give a share like 2/3")?;
        let number = number.parse().context("the number of the share")?;
        let count = count.parse().context("how many shares there are")?;
        ensure!(
            (1..=count).contains(&number),
            "there is no share {number} of {count}"
        );
        Ok(Share { number, count })
    }
}

impl Share {
    /// Returns the elements of `all` in this share, in the same order. Neighbours,
    /// which are similar and take equally long, go to different shares.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter()
            .skip(self.number - 1)
            .step_by(self.count)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_there_is_and_do_not_overlap() {
        for count in 1..5 {
            let mut all: Vec<u32> = (1..=count)
                .flat_map(|n| Share { number: n, count }.of((0..10).collect()))
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(
            "2/3".parse::<Share>().unwrap().of(vec![1, 2, 3, 4, 5]),
            [2, 5]
        );
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for bad in ["", "1", "0/1", "3/2", "1/0", "a/b", "-1/2"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
