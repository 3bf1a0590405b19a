// SPDX-License-Identifier: GPL-2.0

//! The addresses of the kernel that were executed.
//!
//! QEMU translates a block right before it executes it for the first time, and a block has no branch
//! but at its end. So what was translated was executed, except what follows an instruction that trapped
//! whenever the block was run: nothing has to be called at run time.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The start of the addresses of the kernel's code and that of modules.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// The addresses of instructions so far.
#[derive(Debug, Default)]
pub struct Executed(BTreeSet<u64>);

impl Executed {
    /// Adds an instruction, if it is the kernel's.
    pub fn add(&mut self, address: u64) {
        if address >= KERNEL {
            self.0.insert(address);
        }
    }

    /// Formats the addresses, one a line, in hexadecimal.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for address in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{address:x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_once_and_in_order() {
        let mut executed = Executed::default();
        for address in [KERNEL + 9, 0x40_0000, KERNEL, KERNEL + 9] {
            executed.add(address);
        }
        assert_eq!(executed.lines(), "ffffffff80000000\nffffffff80000009\n");
    }
}
