// SPDX-License-Identifier: GPL-2.0

//! The page sizes of a mapping: the PAGEMAP_SCAN ioctl of `/proc/self/pagemap`.
//!
//! It walks the page tables and reports for every range whether it is
//! present and whether huge entries map it, for anonymous memory, files,
//! hugetlb and DAX alike. So it verifies a row that claims 2M. The same ioctl
//! reports which pages were written, and write-protects them again.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{ensure, Context, Result};

use crate::mapping::{Mapping, PAGE};

/// Categories of include/uapi/linux/fs.h.
const WRITTEN: u64 = 1 << 1;
const PRESENT: u64 = 1 << 3;
const HUGE: u64 = 1 << 6;

/// Write-protects what is reported (PM_SCAN_WP_MATCHING), and fails where
/// userfaultfd is not registered for that (PM_SCAN_CHECK_WPASYNC).
const WRITE_PROTECT: u64 = (1 << 0) | (1 << 1);

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong =
    ((3 << 30) | (size_of::<ScanArg>() << 16) | ((b'f' as usize) << 8) | 16) as libc::c_ulong;

/// Scans a part of a mapping for what `arg` wants.
fn scan(map: &Mapping, at: usize, len: usize, mut arg: ScanArg) -> Result<Vec<Region>> {
    map.check(at, len);
    let file = File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?;
    let mut found = [Region::default(); 64];
    let start = (map.addr() + at) as u64;
    arg.size = size_of::<ScanArg>() as u64;
    (arg.start, arg.end) = (start, start + len as u64);
    (arg.vec, arg.vec_len) = (found.as_mut_ptr() as u64, found.len() as u64);
    let mut all = Vec::new();
    while arg.start < arg.end {
        // SAFETY: `arg` and the regions that it points to outlive the call.
        let n = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &mut arg) };
        let n = usize::try_from(n)
            .map_err(|_| io::Error::last_os_error())
            .context("PAGEMAP_SCAN failed; the kernel needs CONFIG_PROC_PAGE_MONITOR")?;
        all.extend_from_slice(&found[..n.min(found.len())]);
        ensure!(arg.walk_end > arg.start, "PAGEMAP_SCAN makes no progress");
        arg.start = arg.walk_end;
    }
    Ok(all)
}

/// Returns the offsets of the pages in a part of a mapping that were written
/// since the last call, in a mapping that userfaultfd is registered for, and
/// write-protects them.
pub fn take_written(map: &Mapping, at: usize, len: usize) -> Result<Vec<usize>> {
    let wanted = ScanArg {
        flags: WRITE_PROTECT,
        category_mask: WRITTEN,
        return_mask: WRITTEN,
        ..ScanArg::default()
    };
    let regions = scan(map, at, len, wanted)?;
    Ok(regions
        .iter()
        .flat_map(|region| (region.start..region.end).step_by(PAGE))
        .map(|address| address as usize - map.addr())
        .collect())
}

/// Bytes of a mapping that are present, and bytes mapped by huge entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mapped {
    pub present: u64,
    pub huge: u64,
}

impl Mapped {
    /// Scans the first `len` bytes of a mapping.
    pub fn of(map: &Mapping, len: usize) -> Result<Self> {
        let mut all = Self::default();
        let wanted = ScanArg {
            category_mask: PRESENT,
            return_mask: PRESENT | HUGE,
            ..ScanArg::default()
        };
        for region in scan(map, 0, len, wanted)? {
            all.add(&region);
        }
        Ok(all)
    }

    fn add(&mut self, region: &Region) {
        let len = region.end.saturating_sub(region.start);
        if region.categories & PRESENT != 0 {
            self.present += len;
        }
        if region.categories & HUGE != 0 {
            self.huge += len;
        }
    }
}

/// Returns an error unless all of the first `len` bytes are present, with huge
/// entries only or without any.
pub fn require(map: &Mapping, len: usize, huge: bool) -> Result<()> {
    let got = Mapped::of(map, len)?;
    let want = Mapped {
        present: len as u64,
        huge: if huge { len as u64 } else { 0 },
    };
    ensure!(
        got == want,
        "the mapping does not match the row: of {} KiB, {} are present and {} have huge entries",
        len >> 10,
        got.present >> 10,
        got.huge >> 10
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<ScanArg>(), 96);
        assert_eq!(PAGEMAP_SCAN, 0xc060_6610);
    }

    #[test]
    fn regions_add_up() {
        let mut all = Mapped::default();
        for (start, end, categories) in [(0, 4096, PRESENT), (4096, 12288, PRESENT | HUGE)] {
            all.add(&Region {
                start,
                end,
                categories,
            });
        }
        assert_eq!(
            all,
            Mapped {
                present: 12288,
                huge: 8192
            }
        );
    }
}
