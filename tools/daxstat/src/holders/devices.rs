// SPDX-License-Identifier: GPL-2.0

//! What is built on a target: partitions, device-mapper, md, loop devices, and on all of these mounts
//! and swap.
//!
//! A device above holds those below it, so the list grows until nothing new is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::target::{self, Target};
use super::tasks::Status;
use super::{base, entries, read, Holder, Kind};
use crate::mounts::{self, Mount};

/// The numbers of devices that belong to a target.
#[derive(Debug, Default)]
pub struct Above {
    /// Of block devices: the target's and all above.
    pub blocks: BTreeSet<String>,
    /// Of filesystems: those of the block devices, and of mounts that use one in another way.
    pub filesystems: BTreeSet<String>,
    pub names: Vec<String>,
}

/// Returns what is above a target.
pub fn above(
    sys: &Path,
    proc: &Path,
    target: &Target,
    unknown: &mut Vec<String>,
) -> (Above, Vec<Holder>) {
    let mut above = Above::default();
    let mut holders = Vec::new();
    let mounts = mount_namespaces(proc, unknown);
    let loops = loops(sys, &mounts, unknown);
    // One file is not held by what is on other blocks of its disk.
    let mut rest: Vec<String> = match &target.file {
        Some(_) => Vec::new(),
        None => target.blocks.iter().cloned().collect(),
    };
    loop {
        while let Some(number) = rest.pop() {
            if !above.blocks.insert(number.clone()) {
                continue;
            }
            above.filesystems.insert(number.clone());
            let Ok(dir) = fs::canonicalize(sys.join("dev/block").join(&number)) else {
                continue;
            };
            above.names.push(base(&dir));
            for (name, holder) in on(&dir) {
                rest.extend(read(dir.join(name).join("dev")));
                holders.push(holder);
            }
        }
        for (device, file) in &loops {
            if above.blocks.contains(&device.number) || !device.is_on(target, &above) {
                continue;
            }
            rest.push(device.number.clone());
            holders.push(Holder {
                device: Some(device.name.clone()),
                file: Some(file.clone()),
                ..Holder::new(Kind::Loop, "")
            });
        }
        let found = mounts.values().flat_map(|n| &n.mounts);
        let new: Vec<String> = found
            .filter(|m| uses(m, &above.blocks))
            .map(|m| m.number.clone())
            .collect();
        above.filesystems.extend(new);
        if rest.is_empty() {
            break;
        }
    }
    for (id, namespace) in &mounts {
        let used = namespace.mounts.iter().filter(|m| uses(m, &above.blocks));
        holders.extend(used.map(|m| mounted(m, id, namespace)));
    }
    for swap in swaps(proc) {
        let about = Status::of(Path::new(&swap));
        if about.is_some_and(|s| {
            let is_file = match &target.file {
                Some((fs, ino)) => s.is_file() && s.device == *fs && s.ino == *ino,
                None => above.filesystems.contains(&s.device),
            };
            is_file || above.blocks.contains(&s.rdev)
        }) {
            holders.push(Holder {
                file: Some(swap),
                ..Holder::new(Kind::Swap, "")
            });
        }
    }
    for dax in &target.dax {
        above.names.push(dax.name.clone());
        if dax.driver.as_deref() == Some("kmem") {
            holders.push(Holder {
                device: Some(dax.name.clone()),
                ..Holder::new(
                    Kind::Memory,
                    "it is ordinary memory (kmem): daxctl offline-memory, then reconfigure-device",
                )
            });
        }
    }
    (above, holders)
}

/// Returns the partitions of a device and the devices above it: where each is below the device's
/// folder, and the holder.
fn on(dir: &Path) -> Vec<(String, Holder)> {
    let mut all = Vec::new();
    for name in entries(dir) {
        if dir.join(&name).join("partition").exists() {
            let of = |file: &str| read(dir.join(&name).join(file)).unwrap_or_default();
            let holder = Holder {
                device: Some(name.clone()),
                ..Holder::new(
                    Kind::Partition,
                    format!("{} sectors from {} on", of("size"), of("start")),
                )
            };
            all.push((name, holder));
        }
    }
    for name in entries(dir.join("holders")) {
        let path = format!("holders/{name}");
        let of = |file: &str| read(dir.join(&path).join(file)).filter(|t| !t.is_empty());
        let (kind, what) = match (of("dm/name"), of("md/level")) {
            (Some(dm), _) => (Kind::Dm, dm),
            (None, Some(level)) => (Kind::Md, level),
            (None, None) => (Kind::Device, String::new()),
        };
        let holder = Holder {
            device: Some(name),
            ..Holder::new(kind, what)
        };
        all.push((path, holder));
    }
    all
}

