// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Zeroing a range of a file.

use crate::{
    direct_access::{as_block_error, offset_in_page, DaxReadGuard},
    invalidate,
    share::copy_around,
};
use kernel::{
    dax::AccessMode,
    error::Result,
    fs::inode::Inode,
    iomap::{IomapFlags, IomapIter, IomapOps},
    page::PAGE_SIZE,
};

/// Fills `len` bytes from `position` on with zeroes, as far as there are blocks with data. Sets
/// `zeroed` to `true` if there were any. Sleeps. C: `dax_zero_range()`.
///
/// # Errors
///
/// Returns `EIO` for bad memory, and the errors of the device and the filesystem.
pub(crate) fn range(
    inode: &Inode,
    position: i64,
    len: u64,
    zeroed: &mut bool,
    operations: &IomapOps,
) -> Result {
    let flags = IomapFlags::DAX | IomapFlags::ZERO;
    let mut iter = IomapIter::new(inode, position, len, flags, operations);
    while iter.next()? {
        let processed = zero_extent(&iter, zeroed);
        iter.set_processed(processed);
    }
    Ok(())
}

/// Fills the block that contains `position` with zeroes from there to its end, as [`range`] does.
/// Sleeps. C: `dax_truncate_page()`.
///
/// # Errors
///
/// Returns the errors of [`range`].
pub(crate) fn to_block_end(
    inode: &Inode,
    position: i64,
    zeroed: &mut bool,
    operations: &IomapOps,
) -> Result {
    let block = 1u64.checked_shl(inode.block_bits()).unwrap_or(0);
    // OVERFLOW: The size of a block is a power of two, or 0 if the filesystem has no blocks.
    let offset = position as u64 & block.wrapping_sub(1);
    if offset == 0 || block == 0 {
        return Ok(());
    }
    range(
        inode,
        position,
        block.wrapping_sub(offset),
        zeroed,
        operations,
    )
}

/// Fills an extent with zeroes. C: `dax_zero_iter()`, `dax_memzero()`.
#[doc(alias = "dax_zero_iter")]
fn zero_extent(iter: &IomapIter<'_>, zeroed: &mut bool) -> Result<u64> {
    let (iomap, source) = (iter.iomap(), iter.srcmap());
    let length = iter.length();
    if source.iomap_type().reads_as_zeroes() {
        return Ok(length);
    }
    let first = iter.pos();
    // CAST: IomapIter end within the file, which has at most `i64::MAX` bytes.
    let end = first.wrapping_add(length as i64);
    if iomap.is_shared() {
        // The file gets other blocks, unless this fails.
        invalidate::before_copy(iter.inode().mapping(), first, end)?;
    }
    let mut position = first;
    while position < end {
        let offset = offset_in_page(position);
        // OVERFLOW: An offset is less than a page, and `position` is less than `end`.
        let left = end.wrapping_sub(position) as u64;
        let len = left.min((PAGE_SIZE - offset) as u64) as usize;
        let guard = DaxReadGuard::new();
        if len == PAGE_SIZE {
            guard.zero_page(iomap, position)?;
        } else {
            let access = guard
                .access(iomap, position, PAGE_SIZE, AccessMode::Normal)
                .map_err(as_block_error)?;
            access.zero(offset, len)?;
            if iomap.is_shared() {
                copy_around(&guard, position, len, source, access)?;
            }
            access.flush(offset, len)?;
        }
        position = position.wrapping_add(len as i64);
    }
    *zeroed = true;
    Ok(length)
}
