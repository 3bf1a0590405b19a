// SPDX-License-Identifier: GPL-2.0-only

//! Copying what is around data that is written to a copy of shared blocks.

use crate::direct_access::{as_block_error, DaxReadGuard, DirectAccess};
use kernel::{
    dax::AccessMode,
    error::{
        code::{EINVAL, EIO},
        Result,
    },
    iomap::{Iomap, IomapType},
};

/// Fills the blocks of `size` bytes that `length` bytes from `position` on are in, from where the
/// data was, except for these bytes; all, if these are whole blocks. `to` begins with the first
/// block.
///
/// What was a hole, or had no data yet, is filled with zeroes.
///
/// What is copied is flushed, unless it is all: then the caller writes over it, or has it flushed
/// when the file is synced. C flushes only zeroes.
pub(crate) fn around(
    reader: &DaxReadGuard,
    position: i64,
    length: usize,
    size: usize,
    source: Iomap<'_>,
    to: DirectAccess<'_>,
) -> Result {
    // OVERFLOW: A power of two.
    let head = position as usize & size.wrapping_sub(1);
    let end = head.checked_add(length).ok_or(EINVAL)?;
    let whole = end.checked_next_multiple_of(size).ok_or(EINVAL)?;
    let all = head == 0 && end == whole;
    let tail = whole.wrapping_sub(end);

    // What is new and shared was no data before: there is no other extent for a source then.
    if source.is_shared() || source.iomap_type() == IomapType::Unwritten {
        if all {
            to.zero(0, whole)?;
        } else {
            to.zero(0, head)?;
            to.zero(end, tail)?;
        }
        return to.flush(0, whole);
    }

    let from = reader
        .access(source, position, whole, AccessMode::Normal)
        .map_err(as_block_error)?;
    if all {
        return to.copy_from(&from, 0, length).map_err(|_| EIO);
    }
    to.copy_from(&from, 0, head).map_err(|_| EIO)?;
    to.copy_from(&from, end, tail).map_err(|_| EIO)?;
    to.flush(0, head)?;
    to.flush(end, tail)
}
