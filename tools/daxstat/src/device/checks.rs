// SPDX-License-Identifier: GPL-2.0

//! The judgement of what is known of a block device, with a line for each subject.

use serde::Serialize;

use super::facts::{Facts, Mode};
use crate::mounts::Mount;
use crate::ranges::HUGE;
use crate::superblock::{Content, Filesystem};

/// One subject.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) state: State,
    pub(super) what: String,
    pub(super) advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// DAX works; huge pages, some files or something else do not.
    Warning,
    /// DAX does not work.
    Missing,
    Unknown,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
            State::Unknown => "unknown",
        }
    }
}

/// A list of checks that grows.
pub(super) struct Checks(pub(super) Vec<Check>);

impl Checks {
    pub(super) fn add(&mut self, check: &'static str, state: State, what: impl Into<String>) {
        self.0.push(Check {
            check,
            state,
            what: what.into(),
            advice: None,
        });
    }

    pub(super) fn advise(
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
pub(super) fn mkfs(fstype: &str, facts: &Facts) -> String {
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

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
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

pub(super) fn kernel(facts: &Facts, all: &mut Checks) {
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

pub(super) fn device(facts: &Facts, all: &mut Checks) {
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

pub(super) fn alignment(facts: &Facts, all: &mut Checks) {
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
pub(super) fn above(facts: &Facts, all: &mut Checks) {
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

pub(super) fn content(facts: &Facts, all: &mut Checks) {
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
pub(super) fn on(filesystem: &Filesystem, facts: &Facts, all: &mut Checks) {
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

pub(super) fn mounted(mount: &Mount, all: &mut Checks) {
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
