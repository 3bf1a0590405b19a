// SPDX-License-Identifier: GPL-2.0-only

//! Blocks that files share: copies of them, and whether two ranges could share theirs.

use crate::direct_access::{as_block_error, offset_in_page, DaxReadGuard, DirectAccess};
use crate::invalidate;
use kernel::{
    dax::AccessMode,
    error::{code::EIO, Result},
    fs::inode::Inode,
    iomap::{Iomap, IomapFlags, IomapIter, IomapOps},
    page::{PAGE_MASK, PAGE_SIZE},
};

/// Gives the file copies of what it shares with others, in `len` bytes from `position` on. Sleeps.
///
/// # Errors
///
/// `EIO` for bad memory; those of the device and the filesystem.
pub(crate) fn unshare(inode: &Inode, position: i64, len: i64, operations: &IomapOps) -> Result {
    let size = inode.size();
    if position < 0 || position >= size {
        return Ok(());
    }
    let len = len.min(size.wrapping_sub(position));
    let flags = IomapFlags::DAX | IomapFlags::WRITE | IomapFlags::UNSHARE;
    // CAST: A negative length is none that a filesystem asks for; C takes it for a large one too.
    let mut extents = IomapIter::new(inode, position, len as u64, flags, operations);
    while extents.next()? {
        let processed = copy_extent(&extents);
        extents.set_processed(processed);
    }
    Ok(())
}

/// Copies the pages that an extent is in, and flushes them, which C does not.
fn copy_extent(extents: &IomapIter<'_>) -> Result<u64> {
    let length = extents.length();
    if !extents.want_unshare() {
        return Ok(length);
    }
    // Whole pages: there is nothing else in new blocks yet.
    let head = offset_in_page(extents.pos());
    let first = extents.pos().wrapping_sub(head as i64);
    let whole = usize::try_from(length)?
        .checked_add(head)
        .and_then(|len| len.checked_next_multiple_of(PAGE_SIZE))
        .ok_or(EIO)?;
    let end = first.wrapping_add(whole as i64);
    invalidate::shared(extents.inode().mapping(), first, end)?;

    let reader = DaxReadGuard::new();
    let access = |map: Iomap<'_>| {
        reader
            .access(map, first, whole, AccessMode::Normal)
            .map_err(as_block_error)
    };
    let (to, from) = (access(extents.iomap())?, access(extents.srcmap())?);
    // A device may have less in one piece.
    let len = whole.min(to.bytes()).min(from.bytes());
    to.copy_from(&from, 0, len)?;
    to.flush(0, len)?;
    Ok(length.min(len.saturating_sub(head) as u64))
}

/// Whether `len` bytes of two files are the same. Sleeps.
///
/// # Errors
///
/// `EIO` if they cannot be read; those of the filesystem.
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

/// How many bytes of the extents were found to be the same; `None` if they are not.
fn compare_extents(one: &IomapIter<'_>, two: &IomapIter<'_>) -> Result<Option<u64>> {
    let len = one.length().min(two.length());
    // What has no data reads as zeroes, whatever is in its blocks. It is no reason to share blocks.
    match (
        one.iomap().iomap_type().reads_as_zeroes(),
        two.iomap().iomap_type().reads_as_zeroes(),
    ) {
        (true, true) => return Ok(Some(len)),
        (false, false) => (),
        _ => return Ok(None),
    }
    let reader = DaxReadGuard::new();
    let access = |extents: &IomapIter<'_>| -> Result<(DirectAccess<'_>, usize)> {
        let offset = offset_in_page(extents.pos());
        let whole = usize::try_from(len)?
            .checked_add(offset)
            .and_then(|len| len.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(EIO)?;
        let direct = reader.access(
            extents.iomap(),
            extents.pos() & PAGE_MASK as i64,
            whole,
            AccessMode::Normal,
        )?;
        Ok((direct, offset))
    };
    let ((first, first_offset), (second, second_offset)) = (access(one)?, access(two)?);
    // A device may have less in one piece.
    let len = usize::try_from(len)?
        .min(first.bytes().saturating_sub(first_offset))
        .min(second.bytes().saturating_sub(second_offset));
    let same = first.equals(first_offset, &second, second_offset, len)?;
    Ok(same.then_some(len as u64))
}
