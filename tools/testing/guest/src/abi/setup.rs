// SPDX-License-Identifier: GPL-2.0

//! The namespaces that are the same on every kernel: they are listed, and the
//! bad calls are made on them.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::ndctl::{self, Bus, Info, Map, Mode, Want, MIB};
use crate::system;
use crate::target::Target;

const DEVICES: &str = "/sys/bus/nd/devices";
const FILE_SIZE: u64 = 8 * MIB;

/// An object to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A file on ext4 with DAX, of 8 MiB.
    FsdaxFile,
    /// The disk below it, which is mounted.
    FsdaxDisk,
    /// A device-dax device with 2 MiB pages.
    Devdax,
    /// A disk without DAX with atomic sector updates (BTT).
    SectorDisk,
    /// An unused disk, on a namespace without pages.
    RawDisk,
    /// A file on the guest's own filesystem, without DAX.
    PlainFile,
    /// Ordinary memory: nothing is opened.
    Memory,
}

/// A folder of sysfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Region,
    /// The region's unused (seed) devices, by their file.
    Seed(&'static str),
    /// Namespaces: active ones, and one that is disabled.
    FsdaxNamespace,
    DevdaxNamespace,
    RawNamespace,
    IdleNamespace,
    /// The pfn device of the fsdax namespace.
    Pfn,
    /// The device-dax device.
    Dax,
    /// The disk of the fsdax namespace.
    Disk,
    /// Any other folder.
    At(&'static str),
}

/// The namespaces and the objects on them.
pub struct Setup {
    fsdax: Target,
    devdax: Target,
    sector: Info,
    raw: Info,
    idle: Info,
    region: PathBuf,
    plain: PathBuf,
}

impl Setup {
    pub fn create() -> Result<Setup> {
        const fn want(mode: Mode) -> Want {
            Want {
                mode,
                align: 2 * MIB,
                map: Map::Dev,
                bus: Bus::Acpi,
            }
        }
        let regions = ndctl::regions(Bus::Acpi.provider())?;
        let region = regions.first().context("there is no ACPI NVDIMM region")?;
        let dev = region.dev.clone();
        let fsdax = Target::create(&want(Mode::Fsdax), FILE_SIZE)?;
        let devdax = Target::create(&want(Mode::Devdax), FILE_SIZE)?;
        let sector = make(&format!("-m sector -s 128M -r {dev}"))?;
        let raw = make(&format!("-m raw -s 128M -r {dev}"))?;
        let idle = make(&format!("-m raw -s 128M -r {dev}"))?;
        Cmd::new("ndctl disable-namespace").arg(&idle.dev).ok()?;
        // A filesystem on a disk without DAX, to be mounted with DAX.
        let sector_disk = sector.node()?;
        system::wait_for_node(&sector_disk)?;
        system::wait_for_node(&raw.node()?)?;
        Cmd::new("mkfs.ext4 -q -F").arg(&sector_disk).ok()?;
        let plain = Path::new("/root").join("plain");
        let file = File::create(&plain).context("cannot make a plain file")?;
        file.set_len(FILE_SIZE)
            .context("cannot make a plain file")?;
        Ok(Setup {
            fsdax,
            devdax,
            sector,
            raw,
            idle,
            region: Path::new(DEVICES).join(dev),
            plain,
        })
    }

    /// Returns the path to open, or `None` for ordinary memory.
    pub fn path(&self, object: Object) -> Result<Option<PathBuf>> {
        let mount = self.fsdax.mount.as_ref();
        Ok(Some(match object {
            Object::FsdaxFile => mount.context("nothing is mounted")?.path("data"),
            Object::FsdaxDisk => self.fsdax.namespace.node()?,
            Object::Devdax => self.devdax.namespace.node()?,
            Object::SectorDisk => self.sector.node()?,
            Object::RawDisk => self.raw.node()?,
            Object::PlainFile => self.plain.clone(),
            Object::Memory => return Ok(None),
        }))
    }

    /// Returns the folder of a node.
    pub fn node(&self, node: Node) -> Result<PathBuf> {
        let nd = |name: &str| Path::new(DEVICES).join(name);
        let last = |path: PathBuf| -> String {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        Ok(match node {
            Node::Region => self.region.clone(),
            Node::Seed(kind) => nd(&system::read(self.region.join(kind))?),
            Node::FsdaxNamespace => nd(self.fsdax.namespace.dev()),
            Node::DevdaxNamespace => nd(self.devdax.namespace.dev()),
            Node::RawNamespace => nd(&self.raw.dev),
            Node::IdleNamespace => nd(&self.idle.dev),
            Node::Pfn => nd(&system::read(
                nd(self.fsdax.namespace.dev()).join("holder"),
            )?),
            Node::Dax => {
                Path::new("/sys/bus/dax/devices").join(last(self.devdax.namespace.node()?))
            }
            Node::Disk => Path::new("/sys/block").join(last(self.fsdax.namespace.node()?)),
            Node::At(path) => PathBuf::from(path),
        })
    }

    /// Closes and destroys everything.
    pub fn tear_down(self) -> Result<()> {
        let ended = [self.fsdax.finish(), self.devdax.finish()];
        for namespace in [&self.sector, &self.raw, &self.idle] {
            Cmd::new("ndctl destroy-namespace -f")
                .arg(&namespace.dev)
                .ok()?;
        }
        ended.into_iter().collect()
    }
}

fn make(arguments: &str) -> Result<Info> {
    let out = Cmd::new("ndctl create-namespace")
        .arg_words(arguments)
        .ok()?;
    ndctl::parse_list(&out.stdout)?
        .into_iter()
        .next()
        .context("ndctl printed nothing about the namespace that it made")
}
