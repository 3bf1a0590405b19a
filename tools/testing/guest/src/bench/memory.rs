// SPDX-License-Identifier: GPL-2.0

//! Memory of each kind that GUP handles, present and verified to be of that
//! kind.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::FromRawFd;

use anyhow::{Context, Result};

use super::scan;
use crate::mapping::{Mapping, PAGE};
use crate::ndctl::{Bus, Map, Mode, Want, KIB, MIB};
use crate::system;
use crate::target::Target;

pub const HUGE: usize = 2 << 20;
const HUGETLB_POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Returns the usual kind of namespace: on an NVDIMM, with its struct pages in
/// itself.
pub const fn want(mode: Mode, align: u64) -> Want {
    Want {
        mode,
        align,
        map: Map::Dev,
        bus: Bus::Acpi,
    }
}

pub const FSDAX: Want = want(Mode::Fsdax, 2 * MIB);
pub const DEVDAX_2M: Want = want(Mode::Devdax, 2 * MIB);
pub const DEVDAX_4K: Want = want(Mode::Devdax, 4 * KIB);

/// Calls madvise(2) on a whole mapping.
pub fn advise(map: &Mapping, advice: i32) -> Result<()> {
    // SAFETY: The range is the mapping's own, and advice about huge pages does
    // not change its content.
    match unsafe { libc::madvise(map.addr() as *mut libc::c_void, map.len(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error())
            .with_context(|| format!("madvise with advice {advice} failed")),
    }
}

/// Writes a byte at every multiple of `step`: one write fault each.
pub fn touch(map: &Mapping, len: usize, step: usize) {
    touch_range(map, 0..len, step);
}

/// Writes to a part as [`touch`] does.
pub fn touch_range(map: &Mapping, part: Range<usize>, step: usize) {
    for at in part.step_by(step) {
        map.poke(at, 1);
    }
}

/// Reads a byte at every multiple of `step`.
pub fn read_range(map: &Mapping, part: Range<usize>, step: usize) {
    for at in part.step_by(step) {
        map.peek(at);
    }
}

/// Creates anonymous memory, with huge pages or without any.
pub fn anonymous(len: usize, huge: bool) -> Result<Mapping> {
    let map = Mapping::fresh(len, HUGE, libc::MAP_PRIVATE)?;
    if huge {
        advise(&map, libc::MADV_HUGEPAGE)?;
    } else {
        advise(&map, libc::MADV_NOHUGEPAGE)?;
    }
    touch(&map, len, PAGE);
    scan::require(&map, len, huge)?;
    Ok(map)
}

/// Creates pages of 4 KiB in a memfd.
pub fn shmem(len: usize) -> Result<Mapping> {
    // SAFETY: The name is a NUL-terminated string that outlives the call.
    let fd = unsafe { libc::memfd_create(c"guest-test".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("memfd_create failed");
    }
    // SAFETY: The descriptor is new and owned here, so nothing else closes it.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len as u64).context("cannot size the memfd")?;
    let map = Mapping::shared(&file, 0, len, HUGE)?;
    advise(&map, libc::MADV_NOHUGEPAGE)?;
    touch(&map, len, PAGE);
    scan::require(&map, len, false)?;
    Ok(map)
}

/// A sufficiently large pool of huge pages, which is restored when dropped.
pub struct HugetlbPool {
    before: u64,
}

impl HugetlbPool {
    /// Fills the pool; returns a [`Skip`](crate::skip::Skip) if the kernel cannot find that many.
    pub fn fill(bytes: usize) -> Result<Self> {
        let pages = (bytes / HUGE) as u64;
        let pool = Self {
            before: system::read_u64(HUGETLB_POOL)?,
        };
        fs::write(HUGETLB_POOL, pages.to_string())
            .with_context(|| format!("cannot write to {HUGETLB_POOL}"))?;
        let got = system::read_u64(HUGETLB_POOL)?;
        if got < pages {
            skip!("the kernel found {got} of {pages} huge pages for hugetlbfs");
        }
        Ok(pool)
    }
}

impl Drop for HugetlbPool {
    fn drop(&mut self) {
        if let Err(e) = fs::write(HUGETLB_POOL, self.before.to_string()) {
            eprintln!("clean-up: {HUGETLB_POOL}: {e}");
        }
    }
}

/// Creates hugetlbfs pages of 2 MiB, from a filled pool.
pub fn hugetlb(len: usize) -> Result<Mapping> {
    let map = Mapping::fresh(len, HUGE, libc::MAP_PRIVATE | libc::MAP_HUGETLB)?;
    touch(&map, len, HUGE);
    scan::require(&map, len, true)?;
    Ok(map)
}

/// Maps a DAX target and writes to it, in pages of 2 MiB or of 4 KiB.
pub fn dax(target: &Target, len: usize, huge: bool) -> Result<Mapping> {
    let map = target.map(len)?;
    if target.is_fsdax() && !huge {
        advise(&map, libc::MADV_NOHUGEPAGE)?;
    }
    touch(&map, len, if huge { HUGE } else { PAGE });
    scan::require(&map, len, huge)?;
    Ok(map)
}