/// A loop device.
struct Loop {
    name: String,
    number: String,
    /// What its file is.
    file: Status,
}

impl Loop {
    fn is_on(&self, target: &Target, above: &Above) -> bool {
        match &target.file {
            Some((fs, ino)) => {
                self.file.is_file() && self.file.device == *fs && self.file.ino == *ino
                    || above.blocks.contains(&self.file.device)
            }
            None => {
                above.blocks.contains(&self.file.rdev)
                    || above.filesystems.contains(&self.file.device)
            }
        }
    }
}

/// Returns the loop devices with their files, which are named as the process saw them that made the
/// device.
fn loops(
    sys: &Path,
    mounts: &BTreeMap<String, Namespace>,
    unknown: &mut Vec<String>,
) -> Vec<(Loop, String)> {
    let mut all = Vec::new();
    for name in entries(sys.join("block")) {
        let dir = sys.join("block").join(&name);
        let (Some(file), Some(number)) =
            (read(dir.join("loop/backing_file")), read(dir.join("dev")))
        else {
            continue;
        };
        let remote = mounts
            .values()
            .flat_map(|n| &n.mounts)
            .filter(|m| Path::new(&file).starts_with(&m.dir))
            .any(|m| target::is_remote(&m.fstype));
        match Status::of(Path::new(&file)).filter(|_| !remote) {
            Some(status) => all.push((
                Loop {
                    name,
                    number,
                    file: status,
                },
                file,
            )),
            None => unknown.push(format!("{name}: its file {file} cannot be looked at")),
        }
    }
    all
}

/// The mounts of one mount namespace.
struct Namespace {
    /// A process in it.
    pid: u32,
    command: String,
    mounts: Vec<Mount>,
    /// Whether it is that of this program.
    own: bool,
}

/// Returns the mount namespaces of all processes that may be seen, by their identifiers.
fn mount_namespaces(proc: &Path, unknown: &mut Vec<String>) -> BTreeMap<String, Namespace> {
    let of = |dir: &str| fs::read_link(proc.join(dir).join("ns/mnt"));
    let own = of("self").unwrap_or_default();
    let mut all = BTreeMap::new();
    let mut add = |id: &Path, pid: u32, dir: &str| {
        let id_text = id.display().to_string();
        if all.contains_key(&id_text) {
            return;
        }
        let Ok(text) = fs::read(proc.join(dir).join("mountinfo")) else {
            return;
        };
        all.insert(
            id_text,
            Namespace {
                pid,
                command: read(proc.join(dir).join("comm")).unwrap_or_default(),
                mounts: mounts::parse(&String::from_utf8_lossy(&text)),
                own: id == own,
            },
        );
    };
    add(&own, std::process::id(), "self");
    let mut hidden = 0u32;
    for pid in entries(proc).iter().filter_map(|n| n.parse::<u32>().ok()) {
        match of(&pid.to_string()) {
            Ok(id) => add(&id, pid, &pid.to_string()),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => hidden += 1,
            Err(_) => {}
        }
    }
    if hidden > 0 {
        unknown.push(format!(
            "the mount namespaces of some processes ({hidden}): only root may see them"
        ));
    }
    all
}

/// Returns whether a mount uses one of these devices: as its own, or as a log or realtime device.
fn uses(mount: &Mount, blocks: &BTreeSet<String>) -> bool {
    let number_of = |path: &str| {
        let status = Path::new(path)
            .is_absolute()
            .then(|| Status::of(Path::new(path)));
        status.flatten().map(|s| s.rdev)
    };
    blocks.contains(&mount.number)
        || ["rtdev", "logdev", "journal_path"]
            .iter()
            .filter_map(|name| mount.option(name))
            .chain(
                mount
                    .number
                    .starts_with("0:")
                    .then_some(mount.source.as_str()),
            )
            .filter_map(number_of)
            .any(|number| blocks.contains(&number))
}

