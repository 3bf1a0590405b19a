// SPDX-License-Identifier: GPL-2.0

//! The report on a block device: whether a filesystem on it can be mounted with DAX, and what is
//! missing.
//!
//! Most obstacles show in the kernel's log only, and several filesystems then mount without DAX as
//! if nothing had happened. [`Facts`] is what sysfs, the superblock and the mounts say; [`checks`]
//! judges it, with a line for each subject. A subject that prevents DAX is missing; one that costs
//! huge pages, or excludes some files, is a warning.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::mounts::{self, Mount};
use crate::open::Inode;
use crate::place::{number_in, Device};
use crate::ranges::HUGE;
use crate::superblock::{Content, Filesystem};

/// The report in the form of the JSON.
#[derive(Serialize)]
pub struct Report {
    device: String,
    pub fit: bool,
    checks: Vec<Check>,
}

/// One subject.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    what: String,
    advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// DAX works; huge pages, some files or something else do not.
    Warning,
    /// DAX does not work.
    Missing,
    Unknown,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
            State::Unknown => "unknown",
        }
    }
}

/// What libnvdimm made of the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// fsdax with an info block.
    Pfn {
        claim: String,
        map: String,
    },
    /// fsdax without one, on a region without labels.
    Memory,
    Sector,
    Raw,
    /// Not a namespace: the devices that it consists of.
    Other(Vec<String>),
}

/// What is known of a device.
#[derive(Debug)]
struct Facts {
    name: String,
    page: u64,
    /// Whether the kernel has filesystem DAX; `None` without its configuration.
    fs_dax: Option<bool>,
    huge_pages: bool,
    mode: Mode,
    /// For the advice: `namespace0.0`.
    namespace: Option<String>,
    /// The queue's attribute.
    dax: bool,
    read_only: bool,
    /// The region is read-only, by its labels or by the platform.
    region_read_only: bool,
    /// Logical block size.
    sector: u64,
    /// Start and size of the partition in bytes.
    partition: Option<(u64, u64)>,
    /// In physical memory; an error in words.
    place: Result<Device, String>,
    /// Bad ranges of the disk: first sector and number of sectors.
    bad: Vec<(u64, u64)>,
    /// Partitions of the disk, and the physical address or offset at which each begins.
    partitions: Vec<(String, u64)>,
    /// Devices above, by their names in sysfs.
    holders: Vec<String>,
    /// Major and minor number of the kernel's release.
    release: (u32, u32),
    /// How stores become durable: `cpu_cache`, `memory_controller`; `None` if the platform does not
    /// say.
    persistence: Option<String>,
    /// virtio-pmem: the host is asked to flush.
    asynchronous: bool,
    content: Content,
    mounts: Vec<Mount>,
    /// The XFS on another part of the disk, and its mount point: it is the one holder of the disk's
    /// DAX device.
    dax_holder: Option<(String, String)>,
}

fn read(path: PathBuf) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_string())
}

