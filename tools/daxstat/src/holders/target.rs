// SPDX-License-Identifier: GPL-2.0

//! What the user asks about, as device numbers and physical ranges.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use super::{base, entries, number, read, Span};
use crate::mounts;
use crate::open::Inode;
use crate::place;

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Namespace,
    Block,
    Dax,
    Filesystem,
    File,
    Range,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Namespace => "namespace",
            Kind::Block => "block device",
            Kind::Dax => "dax device",
            Kind::Filesystem => "filesystem",
            Kind::File => "file",
            Kind::Range => "range",
        }
    }
}

/// A device-dax device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DaxDevice {
    pub name: String,
    /// Number of the character device; `None` if another driver is bound to it.
    pub number: Option<String>,
    /// The size of its pages.
    pub align: u64,
    /// The driver: `device_dax`, `kmem`.
    pub driver: Option<String>,
}

/// What is asked about.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: String,
    pub kind: Kind,
    /// Numbers of the block devices themselves, without what is above them.
    pub blocks: BTreeSet<String>,
    pub dax: BTreeSet<DaxDevice>,
    /// The filesystem's number and the inode's, if the target is one file.
    pub file: Option<(String, u64)>,
    /// Physical memory; empty if it cannot be told.
    pub ranges: Vec<Span>,
}

/// Persistent or other memory with a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Memory {
    /// `namespace0.0`; `None` for device-dax of memory that is no namespace.
    namespace: Option<String>,
    range: Option<Span>,
    blocks: BTreeSet<String>,
    dax: BTreeSet<DaxDevice>,
}

/// Returns the namespaces, and the dax devices outside them.
fn inventory(sys: &Path) -> Vec<Memory> {
    let nd = sys.join("bus/nd/devices");
    let span = |dir: &Path| {
        let of = |name: &str| number(&read(dir.join(name))?);
        Span::new(of("resource")?, of("size")?)
    };
    let mut all: Vec<Memory> = entries(&nd)
        .into_iter()
        .filter(|name| name.starts_with("namespace"))
        .map(|name| Memory {
            range: span(&nd.join(&name)),
            namespace: Some(name),
            blocks: BTreeSet::new(),
            dax: BTreeSet::new(),
        })
        .filter(|m| m.range.is_some() || !is_empty(&nd, m))
        .collect();
    for number in entries(sys.join("dev/block")) {
        let link = sys.join("dev/block").join(&number);
        let claim = fs::canonicalize(link.join("device")).unwrap_or_default();
        if let Some(memory) = all.iter_mut().find(|m| m.namespace == namespace_of(&claim)) {
            memory.blocks.insert(number);
        }
    }
    let bus = sys.join("bus/dax/devices");
    for name in entries(&bus) {
        let dir = fs::canonicalize(bus.join(&name)).unwrap_or_default();
        let dax = DaxDevice {
            number: read(dir.join("dev")),
            align: read(dir.join("align"))
                .and_then(|t| number(&t))
                .unwrap_or(0),
            driver: fs::canonicalize(dir.join("driver")).ok().map(|d| base(&d)),
            name,
        };
        let namespace = dir.parent().and_then(namespace_of);
        match all
            .iter_mut()
            .find(|m| namespace.is_some() && m.namespace == namespace)
        {
            Some(memory) => {
                memory.dax.insert(dax);
            }
            None => all.push(Memory {
                namespace,
                range: span(&dir),
                blocks: BTreeSet::new(),
                dax: [dax].into(),
            }),
        }
    }
    all
}

/// Returns whether a namespace is the empty one that ndctl configures next.
fn is_empty(nd: &Path, memory: &Memory) -> bool {
    let name = memory.namespace.as_deref().unwrap_or_default();
    read(nd.join(name).join("size")).as_deref() == Some("0")
}

