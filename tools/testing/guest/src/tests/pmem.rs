// SPDX-License-Identifier: GPL-2.0

//! The driver for persistent memory: the disks that it creates, their I/O, and
//! that nothing of them is left.

mod badblocks;
mod failure;
mod fio;
mod garbage;
mod info_block;
mod io;
mod lifetime;
mod poison;
mod refusal;
mod second;
mod virtio;

use crate::ndctl::{namespace, region_with, Info};
use crate::tests::prelude::*;

/// Path of the driver in sysfs.
pub const DRIVER: &str = "/sys/bus/nd/drivers/nd_pmem";
const SIZE: u64 = 256 * MIB;

/// Each kind of disk: a name for tests, and arguments of ndctl.
const DISKS: [(&str, &str); 4] = [
    ("raw", "-m raw"),
    ("fsdax-mem", "-m fsdax -M mem"),
    ("fsdax-dev", "-m fsdax -M dev"),
    ("sector", "-m sector"),
];

/// A namespace with a block device, which is destroyed when dropped.
pub struct Made {
    pub info: Info,
}

impl Made {
    /// Creates it by `ndctl create-namespace` with these arguments, on an
    /// NVDIMM.
    pub fn new(arguments: &str) -> Result<Self> {
        let region = region_with(Bus::Acpi, SIZE)?;
        Self::ndctl(&format!("-r {} -s {SIZE} {arguments}", region.dev))
    }

    /// Creates it with exactly these arguments.
    pub fn ndctl(arguments: &str) -> Result<Self> {
        let made = Self {
            info: ndctl::create(arguments)?,
        };
        system::wait_for_node(&made.info.node()?)?;
        Ok(made)
    }

    /// Reconfigures it.
    pub fn turn_into(&mut self, arguments: &str) -> Result<()> {
        self.info = ndctl::create(&format!("-f -e {} {arguments}", self.info.dev))?;
        system::wait_for_node(&self.info.node()?)
    }

    /// Disables and enables it.
    pub fn cycle(&mut self) -> Result<()> {
        Cmd::new("ndctl disable-namespace")
            .arg(&self.info.dev)
            .ok()?;
        Cmd::new("ndctl enable-namespace")
            .arg(&self.info.dev)
            .ok()?;
        self.info = namespace(&self.info.dev)?.context("the namespace is gone")?;
        system::wait_for_node(&self.info.node()?)
    }

    pub fn node(&self) -> Result<PathBuf> {
        self.info.node()
    }

    /// Returns the disk's folder in sysfs.
    pub fn disk(&self) -> Result<PathBuf> {
        let name = self.info.blockdev.as_deref().context("no block device")?;
        Ok(Path::new("/sys/block").join(name))
    }

    /// Returns the device that the driver is bound to: the namespace or its
    /// claim.
    pub fn bound(&self) -> Result<String> {
        device_of(self.info.blockdev.as_deref().context("no block device")?)
    }
}

/// Returns the device that the driver is bound to for a disk.
pub fn device_of(disk: &str) -> Result<String> {
    for entry in fs::read_dir(DRIVER).context("the driver is not in sysfs")? {
        let entry = entry?;
        if entry.path().join("block").join(disk).exists() {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no device of nd_pmem has the disk {disk}")
}

/// Writes the name of a device to a file of the driver: `bind`, `unbind`.
pub fn bind(file: &str, device: &str) -> Result<()> {
    fs::write(Path::new(DRIVER).join(file), device).with_context(|| format!("{file} {device}"))
}

impl Drop for Made {
    fn drop(&mut self) {
        let destroyed = Cmd::new("ndctl destroy-namespace -f")
            .arg(&self.info.dev)
            .limit_secs(120)
            .ok();
        clean_up(destroyed);
    }
}

declare! {
    /// nd_pmem.ko does not load by the names by which udev and ndctl ask for it, so no disk appears on
    /// a system that has the module
    "pmem::module", 30 s, essential => module
}
fn module() -> Result<String> {
    let path = format!("/lib/modules/{}/modules.alias", system::kernel_release()?);
    let aliases = system::read(path)?;
    // t4: without labels, t5: with labels.
    for alias in ["nd:t4*", "nd:t5*", "pmem"] {
        ensure!(
            aliases
                .lines()
                .any(|l| l.trim() == format!("alias {alias} nd_pmem")),
            "modules.alias has no {alias} for nd_pmem"
        );
    }
    let users = system::read("/sys/module/nd_pmem/refcnt")?;
    ensure!(
        Path::new(DRIVER).join("module").exists(),
        "{DRIVER} does not name its module"
    );
    Ok(format!("three aliases, {} users", users.trim()))
}

/// The properties of the disk of each mode: arguments of ndctl, mode, end of
/// the disk's name, whether it is for DAX, and the size of its sectors.
const MODES: &[(&str, &str, &str, bool, u64)] = &[
    ("-m raw", "raw", "", false, 512),
    ("-m fsdax -M mem", "fsdax", "", true, 512),
    ("-m sector -l 512", "sector", "s", false, 512),
    ("-m fsdax -M dev", "fsdax", "", true, 512),
    ("-m devdax -M mem", "devdax", "", false, 0),
    ("-m fsdax -M dev -a 4096", "fsdax", "", true, 512),
    ("-m raw", "raw", "", false, 512),
];

declare! {
    /// one namespace, turned from each mode into each other: the driver does not pass it on to the
    /// right device, the disk has the wrong name or limits, or data of the previous mode is visible
    "pmem::modes", 300 s, essential => modes
}
fn modes() -> Result<String> {
    let mut made: Option<Made> = None;
    for (index, (arguments, mode, suffix, dax, sector)) in MODES.iter().enumerate() {
        match &mut made {
            None => made = Some(Made::new(arguments)?),
            Some(made) => made.turn_into(arguments)?,
        }
        let made = made.as_mut().context("not made")?;
        ensure!(
            made.info.mode == *mode,
            "{mode} was expected, ndctl made {:?}",
            made.info
        );
        if *mode == "devdax" {
            continue;
        }
        let name = made.info.blockdev.clone().unwrap_or_default();
        let number = name.strip_prefix("pmem").and_then(|n| {
            n.strip_suffix(suffix)
                .filter(|n| n.chars().all(|c| c.is_ascii_digit() || c == '.'))
        });
        ensure!(number.is_some(), "a disk of mode {mode} is called {name}");
        let disk = made.disk()?;
        let attribute = |file: &str| -> Result<u64> { system::read_u64(disk.join(file)) };
        ensure!(
            (attribute("queue/dax")? == 1) == *dax,
            "{name}, {mode}: queue/dax is {}",
            attribute("queue/dax")?
        );
        ensure!(
            attribute("queue/logical_block_size")? == *sector,
            "{name}, {mode}: sectors of {} bytes",
            attribute("queue/logical_block_size")?
        );
        // Only the disks of the driver itself have it.
        ensure!(
            disk.join("dax/write_cache").exists() == suffix.is_empty(),
            "{name}, {mode}: dax/write_cache exists where it should not, or does not exist where it should"
        );
        let size = attribute("size")? * 512;
        ensure!(
            size > 0 && size <= SIZE && size % *sector == 0,
            "{name}, {mode}: {size} bytes in {SIZE}"
        );
        io::survives(made, 40 + index as u64)?;
    }
    Ok(format!("{} modes", MODES.len()))
}
