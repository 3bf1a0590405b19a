// SPDX-License-Identifier: GPL-2.0

//! GUP on memory that is not DAX: the lockless walk has to take the same pages as the slow path,
//! for every kind of memory, and during concurrent changes.

mod cycle;
mod fork;
mod held;
mod levels;
mod pkey;
mod storm;
mod undo;

pub use storm::idle;

use anyhow::Result;

use super::Test;
use crate::memory::Kind;

/// Returns all of them.
pub fn tests() -> Vec<Test> {
    let mut tests = levels::tests();
    tests.extend(cycle::tests());
    tests.extend(held::tests());
    tests.extend(fork::tests());
    tests.extend(pkey::tests());
    tests.extend(storm::tests());
    tests.extend(undo::tests());
    tests
}

/// Returns a test per kind of memory.
fn per_memory(
    kinds: &[Kind],
    name: &str,
    limit_secs: u64,
    doc: &'static str,
    run: fn(Kind) -> Result<String>,
) -> Vec<Test> {
    kinds
        .iter()
        .map(|&kind| {
            let name = format!("{name}::{}", kind.name());
            Test::new(name, limit_secs, doc, move || run(kind))
        })
        .collect()
}
