// SPDX-License-Identifier: GPL-2.0

//! Memory of a PCI device, which its driver passes to `memremap_pages()` for
//! peers: the buffer of QEMU's NVMe controller. A program maps it, and a disk
//! accepts it for direct I/O only if the disk can reach it.

use super::disk::nvme;
use crate::system::read_u64;
use crate::tests::direct_io::both_ways;
use crate::tests::prelude::*;

/// Number of bytes; a processor accesses the buffer one word at a time, and
/// slowly.
const LEN: usize = 16 * PAGE;
/// Offset on the disks at which this test writes.
const DISK_AT: u64 = 2 << 30;

/// Returns the driver's files for peers: a folder in sysfs.
fn published() -> Result<PathBuf> {
    let folder = Path::new("/sys/class/nvme/nvme0/device/p2pmem");
    if !folder.exists() {
        skip!(
            "the NVMe controller has no buffer for peers (QEMU's cmb_size_mb, CONFIG_PCI_P2PDMA)"
        );
    }
    ensure!(
        read_u64(folder.join("published"))? == 1,
        "the NVMe driver has memory for peers and does not publish it"
    );
    Ok(folder.to_owned())
}

declare! {
    /// direct I/O of the NVMe disk from and to its controller's own buffer moves wrong bytes, loses a
    /// pin or the memory, or a disk or a pipe that cannot reach that buffer gets its pages (not
    /// EREMOTEIO)
    "users::p2pdma", 60 s, essential => p2pdma
}
fn p2pdma() -> Result<String> {
    let disk = open_rw(nvme()?, true)?;
    let folder = published()?;
    let available = || read_u64(folder.join("available"));
    let (idle, before) = (available()?, settled()?);

    let map = Mapping::shared(&open_rw(&folder.join("allocate"), false)?, 0, LEN, PAGE)
        .context("mapping memory of the controller")?;
    let taken = idle - available()?;
    ensure!(
        taken == LEN as u64,
        "{LEN} bytes were mapped, {taken} taken"
    );
    let plain = Mapping::anonymous(LEN)?;
    for (seed, chunk) in [(1, PAGE), (2, 5 * PAGE), (3, LEN)] {
        both_ways(&disk, DISK_AT, &map, &plain, chunk, seed)?;
    }
    let pinned =
        require_unpinned("direct I/O of a PCI device's memory")?.acquired - before.acquired;
    ensure!(pinned > 0, "direct I/O pinned no page of the controller");
    refused(&map)?;
    require_unpinned("refused requests")?;
    drop(map);

    let left = available()?;
    ensure!(left == idle, "of {idle} bytes {left} were released");
    Ok(format!("{pinned} pins, all released"))
}

/// Requires that users which cannot handle this memory refuse it.
fn refused(map: &Mapping) -> Result<()> {
    let (_reader, writer) = pipe()?;
    let other = scratch()?;
    let tries = [
        (
            "another disk",
            pread_once(&other, map, 0, PAGE, DISK_AT).err(),
        ),
        (
            "a pipe",
            vmsplice(map, 0, PAGE, &writer)
                .err()
                .and_then(|e| e.downcast().ok()),
        ),
    ];
    for (user, error) in tries {
        match error.map(|e| e.raw_os_error()) {
            Some(Some(libc::EREMOTEIO)) => {}
            got => bail!("{user} and memory of a PCI device: {got:?} instead of EREMOTEIO"),
        }
    }
    Ok(())
}
