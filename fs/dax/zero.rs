// SPDX-License-Identifier: GPL-2.0-only

//! Zeroing a range of a file.

use crate::direct_access::{as_block_error, offset_in_page, DaxReadGuard};
use crate::{copy, invalidate};
use kernel::{
    dax::AccessMode,
    error::Result,
    fs::inode::Inode,
    iomap::{IomapFlags, IomapIter, IomapOps},
    page::PAGE_SIZE,
};

/// Fills `len` bytes from `position` on with zeroes, where there are blocks with data. Sleeps.
/// `zeroed` becomes `true` if there were.
///
/// # Errors
///
/// `EIO` for bad memory; those of the device and the filesystem.
pub(crate) fn range(
    inode: &Inode,
    position: i64,
    len: u64,
    zeroed: &mut bool,
    operations: &IomapOps,
) -> Result {
    let flags = IomapFlags::DAX | IomapFlags::ZERO;
    let mut extents = IomapIter::new(inode, position, len, flags, operations);
    while extents.next()? {
        let processed = extent(&extents, zeroed);
        extents.set_processed(processed);
    }
    Ok(())
}

/// The same from `position` to the end of its block.
pub(crate) fn block_from(
    inode: &Inode,
    position: i64,
    zeroed: &mut bool,
    operations: &IomapOps,
) -> Result {
    let block = 1u64.checked_shl(inode.block_bits()).unwrap_or(0);
    // OVERFLOW: A power of two, or 0, which has no blocks.
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

fn extent(extents: &IomapIter<'_>, zeroed: &mut bool) -> Result<u64> {
    let (map, source) = (extents.iomap(), extents.srcmap());
    let length = extents.length();
    if source.iomap_type().reads_as_zeroes() {
        return Ok(length);
    }
    let first = extents.pos();
    // CAST: Files have no more bytes than `i64` can count, and extents end within.
    let end = first.wrapping_add(length as i64);
    if map.is_shared() {
        // The blocks will be others.
        invalidate::shared(extents.inode().mapping(), first, end)?;
    }
    let mut position = first;
    while position < end {
        let offset = offset_in_page(position);
        // OVERFLOW: An offset is less than a page, and `position` is less than `end`.
        let left = end.wrapping_sub(position) as u64;
        let len = left.min((PAGE_SIZE - offset) as u64) as usize;
        let reader = DaxReadGuard::new();
        if len == PAGE_SIZE {
            reader.zero_page(map, position)?;
        } else {
            let direct = reader
                .access(map, position, PAGE_SIZE, AccessMode::Normal)
                .map_err(as_block_error)?;
            direct.zero(offset, len)?;
            if map.is_shared() {
                copy::around(&reader, position, len, PAGE_SIZE, source, direct)?;
            }
            direct.flush(offset, len)?;
        }
        position = position.wrapping_add(len as i64);
    }
    *zeroed = true;
    Ok(length)
}
