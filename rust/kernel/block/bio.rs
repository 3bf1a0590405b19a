// SPDX-License-Identifier: GPL-2.0

//! Bios, from both sides.
//!
//! For whoever wants I/O: on an open [`BlockDevice`], one request at a time and waited for. For the
//! driver that has to do it: a [`Bio`].
//!
//! C headers: [`include/linux/bio.h`](srctree/include/linux/bio.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use crate::{
    bindings,
    error::{code::EINVAL, from_err_ptr, to_result, Result},
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
};
use core::ptr::{addr_of_mut, null, null_mut, NonNull};

mod incoming;
pub use incoming::{Accounting, Bio, Data, Segment, Segments, Source, Target};

/// A device is addressed in these, whatever its own sectors are.
pub const SECTOR_SIZE: u64 = 512;

/// `BLK_OPEN_READ | BLK_OPEN_WRITE`: macros with casts, which bindgen cannot evaluate.
const READ_WRITE: bindings::blk_mode_t = (1 << 0) | (1 << 1);

/// An open block device; dropped means closed. C: `struct block_device`, by its file.
///
/// # Invariants
///
/// The file is that of an open block device and ours to close.
pub struct BlockDevice(NonNull<bindings::file>);

// SAFETY: A file has no thread of its own.
unsafe impl Send for BlockDevice {}

/// Memory for I/O: a whole number of pages, one behind the other.
///
/// # Invariants
///
/// Its start is that of a page and its capacity a multiple of the page size.
pub struct Buffer(KVec<u8>);

impl Buffer {
    /// Memory of this size. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` unless `size` is a power of two of pages; `ENOMEM`.
    pub fn new(size: usize) -> Result<Self> {
        if size < PAGE_SIZE || !size.is_power_of_two() {
            return Err(EINVAL);
        }
        let mut bytes = KVec::new();
        bytes.extend_with(size, 0, GFP_KERNEL)?;
        // INVARIANT: The slab allocators align a power of two to itself.
        Ok(Self(bytes))
    }
}

/// Which way the data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device.
    Read,
    /// To the device.
    Write,
}

impl BlockDevice {
    /// Opens a device by the path of its node, shared with whoever else has it. Sleeps. C:
    /// `bdev_file_open_by_path()`.
    #[doc(alias = "bdev_file_open_by_path")]
    pub fn open(path: &CStr) -> Result<Self> {
        // SAFETY: A valid string; without a holder there are no operations of one.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_path(path.as_char_ptr(), READ_WRITE, null_mut(), null())
        })?;
        // INVARIANT: Just opened.
        NonNull::new(file).map(Self).ok_or(EINVAL)
    }

    fn as_raw(&self) -> *mut bindings::block_device {
        // SAFETY: By the invariant it is the file of a block device.
        unsafe { bindings::file_bdev(self.0.as_ptr()) }
    }

    /// Reads or writes the whole buffer, at the byte `at` of the device, by one bio. Sleeps. C:
    /// `submit_bio_wait()`.
    #[doc(alias = "submit_bio_wait")]
    pub fn transfer(&self, direction: Direction, buffer: &mut Buffer, at: u64) -> Result {
        let operation = match direction {
            Direction::Read => bindings::req_op_REQ_OP_READ,
            Direction::Write => bindings::req_op_REQ_OP_WRITE,
        };
        let len = buffer.0.len().try_into()?;
        // SAFETY: The device is open. The buffer is not touched by anybody else until the bio has
        // ended, which is waited for; its pages lie one behind the other. With `GFP_KERNEL` and the
        // pool of the filesystems the allocation does not fail.
        to_result(unsafe {
            let page = bindings::virt_to_page(buffer.0.as_ptr().cast());
            let bio = bindings::bio_alloc_bioset(
                self.as_raw(),
                1,
                operation,
                bindings::GFP_KERNEL,
                addr_of_mut!(bindings::fs_bio_set),
            );
            (*bio).bi_iter.bi_sector = at / SECTOR_SIZE;
            // There is room for one piece.
            let _ = bindings::bio_add_page(bio, page, len, 0);
            let errno = bindings::submit_bio_wait(bio);
            bindings::bio_put(bio);
            errno
        })
    }

    /// Flushes the device's cache. Sleeps. C: `blkdev_issue_flush()`.
    #[doc(alias = "blkdev_issue_flush")]
    pub fn flush(&self) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe { bindings::blkdev_issue_flush(self.as_raw()) })
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // SAFETY: By the invariant ours to close, once.
        unsafe { bindings::bdev_fput(self.0.as_ptr()) };
    }
}
