// SPDX-License-Identifier: GPL-2.0

//! The DAX mappings that the kernel made, from the `*_fault_done` events of
//! fs/dax.
//!
//! A private tracefs instance holds them, so that other users of tracing are
//! not disturbed. The result of a fault is the last word of a line: NOPAGE
//! means that a mapping was made, FALLBACK that a 2 MiB fault had to be
//! repeated in 4 KiB pieces.

use std::fs;
use std::path::PathBuf;

use anyhow::{bail, Context, Result};
use serde::Serialize;

use crate::system;

/// The results of the faults in a period of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FaultCounts {
    /// 2 MiB mappings made.
    pub pmd: u64,
    /// 4 KiB mappings made.
    pub pte: u64,
    /// 2 MiB faults that fell back to 4 KiB.
    pub pmd_fallback: u64,
    /// Faults that made no mapping and did not fall back.
    pub other: u64,
}

impl FaultCounts {
    fn parse(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let result = line.split_whitespace().last().unwrap_or_default();
            let has = |flag: &str| result.split('|').any(|f| f == flag);
            // A synchronous fault returns NEEDDSYNC here and is inserted right
            // after it by dax_finish_sync_fault().
            let made = has("NOPAGE") || has("NEEDDSYNC");
            if line.contains(" dax_pmd_fault_done: ") {
                match (made, has("FALLBACK")) {
                    (true, _) => counts.pmd += 1,
                    (false, true) => counts.pmd_fallback += 1,
                    (false, false) => counts.other += 1,
                }
            } else if line.contains(" dax_pte_fault_done: ") {
                match made {
                    true => counts.pte += 1,
                    false => counts.other += 1,
                }
            }
        }
        counts
    }
}

/// A running trace; it ends when dropped.
pub struct FaultTrace {
    dir: PathBuf,
}

impl FaultTrace {
    pub fn start() -> Result<Self> {
        Self::of(&["dax_pmd_fault_done", "dax_pte_fault_done"])
    }

    /// Starts a trace of other events of fs/dax.
    pub fn of(events: &[&str]) -> Result<Self> {
        let events: Vec<String> = events.iter().map(|e| format!("fs_dax/{e}")).collect();
        Self::start_all("fs_dax", &events)
    }

    /// Starts a trace of one event, given as group and name.
    pub fn group(event: &str) -> Result<Self> {
        Self::start_all("other", &[event.into()])
    }

    fn start_all(label: &str, events: &[String]) -> Result<Self> {
        let root = system::tracefs()?;
        let name = format!("guest-test-{label}-{}", std::process::id());
        let dir = root.join("instances").join(name);
        fs::create_dir(&dir)
            .with_context(|| format!("cannot make the trace instance {}", dir.display()))?;
        let trace = Self { dir };
        trace.set("buffer_size_kb", "8192")?;
        for event in events {
            trace.set(&format!("events/{event}/enable"), "1")?;
        }
        Ok(trace)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value)
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Returns the counts since the start or the last call, and empties the
    /// buffer.
    pub fn take(&self) -> Result<FaultCounts> {
        Ok(FaultCounts::parse(&self.take_text()?))
    }

    /// Returns the kernel's text, a line for each event, and empties the
    /// buffer.
    pub fn take_text(&self) -> Result<String> {
        self.require_no_overrun()?;
        let path = self.dir.join("trace");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.set("trace", "")?;
        Ok(text)
    }

    /// Checks for lost events, which would silently make the counts too small.
    fn require_no_overrun(&self) -> Result<()> {
        let cpus =
            fs::read_dir(self.dir.join("per_cpu")).context("cannot list the trace's CPUs")?;
        for cpu in cpus.flatten() {
            let stats = fs::read_to_string(cpu.path().join("stats")).unwrap_or_default();
            let lost = stats
                .lines()
                .filter(|l| l.starts_with("overrun:") || l.starts_with("dropped events:"))
                .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
                .sum::<u64>();
            if lost > 0 {
                bail!("the trace buffer lost {lost} fault events; the counts would be wrong");
            }
        }
        Ok(())
    }
}

impl Drop for FaultTrace {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir(&self.dir) {
            eprintln!(
                "cannot remove the trace instance {}: {e}",
                self.dir.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_result() {
        let text = "# tracer: nop\n\
 dd-1 [000] ..... 1.0: dax_pmd_fault_done: dev 259:0 ino 0xc shared WRITE|ALLOW_RETRY address 0x7f0 vm_start 0x7 vm_end 0x8 pgoff 0x0 max_pgoff 0x10000 NOPAGE\n\
 dd-1 [001] ..... 1.1: dax_pmd_fault_done: dev 259:0 ino 0xc shared WRITE address 0x7f0 vm_start 0x7 vm_end 0x8 pgoff 0x0 max_pgoff 0x10000 FALLBACK\n\
 dd-1 [001] ..... 1.2: dax_pte_fault_done: dev 259:0 ino 0xc shared WRITE address 0x7f0 pgoff 0x0 MAJOR|NOPAGE\n\
 dd-1 [001] ..... 1.3: dax_pte_fault_done: dev 259:0 ino 0xc shared WRITE address 0x7f0 pgoff 0x0 SIGBUS\n\
 dd-1 [001] ..... 1.4: dax_pmd_fault: dev 259:0 ino 0xc shared WRITE address 0x7f0 max_pgoff 0x1 NOPAGE\n";
        assert_eq!(
            FaultCounts::parse(text),
            FaultCounts {
                pmd: 1,
                pte: 1,
                pmd_fallback: 1,
                other: 1
            }
        );
    }
}
