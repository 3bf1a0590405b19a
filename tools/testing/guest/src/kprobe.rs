// SPDX-License-Identifier: GPL-2.0

//! Events at functions of the kernel.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::system::{self, clean_up};
use crate::trace::FaultTrace;

/// The group of the events. Each process has its own, named by its ID, so that several can record.
const GROUP: &str = "guest_test";

/// An event that is recorded; it ends when dropped.
pub struct Kprobe {
    trace: Option<FaultTrace>,
    /// Group and name of the event.
    event: String,
}

impl Kprobe {
    /// Starts an event at a function. Of several probes, each a function and its arguments, the
    /// first is taken that the kernel accepts.
    pub fn start(name: &str, probes: &[String]) -> Result<Self> {
        let root = system::tracefs()?;
        if !root.join("kprobe_events").exists() {
            skip!("this kernel cannot trace its functions");
        }
        remove_stale(&root);
        let event = format!("{GROUP}/{name}_{}", std::process::id());
        let mut defined = Ok(());
        for probe in probes {
            defined = command(&root, &format!("p:{event} {probe}"));
            if defined.is_ok() {
                break;
            }
        }
        defined?;
        let mut this = Self { trace: None, event };
        this.trace = Some(FaultTrace::group(&this.event)?);
        Ok(this)
    }

    /// Returns a line for each event since the last call.
    pub fn take_text(&self) -> Result<String> {
        self.trace.as_ref().context("no trace")?.take_text()
    }

    /// Returns the number of events since the last call.
    pub fn take_count(&self) -> Result<usize> {
        let text = self.take_text()?;
        Ok(text.lines().filter(|line| !line.starts_with('#')).count())
    }
}

impl Drop for Kprobe {
    fn drop(&mut self) {
        // An event that is in use cannot be removed.
        self.trace = None;
        let remove = format!("-:{}", self.event);
        clean_up(system::tracefs().and_then(|root| command(&root, &remove)));
    }
}

/// Removes the events of tests that died. One that another trace has is left.
fn remove_stale(root: &Path) {
    let events = fs::read_dir(root.join("events").join(GROUP));
    for event in events.into_iter().flatten().flatten() {
        let name = event.file_name();
        let Some(name) = name.to_str() else { continue };
        let pid = name.rsplit_once('_').map(|(_, pid)| pid);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = command(root, &format!("-:{GROUP}/{name}"));
        }
    }
}

/// Adds or removes an event. (Writing without appending would remove all others.)
fn command(root: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .append(true)
        .open(root.join("kprobe_events"))
        .and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()))
        .with_context(|| format!("kprobe_events: {text}"))
}
