// SPDX-License-Identifier: GPL-2.0

//! Persistent memory that the host keeps in its page cache: a flush must send a request to the
//! host, and the same driver serves the memory.

use std::os::unix::fs::OpenOptionsExt;

use super::{io, Made};
use crate::filesystem::Kind;
use crate::ndctl::{namespaces, Info};
use crate::tests::prelude::*;

const BUS: &str = "virtio-pmem";
const MOUNT: &str = "/mnt/virtio-pmem";

declare! {
    /// the driver does not bind to virtio-pmem, or a flush of its disk does not reach the host
    "pmem::virtio", 240 s, essential => || with_module(virtio)
}

/// Runs the test while the driver of the device is loaded.
fn with_module(test: fn() -> Result<String>) -> Result<String> {
    Cmd::new("modprobe virtio_pmem").ok()?;
    let result = match device()? {
        Some(_) => system::load_modules().and_then(|()| test()),
        None => Err(Skip("this machine has no virtio-pmem".into()).into()),
    };
    // The namespace's driver holds the module.
    let gone = Cmd::new("ndctl disable-region all -b")
        .arg(BUS)
        .ok()
        .and_then(|_| Cmd::new("modprobe -r virtio_pmem").ok());
    let result = result?;
    gone?;
    Ok(result)
}

/// Returns the name of the device that the driver is bound to.
fn device() -> Result<Option<String>> {
    let entries = fs::read_dir("/sys/bus/virtio/drivers/virtio_pmem")
        .context("virtio_pmem is not in sysfs")?;
    let mut names = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    Ok(names.find(|name| name.starts_with("virtio")))
}

/// Returns the namespace that exists from the start.
fn only() -> Result<Info> {
    namespaces(&format!("-b {BUS}"))?
        .into_iter()
        .next()
        .with_context(|| format!("the bus {BUS} offers no namespace"))
}

fn virtio() -> Result<String> {
    let mut made = Made { info: only()? };
    let mut flushed = Vec::new();
    for (index, arguments) in ["-m raw", "-m fsdax -M mem", "-m fsdax -M dev"]
        .iter()
        .enumerate()
    {
        made.turn_into(arguments)?;
        io::survives(&mut made, 60 + index as u64)?;
        let (syncs, requests) = synced(&made)?;
        ensure!(
            requests >= syncs,
            "{arguments}: {syncs} times was synced, {requests} requests reached the host"
        );
        flushed.push(requests);
        durable(&made)?;
    }
    file(&made)?;
    Ok(format!("{flushed:?} flush requests to the host"))
}

/// Returns the number of requests that the host has completed: each completion is an interrupt.
fn answered() -> Result<u64> {
    let device = device()?.context("the device is gone")?;
    let text = system::read("/proc/interrupts")?;
    // With an interrupt for each queue, the queue's name follows.
    let ours = |line: &&str| {
        line.split_whitespace().any(|word| {
            let name = word.trim_end_matches(',');
            name == device || name.strip_suffix("-flush_queue") == Some(&device)
        })
    };
    let lines: Vec<&str> = text.lines().filter(ours).collect();
    ensure!(
        !lines.is_empty(),
        "/proc/interrupts does not know of {device}"
    );
    let counts = lines.iter().flat_map(|line| {
        let words = line.split_whitespace().skip(1);
        words.map_while(|word| word.parse::<u64>().ok())
    });
    Ok(counts.sum())
}

/// Returns the number of syncs of the disk, and of the requests that they caused.
fn synced(made: &Made) -> Result<(u64, u64)> {
    const SYNCS: u64 = 8;
    let disk = open_rw(&made.node()?, false)?;
    let before = answered()?;
    for round in 0..SYNCS {
        disk.write_all_at(&data::bytes(round, 5000), round * 7000)?;
        disk.sync_all().context("fsync of the disk")?;
    }
    Ok((SYNCS, answered()?.saturating_sub(before)))
}

