// SPDX-License-Identifier: GPL-2.0

//! XFS with its files' data on a second device, the realtime device, in extents
//! of 2 MiB: the iomaps of a file name another device than that of the
//! filesystem.

use std::os::unix::fs::symlink;

use super::inode::has_flag;
use super::sync::{go_down, synchronous};
use super::{daxstat, large, Fixture, XFS};
use crate::filesystem::Kind;
use crate::flushed::Flushes;
use crate::tests::prelude::*;

const LEN: usize = 4 * HUGE;
/// Value from linux/fs.h.
const FS_XFLAG_REALTIME: u32 = 1;

/// Mounts with a name of the realtime device that mountinfo has to escape.
fn mount(data: &Path, rt: &Path) -> Result<DaxMount> {
    let name = std::env::temp_dir().join(format!("realtime device {}", std::process::id()));
    // From an earlier mount.
    let _ = fs::remove_file(&name);
    symlink(rt, &name).with_context(|| format!("cannot create {}", name.display()))?;
    let options = format!("dax,rtdev={}", name.display());
    DaxMount::mount_with(Kind::Xfs, data, &mount_point(), &options)
}

declare! {
    /// a file on the realtime device of XFS has other bytes mapped than read, loses synced ones when
    /// the filesystem goes down, or is not mapped in huge pages; or daxstat judges it by the wrong
    /// device
    "fsdax::realtime", 90 s, essential => realtime
}
fn realtime() -> Result<()> {
    let namespace = Namespace::create(&XFS.want)?;
    let rt = Namespace::create(&XFS.want)?;
    let (node, rt_node) = (namespace.node()?, rt.node()?);
    Cmd::new("mkfs.xfs -q -f -m reflink=0,rmapbt=0 -d rtinherit=1")
        .arg("-r")
        .arg(format!("rtdev={},extsize=2m", rt_node.display()))
        .arg(&node)
        .limit_secs(120)
        .ok()?;
    let fixture = Fixture {
        mount: mount(&node, &rt_node)?,
        namespace,
        kind: Kind::Xfs,
    };
    let trace = FaultTrace::start()?;
    let bytes = data::bytes(1, LEN);
    let file = fixture.written("data", &bytes)?;
    ensure!(
        has_flag(&file, FS_XFLAG_REALTIME)?,
        "a file of a directory with rtinherit is not on the realtime device"
    );
    trace.take()?;
    let map = large(&file, LEN)?;
    map.require(0, &bytes, "a mapping")?;
    let faults = trace.take()?;
    ensure!(
        (faults.pmd, faults.pte) == (4, 0),
        "four faults of 2 MiB were expected, there were {faults:?}"
    );
    let hole = fixture.sparse("hole", LEN as u64)?;
    let new = synchronous(&hole, LEN)?;
    new.write(HUGE - 300, &bytes[..600]);
    let flushes = Flushes::start()?;
    map.write(HUGE, &bytes[..HUGE]);
    let stored = flushes.stored(&map, HUGE, HUGE)?;
    map.sync(HUGE, HUGE).context("msync")?;
    flushes.require(&stored, "msync")?;
    drop(flushes);
    daxstat::require(&fixture, &trace, "data", &["huge"; 4])?;
    let device = daxstat::device(&fixture.path("data"))?;
    ensure!(
        rt_node.ends_with(&device),
        "daxstat names {device} as the file's device instead of {}",
        rt_node.display()
    );

    go_down(&fixture)?;
    drop((map, new, file, hole, trace));
    let Fixture {
        mount: old,
        namespace,
        ..
    } = fixture;
    old.unmount()?;
    let again = mount(&node, &rt_node)?;
    let fixture = Fixture {
        mount: again,
        namespace,
        kind: Kind::Xfs,
    };
    let map = large(&fixture.open("data")?, LEN)?;
    // daxstat's test has stored a byte to each 2 MiB.
    map.require(HUGE + 1, &bytes[1..HUGE], "synced bytes")?;
    let new = large(&fixture.open("hole")?, LEN)?;
    new.require(HUGE - 300, &bytes[..600], "bytes stored through MAP_SYNC")?;
    new.require(0, &vec![0; HUGE - 300], "the hole around it")?;
    drop((map, new));
    let Fixture {
        mount, namespace, ..
    } = fixture;
    mount.unmount()?;
    Cmd::new("xfs_repair -n -r")
        .arg(&rt_node)
        .arg(&node)
        .limit_secs(120)
        .ok()
        .context("the filesystem is damaged")?;
    namespace.destroy()?;
    rt.destroy()
}
