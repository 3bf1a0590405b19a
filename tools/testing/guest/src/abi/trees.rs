// SPDX-License-Identifier: GPL-2.0

//! Pseudo filesystems as lists: every file, folder and link with its mode, and
//! the texts that are the same at every boot of one kernel.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::Regex;

use super::Facts;

/// Paths that are not listed: other filesystems, and files not meant for
/// programs.
const OTHERS: &[&str] = &[
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/config",
    "/sys/fs/cgroup",
    // A folder per cache, named after the address of one with which it was
    // merged.
    "/sys/kernel/slab",
    "/sys/kernel/debug/tracing",
];

/// Entries of `/sys/module/NAME` that come from the compiler and not from the
/// author.
const OF_THE_COMPILER: &[&str] = &["sections", "notes"];

/// Folders of persistent memory and DAX devices.
const DEVICES: &[&str] = &["/sys/bus/nd/devices", "/sys/bus/dax/devices", "/sys/block"];

/// Files whose text differs at each boot, or whose reading has a side effect.
const CHANGING: &[&str] = &[
    "uuid",
    "parent_uuid",
    "uevent",
    "dev",
    "stat",
    "inflight",
    "diskseq",
    "wait_probe",
    "available_slots",
    "dirty_shutdown",
    "smart",
];

/// Names of devices that depend on a race, and the names that replace them.
///
/// A region has an unused device of each kind, its seed. While a namespace is
/// probed, devices are created and dropped again, so the number of the seed
/// depends on a race that both kernels win sometimes. The same holds for the
/// device numbers of two disks that appear at once, and for the input devices of
/// keyboard and mouse.
pub struct Roles(BTreeMap<String, String>);

impl Roles {
    pub fn read() -> Result<Roles> {
        let mut roles = BTreeMap::new();
        for device in children(Path::new(DEVICES[0]))? {
            let region = device.file_name().unwrap_or_default().to_string_lossy();
            if !region.starts_with("region") {
                continue;
            }
            for kind in ["btt_seed", "dax_seed", "pfn_seed"] {
                // A region without namespaces has none.
                if let Ok(name) = crate::system::read(device.join(kind)) {
                    roles.insert(name, format!("{kind} of {region}"));
                }
            }
        }
        for disk in children(Path::new("/sys/block"))? {
            let name = disk.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(number) = crate::system::read(disk.join("dev")) {
                roles.insert(number, format!("number of {name}"));
            }
        }
        // A kernel may have none.
        for input in children(Path::new("/sys/class/input")).unwrap_or_default() {
            let name = input.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(parent) = fs::read_link(input.join("device")) {
                let parent = parent.file_name().unwrap_or_default().to_string_lossy();
                roles.insert(name.into_owned(), format!("input of {parent}"));
            }
        }
        Ok(Roles(roles))
    }

    /// Replaces every component of a path that is such a name.
    fn replace(&self, path: &str) -> String {
        let parts: Vec<&str> = path
            .split('/')
            .map(|part| self.0.get(part).map_or(part, String::as_str))
            .collect();
        parts.join("/")
    }
}

/// Lists everything below `root`, with `root` itself. A link is listed, not
/// followed.
pub fn list(root: &Path, roles: &Roles) -> Result<Facts> {
    let mut facts = Facts::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        // An entry may disappear while it is listed.
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = meta.permissions().mode() & 0o7777;
        let text = if meta.is_symlink() {
            let target = fs::read_link(&path).unwrap_or_default();
            format!("link to {}", roles.replace(&target.to_string_lossy()))
        } else if meta.is_dir() {
            format!("folder {mode:o}")
        } else {
            format!("file {mode:o}")
        };
        facts.insert(roles.replace(&path.to_string_lossy()), text);
        if meta.is_dir() {
            let entries =
                fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
            waiting.extend(entries.flatten().map(|e| e.path()).filter(|p| is_listed(p)));
        }
    }
    Ok(facts)
}

fn is_listed(path: &Path) -> bool {
    if OTHERS.iter().any(|o| path == Path::new(o)) {
        return false;
    }
    let of_module = path
        .strip_prefix("/sys/module")
        .is_ok_and(|rest| rest.components().count() == 2);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    !(of_module && OF_THE_COMPILER.contains(&&*name))
}