/// Checks writes. A write that must be durable before it ends is a bio with FUA, followed by an
/// empty one with PREFLUSH, because `O_DSYNC` syncs the disk: a request to the host for each.
/// Other writes cause none.
fn durable(made: &Made) -> Result<()> {
    const WRITES: u64 = 8;
    let memory = Mapping::anonymous(PAGE)?;
    for (flags, what, wanted) in [
        (libc::O_DIRECT, "O_DIRECT", 0),
        (
            libc::O_DIRECT | libc::O_DSYNC,
            "O_DIRECT and O_DSYNC",
            2 * WRITES,
        ),
    ] {
        let disk = fs::OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(made.node()?)
            .context("cannot open the disk")?;
        let before = answered()?;
        for round in 0..WRITES {
            let n = pwrite_once(&disk, &memory, 0, PAGE, round * PAGE as u64)?;
            ensure!(n == PAGE, "a short write");
        }
        let requests = answered()?.saturating_sub(before);
        ensure!(
            requests == wanted,
            "{WRITES} writes with {what} made {requests} requests to the host, not {wanted}"
        );
    }
    Ok(())
}

/// Checks that the data of a mapped file on it reaches the host.
fn file(made: &Made) -> Result<()> {
    const LEN: usize = 4 << 20;
    let dir = Path::new(MOUNT);
    let mount = DaxMount::create(Kind::Ext4, &made.node()?, dir)?;
    let file = mount.file("data", LEN as u64)?;
    let map = Mapping::shared(&file, 0, LEN, 2 * MIB as usize)?;
    let bytes = data::bytes(9, LEN);
    map.write(0, &bytes);
    let before = answered()?;
    file.sync_all().context("fsync of the file")?;
    ensure!(
        answered()? > before,
        "fsync of the file did not reach the host"
    );
    drop(map);
    drop(file);
    mount.unmount()?;
    let mount = DaxMount::mount(Kind::Ext4, &made.node()?, dir)?;
    let file = open_rw(&mount.path("data"), false)?;
    let map = Mapping::shared(&file, 0, LEN, PAGE)?;
    map.require(0, &bytes, "the file after it was mounted again")?;
    drop(map);
    drop(file);
    mount.unmount()
}

declare! {
    /// a program gets MAP_SYNC on virtio-pmem, which cannot be guaranteed, because the device has the
    /// flags of a device that had its memory before
    "pmem::differs_map_sync_without_flush", 240 s => map_sync
}
/// Checks that MAP_SYNC is refused after devices that support it were removed.
fn map_sync() -> Result<String> {
    const ROUNDS: usize = 4;
    const DEVICES: usize = 6;
    for round in 0..ROUNDS {
        // Some are freed on each CPU: memory is reused on the CPU where it was freed.
        let gone = (0..DEVICES)
            .map(|_| Made::new("-m fsdax -M mem"))
            .collect::<Result<Vec<_>>>()?;
        drop(gone);
        with_module(refused).with_context(|| format!("round {round}"))?;
    }
    Ok(format!("{ROUNDS} rounds"))
}

fn refused() -> Result<String> {
    const LEN: usize = 2 << 20;
    let mut made = Made { info: only()? };
    made.turn_into("-m fsdax -M mem")?;
    let mount = DaxMount::create(Kind::Ext4, &made.node()?, Path::new(MOUNT))?;
    let file = mount.file("data", LEN as u64)?;
    let sync = Mapping::with(
        &file,
        0,
        LEN,
        LEN,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
    );
    let error = sync.err().and_then(|e| e.downcast::<std::io::Error>().ok());
    drop(file);
    mount.unmount()?;
    match error.as_ref().map(|e| e.raw_os_error()) {
        Some(Some(libc::EOPNOTSUPP)) => Ok(String::new()),
        None => bail!("MAP_SYNC is granted"),
        Some(_) => bail!("MAP_SYNC returns {error:?}, not EOPNOTSUPP"),
    }
}
