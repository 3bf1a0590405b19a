// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! Blocks that files share: copying them, and comparing ranges that could share blocks.

use crate::{
    direct_access::{as_block_error, offset_in_page, DaxReadGuard, DirectAccess},
    invalidate,
};
use kernel::{
    dax::AccessMode,
    error::{
        code::{EINTR, EINVAL, EIO},
        Result,
    },
    fs::inode::Inode,
    iomap::{Iomap, IomapFlags, IomapIter, IomapOps, IomapType},
    page::{PAGE_MASK, PAGE_SIZE},
    signal,
};

/// Fills the `len` bytes of whole pages from `position` on with their old data from `source`. `to`
/// starts with the first page. C: `dax_iomap_copy_around()`.
///
/// A hole and an unwritten extent are copied as zeroes, which are flushed. Other data is flushed when
/// the file is synced.
///
/// # Errors
///
/// Returns `EIO` for bad memory, `EINVAL` if `to` has fewer bytes, and the errors of the device.
#[doc(alias = "dax_iomap_copy_around")]
pub(crate) fn copy_all(
    guard: &DaxReadGuard,
    position: i64,
    len: usize,
    source: Iomap<'_>,
    to: DirectAccess<'_>,
) -> Result {
    if is_hole(source) {
        to.zero(0, len)?;
        return to.flush(0, len);
    }
    let from = guard
        .access(source, position, len, AccessMode::Normal)
        .map_err(as_block_error)?;
    to.copy_from(0, &from, 0, len).map_err(|_| EIO)
}

/// Fills the pages that contain the `length` bytes from `position` on with their old data from
/// `source`, except for these bytes, and flushes it, which C does for zeroes only. `to` starts with
/// the first page. C: `dax_iomap_copy_around()`.
///
/// A hole and an unwritten extent are copied as zeroes. Pages that lie within the bytes are not
/// looked at: the caller overwrites them, so it does not matter whether their old data is bad. C
/// copies them as well.
///
/// # Errors
///
/// Returns `EIO` for bad memory, `EINVAL` if `to` has fewer bytes, and the errors of the device.
#[doc(alias = "dax_iomap_copy_around")]
pub(crate) fn copy_around(
    guard: &DaxReadGuard,
    position: i64,
    length: usize,
    source: Iomap<'_>,
    to: DirectAccess<'_>,
) -> Result {
    let head = offset_in_page(position);
    let end = head.checked_add(length).ok_or(EINVAL)?;
    let tail = end
        .checked_next_multiple_of(PAGE_SIZE)
        .ok_or(EINVAL)?
        .wrapping_sub(end);
    let copy = |offset: usize, len: usize| -> Result {
        if len == 0 {
            return Ok(());
        }
        if is_hole(source) {
            to.zero(offset, len)?;
        } else {
            // The part is in one page. OVERFLOW: It begins before 2^63, as the file ends there.
            let position = position
                .wrapping_sub(head as i64)
                .wrapping_add(offset as i64);
            let from = guard
                .access(source, position, PAGE_SIZE, AccessMode::Normal)
                .map_err(as_block_error)?;
            to.copy_from(offset, &from, offset_in_page(position), len)
                .map_err(|_| EIO)?;
        }
        to.flush(offset, len)
    };
    copy(0, head)?;
    copy(end, tail)
}

/// Returns whether the file has no data in the extent that is the source of a copy.
fn is_hole(source: Iomap<'_>) -> bool {
    // A shared source is the new extent itself: there was no data before, so there is no source
    // extent.
    source.is_shared() || source.iomap_type() == IomapType::Unwritten
}

/// Copies the blocks that the file shares with others in `len` bytes from `position` on, so that it
/// has blocks of its own. Sleeps. C: `dax_file_unshare()`.
///
/// # Errors
///
/// Returns `EIO` for bad memory, `EINTR` if a fatal signal is pending, and the errors of the device
/// and the filesystem.
pub(crate) fn unshare(inode: &Inode, position: i64, len: i64, operations: &IomapOps) -> Result {
    let size = inode.size();
    if position < 0 || position >= size {
        return Ok(());
    }
    let len = len.min(size.wrapping_sub(position));
    let flags = IomapFlags::DAX | IomapFlags::WRITE | IomapFlags::UNSHARE;
    // CAST: No filesystem passes a negative length; C takes one for a large length, too.
    let mut iter = IomapIter::new(inode, position, len as u64, flags, operations);
    while iter.next()? {
        let processed = unshare_extent(&iter);
        iter.set_processed(processed);
    }
    Ok(())
}

