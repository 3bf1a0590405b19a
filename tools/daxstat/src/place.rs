// SPDX-License-Identifier: GPL-2.0

//! The place of a file: its filesystem, the device, and the device's physical
//! address.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::mounts::{self, Mount};
use crate::ranges::HUGE;

/// The device of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `pmem0`, `pmem0p1`.
    pub name: String,
    /// The physical address of its first byte; `None` if it combines several
    /// devices.
    pub start: Option<u64>,
    /// The part of `start` that the partition table adds.
    pub partition: u64,
}

/// Returns whether statx(2) reports the file as DAX.
pub fn is_dax(file: &File) -> Result<bool> {
    let mut about = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: The empty path selects the descriptor; `about` is valid for writes
    // and outlives the call.
    let rc = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BASIC_STATS,
            about.as_mut_ptr(),
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error()).context("statx");
    }
    // SAFETY: All zero bytes are a valid value of the structure, and statx
    // succeeded.
    let about = unsafe { about.assume_init() };
    Ok(about.stx_attributes & libc::STATX_ATTR_DAX as u64 != 0)
}

/// Returns the mount of a filesystem by its device's number.
pub fn mount(device: &str) -> Result<Mount> {
    mounts::all()?
        .into_iter()
        .find(|m| m.number == device)
        .with_context(|| format!("nothing is mounted from {device}"))
}

/// Returns the number of the device that holds the file's data: that of its
/// filesystem, or the realtime device of XFS, which a flag of the file selects.
pub fn data_device(file: &File, mount: &Mount) -> Result<String> {
    if mount.fstype != "xfs" || !is_realtime(file)? {
        return Ok(mount.number.clone());
    }
    let path = mount
        .option("rtdev")
        .context("no rtdev= among the mount options")?;
    let about = fs::metadata(path).with_context(|| format!("cannot stat {path}"))?;
    Ok(number(about.rdev()))
}

/// Formats a device number as in sysfs and mountinfo.
pub fn number(device: u64) -> String {
    format!("{}:{}", libc::major(device), libc::minor(device))
}

fn is_realtime(file: &File) -> Result<bool> {
    /// Value from linux/fs.h.
    const FSGETXATTR: u64 = 0x801c_581f;
    const FS_XFLAG_REALTIME: u32 = 1;
    /// struct fsxattr; the flags come first.
    #[repr(C)]
    struct Attributes([u32; 7]);

    let mut attributes = Attributes([0; 7]);
    // SAFETY: The structure is the one that the request fills, and outlives the
    // call.
    match unsafe { libc::ioctl(file.as_raw_fd(), FSGETXATTR, &mut attributes) } {
        0 => Ok(attributes.0[0] & FS_XFLAG_REALTIME != 0),
        _ => Err(io::Error::last_os_error()).context("FS_IOC_FSGETXATTR"),
    }
}

impl Device {
    /// Returns what helps if the device, or the partition, begins beside a multiple of 2 MiB.
    pub fn misalignment(&self) -> Option<String> {
        let start = self.start?;
        if start.wrapping_sub(self.partition) % HUGE != 0 {
            return Some(format!(
                "{} is not aligned to 2 MiB: ndctl create-namespace -f -e … -m fsdax -a 2M",
                self.name
            ));
        }
        (self.partition % HUGE != 0).then(|| {
            format!(
                "the partition {} is not aligned to 2 MiB: parted -a optimal, from 2 MiB on",
                self.name
            )
        })
    }

    /// Finds a device by its number, `259:0`.
    pub fn find(number: &str) -> Result<Self> {
        Self::below(Path::new("/sys"), number)
    }

    /// Finds a device below `sys`, which differs from /sys in tests.
    pub fn below(sys: &Path, number: &str) -> Result<Self> {
        let link = sys.join("dev/block").join(number);
        let dir = fs::canonicalize(&link)
            .with_context(|| format!("{number} is no block device: no {}", link.display()))?;
        let name = dir
            .file_name()
            .and_then(|n| n.to_str())
            .context("a device without a name")?
            .to_string();
        let (disk, partition) = match dir.join("partition").exists() {
            true => {
                let sectors = number_in(&dir.join("start"))?;
                let parent = dir.parent().map(PathBuf::from);
                (parent.context("a partition without a disk")?, sectors * 512)
            }
            false => (dir, 0),
        };
        // A namespace of persistent memory, or its claim.
        let below = disk.join("device");
        if !below.exists() {
            return Ok(Self {
                name,
                start: None,
                partition,
            });
        }
        let resource = below.join("resource");
        ensure!(
            resource.exists(),
            "{name} is not persistent memory: no {}",
            resource.display()
        );
        Ok(Self {
            name,
            start: Some(number_in(&resource)? + partition),
            partition,
        })
    }
}

/// Reads a decimal or hexadecimal number of sysfs.
pub fn number_in(path: &Path) -> Result<u64> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bail!("only root may read {}: run daxstat by sudo", path.display())
        }
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .with_context(|| format!("{} holds no number: {text:?}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A disk with a partition, and a dm device, as sysfs shows them. Removed
    /// when dropped.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn new(name: &str) -> Result<Self> {
            let this = Self(std::env::temp_dir().join(format!("{name}-{}", std::process::id())));
            let root = &this.0;
            fs::create_dir_all(root.join("dev/block"))?;
            let disk = root.join("devices/pfn0.0/block/pmem0");
            fs::create_dir_all(disk.join("pmem0p1"))?;
            fs::create_dir_all(root.join("devices/virtual/dm-0"))?;
            fs::write(root.join("devices/pfn0.0/resource"), "0x140200000\n")?;
            symlink("../..", disk.join("device"))?;
            fs::write(disk.join("pmem0p1/partition"), "1\n")?;
            fs::write(disk.join("pmem0p1/start"), "4096\n")?;
            for (number, dir) in [
                ("259:0", disk.clone()),
                ("259:1", disk.join("pmem0p1")),
                ("253:0", root.join("devices/virtual/dm-0")),
            ] {
                symlink(dir, root.join("dev/block").join(number))?;
            }
            Ok(this)
        }
    }

    impl Drop for Sysfs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn disks_and_partitions() -> Result<()> {
        let sysfs = Sysfs::new("daxstat-place")?;
        let disk = Device::below(&sysfs.0, "259:0")?;
        assert_eq!(
            (disk.name.as_str(), disk.start),
            ("pmem0", Some(0x1_4020_0000))
        );
        let part = Device::below(&sysfs.0, "259:1")?;
        assert_eq!((part.name.as_str(), part.partition), ("pmem0p1", 2 << 20));
        assert_eq!(part.start, Some(0x1_4040_0000));
        assert_eq!(Device::below(&sysfs.0, "253:0")?.start, None);
        assert!(Device::below(&sysfs.0, "8:0").is_err());
        Ok(())
    }
}
