// SPDX-License-Identifier: GPL-2.0

//! The life cycle of a namespace, with every claim: created, used, disabled,
//! enabled, destroyed; and nothing of it left.

use crate::filesystem::Kind;
use crate::system::{iomem, line_diff};
use crate::tests::prelude::*;

const LEN: usize = 8 << 20;
const REBINDS: u64 = 20;

/// The state that must be the same before and after a namespace.
struct Traces {
    iomem: String,
    memmap: u64,
}

impl Traces {
    fn now() -> Result<Self> {
        Ok(Self {
            iomem: iomem()?,
            memmap: settled()?.memmap,
        })
    }

    fn require_same(&self, now: &Self) -> Result<()> {
        if let Some(diff) = line_diff(&self.iomem, &now.iomem) {
            anyhow::bail!("/proc/iomem differs from before: {diff}");
        }
        ensure!(
            self.memmap == now.memmap,
            "nr_memmap_pages was {} and is {}",
            self.memmap,
            now.memmap
        );
        Ok(())
    }
}

/// Writes through a mapping, or checks what was written.
struct Use<'a> {
    want: &'a Want,
    namespace: &'a Namespace,
}

impl Use<'_> {
    fn map(&self, file: &std::fs::File) -> Result<Mapping> {
        let align = self.want.align as usize;
        let len = match self.want.mode {
            Mode::Fsdax => LEN,
            Mode::Devdax => LEN.next_multiple_of(align),
        };
        Mapping::shared(file, 0, len, align.max(2 << 20))
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let node = self.namespace.node()?;
        match self.want.mode {
            Mode::Fsdax => {
                let mount = DaxMount::create(Kind::Ext4, &node, &mount_point())?;
                let file = mount.file("data", LEN as u64)?;
                self.map(&file)?.write(0, bytes);
                file.sync_all().context("fsync")?;
                drop(file);
                mount.unmount()
            }
            Mode::Devdax => {
                self.map(&open_rw(&node, false)?)?.write(0, bytes);
                Ok(())
            }
        }
    }

    fn check(&self, bytes: &[u8]) -> Result<()> {
        let node = self.namespace.node()?;
        match self.want.mode {
            Mode::Fsdax => {
                let mount = DaxMount::mount(Kind::Ext4, &node, &mount_point())?;
                let file = open_rw(&mount.path("data"), false)?;
                let read =
                    std::fs::read(mount.path("data")).context("cannot read the file back")?;
                ensure!(
                    read == bytes,
                    "read(2) returns other bytes than were written"
                );
                self.map(&file)?.require(0, bytes, "the file's mapping")?;
                drop(file);
                mount.unmount()
            }
            Mode::Devdax => {
                self.map(&open_rw(&node, false)?)?
                    .require(0, bytes, "the device's mapping")
            }
        }
    }
}

declare! {
    /// memremap_pages() or its undoing is wrong for this type, alignment or map: the namespace cannot
    /// be made, its data does not survive disable and enable, or /proc/iomem or nr_memmap_pages keeps
    /// a trace of it after it is destroyed
    "lifecycle" for EVERY_KIND, 120 s, essential "fsdax-2M-dev-acpi" "devdax-4K-dev-e820" "devdax-2M-mem-acpi" "devdax-1G-mem-acpi"
        => lifecycle
}
fn lifecycle(want: &Want) -> Result<String> {
    let before = Traces::now()?;
    let mut namespace = Namespace::create(want)?;
    let (start, size) = namespace.resource()?;
    let bytes = data::bytes(0x11fe, LEN);
    Use {
        want,
        namespace: &namespace,
    }
    .write(&bytes)?;
    namespace.disable()?;
    namespace.enable()?;
    ensure!(
        namespace.resource()? == (start, size),
        "the namespace moved from {start:#x} when it was enabled again"
    );
    Use {
        want,
        namespace: &namespace,
    }
    .check(&bytes)?;
    namespace.destroy()?;
    before.require_same(&Traces::now()?)?;
    require_unpinned("the namespace's life")?;
    Ok(format!("{} MiB at {start:#x}", size >> 20))
}

declare! {
    /// binding and unbinding leaks or loses something: an enable fails, the range moves, the data
    /// changes, or memmap pages accumulate
    "rebind" for ONE_OF_EACH, 240 s => rebind
}
fn rebind(want: &Want) -> Result<String> {
    let before = Traces::now()?;
    let mut namespace = Namespace::create(want)?;
    let bytes = data::bytes(0x4eb1, LEN);
    Use {
        want,
        namespace: &namespace,
    }
    .write(&bytes)?;
    let bound = Traces::now()?;
    for round in 0..REBINDS {
        namespace.disable()?;
        namespace.enable()?;
        bound
            .require_same(&Traces::now()?)
            .with_context(|| format!("after rebind {round}"))?;
        Use {
            want,
            namespace: &namespace,
        }
        .check(&bytes)
        .with_context(|| format!("after rebind {round}"))?;
    }
    namespace.destroy()?;
    before.require_same(&Traces::now()?)?;
    // The same range can be used by a new namespace at once.
    let target = Target::create(want, LEN as u64)?;
    let map = target.map(LEN)?;
    map.write(0, &bytes);
    map.require(0, &bytes, "a new namespace in the same place")?;
    drop(map);
    target.finish()?;
    Ok(format!("{REBINDS} times"))
}
