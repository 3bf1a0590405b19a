// SPDX-License-Identifier: GPL-2.0

//! What the plugin in QEMU has seen run, in the boots of `make coverage`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use fs_err as fs;

use host::paths::Paths;
use kbuild::program;
use vm::outcome::Outcome;

/// File that the plugin writes, in the guest's folder.
const EXECUTED: &str = "executed";
/// File that the guest writes: where the module is.
const MODULE: &str = "nd_pmem";
/// The address for which the module is linked.
pub const MODULE_AT: u64 = 0x100_0000;

/// What ran, in all boots.
pub struct Collector {
    /// The arguments for QEMU.
    plugin: [OsString; 2],
    ran: Mutex<Ran>,
}

/// The addresses of instructions that ran.
#[derive(Default)]
pub struct Ran {
    pub kernel: BTreeSet<u64>,
    /// As if the module's code began at `MODULE_AT`.
    pub module: BTreeSet<u64>,
    pub boots: usize,
}

impl Collector {
    /// Builds the plugin.
    pub fn new(paths: &Paths) -> Result<Self> {
        Ok(Self {
            plugin: program::plugin_arguments(paths, &format!("executed={EXECUTED}"))?,
            ran: Mutex::default(),
        })
    }

    /// Returns additional arguments for QEMU.
    pub fn arguments(&self) -> [OsString; 2] {
        self.plugin.clone()
    }

    /// Returns a command that also writes where the module is.
    pub fn wrap(&self, command: &str) -> String {
        format!(
            "{command}; status=$?; cat /sys/module/nd_pmem/sections/.text >/host/job/{MODULE} \
             2>/dev/null; exit $status"
        )
    }

    /// Adds what ran in a boot.
    pub fn add(&self, outcome: &Outcome) {
        // A guest whose power failed has none.
        let Ok(text) = fs::read_to_string(outcome.dir.path().join(EXECUTED)) else {
            return;
        };
        let address = |line: &str| u64::from_str_radix(line.trim_start_matches("0x"), 16).ok();
        let module = outcome.job_file(MODULE).and_then(|t| address(t.trim()));
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        ran.boots += 1;
        for at in text.lines().filter_map(address) {
            ran.kernel.insert(at);
            if let Some(offset) = module.and_then(|start| at.checked_sub(start)) {
                ran.module.insert(MODULE_AT.saturating_add(offset));
            }
        }
    }

    /// Returns what ran.
    pub fn into_ran(self) -> Ran {
        self.ran
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
