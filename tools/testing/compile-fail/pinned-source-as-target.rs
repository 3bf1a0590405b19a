// SPDX-License-Identifier: GPL-2.0

//! Pages that were pinned for reading may be shared with other processes, or be those of a file that
//! the program must not write.

//@ within: samples/rust/rust_pin_sum.rs
//@ error: E0599 no method named `write` found

use kernel::{mm::pin::PinnedSource, prelude::*};

fn fill(memory: &PinnedSource, bytes: &[u8]) -> Result {
    //@ wrong
    memory.write(0, bytes)
    //@ right
    memory.read(0, &mut [0; 8])?;
    let _ = bytes;
    Ok(())
    //@ end
}
