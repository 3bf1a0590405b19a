// SPDX-License-Identifier: GPL-2.0

//! A target to map: a file on a new DAX filesystem or a device-dax device, on a
//! namespace created for it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::filesystem::{DaxMount, Kind};
use crate::mapping::{open_rw, Mapping};
use crate::ndctl::{Mode, Namespace, Want};

/// Folder of the tests' mount points.
const MOUNTS: &str = "/mnt/guest-test";

/// Name of the file on the filesystem.
pub const FILE: &str = "data";

/// A target to map. Fields are dropped in this order: file, mount, namespace.
pub struct Target {
    pub file: File,
    pub mount: Option<DaxMount>,
    pub namespace: Namespace,
    pub want: Want,
}

impl Target {
    /// Creates a target of `len` bytes, on ext4 for fsdax.
    pub fn create(want: &Want, len: u64) -> Result<Self> {
        Self::on(want, Kind::Ext4, len)
    }

    pub fn on(want: &Want, kind: Kind, len: u64) -> Result<Self> {
        Self::in_namespace(Namespace::create(want)?, want, kind, len)
    }

    /// Creates a target as [`Target::create`] does, in a namespace of `size`
    /// bytes.
    pub fn sized(want: &Want, size: u64, len: u64) -> Result<Self> {
        Self::in_namespace(Namespace::create_sized(want, size)?, want, Kind::Ext4, len)
    }

    fn in_namespace(namespace: Namespace, want: &Want, kind: Kind, len: u64) -> Result<Self> {
        let node = namespace.node()?;
        let (file, mount) = match want.mode {
            Mode::Fsdax => {
                let mount = DaxMount::create(kind, &node, &mount_point())?;
                (mount.file(FILE, len)?, Some(mount))
            }
            Mode::Devdax => (open_rw(&node, false)?, None),
        };
        Ok(Self {
            file,
            mount,
            namespace,
            want: *want,
        })
    }

    pub fn is_fsdax(&self) -> bool {
        self.want.mode == Mode::Fsdax
    }

    /// Maps at least `len` bytes from the start, aligned for the largest page.
    /// device-dax requires whole units of its alignment.
    pub fn map(&self, len: usize) -> Result<Mapping> {
        let (len, align) = self.unit(len);
        Mapping::shared(&self.file, 0, len, align)
    }

    /// Maps with other protection or flags.
    pub fn map_with(&self, len: usize, prot: i32, flags: i32) -> Result<Mapping> {
        let (len, align) = self.unit(len);
        Mapping::with(&self.file, 0, len, align, prot, flags)
    }

    /// Reserves address space for a mapping of this target.
    pub fn reserve(&self, len: usize) -> Result<Mapping> {
        let (len, align) = self.unit(len);
        Mapping::reserve(len, align)
    }

    fn unit(&self, len: usize) -> (usize, usize) {
        let align = self.want.align as usize;
        match self.want.mode {
            Mode::Fsdax => (len, 2 << 20),
            Mode::Devdax => (len.next_multiple_of(align), align.max(2 << 20)),
        }
    }

    /// Mounts the filesystem again: no file has entries any more, and what became of the pages
    /// stays.
    pub fn remount(&mut self) -> Result<()> {
        let mount = self.mount.take().context("no filesystem to mount again")?;
        self.file = File::open("/dev/null").context("cannot open /dev/null")?;
        let kind = mount.kind();
        mount.unmount()?;
        let mount = DaxMount::mount(kind, &self.namespace.node()?, &mount_point())?;
        self.file = open_rw(&mount.path(FILE), false)?;
        self.mount = Some(mount);
        Ok(())
    }

    /// Closes, unmounts, checks the filesystem and destroys the target; returns the errors.
    pub fn finish(self) -> Result<()> {
        drop(self.file);
        if let Some(mount) = self.mount {
            let kind = mount.kind();
            mount.unmount()?;
            kind.check(&self.namespace.node()?)?;
        }
        self.namespace.destroy()
    }
}

/// Returns a mount point of this process.
pub fn mount_point() -> PathBuf {
    Path::new(MOUNTS).join(std::process::id().to_string())
}
