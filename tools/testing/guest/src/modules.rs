// SPDX-License-Identifier: GPL-2.0

//! Kernel modules that a test loads and unloads.

use anyhow::Result;

use crate::command::Cmd;
use crate::system::clean_up;

/// Loaded modules; dropping it unloads them, the last first, and what only they use.
pub struct Modules(&'static [&'static str]);

impl Modules {
    /// Loads modules in this order; a [`Skip`](crate::skip::Skip) error if the kernel lacks one.
    pub fn load(names: &'static [&'static str]) -> Result<Self> {
        let loaded = Self(names);
        for name in names {
            if !Cmd::new("modprobe").arg(name).run()?.status.success() {
                skip!("this kernel has no module {name}");
            }
        }
        Ok(loaded)
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        for name in self.0.iter().rev() {
            clean_up(Cmd::new("modprobe -r").arg(name).ok());
        }
    }
}
