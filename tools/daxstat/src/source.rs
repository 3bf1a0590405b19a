// SPDX-License-Identifier: GPL-2.0

//! The source of the counters; if it is missing, the reason and the remedy.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{bail, Context, Result};

const DEBUGFS: &str = "/sys/kernel/debug";
const FAULTS: &str = "/sys/kernel/debug/fs_dax/faults";

/// Returns the text of the counters, or of a copy of them.
pub fn read(copy: Option<&Path>) -> Result<String> {
    if let Some(path) = copy {
        return fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let error = match fs::read_to_string(FAULTS) {
        Ok(text) => return Ok(text),
        Err(e) => e,
    };
    match error.kind() {
        ErrorKind::PermissionDenied => {
            bail!("only root may read {FAULTS}: run daxstat by sudo")
        }
        ErrorKind::NotFound => {
            // SAFETY: geteuid() has no arguments and always succeeds.
            let root = unsafe { libc::geteuid() } == 0;
            let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
            bail!("{}", missing(&mounts, root))
        }
        _ => Err(error).with_context(|| format!("cannot read {FAULTS}")),
    }
}

/// Returns advice for the case that the file does not exist.
fn missing(mounts: &str, root: bool) -> String {
    if !root {
        return format!("{FAULTS} does not exist, or is hidden: run daxstat by sudo");
    }
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(DEBUGFS) && words.next() == Some("debugfs")
    });
    if !mounted {
        return format!("debugfs is not mounted: mount -t debugfs debugfs {DEBUGFS}");
    }
    format!(
        "{FAULTS} does not exist: this kernel's fs/dax is in C, which does not count. \
         Boot one with CONFIG_RUST_FS_DAX=y, or look at single faults by \
         `trace-cmd record -e fs_dax`; daxstat --file works on any kernel"
    )
}

/// Returns the names of block devices by their numbers; removed ones are left
/// out.
pub fn names() -> HashMap<String, String> {
    let entries = fs::read_dir("/sys/dev/block");
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().into_string().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some((number, target.file_name()?.to_str()?.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_are_no_counters() {
        let mounts = "sys /sys sysfs rw 0 0\nd /sys/kernel/debug debugfs rw 0 0\n";
        assert!(missing(mounts, false).contains("sudo"));
        assert!(missing("sys /sys sysfs rw 0 0\n", true).contains("mount -t debugfs"));
        assert!(missing(mounts, true).contains("CONFIG_RUST_FS_DAX"));
    }

    #[test]
    fn a_copy_is_read() {
        assert!(read(Some(Path::new("/nonexistent"))).is_err());
    }
}
