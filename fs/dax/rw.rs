// SPDX-License-Identifier: GPL-2.0-only

//! `read()` and `write()`: data is copied straight from and to the device.

use crate::{copy, invalidate};
use crate::{
    direct_access::{as_block_error, offset_in_page, DaxReadGuard, DirectAccess, Direction},
    entry::page_of,
};
use kernel::{
    dax::AccessMode,
    error::{
        code::{EFAULT, EHWPOISON, EINTR, EIO},
        Result,
    },
    fs::kiocb::Kiocb,
    iomap::{IomapFlags, IomapIter, IomapOps, IomapType},
    iov_iter::IovIter,
    page::{PAGE_MASK, PAGE_SIZE},
    signal,
};

/// Copies as much as there is. Sleeps. Returns the number of bytes.
///
/// # Errors
///
/// `EINTR` if the task is being killed, `EIO` for bad memory, `EFAULT` if the process has no memory
/// there, `ENXIO` if the device is dead; what the filesystem says.
pub(crate) fn transfer(iocb: &mut Kiocb, data: &mut IovIter, operations: &IomapOps) -> Result<i64> {
    let write = data.is_source();
    let len = data.count();
    if len == 0 {
        return Ok(0);
    }
    let first = iocb.position();
    let (last, ended) = {
        let inode = iocb.inode();
        inode.assert_locked(write);
        let flags = IomapFlags::DAX
            .set_if(write, IomapFlags::WRITE)
            .set_if(iocb.is_nowait(), IomapFlags::NOWAIT);
        let mut extents = IomapIter::new(inode, first, len as u64, flags, operations);
        let ended = loop {
            match extents.next() {
                Ok(true) => (),
                ended => break ended,
            }
            let processed = transfer_extent(&extents, data);
            extents.set_processed(processed);
        };
        (extents.pos(), ended)
    };
    iocb.set_position(last);
    match last.wrapping_sub(first) {
        0 => ended.map(|_| 0),
        done => Ok(done),
    }
}

/// Copies what is in an extent. An error counts only if nothing was copied before.
fn transfer_extent(extents: &IomapIter<'_>, data: &mut IovIter) -> Result<u64> {
    let (map, inode) = (extents.iomap(), extents.inode());
    let write = data.is_source();
    let first = extents.pos();
    // CAST: Files have no more bytes than `i64` can count, and extents end within.
    let mut end = first.wrapping_add(extents.length() as i64);
    if !write {
        end = end.min(inode.size());
        if first >= end {
            return Ok(0);
        }
        if map.iomap_type().reads_as_zeroes() {
            return Ok(data.zero(bytes(first, end)) as u64);
        }
    }
    // What is written to has data already, or is a copy of what has.
    if map.iomap_type() != IomapType::Mapped && !map.is_shared() {
        kernel::warn_once!("fs_dax: an extent without memory");
        return Err(EIO);
    }
    let mapping = inode.mapping();
    // Who has what was shared, or the hole, mapped would not see the data.
    if write && map.is_shared() {
        invalidate::shared(mapping, first, end)?;
        return transfer_shared(extents, data, first, end);
    }
    if map.is_new() {
        mapping.invalidate(page_of(first), page_of(end.wrapping_sub(1)));
    }
    transfer_range::<false>(extents, data, first, end, write)
}

/// Writes to the copy of shared blocks.
#[cold]
#[inline(never)]
fn transfer_shared(
    extents: &IomapIter<'_>,
    data: &mut IovIter,
    first: i64,
    end: i64,
) -> Result<u64> {
    transfer_range::<true>(extents, data, first, end, true)
}

/// Copies what is in `first..end` of an extent; what is written to a copy of shared blocks (`COW`)
/// with what is around it.
#[inline]
fn transfer_range<const COW: bool>(
    extents: &IomapIter<'_>,
    data: &mut IovIter,
    first: i64,
    end: i64,
    write: bool,
) -> Result<u64> {
    let reader = DaxReadGuard::new();
    let mut position = first;
    let mut result = Ok(());
    while position < end {
        if signal::is_fatal_pending() {
            result = Err(EINTR);
            break;
        }
        let wanted = bytes(position, end);
        let (direct, way) = match access(&reader, extents, position, wanted, write) {
            Ok(access) => access,
            Err(error) => {
                result = Err(as_block_error(error));
                break;
            }
        };
        let offset = offset_in_page(position);
        let len = wanted.min(direct.bytes().saturating_sub(offset));
        if COW {
            result = copy::around(&reader, position, len, PAGE_SIZE, extents.srcmap(), direct);
            if result.is_err() {
                break;
            }
        }
        let copied = match direct.transfer(way, offset, len, data) {
            Ok(copied) => copied,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        if COW && copied > 0 && copied < len {
            // The program has no more memory there. The last block becomes the file's as a whole,
            // so it needs the rest of what the file had; or it has what was on the device before.
            result = rest_of_page(&reader, extents, position, copied, direct);
            if result.is_err() {
                break;
            }
        }
        // OVERFLOW: Not beyond `end`.
        position = position.wrapping_add(copied as i64);
        if copied < len || len == 0 {
            if copied == 0 {
                result = Err(EFAULT);
            }
            break;
        }
    }
    match bytes(first, position) {
        0 => result.map(|()| 0),
        done => Ok(done as u64),
    }
}

/// Fills the page in which `copied` bytes from `position` on end, from where the data was.
fn rest_of_page(
    reader: &DaxReadGuard,
    extents: &IomapIter<'_>,
    position: i64,
    copied: usize,
    direct: DirectAccess<'_>,
) -> Result {
    let end = position.wrapping_add(copied as i64);
    match offset_in_page(end) {
        // That is all of it.
        0 => Ok(()),
        _ => copy::around(
            reader,
            position,
            copied,
            PAGE_SIZE,
            extents.srcmap(),
            direct,
        ),
    }
}

/// How many bytes there are from one position to another that is not before it.
fn bytes(from: i64, to: i64) -> usize {
    // CAST: Not negative.
    to.wrapping_sub(from) as usize
}

/// Access to `len` bytes from `position` on, or fewer; for a write to bad memory, to write over it.
#[inline(always)]
fn access<'r>(
    reader: &'r DaxReadGuard,
    extents: &IomapIter<'_>,
    position: i64,
    len: usize,
    write: bool,
) -> Result<(DirectAccess<'r>, Direction)> {
    let map = extents.iomap();
    // In whole pages, from the beginning of the first. OVERFLOW: A file ends before 2^63.
    let len = offset_in_page(position)
        .wrapping_add(len)
        .wrapping_add(PAGE_SIZE - 1)
        & PAGE_MASK;
    match reader.access(map, position, len, AccessMode::Normal) {
        Ok(direct) if write => Ok((direct, Direction::Write)),
        Ok(direct) => Ok((direct, Direction::Read)),
        Err(error) if write && error == EHWPOISON => {
            let direct = reader.access(map, position, len, AccessMode::Recovery)?;
            Ok((direct, Direction::RecoveryWrite))
        }
        Err(error) => Err(error),
    }
}
