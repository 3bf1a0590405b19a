// SPDX-License-Identifier: GPL-2.0

//! Bios: I/O requests to block devices.
//!
//! There are two sides:
//!
//! - The submitter opens a [`BlockDevice`] and transfers a [`Buffer`] by one bio at a time, or
//!   flushes the device. Each call waits until its bio has ended.
//! - The driver of a bio-based [disk](super::disk) gets each [`Bio`] by value, and must end it.
//!
//! This file encapsulates the lifetime of an open block device and of the bios that are submitted
//! to it; `bio/incoming.rs` that of the bios which a driver gets.
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
pub use crate::mm::segment::{Segment, Source, Target};
pub use incoming::{Accounting, Bio, Data, Segments};

/// The unit in which block devices are addressed, in bytes, whatever the device's own sector size.
pub const SECTOR_SIZE: u64 = 512;

/// `BLK_OPEN_READ | BLK_OPEN_WRITE`: macros with casts, which bindgen cannot evaluate.
const READ_WRITE: bindings::blk_mode_t = (1 << 0) | (1 << 1);

/// An open block device. Dropping it closes the device. C: `struct block_device`.
///
/// # Invariants
///
/// The pointer is the file of an open block device, and this value owns that file.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::bio::{BlockDevice, Buffer, Direction},
///     c_str,
///     page::PAGE_SIZE,
/// };
///
/// /// Reads the page at 1 MiB of a device, and writes it back durably.
/// fn rewrite(path: &CStr) -> Result {
///     let device = BlockDevice::open(path)?;
///     let mut buffer = Buffer::new(PAGE_SIZE)?;
///     device.transfer(Direction::Read, &mut buffer, 1 << 20)?;
///     device.transfer(Direction::Write, &mut buffer, 1 << 20)?;
///     device.flush()
/// }
///
/// assert!(rewrite(c_str!("/no-such-device")).is_err());
/// ```
#[doc(alias = "block_device")]
pub struct BlockDevice(NonNull<bindings::file>);

// SAFETY: An open file is not bound to the task that opened it, so any thread may use and close it.
unsafe impl Send for BlockDevice {}

/// A buffer for I/O: a whole number of contiguous pages.
///
/// # Invariants
///
/// The buffer begins at the start of a page, and its length is a multiple of the page size.
pub struct Buffer(KVec<u8>);

impl Buffer {
    /// Allocates a zeroed buffer of `size` bytes. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` unless `size` is a power of two and at least a page; `ENOMEM`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{block::bio::Buffer, page::PAGE_SIZE};
    ///
    /// assert!(Buffer::new(2 * PAGE_SIZE).is_ok());
    /// // Neither half a page nor three pages.
    /// assert!(Buffer::new(PAGE_SIZE / 2).is_err());
    /// assert!(Buffer::new(3 * PAGE_SIZE).is_err());
    /// ```
    pub fn new(size: usize) -> Result<Self> {
        if size < PAGE_SIZE || !size.is_power_of_two() {
            return Err(EINVAL);
        }
        let mut bytes = KVec::new();
        bytes.extend_with(size, 0, GFP_KERNEL)?;
        // INVARIANT: The slab allocators align a size that is a power of two to that size.
        Ok(Self(bytes))
    }
}

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device. C: `REQ_OP_READ`.
    Read,
    /// To the device. C: `REQ_OP_WRITE`.
    Write,
}

impl BlockDevice {
    /// Opens the device with the node `path`, without claiming it exclusively. Sleeps.
    ///
    /// C: `bdev_file_open_by_path()`.
    ///
    /// # Errors
    ///
    /// Those of the path lookup; `ENOTBLK` if there is no block device at `path`; those of the
    /// driver.
    #[doc(alias = "bdev_file_open_by_path")]
    pub fn open(path: &CStr) -> Result<Self> {
        // SAFETY: The path is a valid string. Without a holder no holder operations are needed, so
        // both may be null.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_path(path.as_char_ptr(), READ_WRITE, null_mut(), null())
        })?;
        // INVARIANT: The file was just opened for this value.
        NonNull::new(file).map(Self).ok_or(EINVAL)
    }

    /// Returns the `struct block_device` of the file.
    fn as_raw(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariants this is the file of an open block device, as the function
        // requires.
        unsafe { bindings::file_bdev(self.0.as_ptr()) }
    }

    /// Transfers the whole buffer by one bio, to or from the device at `at` bytes from its start,
    /// and waits until the bio has ended. Sleeps.
    ///
    /// `at` is rounded down to whole sectors. C: `submit_bio_wait()`.
    ///
    /// # Errors
    ///
    /// The status with which the driver ended the bio.
    #[doc(alias = "submit_bio_wait")]
    pub fn transfer(&self, direction: Direction, buffer: &mut Buffer, at: u64) -> Result {
        let operation = match direction {
            Direction::Read => bindings::req_op_REQ_OP_READ,
            Direction::Write => bindings::req_op_REQ_OP_WRITE,
        };
        let len = buffer.0.len().try_into()?;
        // SAFETY: The device is open. The buffer is borrowed exclusively until the bio has ended,
        // which is waited for, and by its invariants its pages are contiguous, so one segment
        // describes it. With `GFP_KERNEL` and the filesystems' bio set the allocation does not
        // fail.
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
            // The bio was allocated with one segment, so this fits.
            let _ = bindings::bio_add_page(bio, page, len, 0);
            let errno = bindings::submit_bio_wait(bio);
            bindings::bio_put(bio);
            errno
        })
    }

    /// Flushes the volatile write cache of the device. Sleeps. C: `blkdev_issue_flush()`.
    ///
    /// # Errors
    ///
    /// The status with which the driver ended the flush.
    #[doc(alias = "blkdev_issue_flush")]
    pub fn flush(&self) -> Result {
        // SAFETY: By the type invariants the device is open until `self` is dropped.
        to_result(unsafe { bindings::blkdev_issue_flush(self.as_raw()) })
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariants this value owns the file, and it is not used after this.
        unsafe { bindings::bdev_fput(self.0.as_ptr()) };
    }
}
