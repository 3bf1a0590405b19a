// SPDX-License-Identifier: GPL-2.0

//! The data of a write may be in memory that the submitter can only read.

//@ crate: kernel
//@ error: E0308 mismatched types

use kernel::mm::{
    device_memory::DeviceMemory,
    segment::{Source, Target},
};

fn fill(memory: &DeviceMemory<()>, from: Source<'_>, to: Target<'_>) -> kernel::error::Result {
    //@ wrong
    let _ = to;
    memory.read(0, from)
    //@ right
    let _ = from;
    memory.read(0, to)
    //@ end
}
