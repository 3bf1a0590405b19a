// SPDX-License-Identifier: GPL-2.0-only
// Derived from `fs/dax.c`, Copyright (c) 2013-2014 Intel Corporation.
// Authors: Matthew Wilcox <matthew.r.wilcox@intel.com>, Ross Zwisler <ross.zwisler@linux.intel.com>

//! `read()` and `write()`: data is copied directly between the device and the process.
//!
//! # Writing to shared blocks
//!
//! A `write()` to shared blocks gets new blocks from the filesystem, fills them, and then the
//! filesystem replaces the shared ones. A fault of the same page must not come in between: it would
//! find the new block and copy the old data over the written data, or map the old block, which no
//! longer is the file's a moment later. (Both happen in C.) So the write excludes faults by
//! `invalidate_lock`, from before the extent begins until it has ended:
//!
//! ```text
//!   next()                  an extent, and it is shared
//!   fault_in()              the buffers of the process, up to 2 MiB
//!   lock invalidate_lock    faults that have begun end
//!   is_valid()?             if one of them has changed the blocks: next() once more
//!   remove the entries, copy with page faults disabled
//!   next()                  the new blocks are the file's
//!   unlock
//! ```
//!
//! A page fault of this task would wait for `invalidate_lock` itself, so the buffers are faulted in
//! before. If they are part of what is written, they are unmapped again by the removal of entries;
//! then, after a second attempt, the data is copied without the lock.

use crate::{
    direct_access::{as_block_error, offset_in_page, DaxReadGuard, DirectAccess, Direction},
    entry::{page_of, Size},
    invalidate,
    share::copy_around,
};
use kernel::{
    dax::AccessMode,
    error::{
        code::{EFAULT, EHWPOISON, EINTR, EIO},
        Result,
    },
    fs::kiocb::Kiocb,
    iomap::{IomapFlags, IomapIter, IomapOps, IomapType},
    iov_iter::{without_page_faults, IovIter},
    page::{PAGE_MASK, PAGE_SIZE},
    signal,
};

/// Copies between a file and the buffers of a process, and advances the position of the request.
/// Returns the number of bytes copied. Sleeps. C: `dax_iomap_rw()`.
///
/// # Errors
///
/// Returns `EINTR` if a fatal signal is pending, `EIO` for bad memory, `EFAULT` if the process has
/// no memory at its buffer, `ENXIO` if the device is dead, and the errors of the filesystem; but
/// only if nothing was copied.
pub(crate) fn transfer(iocb: &mut Kiocb, data: &mut IovIter, operations: &IomapOps) -> Result<i64> {
    let write = data.is_source();
    let len = data.count();
    if len == 0 {
        return Ok(0);
    }
    let first = iocb.ki_pos();
    let (last, ended) = {
        let inode = iocb.inode();
        inode.assert_locked(write);
        let flags = IomapFlags::DAX
            .set_if(write, IomapFlags::WRITE)
            .set_if(iocb.is_nowait(), IomapFlags::NOWAIT);
        let mut iter = IomapIter::new(inode, first, len as u64, flags, operations);
        let ended = loop {
            match iter.next() {
                Ok(true) => (),
                ended => break ended,
            }
            if write && iter.iomap().is_shared() {
                match transfer_shared(&mut iter, data) {
                    Ok(true) => (),
                    ended => break ended,
                }
            }
            let processed = transfer_extent(&iter, data);
            iter.set_processed(processed);
        };
        (iter.pos(), ended)
    };
    *iocb.ki_pos_mut() = last;
    match last.wrapping_sub(first) {
        0 => ended.map(|_| 0),
        done => Ok(done),
    }
}

/// Copies one extent. Returns an error only if nothing was copied. C: `dax_iomap_iter()`.
#[doc(alias = "dax_iomap_iter")]
fn transfer_extent(iter: &IomapIter<'_>, data: &mut IovIter) -> Result<u64> {
    let (iomap, inode) = (iter.iomap(), iter.inode());
    let write = data.is_source();
    let first = iter.pos();
    // CAST: IomapIter end within the file, which has at most `i64::MAX` bytes.
    let mut end = first.wrapping_add(iter.length() as i64);
    if !write {
        end = end.min(inode.size());
        if first >= end {
            return Ok(0);
        }
        if iomap.iomap_type().reads_as_zeroes() {
            return Ok(data.zero(bytes(first, end)) as u64);
        }
    }
    // The filesystem writes to blocks with data. Shared ones are not written here.
    if iomap.iomap_type() != IomapType::Mapped {
        kernel::warn_once!("fs_dax: extent without blocks for read or write");
        return Err(EIO);
    }
    // Processes that have the hole mapped would not see the data, so its entries are removed.
    if iomap.is_new() {
        let mapping = inode.mapping();
        mapping.invalidate(page_of(first), page_of(end.wrapping_sub(1)));
    }
    transfer_range::<false>(iter, data, first, end, write)
}