/// Returns the namespace of a device of libnvdimm: its own name, or that of what it claims.
fn namespace_of(dir: &Path) -> Option<String> {
    match base(dir) {
        name if name.starts_with("namespace") => Some(name),
        _ => read(dir.join("namespace")).filter(|name| !name.is_empty()),
    }
}

impl Target {
    /// Finds a target by what the user typed.
    pub fn find(sys: &Path, text: &OsStr) -> Result<Self> {
        let name = text.to_string_lossy();
        if let Some(range) = range_of(&name) {
            return Self::range(sys, &name, range?);
        }
        if name.contains('/') {
            return Self::path(sys, Path::new(text));
        }
        if sys.join("bus/nd/devices").join(&*name).exists() {
            let memory = inventory(sys);
            let found = memory
                .iter()
                .find(|m| m.namespace.as_deref() == Some(&name));
            let found = found.with_context(|| format!("{name} is no namespace with memory"))?;
            return Ok(Self::of(&name, Kind::Namespace, [found]));
        }
        if let Some(number) = read(sys.join("class/block").join(&*name).join("dev")) {
            return Ok(Self::block(sys, &name, &number));
        }
        if sys.join("bus/dax/devices").join(&*name).exists() {
            return Self::dax(sys, &name);
        }
        if Path::new(text).exists() {
            return Self::path(sys, Path::new(text));
        }
        bail!(
            "{name} is no namespace (`ndctl list -Ni`), block device, dax device, file or range 0xA-0xB"
        )
    }

    fn of<'m>(name: &str, kind: Kind, memory: impl IntoIterator<Item = &'m Memory>) -> Self {
        let mut target = Self {
            name: name.to_string(),
            kind,
            blocks: BTreeSet::new(),
            dax: BTreeSet::new(),
            file: None,
            ranges: Vec::new(),
        };
        for memory in memory {
            target.blocks.extend(memory.blocks.iter().cloned());
            target.dax.extend(memory.dax.iter().cloned());
            target.ranges.extend(memory.range);
        }
        target
    }

    fn range(sys: &Path, name: &str, range: Span) -> Result<Self> {
        let memory = inventory(sys);
        if memory.iter().any(|m| m.range.is_none()) {
            // SAFETY: geteuid() has no arguments and always succeeds.
            let root = unsafe { libc::geteuid() } == 0;
            ensure!(
                root,
                "only root may see the addresses of namespaces: run daxstat by sudo"
            );
        }
        let inside = memory
            .iter()
            .filter(|m| m.range.is_some_and(|r| r.overlaps(range)));
        let mut target = Self::of(name, Kind::Range, inside);
        target.ranges = vec![range];
        Ok(target)
    }

    fn dax(sys: &Path, name: &str) -> Result<Self> {
        let memory = inventory(sys);
        let found = memory.iter().find(|m| m.dax.iter().any(|d| d.name == name));
        let found = found.with_context(|| format!("{name} is no dax device"))?;
        let mut target = Self::of(name, Kind::Dax, [found]);
        target.dax.retain(|d| d.name == name);
        Ok(target)
    }

    /// Returns the target that is a block device, with the memory of the disks below it. The place of a
    /// partition is not asked for: the claim's attribute `resource` waits for an unbinding of its driver.
    fn block(sys: &Path, name: &str, number: &str) -> Self {
        let memory = inventory(sys);
        let disks = below(sys, number);
        let inside = memory.iter().filter(|m| !m.blocks.is_disjoint(&disks));
        let mut target = Self::of(name, Kind::Block, inside);
        target.blocks = [number.to_string()].into();
        target
    }

    fn path(sys: &Path, path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        refuse_remote(path, &mounts::all()?)?;
        let about = Inode::find(path)?.about;
        let (kind, device) = (about.file_type(), place::number(about.rdev()));
        if kind.is_block_device() {
            return Ok(Self::block(sys, &name, &device));
        }
        if kind.is_char_device() {
            let all = inventory(sys).into_iter().flat_map(|m| m.dax);
            let found = all.into_iter().find(|d| d.number.as_ref() == Some(&device));
            let found = found.with_context(|| format!("{name} is no dax device"))?;
            return Self::dax(sys, &found.name);
        }
        ensure!(
            kind.is_file() || kind.is_dir(),
            "{name} is neither a file, a folder nor a device"
        );
        let filesystem = place::number(about.dev());
        ensure!(
            sys.join("dev/block").join(&filesystem).exists(),
            "{name} is on a filesystem without a block device"
        );
        let mut target = Self::block(sys, &name, &filesystem);
        target.kind = Kind::Filesystem;
        if kind.is_file() {
            target.kind = Kind::File;
            target.file = Some((filesystem, about.ino()));
        }
        Ok(target)
    }
}

