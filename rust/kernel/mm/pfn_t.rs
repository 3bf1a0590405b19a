// SPDX-License-Identifier: GPL-2.0

//! `pfn_t`: a page frame number with flags that say what kind of memory it is.
//!
//! `->direct_access()` of a DAX device returns a [`PfnT`], and two of its flags decide what the
//! fault path may do with it:
//!
//! | flags | meaning | page table entry |
//! |---|---|---|
//! | none | ordinary memory with a `struct page` | normal or special |
//! | `DEV` | device memory without a `struct page` | special: `get_user_pages` refuses it |
//! | `DEV` and `MAP` | device memory with a `struct page`, owned by a [`DevPagemap`] | `_PAGE_DEVMAP` |
//!
//! The flags are in the top `PAGE_SHIFT` bits, which a PFN does not need.
//!
//! C header: [`include/linux/pfn_t.h`](srctree/include/linux/pfn_t.h)
//!
//! [`DevPagemap`]: super::memremap::DevPagemap

use super::pfn::Pfn;
use crate::{bindings, page::PAGE_SHIFT};
use core::ops::BitOr;

/// A set of `PFN_*` flags.
///
/// # Invariants
///
/// Only bits of [`PfnFlags::MASK`] are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnFlags(u64);

impl PfnFlags {
    /// The bits that flags may use. C: `PFN_FLAGS_MASK`.
    #[doc(alias = "PFN_FLAGS_MASK")]
    pub const MASK: u64 = !(u64::MAX >> PAGE_SHIFT);
    /// No flag: ordinary memory.
    pub const NONE: Self = Self(0);
    /// The number is a pointer to the next scatterlist entry. C: `PFN_SG_CHAIN`.
    #[doc(alias = "PFN_SG_CHAIN")]
    pub const SG_CHAIN: Self = Self(1 << 63);
    /// The last entry of a scatterlist. C: `PFN_SG_LAST`.
    #[doc(alias = "PFN_SG_LAST")]
    pub const SG_LAST: Self = Self(1 << 62);
    /// Device memory, not covered by the system's memmap. C: `PFN_DEV`.
    #[doc(alias = "PFN_DEV")]
    pub const DEV: Self = Self(1 << 61);
    /// A driver has set up `struct page`s for it. C: `PFN_MAP`.
    #[doc(alias = "PFN_MAP")]
    pub const MAP: Self = Self(1 << 60);
    /// Execute-in-place only, never `get_user_pages`. C: `PFN_SPECIAL`.
    #[doc(alias = "PFN_SPECIAL")]
    pub const SPECIAL: Self = Self(1 << 59);

    /// Returns whether every flag of `other` is set in `self`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::pfn_t::PfnFlags;
    ///
    /// let flags = PfnFlags::DEV | PfnFlags::MAP;
    /// assert!(flags.contains(PfnFlags::DEV) && flags.contains(PfnFlags::NONE));
    /// assert!(!PfnFlags::DEV.contains(flags));
    /// ```
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the bits, with the values of the C macros.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for PfnFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        // INVARIANT: By the type invariants both operands have only bits of the mask.
        Self(self.0 | other.0)
    }
}

/// A page frame number with its flags. C: `pfn_t`.
///
/// # Examples
///
/// ```
/// use kernel::mm::{pfn::Pfn, pfn_t::{PfnFlags, PfnT}};
///
/// let pfn = PfnT::new(Pfn::new(0x24_0000), PfnFlags::DEV | PfnFlags::MAP);
/// assert!(pfn.is_devmap() && pfn.has_page());
/// assert_eq!(pfn.pfn(), Pfn::new(0x24_0000));
///
/// // Without MAP there is no page to pin.
/// let raw = PfnT::new(Pfn::new(0x24_0000), PfnFlags::DEV);
/// assert!(!raw.is_devmap() && !raw.has_page());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct PfnT(u64);

impl PfnT {
    /// Creates a value from a PFN and flags. C: `__pfn_to_pfn_t()`.
    ///
    /// Bits of the PFN that would be read as flags are dropped: no machine has PFNs of more than 52
    /// bits.
    #[doc(alias = "__pfn_to_pfn_t")]
    #[inline]
    pub const fn new(pfn: Pfn, flags: PfnFlags) -> Self {
        Self((pfn.nr() as u64 & !PfnFlags::MASK) | flags.0)
    }

    /// Creates a value from the PFN of the page that contains the byte at the address `phys`, and
    /// flags. C: `phys_to_pfn_t()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::pfn_t::{PfnFlags, PfnT};
    ///
    /// assert_eq!(PfnT::from_phys(0x1234, PfnFlags::DEV).phys(), 0x1000);
    /// ```
    #[doc(alias = "phys_to_pfn_t")]
    #[inline]
    pub const fn from_phys(phys: u64, flags: PfnFlags) -> Self {
        Self::new(Pfn::containing(phys), flags)
    }

    /// Returns the PFN without the flags. C: `pfn_t_to_pfn()`.
    #[doc(alias = "pfn_t_to_pfn")]
    #[inline]
    pub const fn pfn(self) -> Pfn {
        // CAST: `usize` has 64 bits wherever there are DAX mappings.
        Pfn::new((self.0 & !PfnFlags::MASK) as usize)
    }

    /// Returns the address of the first byte of the page. C: `pfn_t_to_phys()`.
    #[doc(alias = "pfn_t_to_phys")]
    #[inline]
    pub const fn phys(self) -> u64 {
        (self.0 & !PfnFlags::MASK) << PAGE_SHIFT
    }

    /// Returns the flags without the PFN.
    #[inline]
    pub const fn flags(self) -> PfnFlags {
        // INVARIANT: Only bits of the mask remain.
        PfnFlags(self.0 & PfnFlags::MASK)
    }

    /// Returns whether the PFN has a `struct page`. C: `pfn_t_has_page()`.
    #[doc(alias = "pfn_t_has_page")]
    #[inline]
    pub const fn has_page(self) -> bool {
        self.flags().contains(PfnFlags::MAP) || !self.flags().contains(PfnFlags::DEV)
    }

    /// Returns whether a page table entry for the PFN has `_PAGE_DEVMAP`. C: `pfn_t_devmap()`.
    #[doc(alias = "pfn_t_devmap")]
    #[inline]
    pub const fn is_devmap(self) -> bool {
        cfg!(CONFIG_ARCH_HAS_PTE_DEVMAP)
            && self
                .flags()
                .contains(PfnFlags(PfnFlags::DEV.0 | PfnFlags::MAP.0))
    }

    /// Returns the value as C code takes it.
    #[inline]
    pub const fn into_raw(self) -> bindings::pfn_t {
        bindings::pfn_t { val: self.0 }
    }

    /// Creates a value from that of C code.
    #[inline]
    pub const fn from_raw(raw: bindings::pfn_t) -> Self {
        Self(raw.val)
    }
}