/// Writes the current extent, which is a copy of shared blocks, and those behind it, until one is
/// not shared; then that is the current one. Returns the result of the last `next()`.
#[cold]
#[inline(never)]
fn transfer_shared(iter: &mut IomapIter<'_>, data: &mut IovIter) -> Result<bool> {
    /// So often the buffers may be unmapped after they were faulted in.
    const ATTEMPTS: u32 = 2;

    let mapping = iter.inode().mapping();
    let mut failed = 0u32;
    loop {
        let (first, end) = piece(iter);
        let readable = data.fault_in(bytes(first, end));
        let mut lock = mapping.lock_invalidate();
        // The extent was begun without the lock.
        if !iter.is_valid() {
            iter.set_stale();
            match iter.next() {
                Ok(true) if iter.iomap().is_shared() => (),
                ended => return ended,
            }
        }
        let (first, end) = piece(iter);
        let end = end.min(first.wrapping_add(readable as i64));
        let copied = if readable == 0 {
            Err(EFAULT)
        } else if let Err(error) = invalidate::before_copy(mapping, first, end) {
            Err(error)
        } else if failed < ATTEMPTS {
            without_page_faults(|| write_copy(iter, data, first, end))
        } else {
            drop(lock);
            let copied = write_copy(iter, data, first, end);
            lock = mapping.lock_invalidate();
            copied
        };
        match copied {
            Err(error) if error == EFAULT && readable != 0 && failed < ATTEMPTS => {
                // The buffers have been unmapped since.
                failed = failed.saturating_add(1);
                iter.set_stale();
            }
            copied => {
                failed = 0;
                iter.set_processed(copied);
            }
        }
        // The new blocks become the file's; or, if nothing was copied, the filesystem takes them
        // back. A fault may have used one of them if it were not for the lock.
        let more = iter.next();
        drop(lock);
        match more {
            Ok(true) if iter.iomap().is_shared() => (),
            ended => return ended,
        }
    }
}

/// Returns the part of the current extent that is written at once: faults wait meanwhile.
fn piece(iter: &IomapIter<'_>) -> (i64, i64) {
    const PIECE: i64 = Size::Pmd.bytes() as i64;
    let first = iter.pos();
    // CAST: Extents end within the file, which has at most `i64::MAX` bytes.
    let end = first.wrapping_add(iter.length() as i64);
    (first, end.min((first | (PIECE - 1)).saturating_add(1)))
}

/// Writes `first..end` of an extent that is a copy of shared blocks.
fn write_copy(iter: &IomapIter<'_>, data: &mut IovIter, first: i64, end: i64) -> Result<u64> {
    transfer_range::<true>(iter, data, first, end, true)
}

/// Copies `first..end` of an extent. If the extent is a copy of shared blocks (`COW`), also copies
/// the old data around what is written.
#[inline]
fn transfer_range<const COW: bool>(
    iter: &IomapIter<'_>,
    data: &mut IovIter,
    first: i64,
    end: i64,
    write: bool,
) -> Result<u64> {
    let guard = DaxReadGuard::new();
    let mut position = first;
    let mut result = Ok(());
    while position < end {
        if signal::is_fatal_pending() {
            result = Err(EINTR);
            break;
        }
        let wanted = bytes(position, end);
        let (access, direction) = match access(&guard, iter, position, wanted, write) {
            Ok(access) => access,
            Err(error) => {
                result = Err(as_block_error(error));
                break;
            }
        };
        let offset = offset_in_page(position);
        let len = wanted.min(access.bytes().saturating_sub(offset));
        if COW {
            result = copy_around(&guard, position, len, iter.srcmap(), access);
            if result.is_err() {
                break;
            }
        }
        let copied = match access.transfer(direction, offset, len, data) {
            Ok(copied) => copied,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        if COW && copied > 0 && copied < len {
            // The buffer of the process has ended early. The file gets the last block as a whole,
            // so the rest of the block needs the old data of the file instead of what was on the
            // device before.
            result = copy_rest_of_page(&guard, iter, position, copied, access);
            if result.is_err() {
                // The pages before that one are complete.
                let rest = offset_in_page(position.wrapping_add(copied as i64));
                position = position.wrapping_add(copied.saturating_sub(rest) as i64);
                break;
            }
        }
        // OVERFLOW: The new position is not beyond `end`.
        position = position.wrapping_add(copied as i64);
        if copied < len || len == 0 {
            if copied == 0 {
                result = Err(access.copied_nothing());
            }
            break;
        }
    }
    match bytes(first, position) {
        0 => result.map(|()| 0),
        done => Ok(done as u64),
    }
}

/// Fills the rest of the page in which the `copied` bytes from `position` on end with the old data.
fn copy_rest_of_page(
    guard: &DaxReadGuard,
    iter: &IomapIter<'_>,
    position: i64,
    copied: usize,
    access: DirectAccess<'_>,
) -> Result {
    let end = position.wrapping_add(copied as i64);
    match offset_in_page(end) {
        // The bytes end with the page.
        0 => Ok(()),
        _ => copy_around(guard, position, copied, iter.srcmap(), access),
    }
}

/// Returns the number of bytes from one position to another that is not before it.
fn bytes(from: i64, to: i64) -> usize {
    // CAST: The difference is not negative.
    to.wrapping_sub(from) as usize
}

/// Returns access to up to `len` bytes from `position` on, and the direction in which to copy. A
/// write to bad memory becomes a recovery write.
#[inline(always)]
fn access<'r>(
    guard: &'r DaxReadGuard,
    iter: &IomapIter<'_>,
    position: i64,
    len: usize,
    write: bool,
) -> Result<(DirectAccess<'r>, Direction)> {
    let iomap = iter.iomap();
    // The access is in whole pages, from the start of the first one. OVERFLOW: A file ends before
    // 2^63.
    let len = offset_in_page(position)
        .wrapping_add(len)
        .wrapping_add(PAGE_SIZE - 1)
        & PAGE_MASK;
    match guard.access(iomap, position, len, AccessMode::Normal) {
        Ok(access) if write => Ok((access, Direction::Write)),
        Ok(access) => Ok((access, Direction::Read)),
        Err(error) if write && error == EHWPOISON => {
            let access = guard.access(iomap, position, len, AccessMode::Recovery)?;
            Ok((access, Direction::RecoveryWrite))
        }
        Err(error) => Err(error),
    }
}