/// Up to this many bytes are copied and become the file's at once.
const PIECE: usize = 4 << 20;

/// Copies the first pages that contain an extent, and flushes them, which C does not. C:
/// `dax_unshare_iter()`.
///
/// The rest of a large extent is another extent. C copies all of it, by a function with a length of
/// 32 bits: of 4 GiB it copies nothing.
#[doc(alias = "dax_unshare_iter")]
fn unshare_extent(iter: &IomapIter<'_>) -> Result<u64> {
    let length = iter.length();
    if !iter.want_unshare() {
        return Ok(length);
    }
    if signal::is_fatal_pending() {
        return Err(EINTR);
    }
    // Whole pages may be copied: new blocks have no other data yet.
    let head = offset_in_page(iter.pos());
    let first = iter.pos().wrapping_sub(head as i64);
    let whole = usize::try_from(length)?
        .checked_add(head)
        .and_then(|len| len.checked_next_multiple_of(PAGE_SIZE))
        .ok_or(EIO)?
        .min(PIECE);
    let end = first.wrapping_add(whole as i64);
    invalidate::before_copy(iter.inode().mapping(), first, end)?;

    let guard = DaxReadGuard::new();
    let access = |iomap: Iomap<'_>| {
        guard
            .access(iomap, first, whole, AccessMode::Normal)
            .map_err(as_block_error)
    };
    let (to, from) = (access(iter.iomap())?, access(iter.srcmap())?);
    // A device may return fewer contiguous bytes.
    let len = whole.min(to.bytes()).min(from.bytes());
    to.copy_from(0, &from, 0, len)?;
    to.flush(0, len)?;
    Ok(length.min(len.saturating_sub(head) as u64))
}

/// Compares `len` bytes of two files, each given by inode and position, and stores to `same`
/// whether they are equal. Sleeps. C: `dax_dedupe_file_range_compare()`.
///
/// # Errors
///
/// Returns `EIO` if they cannot be read, and the errors of the filesystem.
pub(crate) fn compare(
    one: (&Inode, i64),
    two: (&Inode, i64),
    len: u64,
    same: &mut bool,
    operations: &IomapOps,
) -> Result {
    let mut one = IomapIter::new(one.0, one.1, len, IomapFlags::DAX, operations);
    let mut two = IomapIter::new(two.0, two.1, len, IomapFlags::DAX, operations);
    while one.next()? && two.next()? {
        let compared = compare_extents(&one, &two).map_err(|_| EIO)?;
        *same = compared.is_some();
        one.set_processed(Ok(compared.unwrap_or(0)));
        two.set_processed(Ok(compared.unwrap_or(0)));
    }
    Ok(())
}

/// Returns how many bytes of two extents were compared and are equal; `None` if they differ. C:
/// `dax_range_compare_iter()`.
#[doc(alias = "dax_range_compare_iter")]
fn compare_extents(one: &IomapIter<'_>, two: &IomapIter<'_>) -> Result<Option<u64>> {
    let len = one.length().min(two.length());
    // An extent without data reads as zeroes, whatever its blocks contain. A hole and a block of
    // zeroes are not reported as equal: there would be no block to share.
    match (
        one.iomap().iomap_type().reads_as_zeroes(),
        two.iomap().iomap_type().reads_as_zeroes(),
    ) {
        (true, true) => return Ok(Some(len)),
        (false, false) => (),
        _ => return Ok(None),
    }
    let guard = DaxReadGuard::new();
    let access = |iter: &IomapIter<'_>| -> Result<(DirectAccess<'_>, usize)> {
        let offset = offset_in_page(iter.pos());
        let whole = usize::try_from(len)?
            .checked_add(offset)
            .and_then(|len| len.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(EIO)?;
        let access = guard.access(
            iter.iomap(),
            iter.pos() & PAGE_MASK as i64,
            whole,
            AccessMode::Normal,
        )?;
        Ok((access, offset))
    };
    let ((first, first_offset), (second, second_offset)) = (access(one)?, access(two)?);
    // A device may return fewer contiguous bytes.
    let len = usize::try_from(len)?
        .min(first.bytes().saturating_sub(first_offset))
        .min(second.bytes().saturating_sub(second_offset));
    let same = first.equals(first_offset, &second, second_offset, len)?;
    Ok(same.then_some(len as u64))
}
