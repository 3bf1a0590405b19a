// SPDX-License-Identifier: GPL-2.0

//! The report on a block device: whether a filesystem on it can be mounted with DAX, and what is
//! missing.
//!
//! Most obstacles show in the kernel's log only, and several filesystems then mount without DAX as
//! if nothing had happened. [`Facts`] is what sysfs, the superblock and the mounts say; [`checks()`]
//! judges it, with a line for each subject. A subject that prevents DAX is missing; one that costs
//! huge pages, or excludes some files, is a warning.

mod checks;
mod facts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use checks::{checks, Check, Checks, State};
use facts::{read, Facts};

use crate::mounts;
use crate::open::Inode;
use crate::place::number_in;
use crate::superblock::Content;

/// The report in the form of the JSON.
#[derive(Serialize)]
pub struct Report {
    device: String,
    pub fit: bool,
    checks: Vec<Check>,
}

impl Report {
    pub fn of(path: &Path) -> Result<Self> {
        let inode =
            Inode::find(path).context("`ndctl list -Ni` shows the namespaces and their devices")?;
        if let Some(name) = inode.device_dax(Path::new("/sys")) {
            return Ok(Self::of_device_dax(Path::new("/sys"), name));
        }
        let (file, number) = inode.open_block()?;
        let content = match file {
            Ok(file) => Content::probe(path, &file),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Content::Unknown("only root may read the superblock: run daxstat by sudo".into())
            }
            Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
        };
        let facts = Facts::collect(Path::new("/sys"), &number, content, mounts::all()?)?;
        Ok(Self::from(&facts))
    }

    /// Reports on a device-dax device, which can hold no filesystem.
    fn of_device_dax(sys: &Path, name: String) -> Self {
        let dir = sys.join("bus/dax/devices").join(&name);
        let of = |file: &str| number_in(&dir.join(file)).ok();
        let mut what = "devdax: a character device, on which there is no filesystem".to_string();
        if let Some(align) = of("align") {
            what += &format!("; it maps pages of {align} bytes");
        }
        // The claim of libnvdimm, which has the device, names the namespace.
        let claim = fs::canonicalize(&dir).unwrap_or_default();
        let namespace = claim.parent().and_then(|c| read(c.join("namespace")));
        let mut all = Checks(Vec::new());
        all.advise(
            "mode",
            State::Missing,
            what,
            match namespace.filter(|n| !n.is_empty()) {
                Some(namespace) => format!(
                    "ndctl create-namespace -f -e {namespace} -m fsdax, which loses what the namespace holds"
                ),
                None => "it is no namespace: use it by mmap(), or as memory by daxctl reconfigure-device".into(),
            },
        );
        Self {
            device: name,
            fit: false,
            checks: all.0,
        }
    }

    fn missing(&self) -> Vec<&'static str> {
        let missing = self.checks.iter().filter(|c| c.state == State::Missing);
        missing.map(|c| c.check).collect()
    }
}

impl From<&Facts> for Report {
    fn from(facts: &Facts) -> Self {
        let checks = checks(facts);
        Self {
            device: facts.name.clone(),
            fit: checks.iter().all(|c| c.state != State::Missing),
            checks,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fit {
            true => writeln!(f, "{}: fit for DAX\n", self.device)?,
            false => writeln!(
                f,
                "{}: not fit for DAX, because of: {}\n",
                self.device,
                self.missing().join(", ")
            )?,
        }
        writeln!(f, "{:<12} {:<8} WHAT", "CHECK", "STATE")?;
        for check in &self.checks {
            let state = check.state.name();
            writeln!(f, "{:<12} {state:<8} {}", check.check, check.what)?;
        }
        let mut first = true;
        for check in &self.checks {
            if let Some(advice) = &check.advice {
                writeln!(
                    f,
                    "{}* {}: {advice}",
                    if first { "\n" } else { "" },
                    check.check
                )?;
                first = false;
            }
        }
        Ok(())
    }
}