fn base(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl Facts {
    /// Collects what `sys`, which is /sys except in tests, has on a device.
    fn collect(sys: &Path, number: &str, content: Content, mounts: Vec<Mount>) -> Result<Self> {
        let link = sys.join("dev/block").join(number);
        let dir = fs::canonicalize(&link)
            .with_context(|| format!("{number} is no block device: no {}", link.display()))?;
        let is_partition = dir.join("partition").exists();
        let disk = match dir.parent() {
            Some(parent) if is_partition => parent.to_path_buf(),
            _ => dir.clone(),
        };
        let partition = match is_partition {
            true => Some((
                number_in(&dir.join("start"))?.saturating_mul(512),
                number_in(&dir.join("size"))?.saturating_mul(512),
            )),
            false => None,
        };
        let below = fs::canonicalize(disk.join("device")).ok();
        let claim = below
            .as_ref()
            .filter(|b| base(&fs::canonicalize(b.join("subsystem")).unwrap_or_default()) == "nd");
        let region = claim.and_then(|c| c.parent());
        let of_claim = |name: &str| claim.and_then(|c| read(c.join(name)));
        let of_region = |name: &str| region.and_then(|r| read(r.join(name)));
        let is = |text: Option<String>| text.as_deref() == Some("1");
        let mode = match claim.map(|c| base(c)) {
            Some(claim) if claim.starts_with("pfn") => Mode::Pfn {
                claim,
                map: match of_claim("mode").as_deref() {
                    Some("ram") => "mem".into(),
                    _ => "dev".into(),
                },
            },
            Some(claim) if claim.starts_with("btt") => Mode::Sector,
            Some(_) if of_claim("mode").as_deref() == Some("memory") => Mode::Memory,
            Some(_) => Mode::Raw,
            None => Mode::Other(slaves(&disk)),
        };
        let namespace = match claim {
            Some(c) if base(c).starts_with("namespace") => Some(base(c)),
            _ => of_claim("namespace"),
        };
        let bad = read(disk.join("badblocks")).unwrap_or_default();
        let place = Device::below(sys, number).map_err(|e| format!("{e:#}"));
        let start = place.as_ref().ok().and_then(|d| d.start).unwrap_or(0);
        Ok(Self {
            name: base(&dir),
            page: page_size(),
            fs_dax: configured(sys, "CONFIG_FS_DAX"),
            huge_pages: sys.join("kernel/mm/transparent_hugepage").exists(),
            mode,
            namespace,
            dax: is(read(disk.join("queue/dax"))),
            read_only: is(read(dir.join("ro"))),
            region_read_only: is(of_region("read_only")),
            sector: number_in(&disk.join("queue/logical_block_size"))?,
            partition,
            place,
            bad: bad.lines().filter_map(pair).collect(),
            partitions: match is_partition {
                true => Vec::new(),
                false => partitions(&dir, start),
            },
            holders: names_in(&dir.join("holders")),
            release: release(),
            persistence: of_region("persistence_domain").filter(|d| !d.is_empty()),
            asynchronous: claim.is_some_and(|c| {
                c.components()
                    .any(|part| part.as_os_str().to_string_lossy().starts_with("virtio"))
            }),
            content,
            dax_holder: mounts
                .iter()
                .filter(|m| m.fstype == "xfs" && m.number != number)
                .find_map(|m| {
                    let other = fs::canonicalize(sys.join("dev/block").join(&m.number)).ok()?;
                    // Another partition, or the disk itself.
                    let same = other == disk || other.parent() == Some(disk.as_path());
                    same.then(|| (base(&other), m.dir.clone()))
                }),
            mounts: mounts.into_iter().filter(|m| m.number == number).collect(),
        })
    }
}

/// Parses a line of two numbers.
fn pair(line: &str) -> Option<(u64, u64)> {
    let (first, second) = line.trim().split_once(' ')?;
    Some((first.parse().ok()?, second.trim().parse().ok()?))
}

/// Returns the partitions of a disk, and where each begins if the disk does at `start`.
fn partitions(disk: &Path, start: u64) -> Vec<(String, u64)> {
    let names = names_in(disk).into_iter();
    names
        .filter(|name| disk.join(name).join("partition").exists())
        .filter_map(|name| {
            let sectors = number_in(&disk.join(&name).join("start")).ok()?;
            Some((name, sectors.checked_mul(512)?.checked_add(start)?))
        })
        .collect()
}

/// Returns the release of the running kernel; zeros if it cannot be told.
fn release() -> (u32, u32) {
    let text = read("/proc/sys/kernel/osrelease".into()).unwrap_or_default();
    let mut numbers = text.split(['.', '-']).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Returns the names of the devices that a device combines.
fn slaves(disk: &Path) -> Vec<String> {
    names_in(&disk.join("slaves"))
}

/// Returns the names in a folder, sorted; none if it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir);
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn page_size() -> u64 {
    // SAFETY: sysconf() has no pointers among its arguments.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Returns whether the running kernel was built with an option, if its configuration can be found.
fn configured(sys: &Path, option: &str) -> Option<bool> {
    if sys != Path::new("/sys") {
        return None;
    }
    let release = read("/proc/sys/kernel/osrelease".into()).unwrap_or_default();
    let text = packed("/proc/config.gz")
        .or_else(|| read(format!("/boot/config-{release}").into()))
        .or_else(|| read(format!("/lib/modules/{release}/config").into()))?;
    Some(text.lines().any(|l| l == format!("{option}=y")))
}

fn packed(path: &str) -> Option<String> {
    if !Path::new(path).exists() {
        return None;
    }
    let out = Command::new("gzip")
        .args(["-dc", path])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A list of checks that grows.
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, check: &'static str, state: State, what: impl Into<String>) {
        self.0.push(Check {
            check,
            state,
            what: what.into(),
            advice: None,
        });
    }

    fn advise(
        &mut self,
        check: &'static str,
        state: State,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(check, state, what);
        if let Some(last) = self.0.last_mut() {
            last.advice = Some(advice.into());
        }
    }
}

/// Returns the command that makes a filesystem for DAX.
fn mkfs(fstype: &str, facts: &Facts) -> String {
    let (name, page) = (&facts.name, facts.page);
    match fstype {
        "xfs" => {
            let reflink = match facts.partition {
                Some(_) => "-m reflink=0 ",
                None => "",
            };
            format!("mkfs.xfs {reflink}-b size={page} -d su=2m,sw=1 /dev/{name}")
        }
        "ext2" => format!("mkfs.ext2 -b {page} /dev/{name}"),
        "erofs" => format!("mkfs.erofs -b {page} /dev/{name} …"),
        _ => format!("mkfs.ext4 -b {page} -E stride=512,stripe_width=512 /dev/{name}"),
    }
}

fn checks(facts: &Facts) -> Vec<Check> {
    let mut all = Checks(Vec::new());
    kernel(facts, &mut all);
    device(facts, &mut all);
    alignment(facts, &mut all);
    above(facts, &mut all);
    content(facts, &mut all);
    for mount in &facts.mounts {
        mounted(mount, &mut all);
    }
    all.0
}

fn kernel(facts: &Facts, all: &mut Checks) {
    match facts.fs_dax {
        Some(true) => all.add("kernel", State::Ok, "has CONFIG_FS_DAX"),
        Some(false) => all.advise(
            "kernel",
            State::Missing,
            "has no CONFIG_FS_DAX: filesystems refuse or ignore -o dax",
            "boot a kernel with CONFIG_FS_DAX=y",
        ),
        None => {}
    }
    if !facts.huge_pages {
        all.advise(
            "huge pages",
            State::Warning,
            "the kernel has no CONFIG_TRANSPARENT_HUGEPAGE: all pages are of 4 KiB",
            "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y",
        );
    }
}

fn device(facts: &Facts, all: &mut Checks) {
    let namespace = facts.namespace.as_deref().unwrap_or("…");
    let convert = format!(
        "ndctl create-namespace -f -e {namespace} -m fsdax, which loses what the namespace holds"
    );
    match &facts.mode {
        Mode::Pfn { claim, map } => {
            let place = match map.as_str() {
                "mem" => "in ordinary memory (map=mem)",
                _ => "on the device (map=dev)",
            };
            all.add(
                "mode",
                State::Ok,
                format!("fsdax ({claim}), struct pages {place}"),
            );
        }
        Mode::Memory => all.add(
            "mode",
            State::Ok,
            "fsdax without an info block, struct pages in ordinary memory",
        ),
        Mode::Sector => all.advise(
            "mode",
            State::Missing,
            "sector: a BTT moves blocks, so they cannot be mapped",
            convert,
        ),
        Mode::Raw => all.advise(
            "mode",
            State::Missing,
            "raw: the memory has no struct pages",
            convert,
        ),
        Mode::Other(slaves) if !slaves.is_empty() => all.advise(
            "mode",
            State::Ok,
            format!("it consists of {}", slaves.join(", ")),
            format!("run daxstat --device on each of {}", slaves.join(", ")),
        ),
        Mode::Other(_) => all.advise(
            "mode",
            if facts.dax { State::Ok } else { State::Missing },
            "it is not a namespace of persistent memory",
            "`ndctl list -Ni` shows the namespaces that there are",
        ),
    }
    match facts.dax {
        true => all.add("queue", State::Ok, "offers DAX"),
        false => all.add(
            "queue",
            State::Missing,
            "does not offer DAX (queue/dax is 0)",
        ),
    }
    if facts.read_only || facts.region_read_only {
        let region = match facts.region_read_only {
            true => ", and so is its region",
            false => "",
        };
        all.advise(
            "read-only",
            State::Warning,
            format!("the device is read-only{region}: it can be mounted with -o ro,dax"),
            format!(
                "blockdev --setrw /dev/{}; for a region its attribute read_only",
                facts.name
            ),
        );
    }
    all.add("sector", State::Ok, format!("{} bytes", facts.sector));
    if let Some((first, _)) = facts.bad.first() {
        let sectors: u64 = facts.bad.iter().map(|(_, sectors)| sectors).sum();
        all.advise(
            "media",
            State::Warning,
            format!(
                "{} bad ranges of {sectors} sectors of 512 bytes, the first at sector {first} of the disk: an access \
                 to one raises SIGBUS",
                facts.bad.len()
            ),
            "`ndctl list -M` shows them; a write() of whole blocks repairs",
        );
    }
    if facts.asynchronous {
        all.advise(
            "durability",
            State::Warning,
            "virtio-pmem: the host flushes, so mmap() with MAP_SYNC fails",
            "use msync() or fsync()",
        );
    } else if matches!(facts.mode, Mode::Other(_)) {
    } else if let Some(domain) = &facts.persistence {
        all.add(
            "durability",
            State::Ok,
            format!("persistence domain {domain}"),
        );
    } else {
        all.add(
            "durability",
            State::Warning,
            "the platform does not say how stores become durable: they may be lost at power failure",
        );
    }
}

fn alignment(facts: &Facts, all: &mut Checks) {
    if let Some((start, size)) = facts.partition {
        if start % facts.page != 0 || size % facts.page != 0 {
            all.advise(
                "partition",
                State::Missing,
                format!("start and size, {start:#x} and {size:#x}, are no multiples of a page"),
                "parted -a optimal, from 2 MiB on, to a multiple of 4 KiB",
            );
            return;
        }
    }
    match &facts.place {
        Ok(place) => match (place.start, place.misalignment()) {
            (None, _) => all.add(
                "alignment",
                State::Unknown,
                "it has no address of its own: check the devices below it",
            ),
            (Some(start), Some(advice)) => all.advise(
                "alignment",
                State::Warning,
                format!(
                    "it begins at {start:#x}, {:#x} after a multiple of 2 MiB: huge pages only by luck",
                    start % HUGE
                ),
                advice,
            ),
            (Some(start), None) => all.add(
                "alignment",
                State::Ok,
                format!("it begins at {start:#x}, a multiple of 2 MiB"),
            ),
        },
        Err(_) if !facts.dax => {}
        Err(why) => all.add("alignment", State::Unknown, why.clone()),
    }
}

/// Checks the partitions and the devices above.
fn above(facts: &Facts, all: &mut Checks) {
    for (name, start) in &facts.partitions {
        if start % HUGE != 0 {
            all.advise(
                "partitions",
                State::Warning,
                format!(
                    "{name} begins at {start:#x}, {:#x} after a multiple of 2 MiB: huge pages only by luck",
                    start % HUGE
                ),
                format!("make {name} again from a sector that is a multiple of 4096: parted, unit MiB"),
            );
        }
    }
    if !facts.holders.is_empty() {
        let holders = facts.holders.join(", ");
        all.advise(
            "holders",
            State::Warning,
            format!("{holders} uses it: it cannot be mounted itself (EBUSY)"),
            format!(
                "run daxstat --device on {holders}; daxstat holders {} shows all",
                facts.name
            ),
        );
    }
    let is_xfs = matches!(&facts.content, Content::Filesystem(f) if f.fstype == "xfs");
    if let Some((other, dir)) = &facts.dax_holder {
        all.advise(
            "holders",
            if is_xfs { State::Missing } else { State::Warning },
            format!(
                "XFS of {other} on {dir} is the holder of the disk's DAX, which has one: a second XFS is mounted \
                 without DAX"
            ),
            format!("umount {dir}; or ext4 here; or a namespace for each, by ndctl create-namespace -s"),
        );
    }
}

fn content(facts: &Facts, all: &mut Checks) {
    match &facts.content {
        Content::Empty => all.advise(
            "filesystem",
            State::Warning,
            "none yet",
            format!("{}; or {}", mkfs("ext4", facts), mkfs("xfs", facts)),
        ),
        Content::Partitions(table) => all.advise(
            "filesystem",
            State::Warning,
            format!("none, but partitions ({table})"),
            format!("run daxstat --device /dev/{}p1, and so on", facts.name),
        ),
        Content::Unknown(why) => all.add("filesystem", State::Unknown, why.clone()),
        Content::Filesystem(filesystem) => on(filesystem, facts, all),
    }
}

/// Checks a filesystem on the device.
fn on(filesystem: &Filesystem, facts: &Facts, all: &mut Checks) {
    let fstype = filesystem.fstype.as_str();
    let again = format!("{}, which loses what it holds", mkfs(fstype, facts));
    match fstype {
        "ext4" | "ext3" | "xfs" | "erofs" => all.add("filesystem", State::Ok, fstype),
        "ext2" => all.advise(
            "filesystem",
            State::Warning,
            "ext2 maps 4 KiB only",
            "use ext4 or xfs for huge pages",
        ),
        _ => {
            return all.advise(
                "filesystem",
                State::Missing,
                format!("{fstype} has no DAX"),
                "use ext4, xfs, ext2 or erofs",
            )
        }
    }
    match filesystem.block_size {
        Some(size) if size == facts.page => {
            all.add("block size", State::Ok, format!("{size} bytes, as a page"));
        }
        Some(size) => {
            let result = match fstype {
                "ext4" | "ext3" => "mount -o dax fails",
                _ => "mount -o dax turns DAX off, and succeeds",
            };
            all.advise(
                "block size",
                State::Missing,
                format!(
                    "{size} bytes, DAX needs {}: {result}, with the reason in the kernel's log",
                    facts.page
                ),
                again.clone(),
            );
        }
        None => all.add(
            "block size",
            State::Unknown,
            "the superblock cannot be read",
        ),
    }
    if filesystem.inline_data {
        all.advise(
            "inline_data",
            State::Missing,
            "files may lie in inodes: mount -o dax fails",
            format!("mkfs.ext4 -O ^inline_data: {again}"),
        );
    }
    if filesystem.journal_data {
        all.advise(
            "journal",
            State::Missing,
            "data=journal is the filesystem's default: mount -o dax fails",
            format!("tune2fs -o ^journal_data /dev/{}", facts.name),
        );
    }
    if filesystem.reflink && facts.partition.is_some() {
        all.advise(
            "reflink",
            State::Missing,
            "XFS with reflink on a partition: mount -o dax fails",
            format!("{again}; or use the whole namespace"),
        );
    }
    // 6.0 is the first kernel that has both.
    if filesystem.reflink && facts.release < (6, 0) && facts.release != (0, 0) {
        let (major, minor) = facts.release;
        all.advise(
            "reflink",
            State::Missing,
            format!("XFS with reflink on Linux {major}.{minor}: mount -o dax fails before 6.0"),
            "mkfs.xfs -m reflink=0, which loses what it holds; or a newer kernel",
        );
    }
    if filesystem.reflink && !filesystem.rmapbt {
        all.advise(
            "rmapbt",
            State::Warning,
            "XFS with reflink and without rmapbt: the files that share a bad page cannot be found",
            "mkfs.xfs -m rmapbt=1, which loses what it holds, if memory errors matter",
        );
    }
    if !filesystem.excluding.is_empty() {
        all.add(
            "features",
            State::Warning,
            format!(
                "files with {} are not DAX",
                filesystem.excluding.join(" or ")
            ),
        );
    }
    match filesystem.stripe {
        Some(stripe) if fstype == "ext2" || (stripe > 0 && stripe % HUGE == 0) => {}
        Some(stripe) => {
            let advice = match fstype {
                "xfs" => "mount -o sunit=4096,swidth=4096; or xfs_io -c 'extsize 2m' on a directory, for new files".into(),
                _ => format!("tune2fs -E stride=512,stripe_width=512 /dev/{}, for new files", facts.name),
            };
            all.advise(
                "layout",
                State::Warning,
                match stripe {
                    0 => "the allocator aligns no files to 2 MiB: huge pages only by luck".into(),
                    _ => format!(
                        "the allocator aligns files to {stripe} bytes, which is no multiple of 2 MiB: huge pages only \
                         by luck"
                    ),
                },
                advice,
            );
        }
        None => {}
    }
}

fn mounted(mount: &Mount, all: &mut Checks) {
    let dir = &mount.dir;
    let has = |option: &str| mount.options.iter().any(|o| o == option);
    let again = "umount, then mount -o dax: a remount cannot change it";
    if has("dax") || has("dax=always") {
        all.add("mount", State::Ok, format!("on {dir} with DAX"));
    } else if has("dax=never") {
        all.advise(
            "mount",
            State::Warning,
            format!(
                "on {dir} without DAX: dax=never, by the option or by the kernel, which logs why"
            ),
            again,
        );
    } else if matches!(mount.fstype.as_str(), "ext4" | "xfs") {
        all.advise(
            "mount",
            State::Warning,
            format!("on {dir} without -o dax: files with the flag only (xfs_io -c 'chattr +x')"),
            again,
        );
    } else {
        all.advise(
            "mount",
            State::Warning,
            format!("on {dir} without DAX"),
            again,
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn ext4() -> Filesystem {
        Filesystem {
            fstype: "ext4".into(),
            block_size: Some(4096),
            stripe: Some(HUGE),
            ..Filesystem::default()
        }
    }

    fn facts(filesystem: Filesystem) -> Facts {
        Facts {
            name: "pmem0".into(),
            page: 4096,
            fs_dax: Some(true),
            huge_pages: true,
            mode: Mode::Pfn {
                claim: "pfn0.1".into(),
                map: "dev".into(),
            },
            namespace: Some("namespace0.0".into()),
            dax: true,
            read_only: false,
            region_read_only: false,
            sector: 512,
            partition: None,
            place: Ok(Device {
                name: "pmem0".into(),
                start: Some(5 * HUGE),
                partition: 0,
            }),
            bad: Vec::new(),
            partitions: Vec::new(),
            holders: Vec::new(),
            release: (6, 12),
            persistence: Some("cpu_cache".into()),
            asynchronous: false,
            content: Content::Filesystem(filesystem),
            mounts: Vec::new(),
            dax_holder: None,
        }
    }

    /// Returns the checks that are not ok.
    fn wrong(facts: &Facts) -> Vec<(&'static str, State)> {
        let all = checks(facts).into_iter();
        all.map(|c| (c.check, c.state))
            .filter(|(_, state)| *state != State::Ok)
            .collect()
    }

    #[test]
    fn a_fit_one() {
        assert_eq!(wrong(&facts(ext4())), []);
        assert!(Report::from(&facts(ext4())).fit);
    }

    #[test]
    fn each_obstacle_is_told() {
        use State::Missing;
        let with = |change: fn(&mut Filesystem)| {
            let mut filesystem = ext4();
            change(&mut filesystem);
            wrong(&facts(filesystem))
        };
        assert_eq!(
            with(|f| f.block_size = Some(1024)),
            [("block size", Missing)]
        );
        assert_eq!(with(|f| f.inline_data = true), [("inline_data", Missing)]);
        assert_eq!(with(|f| f.journal_data = true), [("journal", Missing)]);
        assert_eq!(
            with(|f| f.fstype = "btrfs".into()),
            [("filesystem", Missing)]
        );
        let mut old = facts(ext4());
        old.fs_dax = Some(false);
        assert_eq!(wrong(&old), [("kernel", Missing)]);
        let mut raw = facts(ext4());
        (raw.mode, raw.dax) = (Mode::Raw, false);
        assert_eq!(wrong(&raw), [("mode", Missing), ("queue", Missing)]);
        let text = Report::from(&raw).to_string();
        assert!(
            text.starts_with("pmem0: not fit for DAX, because of: mode, queue"),
            "{text}"
        );
        assert!(text.contains("-e namespace0.0 -m fsdax"), "{text}");
    }

    #[test]
    fn partitions() {
        let mut part = facts(Filesystem {
            fstype: "xfs".into(),
            reflink: true,
            rmapbt: true,
            ..ext4()
        });
        assert_eq!(wrong(&part), []);
        part.release = (5, 19);
        assert_eq!(wrong(&part), [("reflink", State::Missing)]);
        part.release = (6, 12);
        part.dax_holder = Some(("pmem0p2".into(), "/mnt/b".into()));
        assert_eq!(wrong(&part), [("holders", State::Missing)]);
        part.dax_holder = None;
        part.partition = Some((HUGE, HUGE));
        assert_eq!(wrong(&part), [("reflink", State::Missing)]);
        part.content = Content::Empty;
        let advice = checks(&part)
            .pop()
            .and_then(|c| c.advice)
            .unwrap_or_default();
        assert!(advice.contains("reflink=0"), "{advice}");
        part.partition = Some((63 * 512, HUGE));
        assert_eq!(wrong(&part)[0], ("partition", State::Missing));
    }

    #[test]
    fn what_costs_huge_pages_is_a_warning() {
        use State::Warning;
        let mut facts = facts(Filesystem {
            stripe: Some(0),
            excluding: vec!["encrypt"],
            ..ext4()
        });
        facts.place = Ok(Device {
            name: "pmem0".into(),
            start: Some(5 * HUGE + 4096),
            partition: 0,
        });
        assert_eq!(
            wrong(&facts),
            [
                ("alignment", Warning),
                ("features", Warning),
                ("layout", Warning)
            ]
        );
        assert!(Report::from(&facts).fit);
    }

    #[test]
    fn what_is_above() {
        let mut disk = facts(ext4());
        disk.partitions = vec![
            ("pmem0p1".into(), 5 * HUGE),
            ("pmem0p2".into(), 7 * HUGE + 4096),
        ];
        disk.holders = vec!["dm-0".into()];
        disk.bad = vec![(8, 1), (64, 2)];
        assert_eq!(
            wrong(&disk),
            [
                ("media", State::Warning),
                ("partitions", State::Warning),
                ("holders", State::Warning)
            ]
        );
        let text = Report::from(&disk).to_string();
        for words in [
            "2 bad ranges of 3 sectors of 512 bytes, the first at sector 8",
            "pmem0p2 begins at 0xe01000, 0x1000 after",
            "dm-0 uses it",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn mounts_without_dax() {
        let state = |options: &str| {
            let line = format!("40 22 259:0 / /mnt rw - ext4 /dev/pmem0 {options}\n");
            let mut facts = facts(ext4());
            facts.mounts = mounts::parse(&line);
            wrong(&facts)
        };
        assert_eq!(state("rw,dax"), []);
        assert_eq!(state("rw,dax=always"), []);
        assert_eq!(state("rw,dax=never"), [("mount", State::Warning)]);
        assert_eq!(state("rw"), [("mount", State::Warning)]);
    }

    #[test]
    fn json() -> Result<()> {
        let mut filesystem = ext4();
        filesystem.block_size = Some(1024);
        let json = serde_json::to_value(Report::from(&facts(filesystem)))?;
        assert_eq!(json["fit"], false);
        let checks = json["checks"].as_array().context("no checks")?;
        let block = checks.iter().find(|c| c["check"] == "block size");
        let block = block.context("no block size")?;
        assert_eq!(block["state"], "missing");
        let advice = block["advice"].as_str().unwrap_or_default();
        assert!(advice.starts_with("mkfs.ext4 -b 4096"), "{advice}");
        Ok(())
    }

    #[test]
    fn sysfs() -> Result<()> {
        let sys = std::env::temp_dir().join(format!("daxstat-device-{}", std::process::id()));
        let region = sys.join("devices/ndbus0/region0");
        let disk = region.join("pfn0.1/block/pmem0");
        fs::create_dir_all(disk.join("queue"))?;
        fs::create_dir_all(disk.join("pmem0p1"))?;
        fs::create_dir_all(sys.join("dev/block"))?;
        fs::create_dir_all(sys.join("bus/nd"))?;
        for (name, text) in [
            ("read_only", "0"),
            ("persistence_domain", "memory_controller"),
            ("pfn0.1/mode", "ram"),
            ("pfn0.1/namespace", "namespace0.0"),
            ("pfn0.1/resource", "0x140200000"),
            ("pfn0.1/block/pmem0/ro", "0"),
            ("pfn0.1/block/pmem0/badblocks", "8 1\n64 2"),
            ("pfn0.1/block/pmem0/queue/dax", "1"),
            ("pfn0.1/block/pmem0/queue/logical_block_size", "4096"),
            ("pfn0.1/block/pmem0/pmem0p1/partition", "1"),
            ("pfn0.1/block/pmem0/pmem0p1/start", "2048"),
            ("pfn0.1/block/pmem0/pmem0p1/size", "8192"),
            ("pfn0.1/block/pmem0/pmem0p1/ro", "1"),
        ] {
            fs::write(region.join(name), format!("{text}\n"))?;
        }
        symlink("../..", disk.join("device"))?;
        symlink(sys.join("bus/nd"), region.join("pfn0.1/subsystem"))?;
        symlink(disk.join("pmem0p1"), sys.join("dev/block/259:1"))?;
        let facts = Facts::collect(&sys, "259:1", Content::Empty, Vec::new());
        fs::remove_dir_all(&sys)?;
        let facts = facts?;
        assert_eq!(facts.name, "pmem0p1");
        assert_eq!(
            facts.mode,
            Mode::Pfn {
                claim: "pfn0.1".into(),
                map: "mem".into()
            }
        );
        assert_eq!(facts.namespace.as_deref(), Some("namespace0.0"));
        assert_eq!(facts.partition, Some((1 << 20, 4 << 20)));
        assert!(facts.dax && facts.read_only && !facts.region_read_only);
        assert_eq!((facts.sector, facts.bad.len()), (4096, 2));
        assert_eq!(facts.persistence.as_deref(), Some("memory_controller"));
        assert_eq!(
            wrong(&facts)[..3],
            [
                ("huge pages", State::Warning),
                ("read-only", State::Warning),
                ("media", State::Warning)
            ]
        );
        Ok(())
    }
}
