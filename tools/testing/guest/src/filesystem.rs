// SPDX-License-Identifier: GPL-2.0

//! A filesystem on a namespace, mounted for DAX.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::FallocateFlags;

use crate::command::Cmd;
use crate::mapping::open_rw;
use crate::system::clean_up;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Supports faults of 4 KiB only, and no fallocate().
    Ext2,
    Ext4,
    Xfs,
    /// Files may share blocks, and the filesystem has a reverse mapping of
    /// blocks to owners.
    XfsReflink,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext2 => "ext2",
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::XfsReflink => "xfs-reflink",
        }
    }

    /// Returns the name for mount(8).
    fn driver(self) -> &'static str {
        match self {
            Kind::Ext2 => "ext2",
            Kind::Ext4 => "ext4",
            Kind::Xfs | Kind::XfsReflink => "xfs",
        }
    }

    /// Returns the mkfs command. Filesystems that can map 2 MiB get a stripe of
    /// 2 MiB: then the allocator places large files so that such mappings are
    /// possible.
    fn mkfs(self) -> &'static str {
        match self {
            Kind::Ext2 => "mkfs.ext2 -q -F -b 4096",
            Kind::Ext4 => "mkfs.ext4 -q -F -b 4096 -E stride=512,stripe_width=512",
            Kind::Xfs => "mkfs.xfs -q -f -m reflink=0 -d su=2m,sw=1,agcount=2",
            Kind::XfsReflink => "mkfs.xfs -q -f -m reflink=1,rmapbt=1 -d su=2m,sw=1,agcount=2",
        }
    }

    /// Runs the filesystem's own check, which changes nothing.
    pub fn check(self, device: &Path) -> Result<()> {
        let program = match self {
            Kind::Ext2 | Kind::Ext4 => "e2fsck -fn",
            Kind::Xfs | Kind::XfsReflink => "xfs_repair -n",
        };
        Cmd::new(program)
            .arg(device)
            .limit_secs(120)
            .ok()
            .context("the filesystem is damaged")?;
        Ok(())
    }
}

/// A mounted filesystem; dropping it unmounts.
pub struct DaxMount {
    dir: PathBuf,
    kind: Kind,
    mounted: bool,
}

impl DaxMount {
    /// Creates the filesystem and mounts it with `-o dax`.
    pub fn create(kind: Kind, device: &Path, dir: &Path) -> Result<Self> {
        Cmd::new(kind.mkfs()).arg(device).limit_secs(120).ok()?;
        Self::mount(kind, device, dir)
    }

    pub fn mount(kind: Kind, device: &Path, dir: &Path) -> Result<Self> {
        Self::mount_with(kind, device, dir, "dax")
    }

    /// Mounts an existing filesystem with the caller's options.
    pub fn mount_with(kind: Kind, device: &Path, dir: &Path, options: &str) -> Result<Self> {
        // ext4 is built in.
        if kind != Kind::Ext4 {
            Cmd::new("modprobe").arg(kind.driver()).ok()?;
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Cmd::new("mount -o")
            .arg(options)
            .arg("-t")
            .arg(kind.driver())
            .arg(device)
            .arg(dir)
            .ok()?;
        Ok(Self {
            dir: dir.to_path_buf(),
            kind,
            mounted: true,
        })
    }

    /// Returns the kind of filesystem.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates a file with `len` allocated bytes.
    pub fn file(&self, name: &str, len: u64) -> Result<File> {
        let path = self.path(name);
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let file = open_rw(&path, false)?;
        match self.kind {
            Kind::Ext2 => write_zeros(&file, len),
            _ => fallocate(&file, 0, 0, len),
        }
        .with_context(|| format!("cannot allocate {len} bytes for {}", path.display()))?;
        Ok(file)
    }

    pub fn unmount(mut self) -> Result<()> {
        self.mounted = false;
        Cmd::new("umount").arg(&self.dir).ok()?;
        Ok(())
    }
}

impl Drop for DaxMount {
    fn drop(&mut self) {
        if self.mounted {
            clean_up(Cmd::new("umount").arg(&self.dir).ok());
        }
    }
}

/// Allocates blocks by writing, where fallocate(2) is not supported.
fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let piece = (len - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

/// Calls fallocate(2).
pub fn fallocate(file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
    let mode = FallocateFlags::from_bits_retain(mode);
    Ok(nix::fcntl::fallocate(
        file,
        mode,
        offset as i64,
        len as i64,
    )?)
}

/// Unmounts filesystems on devices whose names have these prefixes, to clean up
/// after a test that died.
pub fn unmount_devices(prefixes: &[&str]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    for dir in mounted_from(&mounts, prefixes).iter().rev() {
        Cmd::new("umount").arg(dir).ok()?;
    }
    Ok(())
}

fn mounted_from<'a>(mounts: &'a str, prefixes: &[&str]) -> Vec<&'a str> {
    mounts
        .lines()
        .filter_map(|l| {
            let mut words = l.split(' ');
            Some((words.next()?, words.next()?))
        })
        .filter(|(device, _)| prefixes.iter().any(|p| device.starts_with(p)))
        .map(|(_, dir)| dir)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_by_device() {
        let mounts = "/dev/vda / ext4 rw 0 0\n/dev/pmem1 /mnt/a ext4 rw 0 0\n\
                      tmpfs /dev/pmem tmpfs rw 0 0\n/dev/mapper/x /mnt/b xfs rw 0 0\n";
        assert_eq!(
            mounted_from(mounts, &["/dev/pmem", "/dev/mapper/"]),
            ["/mnt/a", "/mnt/b"]
        );
    }
}
