// SPDX-License-Identifier: GPL-2.0

//! Filesystems that are mounted when the driver of their device is unbound.
//!
//! In 6.12 in C their files keep entries for pages that no longer have a
//! `struct page`, and the mappings of user space remain; unmounting the
//! filesystem is an oops. So on C these tests bind the driver again before.

use super::bound::Bound;
use crate::filesystem::Kind;
use crate::tests::fsdax::clone;
use crate::tests::prelude::*;

const LEN: usize = 4 << 20;

pub const FILESYSTEMS: [(&str, (Kind, Map)); 4] = [
    ("ext2", (Kind::Ext2, Map::Dev)),
    ("ext4", (Kind::Ext4, Map::Dev)),
    ("xfs", (Kind::Xfs, Map::Mem)),
    ("xfs-reflink", (Kind::XfsReflink, Map::Dev)),
];

pub fn fsdax(map: Map) -> Want {
    want(Mode::Fsdax, 2 * MIB, map, Bus::Acpi)
}

declare! {
    /// a driver is unbound under a mounted filesystem, and a program can still reach the memory through
    /// a mapping or an open file, unmounting fails, or bytes are lost
    "teardown::differs_mounted" for FILESYSTEMS.into_iter().take(2), 90 s, essential "ext4"
        => mounted
}
// XFS is notified that the device is removed, and releases it without an unmount.
declare! {
    /// a driver is unbound under a mounted filesystem, and a program can still reach the memory through
    /// a mapping or an open file, unmounting fails, or bytes are lost
    "teardown::mounted" for FILESYSTEMS.into_iter().skip(2), 90 s, essential "xfs-reflink"
        => mounted
}
fn mounted(&(_, (kind, map)): &(&str, (Kind, Map))) -> Result<String> {
    let target = Target::on(&fsdax(map), kind, LEN as u64)?;
    let twin = match (&target.mount, kind) {
        (Some(mount), Kind::XfsReflink) => {
            File::create(mount.path("twin")).context("creating a file")?;
            let twin = open_rw(&mount.path("twin"), false)?;
            clone(&target.file, &twin)?;
            Some(twin)
        }
        _ => None,
    };
    let bytes = data::bytes(5, LEN);
    let (ready, gone) = (Gate::new()?, Gate::new()?);
    let mut child = spawn(|| {
        // At first both processes have mapped the shared blocks.
        let theirs = twin
            .as_ref()
            .map(|twin| Mapping::shared(twin, 0, LEN, 2 << 20));
        let theirs = theirs.transpose()?;
        let map = target.map(LEN)?;
        for at in (0..LEN).step_by(4096) {
            map.peek(at);
            theirs.iter().for_each(|theirs| {
                theirs.peek(at);
            });
        }
        map.write(0, &bytes[..LEN / 2]);
        ready.open()?;
        gone.pass()?;
        map.peek(0);
        bail!("memory of a device that is gone can still be read")
    })?;
    ready.pass()?;
    target
        .file
        .write_all_at(&bytes[LEN / 2..], (LEN / 2) as u64)?;

    let Target {
        namespace,
        mount,
        file,
        ..
    } = target;
    let mut bound = Bound::of(&namespace)?;
    let took = bound.unbind().must_end("unbinding the driver")?;
    gone.open()?;
    match child.wait_signal(30, "the process that has the file mapped")? {
        Some(libc::SIGBUS) => {}
        other => {
            bail!("the process that has the file mapped ended with signal {other:?}, not SIGBUS")
        }
    }
    let read = file.read_at(&mut [0; 512], 0);
    ensure!(read.is_err(), "a file whose device is gone can be read");
    let written = file.write_at(&[0; 512], 0);
    ensure!(
        written.is_err(),
        "a file whose device is gone can be written"
    );

    drop((twin, file));
    mount.context("no filesystem")?.unmount()?;
    require_unpinned("unmounting")?;
    let node = bound.bind()?;
    let mount = DaxMount::mount(kind, &node, &mount_point())?;
    let file = fs::read(mount.path("data")).context("cannot read the file")?;
    data::require_same(&bytes, &file, "the file after its device was away")?;
    mount.unmount()?;
    namespace.destroy()?;
    Ok(format!("unbound within {} ms", took.as_millis()))
}
