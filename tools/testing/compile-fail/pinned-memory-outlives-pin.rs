// SPDX-License-Identifier: GPL-2.0

//! Memory whose pages were unpinned may belong to another program.

//@ within: samples/rust/rust_pin_sum.rs
//@ error: E0505 cannot move out of `memory`

use kernel::{mm::pin::PinnedSource, prelude::*};

fn last_len(memory: PinnedSource) -> usize {
    let last = memory.segments().last();
    //@ wrong
    drop(memory);
    last.map_or(0, |segment| segment.len())
    //@ right
    let len = last.map_or(0, |segment| segment.len());
    drop(memory);
    len
    //@ end
}