fn mounted(mount: &Mount, id: &str, namespace: &Namespace) -> Holder {
    let dax = mount.options.iter().find(|o| o.starts_with("dax"));
    let mut what = format!(
        "{}, {}",
        mount.fstype,
        dax.map_or("without the option dax", String::as_str)
    );
    if !namespace.own {
        what += &format!(", in the mount namespace {id}");
    }
    Holder {
        file: Some(mount.dir.clone()),
        pid: (!namespace.own).then_some(namespace.pid),
        command: (!namespace.own).then(|| namespace.command.clone()),
        ..Holder::new(Kind::Mount, what)
    }
}

/// Returns the files and devices that are used for swap.
fn swaps(proc: &Path) -> Vec<String> {
    let text = read(proc.join("swaps")).unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(mounts::unescape)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Result;
    use std::os::unix::fs::symlink;

    #[test]
    fn devices_above_and_mounts() -> Result<()> {
        let root = std::env::temp_dir().join(format!("daxstat-above-{}", std::process::id()));
        let (sys, proc) = (root.join("sys"), root.join("proc"));
        let (disk, dm) = (sys.join("pmem0"), sys.join("dm-0"));
        for dir in [
            &disk.join("holders"),
            &disk.join("pmem0p1/holders"),
            &dm.join("dm"),
        ] {
            fs::create_dir_all(dir)?;
        }
        for dir in [
            &sys.join("dev/block"),
            &proc.join("self/ns"),
            &proc.join("7/ns"),
        ] {
            fs::create_dir_all(dir)?;
        }
        for (file, text) in [
            ("pmem0/pmem0p1/dev", "259:1"),
            ("pmem0/pmem0p1/partition", "1"),
            ("pmem0/pmem0p1/size", "8"),
            ("pmem0/pmem0p1/start", "64"),
            ("dm-0/dev", "253:0"),
            ("dm-0/dm/name", "vg-lv"),
        ] {
            fs::write(sys.join(file), text)?;
        }
        symlink(&dm, disk.join("pmem0p1/holders/dm-0"))?;
        for (number, dir) in [
            ("259:0", &disk),
            ("259:1", &disk.join("pmem0p1")),
            ("253:0", &dm),
        ] {
            symlink(dir, sys.join("dev/block").join(number))?;
        }
        symlink("mnt:[1]", proc.join("self/ns/mnt"))?;
        symlink("mnt:[2]", proc.join("7/ns/mnt"))?;
        fs::write(
            proc.join("self/mountinfo"),
            "1 0 8:1 / / rw - ext4 /dev/a rw\n",
        )?;
        fs::write(
            proc.join("7/mountinfo"),
            "1 0 253:0 / /mnt/x rw - ext4 /dev/b rw,dax=always\n",
        )?;
        fs::write(proc.join("7/comm"), "box\n")?;
        fs::write(proc.join("swaps"), "Filename Type\n")?;
        let target = Target {
            name: "pmem0".into(),
            kind: target::Kind::Block,
            blocks: ["259:0".to_string()].into(),
            dax: BTreeSet::new(),
            file: None,
            ranges: Vec::new(),
        };
        let (above, holders) = above(&sys, &proc, &target, &mut Vec::new());
        fs::remove_dir_all(&root)?;
        assert_eq!(above.names, ["pmem0", "pmem0p1", "dm-0"]);
        let kinds: Vec<Kind> = holders.iter().map(|h| h.kind).collect();
        assert_eq!(kinds, [Kind::Partition, Kind::Dm, Kind::Mount]);
        assert_eq!(holders[1].what, "vg-lv");
        assert_eq!(
            (holders[2].pid, holders[2].command.as_deref()),
            (Some(7), Some("box"))
        );
        assert!(holders[2].what.contains("dax=always"), "{:?}", holders[2]);
        Ok(())
    }
}
