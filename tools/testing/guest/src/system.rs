// SPDX-License-Identifier: GPL-2.0

//! Facts of the running system: pseudo filesystems, modules, iomem, device
//! nodes.

use std::fmt::{Debug, Display};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::command::{timeout, Cmd};

/// Mounts a pseudo filesystem unless it is mounted.
fn pseudo(kind: &str, dir: &str) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(dir) && words.next() == Some(kind)
    });
    if !mounted {
        Cmd::new(&format!("mount -t {kind} {kind} {dir}")).ok()?;
    }
    Ok(PathBuf::from(dir))
}

/// Returns `/sys/kernel/debug`, mounted.
pub fn debugfs() -> Result<PathBuf> {
    pseudo("debugfs", "/sys/kernel/debug")
}

/// Returns `/sys/kernel/tracing`, mounted.
pub fn tracefs() -> Result<PathBuf> {
    pseudo("tracefs", "/sys/kernel/tracing")
}

/// Reads a small file and trims it.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path)
        .map(|s| s.trim().to_string())
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a line to the kernel log, as a warning.
pub fn log(line: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .and_then(|mut log| log.write_all(format!("<4>{line}\n").as_bytes()))
        .context("cannot write to the kernel's log")
}

/// A place in the kernel's log.
pub struct LogMark(String);

impl LogMark {
    /// Writes a line about `what` to the log.
    pub fn new(what: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let line = format!("rust-dax: mark {}.{number}: {what}", std::process::id());
        log(&line)?;
        Ok(Self(line))
    }

    /// Returns the log since this place.
    pub fn since(&self) -> Result<String> {
        let log = Cmd::new("dmesg").ok()?.stdout;
        Ok(log.rsplit(&self.0).next().unwrap_or_default().to_owned())
    }
}

/// Tells the harness that for the rest of this test the kernel may report that I/O to a disk has
/// failed, because its device is taken away.
pub fn allow_io_errors(disk: &str) -> Result<()> {
    log(&format!("rust-dax-allow-io: {disk}"))
}

/// Reads a number, decimal or 0x-hexadecimal.
pub fn read_u64(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    let text = read(path)?;
    parse_u64(&text).with_context(|| format!("{} holds no number: {text:?}", path.display()))
}

/// Parses a decimal number, or a hexadecimal one with 0x.
pub fn parse_u64(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Returns the kernel's release string.
pub fn kernel_release() -> Result<String> {
    read("/proc/sys/kernel/osrelease")
}

/// Returns the kernel's configuration, from /proc/config.gz.
pub fn kernel_config() -> Result<String> {
    Ok(Cmd::new("zcat /proc/config.gz")
        .ok()
        .context("the kernel needs CONFIG_IKCONFIG_PROC")?
        .stdout)
}

/// Returns whether the kernel has checkers that make everything many times
/// slower.
pub fn is_slow() -> Result<bool> {
    Ok(kernel_config()?.lines().any(|l| l == "CONFIG_KASAN=y"))
}

pub fn iomem() -> Result<String> {
    fs::read_to_string("/proc/iomem").context("cannot read /proc/iomem")
}

/// Loads the modules of persistent memory and DAX. They are not loaded
/// automatically in a guest without udev.
pub fn load_modules() -> Result<()> {
    // The buses are last and in the order in which the guest's init loads them,
    // so that regions have the same numbers after a reload.
    for module in [
        "libnvdimm",
        "nd_pmem",
        "nd_btt",
        "device_dax",
        "dax_pmem",
        "nd_e820",
        "nfit",
    ] {
        Cmd::new("modprobe").arg(module).ok()?;
    }
    // Regions and namespaces appear asynchronously; reading this file returns
    // when a bus has probed all its children.
    let Ok(buses) = fs::read_dir("/sys/class/nd") else {
        return Ok(());
    };
    for bus in buses.flatten() {
        // Other classes of devices are listed there too.
        let _ = fs::read_to_string(bus.path().join("device/wait_probe"));
    }
    Ok(())
}

/// Waits until a device node exists.
pub fn wait_for_node(path: &Path) -> Result<()> {
    let limit = timeout(Duration::from_secs(10));
    let end = Instant::now() + limit;
    while !path.exists() {
        if Instant::now() > end {
            bail!(
                "{} did not appear within {} s",
                path.display(),
                limit.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns the difference between two texts, line by line as multisets: removed
/// lines and added lines.
pub fn line_diff(before: &str, after: &str) -> Option<String> {
    let mut added: Vec<&str> = after.lines().collect();
    let mut removed = Vec::new();
    for line in before.lines() {
        match added.iter().position(|l| *l == line) {
            Some(at) => drop(added.remove(at)),
            None => removed.push(line),
        }
    }
    if added.is_empty() && removed.is_empty() {
        return None;
    }
    Some(format!(
        "gone: [{}]; new: [{}]",
        removed.join("; ").trim(),
        added.join("; ").trim()
    ))
}

/// Reports an error of a clean-up, which does not hide the result of the test.
pub fn clean_up<T>(result: Result<T, impl Display>) {
    if let Err(e) = result {
        eprintln!("clean-up: {e:#}");
    }
}

/// Returns an error unless the kernel has refused a request with this errno.
pub fn require_errno<T: Debug>(
    result: io::Result<T>,
    errno: i32,
    what: impl Display,
) -> Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(errno) => Ok(()),
        other => bail!(
            "{what} returns {other:?} instead of {}",
            io::Error::from_raw_os_error(errno)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_u64("0x10"), Some(16));
        assert_eq!(parse_u64("10"), Some(10));
        assert_eq!(parse_u64("x"), None);
    }

    #[test]
    fn differences() {
        assert_eq!(line_diff("a\nb\n", "b\na\n"), None);
        let text = line_diff("a\nb\nb", "a\nb\nc").unwrap_or_default();
        assert_eq!(text, "gone: [b]; new: [c]");
    }
}