/// Refuses a path below a mount of FUSE or NFS: a look at it could wait for its server.
fn refuse_remote(path: &Path, mounts: &[mounts::Mount]) -> Result<()> {
    let full = match path.is_absolute() {
        true => path.to_path_buf(),
        false => std::env::current_dir().unwrap_or_default().join(path),
    };
    let longest = mounts
        .iter()
        .filter(|m| full.starts_with(&m.dir))
        .max_by_key(|m| PathBuf::from(&m.dir).components().count());
    if let Some(mount) = longest.filter(|m| is_remote(&m.fstype)) {
        bail!(
            "{} is on {}, which has no DAX",
            path.display(),
            mount.fstype
        );
    }
    Ok(())
}

/// Returns whether a filesystem asks a server.
pub fn is_remote(fstype: &str) -> bool {
    (fstype.starts_with("fuse") && fstype != "fusectl")
        || ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs"].contains(&fstype)
}

/// Returns the numbers of the whole disks below a block device: itself, the disk of a partition,
/// the devices that it combines.
fn below(sys: &Path, number: &str) -> BTreeSet<String> {
    let (mut disks, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = vec![number.to_string()];
    while let Some(number) = rest.pop() {
        if !seen.insert(number.clone()) {
            continue;
        }
        let Ok(dir) = fs::canonicalize(sys.join("dev/block").join(&number)) else {
            continue;
        };
        if dir.join("partition").exists() {
            rest.extend(dir.parent().and_then(|disk| read(disk.join("dev"))));
            continue;
        }
        let slaves = entries(dir.join("slaves"));
        rest.extend(
            slaves
                .iter()
                .filter_map(|s| read(dir.join("slaves").join(s).join("dev"))),
        );
        disks.insert(number);
    }
    disks
}

/// Parses `0xA-0xB`, with an inclusive end as in the kernel's log; `None` if it is none.
fn range_of(text: &str) -> Option<Result<Span>> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (start.strip_prefix("0x")?, end.strip_prefix("0x")?);
    let hex = |t| u64::from_str_radix(t, 16);
    Some(match (hex(start), hex(end)) {
        (Ok(start), Ok(end)) if start <= end => Ok(Span { start, end }),
        _ => Err(anyhow::anyhow!(
            "{text} is no range: 0xA-0xB, B being the last byte"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn ranges() {
        let of = |text| range_of(text).map(|r| r.map(|r| (r.start, r.end)).ok());
        assert_eq!(of("0x10-0x1f"), Some(Some((0x10, 0x1f))));
        assert_eq!(of("0x10-0xf"), Some(None));
        assert_eq!(of("pmem-0"), None);
    }

    #[test]
    fn remote_paths_are_not_looked_at() {
        let mounts = mounts::parse(
            "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:40 / /mnt/f rw - fuse.sshfs x rw\n",
        );
        assert!(refuse_remote(Path::new("/mnt/f/a"), &mounts).is_err());
        assert!(refuse_remote(Path::new("/mnt/fa"), &mounts).is_ok());
    }

    /// A namespace in mode fsdax with a partition, one in mode devdax, and the empty one.
    pub fn sysfs(name: &str) -> Result<PathBuf> {
        let sys = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let region = sys.join("devices/ndbus0/region0");
        let disk = region.join("pfn0.1/block/pmem0");
        let dax = region.join("dax0.2/dax0.0");
        for dir in [&disk.join("holders"), &disk.join("pmem0p1/holders"), &dax] {
            fs::create_dir_all(dir)?;
        }
        for dir in [
            "dev/block",
            "bus/nd/devices",
            "bus/dax/devices",
            "class/block",
        ] {
            fs::create_dir_all(sys.join(dir))?;
        }
        for n in 0..3 {
            fs::create_dir_all(region.join(format!("namespace0.{n}")))?;
        }
        for (file, text) in [
            ("namespace0.0/resource", "0x140000000"),
            ("namespace0.0/size", "0x20000000"),
            ("namespace0.1/resource", "0x160000000"),
            ("namespace0.1/size", "0x20000000"),
            ("namespace0.2/size", "0"),
            ("pfn0.1/namespace", "namespace0.0"),
            ("pfn0.1/resource", "0x140200000"),
            ("dax0.2/namespace", "namespace0.1"),
            ("dax0.2/dax0.0/dev", "252:0"),
            ("dax0.2/dax0.0/align", "2097152"),
            ("pfn0.1/block/pmem0/dev", "259:0"),
            ("pfn0.1/block/pmem0/pmem0p1/dev", "259:1"),
            ("pfn0.1/block/pmem0/pmem0p1/partition", "1"),
            ("pfn0.1/block/pmem0/pmem0p1/start", "4096"),
            ("pfn0.1/block/pmem0/pmem0p1/size", "8192"),
        ] {
            fs::write(region.join(file), format!("{text}\n"))?;
        }
        symlink("../..", disk.join("device"))?;
        for (link, to) in [
            ("dev/block/259:0", &disk),
            ("dev/block/259:1", &disk.join("pmem0p1")),
            ("class/block/pmem0", &disk),
            ("class/block/pmem0p1", &disk.join("pmem0p1")),
            ("bus/dax/devices/dax0.0", &dax),
            ("bus/nd/devices/namespace0.0", &region.join("namespace0.0")),
            ("bus/nd/devices/namespace0.1", &region.join("namespace0.1")),
            ("bus/nd/devices/namespace0.2", &region.join("namespace0.2")),
        ] {
            symlink(to, sys.join(link))?;
        }
        Ok(sys)
    }

    #[test]
    fn targets() -> Result<()> {
        let sys = sysfs("daxstat-target")?;
        let find = |name: &str| Target::find(&sys, OsStr::new(name));
        let results = [
            "namespace0.0",
            "pmem0",
            "pmem0p1",
            "dax0.0",
            "0x14fffffff-0x15fffffff",
        ]
        .map(find);
        let (empty, none) = (find("namespace0.2"), find("pmem7"));
        fs::remove_dir_all(&sys)?;
        assert!(empty.is_err() && none.is_err());
        let [namespace, disk, part, dax, range] = results;
        let whole = Span {
            start: 0x1_4000_0000,
            end: 0x1_5fff_ffff,
        };
        for target in [namespace?, disk?, range?] {
            assert_eq!(
                target.blocks,
                BTreeSet::from(["259:0".to_string()]),
                "{target:?}"
            );
            assert!(
                target.ranges.iter().all(|r| r.overlaps(whole)),
                "{target:?}"
            );
        }
        let part = part?;
        assert_eq!(part.blocks, BTreeSet::from(["259:1".to_string()]));
        assert_eq!(part.ranges, [whole]);
        let dax = dax?;
        assert!(dax.blocks.is_empty() && dax.dax.iter().all(|d| d.align == 2 << 20));
        assert_eq!(
            dax.ranges,
            [Span {
                start: 0x1_6000_0000,
                end: 0x1_7fff_ffff
            }]
        );
        Ok(())
    }
}
