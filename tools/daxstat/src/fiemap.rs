// SPDX-License-Identifier: GPL-2.0

//! The location of a file's blocks: FS_IOC_FIEMAP.
//!
//! Without FIEMAP_FLAG_SYNC, which would write the file back: to look at a file must not change it.
//! Blocks that the filesystem will allocate at writeback are reported as delayed then.
//!
//! The crate of this name asks for 8 extents at a time, adds offset and length of what it is told
//! without a check, and does not end if a filesystem reports the same extents again.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::{bail, Context, Result};

use crate::ranges::{Blocks, Extent};

/// _IOWR('f', 11, struct fiemap).
const FS_IOC_FIEMAP: u64 = 0xc020_660b;
const LAST: u32 = 0x1;
const UNKNOWN: u32 = 0x2;
const DELALLOC: u32 = 0x4;
const NOT_ALIGNED: u32 = 0x100;
const DATA_INLINE: u32 = 0x200;
const UNWRITTEN: u32 = 0x800;
const SHARED: u32 = 0x2000;
/// Number of extents per request.
const BATCH: usize = 512;

/// struct fiemap_extent.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Raw {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// struct fiemap, with room for extents.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Raw; BATCH],
}

impl From<&Raw> for Extent {
    fn from(raw: &Raw) -> Self {
        Extent {
            logical: raw.logical,
            physical: raw.physical,
            length: raw.length,
            shared: raw.flags & SHARED != 0,
            blocks: match raw.flags {
                flags if flags & DELALLOC != 0 => Blocks::Delayed,
                flags if flags & (UNKNOWN | NOT_ALIGNED | DATA_INLINE) != 0 => Blocks::Elsewhere,
                flags if flags & UNWRITTEN != 0 => Blocks::Unwritten,
                _ => Blocks::Written,
            },
        }
    }
}

/// Returns all extents, in the file's order.
pub fn extents(file: &File) -> Result<Vec<Extent>> {
    let mut all: Vec<Extent> = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Box::new(Request {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: BATCH as u32,
            reserved: 0,
            extents: [Raw::default(); BATCH],
        });
        // SAFETY: The request has the layout that the kernel expects, has room
        // for as many extents as it says, and outlives the call.
        let rc = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &mut *request) };
        if rc != 0 {
            let e = io::Error::last_os_error();
            return match e.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOTTY) => {
                    bail!("the filesystem does not report the location of its blocks (FIEMAP)")
                }
                _ => Err(e).context("FS_IOC_FIEMAP"),
            };
        }
        let got = &request.extents[..BATCH.min(request.mapped as usize)];
        all.extend(got.iter().map(Extent::from));
        let Some(last) = got.last().filter(|raw| raw.flags & LAST == 0) else {
            return Ok(all);
        };
        let next = last.logical.saturating_add(last.length);
        if next <= start {
            bail!("the filesystem reports the same extents repeatedly");
        }
        start = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<Raw>(), 56);
        assert_eq!(std::mem::offset_of!(Request, extents), 32);
        assert_eq!(std::mem::offset_of!(Raw, flags), 40);
    }

    #[test]
    fn flags() {
        let of = |flags: u32| {
            Extent::from(&Raw {
                flags,
                ..Raw::default()
            })
        };
        assert!(of(SHARED | LAST).shared && of(SHARED | LAST).blocks == Blocks::Written);
        assert_eq!(of(DATA_INLINE).blocks, Blocks::Elsewhere);
        assert_eq!(of(UNWRITTEN).blocks, Blocks::Unwritten);
        // The kernel sets both.
        assert_eq!(of(DELALLOC | UNKNOWN).blocks, Blocks::Delayed);
    }
}
