// SPDX-License-Identifier: GPL-2.0

//! Where the memmap of device memory lies when it lies on the device.
//!
//! 16 GiB of `struct page` per TiB is more than many machines want to spend on DRAM, so a pgmap
//! may set aside the front of its own range. The frames of that range, front to back:
//!
//! ```text
//!   base           base+reserve                base+reserve+free
//!    | driver's own | the memmap, from alloc+align | pages of the data ...
//! ```
//!
//! `alloc` and `align` grow as the hotplug code takes memory for the memmap, and `alloc` must be
//! back at 0 when the range is gone.

use crate::{bindings, mm::pfn::Pfn};

/// The altmap of a pgmap, as it was when asked for. C: `struct vmem_altmap`.
///
/// All lengths are in pages.
#[doc(alias = "vmem_altmap")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Altmap {
    /// The first frame of the range.
    pub base: Pfn,
    /// Frames for the driver's own use, in front.
    pub reserve: usize,
    /// Frames set aside for the memmap, behind `reserve`.
    pub free: usize,
    /// Frames of these that were lost to alignment.
    pub align: usize,
    /// Frames of these that hold a memmap.
    pub alloc: usize,
}

impl Altmap {
    pub(crate) fn from_raw(raw: bindings::vmem_altmap) -> Self {
        Self {
            base: Pfn::new(raw.base_pfn),
            reserve: raw.reserve,
            free: raw.free,
            align: raw.align,
            alloc: raw.alloc,
        }
    }

    /// How many frames from the base on have no page that is handed out. C:
    /// `vmem_altmap_offset()`. `None` if the sum overflows.
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

    /// How many frames are left for the memmap; 0 if it has taken more than there are.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{memremap::Altmap, pfn::Pfn};
    ///
    /// let altmap = Altmap { base: Pfn::new(0), reserve: 2, free: 512, align: 8, alloc: 500 };
    /// assert_eq!(altmap.available(), 4);
    /// ```
    pub const fn available(&self) -> usize {
        self.free
            .saturating_sub(self.alloc)
            .saturating_sub(self.align)
    }

    /// The frame that the next allocation would start at, before it is aligned. C:
    /// `vmem_altmap_next_pfn()`. `None` on overflow.
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
