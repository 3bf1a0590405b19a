// SPDX-License-Identifier: GPL-2.0

//! Pages of user memory that a driver has pinned.
//!
//! A driver that reads or writes user memory by the addresses of its pages, or lets a device do so,
//! pins the pages: they stay where they are, and the memory of a device stays with its device, until
//! they are unpinned. To use a range of user memory, a driver does the following:
//!
//! 1. It decides which side the data goes to: [`PinnedSource`] are pages that are read,
//!    [`PinnedTarget`] pages that are written.
//! 2. It decides for how long ([`Duration`]). A pin that ends when a program asks for it, as a buffer
//!    that is registered once, is long-term. Files of filesystems with DAX refuse these
//!    (`EOPNOTSUPP`): truncation would wait for them. Device-dax and anonymous memory allow them.
//! 3. It pins the range, in the context of its task ([`Pinned::new`]).
//! 4. It copies bytes ([`Pinned::read`], [`Pinned::write`]), or takes the [segments](Pinned::segments),
//!    which are as long as the pages are contiguous, to let [device
//!    memory](super::device_memory::DeviceMemory) be copied from and to them.
//! 5. It drops the value: the pages are marked dirty, if they were to be written, and unpinned.
//!
//! Other tasks have the same pages mapped, so their bytes are copied and never borrowed. A driver that
//! keeps long-term pins has to account for them (`RLIMIT_MEMLOCK`) itself.
//!
//! This file encapsulates the pins: each page of a value has one, from its creation until it is dropped.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::segment::Segment;
use crate::{
    bindings,
    error::{
        code::{EFAULT, EINVAL, EIO, ENOMEM},
        to_result, Result,
    },
    ffi::{c_int, c_uint},
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
};
use core::ptr::null_mut;

/// The time for which pages stay pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duration {
    /// Until an operation in progress ends.
    Short,
    /// Until user space asks for the end of it. C: `FOLL_LONGTERM`.
    LongTerm,
}

/// A range of user memory whose pages are pinned. Dropping it unpins them (sleeps).
///
/// # Invariants
///
/// Each of `pages` has a pin that this value owns, for writing unless `READ`. The range begins `offset`
/// bytes into the first page, and has `len` bytes, of which the last lies in the last page.
///
/// # Examples
///
/// ```
/// use kernel::mm::pin::{Duration, PinnedSource};
///
/// /// Returns the first byte of a range of user memory.
/// fn first_byte(address: usize, len: usize) -> Result<u8> {
///     let source = PinnedSource::new(address, len, Duration::Short)?;
///     let mut byte = [0];
///     source.read(0, &mut byte)?;
///     Ok(byte[0])
/// }
/// ```
#[doc(alias = "pin_user_pages_fast")]
pub struct Pinned<const READ: bool> {
    pages: KVVec<*mut bindings::page>,
    offset: usize,
    len: usize,
}

/// Pinned memory that is read: the data of a program.
pub type PinnedSource = Pinned<true>;

/// Pinned memory that is written: the buffer of a program.
pub type PinnedTarget = Pinned<false>;

// SAFETY: A pin belongs to no task, so any thread may use the pages and unpin them.
unsafe impl<const READ: bool> Send for Pinned<READ> {}
// SAFETY: A shared reference only allows to copy bytes, which other tasks access as well.
unsafe impl<const READ: bool> Sync for Pinned<READ> {}

impl<const READ: bool> Pinned<READ> {
    /// Pins `len` bytes from `address` on in the memory of the current task. Sleeps. C:
    /// `pin_user_pages_fast()`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a part of the range is not mapped or may not be accessed so; `EINVAL` for an empty
    /// range, one that wraps around, and one of 8 TiB or more; `EOPNOTSUPP` for a long-term pin of a
    /// file with DAX; `EHWPOISON` or `EFAULT` for bad memory; `ENOMEM`; `EINTR` or `EAGAIN` if the task
    /// is to be killed. Nothing stays pinned then.
    #[doc(alias = "pin_user_pages_fast")]
    pub fn new(address: usize, len: usize, duration: Duration) -> Result<Self> {
        let offset = address % PAGE_SIZE;
        let first = address - offset;
        address.checked_add(len).ok_or(EINVAL)?;
        if len == 0 {
            return Err(EINVAL);
        }
        // OVERFLOW: The sum is at most the end of the range, which does not wrap around.
        let count = offset.wrapping_add(len).div_ceil(PAGE_SIZE);
        c_int::try_from(count)?;

        let mut flags = if READ { 0 } else { bindings::FOLL_WRITE };
        if duration == Duration::LongTerm {
            flags |= bindings::FOLL_LONGTERM;
        }
        // INVARIANT: No page is pinned yet. The loop ends when all are; an error drops this value
        // with as many as there are.
        let mut this = Self {
            pages: KVVec::with_capacity(count, GFP_KERNEL)?,
            offset,
            len,
        };
        while this.pages.len() < count {
            this.pin_more(first, count, flags)?;
        }
        Ok(this)
    }

