// SPDX-License-Identifier: GPL-2.0

//! Data that was written and synced exists after the machine was reset.
//!
//! Two boots share NVDIMMs: the first creates a namespace of each kind,
//! writes, syncs and leaves everything as it is, with a filesystem mounted;
//! then the machine is reset. The second finds the namespaces that the kernel
//! has enabled, and compares.

use std::mem;

use crate::filesystem::Kind;
use crate::ndctl::region_with;
use crate::tests::prelude::*;

const SIZE: u64 = 256 * MIB;
const LEN: usize = 8 << 20;
const AT: u64 = 16 << 20;
const ALIGN: usize = 2 << 20;

/// Which of the two boots this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Boot {
    /// Write.
    First,
    /// Compare.
    Second,
}

/// The way in which the bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// write(2) to the disk.
    Disk,
    /// Stores into a mapped file, msync(2).
    File,
    /// Stores into a file mapped with MAP_SYNC, no msync(2).
    Synchronous,
    /// Stores into the device.
    Device,
}

/// Name, arguments of ndctl, mode, way.
const KINDS: &[(&str, &str, &str, Way)] = &[
    ("raw", "-m raw", "raw", Way::Disk),
    ("sector", "-m sector", "sector", Way::Disk),
    ("fsdax-mem", "-m fsdax -M mem", "fsdax", Way::Disk),
    ("fsdax-dev", "-m fsdax -M dev", "fsdax", Way::File),
    ("map-sync", "-m fsdax -M dev", "fsdax", Way::Synchronous),
    ("devdax", "-m devdax -M dev", "devdax", Way::Device),
];

/// Returns the tests of one boot, in order.
pub fn tests(boot: Boot) -> Vec<Test> {
    KINDS
        .iter()
        .enumerate()
        .map(|(index, kind)| {
            let (name, arguments, mode, way) = *kind;
            let bytes = move || data::bytes(200 + index as u64, LEN);
            match boot {
                Boot::First => Test::new(
                    format!("reboot::write::{name}"),
                    180,
                    "a namespace of this kind cannot be made, written or synced",
                    move || write(name, arguments, way, &bytes()),
                ),
                Boot::Second => Test::new(
                    format!("reboot::compare::{name}"),
                    180,
                    "the namespace is not enabled after a reset of the machine, is enabled with another mode, \
                     or has lost what was synced",
                    move || compare(name, mode, way, &bytes()),
                ),
            }
        })
        .collect()
}

fn folder(name: &str) -> String {
    format!("/mnt/reboot-{name}")
}

fn label(name: &str) -> String {
    format!("reboot-{name}")
}

fn write(name: &str, arguments: &str, way: Way, bytes: &[u8]) -> Result<String> {
    let region = region_with(Bus::Acpi, SIZE)?;
    let info = ndctl::create(&format!(
        "{arguments} -r {} -s {SIZE} -n {}",
        region.dev,
        label(name)
    ))?;
    let node = info.node()?;
    system::wait_for_node(&node)?;
    match way {
        Way::Disk => {
            let disk = open_rw(&node, false)?;
            disk.write_all_at(bytes, AT)?;
            disk.sync_all()?;
        }
        Way::File | Way::Synchronous => {
            let mount = DaxMount::create(Kind::Ext4, &node, Path::new(&folder(name)))?;
            let file = mount.file("data", LEN as u64)?;
            let map = map(&file, way)?;
            map.write(0, bytes);
            if way == Way::File {
                map.sync(0, LEN).context("msync")?;
                file.sync_all()?;
            }
            // It stays mounted until the machine is reset.
            mem::forget((map, mount));
        }
        Way::Device => map(&open_rw(&node, false)?, way)?.write(0, bytes),
    }
    Ok(info.dev)
}

fn map(file: &File, way: Way) -> Result<Mapping> {
    let flags = match way {
        Way::Synchronous => libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
        _ => libc::MAP_SHARED,
    };
    Mapping::with(
        file,
        0,
        LEN,
        ALIGN,
        libc::PROT_READ | libc::PROT_WRITE,
        flags,
    )
}

fn compare(name: &str, mode: &str, way: Way, bytes: &[u8]) -> Result<String> {
    let info = ndctl::named(Bus::Acpi, &label(name))?;
    ensure!(
        info.enabled() && info.mode == mode,
        "{mode} was made, and the kernel has enabled {info:?}"
    );
    let node = info.node()?;
    system::wait_for_node(&node)?;
    match way {
        Way::Disk => {
            let mut back = vec![0; LEN];
            open_rw(&node, false)?.read_exact_at(&mut back, AT)?;
            data::require_same(bytes, &back, "the disk after the reset")?;
        }
        Way::File | Way::Synchronous => {
            let mount = DaxMount::mount(Kind::Ext4, &node, Path::new(&folder(name)))?;
            let path = mount.path("data");
            ensure!(
                fs::metadata(&path)?.len() == LEN as u64,
                "the file has another length after the reset"
            );
            let map = map(&open_rw(&path, false)?, way)?;
            map.require(0, bytes, "the file after the reset")?;
            drop(map);
            mount.unmount()?;
            Cmd::new("e2fsck -f -n").arg(&node).limit_secs(60).ok()?;
        }
        Way::Device => {
            map(&open_rw(&node, false)?, way)?.require(0, bytes, "the device after the reset")?;
        }
    }
    Cmd::new("ndctl destroy-namespace -f")
        .arg(&info.dev)
        .limit_secs(120)
        .ok()?;
    Ok(info.dev)
}