/// Returns the content of the files of our devices, their queues and the
/// parameters of all modules.
pub fn values(roles: &Roles) -> Result<Facts> {
    let mut facts = Facts::new();
    for root in DEVICES {
        for device in children(Path::new(root))? {
            let name = device.file_name().unwrap_or_default().to_string_lossy();
            if *root == "/sys/block" && !name.starts_with("pmem") {
                continue;
            }
            for dir in [device.clone(), device.join("queue"), device.join("dax")] {
                read_files(&dir, roles, &mut facts);
            }
        }
    }
    for module in children(Path::new("/sys/module"))? {
        read_files(&module.join("parameters"), roles, &mut facts);
    }
    Ok(facts)
}

fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    Ok(entries.flatten().map(|e| e.path()).collect())
}

/// Reads the readable files of one folder, if it exists.
fn read_files(dir: &Path, roles: &Roles, facts: &mut Facts) {
    for path in children(dir).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let readable = fs::symlink_metadata(&path)
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o444 != 0);
        if !readable || CHANGING.contains(&&*name) {
            continue;
        }
        let text = match fs::read(&path) {
            Ok(bytes) => roles.replace(String::from_utf8_lossy(&bytes).trim_end()),
            Err(e) => super::run::errno(&e),
        };
        facts.insert(roles.replace(&path.to_string_lossy()), text);
    }
}

/// Returns the formats of the trace events without the number, which is assigned when an event
/// registers, and without those of the compiler's unique names, which depend on the build.
pub fn formats(events: &Path) -> Result<Facts> {
    let mut facts = Facts::new();
    for system in children(events)? {
        for event in children(&system).unwrap_or_default() {
            // Files that switch the whole system have no format.
            let Ok(text) = fs::read_to_string(event.join("format")) else {
                continue;
            };
            let name = event.strip_prefix(events).unwrap_or(&event);
            facts.insert(name.display().to_string(), without_number(&text));
        }
    }
    Ok(facts)
}

fn without_number(format: &str) -> String {
    static UNIQUE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(__UNIQUE_ID_\w*?)_\d+\b").expect("a constant pattern"));
    let lines: Vec<&str> = format.lines().filter(|l| !l.starts_with("ID:")).collect();
    let text = lines.join("\n");
    UNIQUE.replace_all(text.trim_end(), "$1").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn numbers_of_a_build_are_no_difference() {
        let text =
            "name: x\nID: 7\nprint fmt: ({ int __UNIQUE_ID_x_655 = 1; __UNIQUE_ID_x_655; })\n";
        let expected = "name: x\nprint fmt: ({ int __UNIQUE_ID_x = 1; __UNIQUE_ID_x; })";
        assert_eq!(without_number(text), expected);
    }

    #[test]
    fn a_tree_as_a_list() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("guest-test-tree-{}", std::process::id()));
        fs::create_dir_all(dir.join("a"))?;
        fs::write(dir.join("a/size"), "1")?;
        fs::set_permissions(dir.join("a/size"), fs::Permissions::from_mode(0o640))?;
        symlink("../x", dir.join("a/driver"))?;
        let roles = Roles(BTreeMap::from([("x".into(), "the seed".into())]));
        let facts = list(&dir, &roles);
        fs::remove_dir_all(&dir)?;
        let facts = facts?;
        let of = |name: &str| facts[&dir.join(name).display().to_string()].clone();
        assert_eq!(of("a/size"), "file 640");
        assert_eq!(of("a/driver"), "link to ../the seed");
        assert_eq!(facts.len(), 4);
        Ok(())
    }

    #[test]
    fn what_is_not_listed() {
        let listed = |p: &str| is_listed(Path::new(p));
        assert!(!listed("/sys/kernel/slab") && listed("/sys/kernel/mm"));
        assert!(!listed("/sys/module/nd_pmem/sections"));
        assert!(listed("/sys/module/nd_pmem/holders"));
        assert!(listed("/sys/bus/nd/sections"));
    }

    #[test]
    fn formats_have_no_number() {
        let text = "name: dax_pmd_fault\nID: 411\nformat:\n\tfield:int a;\n";
        assert_eq!(
            without_number(text),
            "name: dax_pmd_fault\nformat:\n\tfield:int a;"
        );
    }
}