    /// Pins some of the pages that are missing.
    fn pin_more(&mut self, first: usize, count: usize, flags: u32) -> Result {
        let done = self.pages.len();
        let room = self.pages.spare_capacity_mut();
        let missing = count.checked_sub(done).ok_or(EINVAL)?;
        if room.len() < missing {
            return Err(ENOMEM);
        }
        // SAFETY: The array has room for so many pages. The function checks the addresses.
        let pinned = unsafe {
            bindings::pin_user_pages_fast(
                first.wrapping_add(done << PAGE_SHIFT) as _,
                c_int::try_from(missing)?,
                flags,
                room.as_mut_ptr().cast(),
            )
        };
        let pinned = match pinned {
            0 => return Err(EFAULT),
            // A negative number is an errno.
            pinned => usize::try_from(pinned).or_else(|_| to_result(pinned).map(|()| 0))?,
        };
        // INVARIANT: These pages have a pin each.
        // SAFETY: The function has filled in as many elements, at most those that there is room for.
        unsafe { self.pages.set_len(done.wrapping_add(pinned)) };
        Ok(())
    }

    /// Returns the number of bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of pages that are pinned.
    #[inline]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Returns the address of a page in the linear mapping.
    #[inline]
    fn address(&self, index: usize) -> Option<*mut u8> {
        let page = *self.pages.get(index)?;
        // SAFETY: By the type invariants the page is pinned, so it is valid. (Memory that has no
        // linear mapping, as that of memfd_secret(2), cannot be pinned.)
        Some(unsafe { bindings::page_to_virt(page) }.cast())
    }

    /// Returns the part of the range in the page with this index: its address, and its length in
    /// bytes.
    #[inline]
    fn part(&self, index: usize) -> Option<(*mut u8, usize)> {
        let start = index << PAGE_SHIFT;
        // OVERFLOW: Offset and length are those of a range that does not wrap around.
        let end = self.offset.wrapping_add(self.len);
        let skip = if index == 0 { self.offset } else { 0 };
        let len = end.checked_sub(start)?.min(PAGE_SIZE).checked_sub(skip)?;
        Some((self.address(index)?.wrapping_add(skip), len))
    }

    /// Returns an iterator over the memory of the range, in pieces as long as it is contiguous.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_, READ>> + '_ {
        let mut next = 0_usize;
        core::iter::from_fn(move || {
            let (start, mut len) = self.part(next)?;
            next = next.wrapping_add(1);
            while let Some((more, bytes)) = self.part(next) {
                if more != start.wrapping_add(len) {
                    break;
                }
                // OVERFLOW: Both are parts of the range.
                len = len.wrapping_add(bytes);
                next = next.wrapping_add(1);
            }
            // SAFETY: By the type invariants the pages are pinned as long as this value is borrowed,
            // for the access that `READ` names, and the bytes are adjacent in the linear mapping.
            Some(unsafe { Segment::new(start, len) })
        })
    }

    /// Calls `copy` for each part of `len` bytes from byte `at` on, with its offset in these.
    fn for_each_part(
        &self,
        at: usize,
        len: usize,
        mut copy: impl FnMut(*mut u8, usize, usize) -> Result,
    ) -> Result {
        let end = at.checked_add(len).filter(|end| *end <= self.len);
        end.ok_or(EINVAL)?;
        let mut done = 0;
        while done < len {
            // OVERFLOW: All of these are sums of parts of the range.
            let place = self.offset.wrapping_add(at).wrapping_add(done);
            let (index, skip) = (place >> PAGE_SHIFT, place % PAGE_SIZE);
            let bytes = PAGE_SIZE.wrapping_sub(skip).min(len.wrapping_sub(done));
            let address = self.address(index).ok_or(EINVAL)?;
            copy(address.wrapping_add(skip), done, bytes)?;
            done = done.wrapping_add(bytes);
        }
        Ok(())
    }
}

impl PinnedSource {
    /// Copies bytes from byte `at` of the range on, and survives bad memory. Does not sleep. C:
    /// `copy_mc_to_kernel()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not all in the range; `EIO` if the memory is bad.
    #[doc(alias = "copy_mc_to_kernel")]
    pub fn read(&self, at: usize, to: &mut [u8]) -> Result {
        self.for_each_part(at, to.len(), |from, done, bytes| {
            let part = to.get_mut(done..).ok_or(EINVAL)?;
            if part.len() < bytes {
                return Err(EINVAL);
            }
            // SAFETY: By the type invariants the page is pinned, so its bytes can be read, and the
            // slice has room for them.
            let left = unsafe {
                bindings::copy_mc_to_kernel(
                    part.as_mut_ptr().cast(),
                    from.cast(),
                    c_uint::try_from(bytes)?,
                )
            };
            if left == 0 {
                Ok(())
            } else {
                Err(EIO)
            }
        })
    }
}

impl PinnedTarget {
    /// Copies bytes to byte `at` of the range on. Does not sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not all in the range.
    pub fn write(&self, at: usize, from: &[u8]) -> Result {
        self.for_each_part(at, from.len(), |to, done, bytes| {
            let part = from.get(done..).ok_or(EINVAL)?;
            if part.len() < bytes {
                return Err(EINVAL);
            }
            // SAFETY: By the type invariants the page is pinned for writing, and the slice has as
            // many bytes. They are no Rust object.
            unsafe { to.copy_from(part.as_ptr(), bytes) };
            Ok(())
        })
    }
}

impl<const READ: bool> Drop for Pinned<READ> {
    fn drop(&mut self) {
        let pages = match self.pages.is_empty() {
            true => null_mut(),
            false => self.pages.as_mut_ptr(),
        };
        // SAFETY: By the type invariants each page has a pin that this value owns. They are not used
        // after this.
        unsafe { bindings::unpin_user_pages_dirty_lock(pages, self.pages.len() as _, !READ) };
    }
}
