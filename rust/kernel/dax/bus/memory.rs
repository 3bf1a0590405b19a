// SPDX-License-Identifier: GPL-2.0

//! The memory of a device of the dax bus: parts that are contiguous, each with a pgmap of its own.
//!
//! This file encapsulates the promise that memory which is returned stays mapped, and the elements of
//! a vector.

use crate::{
    dax::{Access, PageOffset},
    error::{
        code::{EINVAL, ERANGE},
        Result,
    },
    mm::{
        device_memory::{DeviceMemory, FailureHandler},
        pfn::{Pfn, PhysRange},
        pfn_t::PfnT,
        segment::Source,
    },
    page::PAGE_SIZE,
    prelude::*,
};

/// A part of a device that is contiguous in physical memory. C: `struct dev_dax_range`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     dax::{bus::Part, PageOffset},
///     mm::pfn::{Pfn, PhysRange},
/// };
///
/// // Two pages, which are pages 8 and 9 of their device.
/// let range = PhysRange::with_len(0x10_0000, 0x2000).ok_or(EINVAL)?;
/// let part = Part::new(PageOffset::new(8), range);
/// assert_eq!(part.offset_of(Pfn::new(0x101)), Some(0x9000));
/// assert_eq!(part.offset_of(Pfn::new(0x102)), None);
/// assert_eq!(part.byte_at(PageOffset::new(9)), Some(0x1000));
/// assert_eq!(part.byte_at(PageOffset::new(7)), None);
/// assert_eq!(part.byte_at(PageOffset::new(10)), None);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "dev_dax_range")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    first: PageOffset,
    range: PhysRange,
}

impl Part {
    /// Creates the part with this first page, at this physical range.
    pub const fn new(first: PageOffset, range: PhysRange) -> Self {
        Self { first, range }
    }

    /// Returns the physical range.
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// Returns the offset of a PFN in the device, in bytes, or `None` if it is not in this part.
    pub fn offset_of(&self, pfn: Pfn) -> Option<u64> {
        if !self.range.pfns().contains(pfn) {
            return None;
        }
        let in_part = pfn.phys()?.checked_sub(self.range.start())?;
        self.first.bytes()?.checked_add(in_part)
    }

    /// Returns the offset of a page of the device in this part, in bytes, or `None` if it is not in it.
    pub fn byte_at(&self, page: PageOffset) -> Option<u64> {
        let in_part = page.bytes()?.checked_sub(self.first.bytes()?)?;
        (in_part < self.range.len()).then_some(in_part)
    }
}

/// The memory of a device, mapped for the kernel, with pages. Dropping it unmaps the memory, which waits
/// until no page is in use (sleeps; the caller must not hold a lock of a filesystem).
pub struct Memory<H: FailureHandler> {
    parts: KVec<(Part, DeviceMemory<H>)>,
}

impl<H: FailureHandler> Memory<H> {
    /// Creates memory without parts, with room for `parts` of them. Sleeps.
    pub(super) fn with_capacity(parts: usize) -> Result<Self> {
        Ok(Self {
            parts: KVec::with_capacity(parts, GFP_KERNEL)?,
        })
    }

    /// Adds a part.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no room left.
    pub(super) fn push(&mut self, part: Part, mapped: DeviceMemory<H>) -> Result {
        let len = self.parts.len();
        if len >= self.parts.capacity() {
            return Err(EINVAL);
        }
        // `KVec::push()` would have a panic, because it could overflow.
        // SAFETY: There is room behind the last element, which is written before it counts.
        unsafe {
            self.parts.as_mut_ptr().add(len).write((part, mapped));
            // OVERFLOW: It is at most the capacity.
            self.parts.set_len(len.wrapping_add(1));
        }
        Ok(())
    }

    /// Returns whether there is no part.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |len, (part, _)| len.saturating_add(part.range.len()))
    }

    /// Returns the part with a page of the device, and the offset of the page in that, in bytes.
    ///
    /// # Errors
    ///
    /// `ERANGE` if the device has no such page.
    fn find(&self, page: PageOffset) -> Result<(&DeviceMemory<H>, u64)> {
        self.parts
            .iter()
            .find_map(|(part, memory)| Some((memory, part.byte_at(page)?)))
            .ok_or(ERANGE)
    }

    /// Returns access to the memory from the page `at` on, up to the end of its part. Any context.
    ///
    /// # Errors
    ///
    /// `ERANGE` if the device has no such page.
    pub fn access(&self, at: PageOffset) -> Result<Access<'_>> {
        let (memory, offset) = self.find(at)?;
        let data = memory.data();
        // OVERFLOW: `find` has returned an offset in the part, which is the data of its mapping.
        let (phys, left) = (
            data.start().wrapping_add(offset),
            data.len().wrapping_sub(offset),
        );
        let pfn = PfnT::new(Pfn::containing(phys), memory.pfn_flags());
        // CAST: The data is mapped, so these are differences of addresses.
        let address = memory.data_address().as_ptr().wrapping_add(offset as usize);
        // SAFETY: The data is mapped from its address on, with pages, as long as the mapping, which
        // `self` owns. The offset is that of a page in it.
        Ok(unsafe { Access::new(left as usize / PAGE_SIZE, address.cast(), pfn) })
    }

    /// Fills a page with zeroes, bypassing the caches of the CPU. Does not sleep.
    ///
    /// # Errors
    ///
    /// `ERANGE` if the device has no such page.
    pub fn zero_page(&self, at: PageOffset) -> Result {
        let (memory, offset) = self.find(at)?;
        memory.write(offset, Source::zero_page())
    }
}
