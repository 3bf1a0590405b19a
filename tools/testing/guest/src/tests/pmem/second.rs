// SPDX-License-Identifier: GPL-2.0

//! The second driver of `samples/rust`, which uses the same abstractions: the
//! bus binds it to a namespace, and unbinds it.

use super::{bind, Made};
use crate::system::{iomem, line_diff};
use crate::tests::prelude::*;

const MODULE: &str = "rust_nd_rom";
const LEN: usize = 1 << 20;
const AT: u64 = 16 << 20;

declare! {
    /// a second driver on the nvdimm bus cannot be bound to a namespace, reads other bytes than were
    /// written through nd_pmem, permits writes, or does not clean up
    "pmem::second-driver", 60 s, essential => second_driver
}
fn second_driver() -> Result<String> {
    let made = Made::new("-m raw")?;
    let (node, disk) = (made.node()?, made.disk()?);
    let reads = second(&made, |bytes| check(&node, &disk, bytes))?;
    Ok(format!("{reads} bios"))
}

declare! {
    /// a driver can attach the BTT of a namespace a second time, or the attempt takes the disk away
    /// that it has
    "pmem::btt-twice", 60 s => || {
        let made = Made::new("-m sector")?;
        let node = made.node()?;
        second(&made, |bytes| require(&node, bytes))
    }
}

/// Writes to the disk, and calls `check` with the bytes while the second driver is bound in place of
/// the first one. Then the first is bound again, and must have the bytes as well.
fn second<T>(made: &Made, check: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
    if !Cmd::new("modprobe -n -q")
        .arg(MODULE)
        .run()?
        .status
        .success()
    {
        skip!("this kernel has no CONFIG_SAMPLE_RUST_ND_ROM");
    }
    let (device, node) = (made.bound()?, made.node()?);
    let bytes = data::bytes(5, LEN);
    let memory = Mapping::anonymous(LEN)?;
    memory.write(0, &bytes);
    pwrite_all(&open_rw(&node, true)?, &memory, 0, LEN, AT, LEN)?;
    let before = iomem()?;

    Cmd::new("modprobe").arg(MODULE).ok()?;
    bind("unbind", &device)?;
    let file = |name: &str| Path::new("/sys/bus/nd/drivers").join(MODULE).join(name);
    let bound = fs::write(file("bind"), &device)
        .context("the second driver cannot be bound to the namespace");
    let checked = match bound {
        Ok(()) => {
            let checked = system::wait_for_node(&node).and_then(|()| check(&bytes));
            fs::write(file("unbind"), &device)
                .context("the second driver cannot be unbound from it")?;
            checked
        }
        Err(e) => Err(e),
    };
    Cmd::new("modprobe -r").arg(MODULE).ok()?;
    bind("bind", &device)?;
    system::wait_for_node(&node)?;
    let found = checked?;

    require(&node, &bytes).context("nd_pmem is bound again")?;
    if let Some(diff) = line_diff(&before, &iomem()?) {
        anyhow::bail!("/proc/iomem differs from before: {diff}");
    }
    Ok(found)
}

fn require(node: &Path, bytes: &[u8]) -> Result<()> {
    let memory = Mapping::anonymous(LEN)?;
    let disk = fs::OpenOptions::new().read(true).open(node)?;
    pread_all(&disk, &memory, 0, LEN, AT, LEN)?;
    memory.require(0, bytes, "content of the disk")
}

/// Checks the disk while the second driver is bound. Returns the number of bios
/// that it has read.
fn check(node: &Path, disk: &Path, bytes: &[u8]) -> Result<u64> {
    ensure!(
        system::read_u64(disk.join("ro"))? == 1,
        "the disk is not marked read-only"
    );
    // Whether it is opened for writing or not, no write may succeed.
    if let Ok(disk) = open_rw(node, false) {
        let wrote = disk
            .write_all_at(&[0xff; 4096], AT)
            .and_then(|()| disk.sync_all());
        ensure!(wrote.is_err(), "a read-only disk was written");
    }
    require(node, bytes)?;
    let reads = system::read_u64(disk.join("rom/reads"))?;
    ensure!(reads > 0, "it has counted no reads");
    Ok(reads)
}
