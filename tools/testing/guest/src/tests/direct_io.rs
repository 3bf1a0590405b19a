// SPDX-License-Identifier: GPL-2.0

//! O_DIRECT between the scratch disk and DAX mappings, and process_vm_readv()
//! and process_vm_writev(), which access the same pages from another process.

use crate::tests::prelude::*;

const LEN: usize = 8 << 20;
/// Offset on the scratch disk at which these tests write.
const DISK_AT: u64 = 1 << 30;

/// Returns the node of the scratch disk.
pub fn scratch_node() -> Result<&'static Path> {
    let path = Path::new("/dev/vdb");
    if !path.exists() {
        skip!("the guest has no scratch disk /dev/vdb");
    }
    Ok(path)
}

/// Opens the scratch disk for direct I/O.
pub fn scratch() -> Result<File> {
    open_rw(scratch_node()?, true)
}

/// Reads the first bytes of `map`, as many as `plain` has, from the disk and
/// writes them to it, `chunk` bytes at a time, with other bytes in each
/// direction. Returns the final bytes of both.
pub fn both_ways(
    disk: &File,
    disk_at: u64,
    map: &Mapping,
    plain: &Mapping,
    chunk: usize,
    seed: u64,
) -> Result<Vec<u8>> {
    let len = plain.len();
    let bytes = data::bytes(seed, len);
    plain.write(0, &bytes);
    pwrite_all(disk, plain, 0, len, disk_at, len).context("preparing the disk")?;
    pread_all(disk, map, 0, len, disk_at, chunk).context("disk to mapping")?;
    map.require(0, &bytes, "bytes from the disk in the mapping")?;
    let bytes = data::bytes(seed + 1000, len);
    map.write(0, &bytes);
    pwrite_all(disk, map, 0, len, disk_at, chunk).context("mapping to disk")?;
    pread_all(disk, plain, 0, len, disk_at, len).context("reading the disk back")?;
    plain.require(0, &bytes, "bytes from the mapping on the disk")?;
    Ok(bytes)
}

declare! {
    /// the disk and the mapping do not see the same bytes, a read into a read-only mapping is not
    /// refused with EFAULT, or a page stays pinned after the I/O
    "direct-io" for MAPPED_KINDS, 180 s, essential "fsdax-2M-dev-acpi" "devdax-2M-mem-acpi"
        => disk_and_mapping
}
fn disk_and_mapping(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    let disk = scratch()?;
    let plain = Mapping::anonymous(LEN)?;
    let before = settled()?;
    // Chunks from one page to more than a huge page, and one that is not a
    // power of two.
    for (i, chunk) in [PAGE, 13 * PAGE, 256 << 10, LEN].into_iter().enumerate() {
        // Nothing has touched this mapping yet.
        let map = target.map(LEN)?;
        let bytes = both_ways(&disk, DISK_AT, &map, &plain, chunk, 100 + i as u64)?;
        // Not at the start of a page of the file, and across a 2 MiB boundary.
        let (at, len) = ((2 << 20) - 3 * PAGE, 7 * PAGE);
        pread_all(&disk, &map, at, len, DISK_AT, chunk).context("disk across a boundary")?;
        map.require(at, &bytes[..len], "direct read across a 2 MiB boundary")?;
        if let Some(mount) = &target.mount {
            drop(map);
            let mut want = bytes.clone();
            want[at..at + len].copy_from_slice(&bytes[..len]);
            let file = std::fs::read(mount.path("data")).context("cannot read the file")?;
            data::require_same(&want, &file, "read(2) of the file after direct I/O")?;
        }
    }
    read_only(&target, &disk)?;
    let pinned = require_unpinned("direct I/O")?.acquired - before.acquired;
    ensure!(pinned > 0, "direct I/O pinned no page at all");
    target.finish()?;
    Ok(format!("{pinned} pins, all released"))
}

/// Checks that a read-only mapping refuses a direct read, which writes to
/// memory, whether or not its pages are present.
fn read_only(target: &Target, disk: &File) -> Result<()> {
    let map = target.map_with(LEN, libc::PROT_READ, libc::MAP_SHARED)?;
    for touched in [false, true] {
        if touched {
            map.peek(0);
        }
        let what = format!("a direct read into a read-only mapping (touched: {touched})");
        require_errno(pread_once(disk, &map, 0, PAGE, DISK_AT), libc::EFAULT, what)?;
    }
    Ok(())
}

/// Copies between this process and `pid`; `write` selects the direction.
pub fn cross_copy(
    pid: i32,
    local: &Mapping,
    remote: usize,
    len: usize,
    write: bool,
) -> io::Result<usize> {
    let here = libc::iovec {
        iov_base: local.addr() as *mut libc::c_void,
        iov_len: len,
    };
    let there = libc::iovec {
        iov_base: remote as *mut libc::c_void,
        iov_len: len,
    };
    // SAFETY: The local vector lies inside `local`; the kernel checks the
    // remote one against the other process.
    let n = unsafe {
        if write {
            libc::process_vm_writev(pid, &here, 1, &there, 1, 0)
        } else {
            libc::process_vm_readv(pid, &here, 1, &there, 1, 0)
        }
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

declare! {
    /// process_vm_readv() or process_vm_writev() on another process's DAX mapping moves wrong bytes
    /// or loses a pin
    "process-vm" for EACH_SIZE, 60 s, essential "fsdax-2M-dev-acpi" => process_vm
}
fn process_vm(want: &Want) -> Result<String> {
    let target = Target::create(want, LEN as u64)?;
    // Mapped before the fork, so that the address is known here; the page
    // tables of a shared DAX mapping are not copied, so the child faults in its
    // own.
    let map = target.map(LEN)?;
    let addr = map.addr();
    let (ready, written) = (Gate::new()?, Gate::new()?);
    let first = data::bytes(21, LEN);
    let second = data::bytes(22, LEN);
    let child = spawn(|| {
        map.write(0, &first);
        ready.open()?;
        written.pass()?;
        map.require(0, &second, "what the parent wrote into the child's mapping")
    })?;
    drop(map);
    ready.pass()?;
    let buffer = Mapping::anonymous(LEN)?;
    let n = cross_copy(child.pid(), &buffer, addr, LEN, false).context("process_vm_readv")?;
    ensure!(n == LEN, "process_vm_readv moved {n} of {LEN} bytes");
    buffer.require(0, &first, "what the parent read from the child's mapping")?;
    buffer.write(0, &second);
    let n = cross_copy(child.pid(), &buffer, addr, LEN, true).context("process_vm_writev")?;
    ensure!(n == LEN, "process_vm_writev moved {n} of {LEN} bytes");
    written.open()?;
    child.join(20, "process_vm")?;
    require_unpinned("process_vm")?;
    target.finish()?;
    Ok(format!("{LEN} bytes each way"))
}
