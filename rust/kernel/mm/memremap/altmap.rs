// SPDX-License-Identifier: GPL-2.0
// Derived from `include/linux/memremap.h`.

//! The place of the memmap of device memory if it lies on the device itself.
//!
//! 16 GiB of `struct page` per TiB is more than many machines want to spend on DRAM, so a pgmap
//! may set aside the first pages of its own range. The pages of that range, front to back:
//!
//! ```text
//!   base           base+reserve                base+reserve+free
//!    | driver's own | the memmap, from alloc+align | data pages ...
//! ```
//!
//! `alloc` and `align` grow when the hotplug code takes memory for the memmap, and `alloc` must be
//! 0 again when the range is removed.

use crate::{bindings, mm::pfn::Pfn};

/// A copy of the altmap of a pgmap. C: `struct vmem_altmap`.
///
/// All lengths are in pages.
#[doc(alias = "vmem_altmap")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Altmap {
    /// The first PFN of the range.
    pub base: Pfn,
    /// The pages at the front that the driver uses itself.
    pub reserve: usize,
    /// The pages set aside for the memmap, behind `reserve`.
    pub free: usize,
    /// The pages of these that were lost to alignment.
    pub align: usize,
    /// The pages of these that hold a memmap.
    pub alloc: usize,
}

impl Altmap {
    /// Converts the C structure.
    pub(crate) fn from_raw(raw: bindings::vmem_altmap) -> Self {
        Self {
            base: Pfn::new(raw.base_pfn),
            reserve: raw.reserve,
            free: raw.free,
            align: raw.align,
            alloc: raw.alloc,
        }
    }

    /// Returns the number of pages from the base on that are not data pages, or `None` if the sum
    /// overflows. C: `vmem_altmap_offset()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::Altmap, pfn::Pfn};
    ///
    /// let altmap = Altmap { base: Pfn::new(0x4_0000), reserve: 2, free: 510, align: 0, alloc: 0 };
    /// assert_eq!(altmap.offset(), Some(512));
    /// assert_eq!(Altmap { free: usize::MAX, ..altmap }.offset(), None);
    /// ```
    #[doc(alias = "vmem_altmap_offset")]
    pub const fn offset(&self) -> Option<usize> {
        self.reserve.checked_add(self.free)
    }

    /// Returns the number of pages that are left for the memmap, or 0 if it has taken more than
    /// were set aside. C: `vmem_altmap_nr_free()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::Altmap, pfn::Pfn};
    ///
    /// let altmap = Altmap { base: Pfn::new(0), reserve: 2, free: 512, align: 8, alloc: 500 };
    /// assert_eq!(altmap.available(), 4);
    /// ```
    #[doc(alias = "vmem_altmap_nr_free")]
    pub const fn available(&self) -> usize {
        self.free
            .saturating_sub(self.alloc)
            .saturating_sub(self.align)
    }

    /// Returns the PFN at which the next allocation would start before it is aligned, or `None` on
    /// overflow. C: `vmem_altmap_next_pfn()`.
    #[doc(alias = "vmem_altmap_next_pfn")]
    pub const fn next_pfn(&self) -> Option<Pfn> {
        match self.reserve.checked_add(self.alloc) {
            Some(used) => match used.checked_add(self.align) {
                Some(used) => self.base.checked_add(used),
                None => None,
            },
            None => None,
        }
    }
}
