// SPDX-License-Identifier: GPL-2.0

//! Disks and rings: fio with its buffers in a DAX mapping, and io_uring's
//! registered buffers, which are long-term pins.

use std::os::fd::FromRawFd;

use super::long_term;
use crate::system::wait_for_node;
use crate::tests::prelude::*;

const LEN: u64 = 16 << 20;
/// Offset on the disks at which fio writes.
const DISK_AT: &str = "2g";

/// fio maps exactly as many bytes as it needs, which device-dax supports only
/// with pages of 4 KiB.
const KINDS: [Want; 2] = [
    want(Mode::Fsdax, 2 * MIB, Map::Dev, Bus::Acpi),
    want(Mode::Devdax, 4 * KIB, Map::Mem, Bus::Acpi),
];

declare! { fio_tests }
fn fio_tests() -> Vec<Test> {
    const DOC: &str =
        "what fio wrote to the disk from buffers in a DAX mapping, many requests at once, is not what it reads \
         back into them, or a page stays pinned";
    let mut tests = Vec::new();
    for (name, run) in [
        ("users::fio-libaio-virtio", libaio_virtio as fn(&Want) -> _),
        ("users::fio-uring-virtio", uring_virtio),
        ("users::fio-libaio-nvme", libaio_nvme),
        ("users::fio-uring-nvme", uring_nvme),
    ] {
        tests.extend(each(KINDS, name, 180, DOC, run));
    }
    mark_essential(tests, &["fio-uring-nvme::fsdax-2M-dev-acpi"])
}

/// Returns the disk of QEMU's NVMe controller.
pub fn nvme() -> Result<&'static Path> {
    let node = Path::new("/dev/nvme0n1");
    Cmd::new("modprobe nvme").ok()?;
    if wait_for_node(node).is_err() {
        skip!("the guest has no NVMe disk");
    }
    Ok(node)
}

fn libaio_virtio(want: &Want) -> Result<String> {
    verified(want, "libaio", scratch_node()?)
}

fn uring_virtio(want: &Want) -> Result<String> {
    verified(want, "io_uring", scratch_node()?)
}

fn libaio_nvme(want: &Want) -> Result<String> {
    verified(want, "libaio", nvme()?)
}

fn uring_nvme(want: &Want) -> Result<String> {
    verified(want, "io_uring", nvme()?)
}

/// Returns the path that `target` maps.
fn path_of(target: &Target) -> Result<PathBuf> {
    match &target.mount {
        Some(mount) => Ok(mount.path("data")),
        None => target.namespace.node(),
    }
}

/// Writes a part of the disk in random order and reads it back, with a checksum
/// in each block and all buffers in the mapping.
fn verified(want: &Want, engine: &str, disk: &Path) -> Result<String> {
    let target = Target::create(want, LEN)?;
    let before = settled()?;
    let memory = path_of(&target)?;
    // Small requests, and some that are larger than a huge page.
    for (size, block, depth) in [("8m", "4k", 16), ("24m", "3m", 2)] {
        fio(&[
            &format!("--ioengine={engine}"),
            &format!("--filename={}", disk.display()),
            &format!("--iomem=mmapshared:{}", memory.display()),
            &format!("--size={size}"),
            &format!("--bs={block}"),
            &format!("--iodepth={depth}"),
        ])?;
    }
    let pinned = require_unpinned("fio")?.acquired - before.acquired;
    ensure!(pinned > 0, "fio's direct I/O pinned no page at all");
    target.finish()?;
    Ok(format!("{pinned} pins, all released"))
}

fn fio(arguments: &[&str]) -> Result<()> {
    let mut cmd = Cmd::new(
        "fio --name=users --thread --direct=1 --rw=randwrite --verify=crc32c --verify_fatal=1 --do_verify=1",
    )
    .arg(format!("--offset={DISK_AT}"));
    for argument in arguments {
        cmd = cmd.arg(argument);
    }
    let out = cmd.limit_secs(120).run()?;
    if out.all().contains("engine not found") || out.all().contains("not loadable") {
        skip!("fio of the guest was built without this engine");
    }
    ensure!(
        out.status.success(),
        "fio {} ended with {}: {}",
        arguments.join(" "),
        out.code(),
        out.all().trim()
    );
    Ok(())
}

/// An io_uring of a few entries.
pub struct Ring(File);

impl Ring {
    pub fn new() -> Result<Self> {
        // struct io_uring_params; zeros request no special feature.
        let mut params = [0u8; 120];
        // SAFETY: The kernel fills the structure, which has the size that it
        // expects and outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) };
        match i32::try_from(fd) {
            // SAFETY: The descriptor is new and owned here, so nothing else
            // closes it.
            Ok(fd) if fd >= 0 => Ok(Self(unsafe { File::from_raw_fd(fd) })),
            _ => Err(io::Error::last_os_error()).context("io_uring_setup"),
        }
    }

    /// Calls IORING_REGISTER_BUFFERS with one buffer.
    pub fn register(&self, map: &Mapping, len: usize) -> io::Result<()> {
        const REGISTER_BUFFERS: i32 = 0;
        let buffer = libc::iovec {
            iov_base: map.addr() as *mut libc::c_void,
            iov_len: len,
        };
        // SAFETY: The single vector describes a part of `map` and outlives the
        // call.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.0.as_raw_fd(),
                REGISTER_BUFFERS,
                &buffer,
                1,
            )
        };
        match ret {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

declare! {
    /// io_uring registers a buffer on fsdax (not EOPNOTSUPP), refuses one on device-dax, moves wrong
    /// bytes through it, or keeps its pins
    "users::fixed-buffers" for MAPPED_KINDS, 180 s, essential "devdax-4K-mem-acpi" => fixed_buffers
}
fn fixed_buffers(want: &Want) -> Result<String> {
    const BUFFER: usize = 4 << 20;
    let target = Target::create(want, LEN)?;
    let before = settled()?;
    let map = target.map(LEN as usize)?;
    for touched in [false, true] {
        if touched {
            map.prefault_write(4096);
        }
        let ring = Ring::new()?;
        let what = format!("registering a buffer (touched: {touched})");
        long_term(&what, &target, &before, ring.register(&map, BUFFER))?;
        // The ring releases its buffers some time after it was closed.
        drop(ring);
        require_unpinned("registered buffers")?;
    }
    drop(map);
    let detail = match target.is_fsdax() {
        true => "refused".to_owned(),
        false if want.align != 4 * KIB => "registered".to_owned(),
        false => {
            fio(&[
                "--ioengine=io_uring",
                "--fixedbufs=1",
                &format!("--filename={}", scratch_node()?.display()),
                &format!("--iomem=mmapshared:{}", path_of(&target)?.display()),
                "--size=8m",
                "--bs=64k",
                "--iodepth=8",
            ])?;
            let pinned = require_unpinned("fio")?.acquired - before.acquired;
            format!("{pinned} pins, all released")
        }
    };
    target.finish()?;
    Ok(detail)
}
