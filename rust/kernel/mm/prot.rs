// SPDX-License-Identifier: GPL-2.0

//! What is in an entry of a page table: an address, and how the memory there is mapped.
//!
//! C header: [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h)

use super::pfn::Pfn;
use crate::{bindings, page::PAGE_SHIFT};

/// The bits of a page table entry that are no address, as one of 4 KiB has them. C: `pgprot_t`.
///
/// # Invariants
///
/// None is one of [`address_mask()`].
#[doc(alias = "pgprot_t")]
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PageProt(pub(super) bindings::pgprot_t);

impl PageProt {
    /// Those of these bits that are no address. C: `__pgprot()`.
    #[doc(alias = "__pgprot")]
    #[inline]
    pub fn new(bits: u64) -> Self {
        // INVARIANT: Just masked.
        Self(bindings::pgprot_t {
            pgprot: (bits & !address_mask()) as _,
        })
    }

    /// The bits. C: `pgprot_val()`.
    #[doc(alias = "pgprot_val")]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0.pgprot as u64
    }

    /// Whether this process may have an entry for the frame: one that does not let the processor in
    /// could be for speculation what it is not for programs (L1TF). C: `pfn_modify_allowed()`.
    #[doc(alias = "pfn_modify_allowed")]
    #[inline]
    pub fn may_map(self, pfn: Pfn) -> bool {
        const PRESENT: u64 = 1 << bindings::_PAGE_BIT_PRESENT;
        // SAFETY: No preconditions.
        self.bits() & PRESENT != 0 || unsafe { bindings::pfn_modify_allowed(pfn.nr(), self.0) }
    }
}

/// The bits of an entry that are a physical address, in bytes. C: `PTE_PFN_MASK`.
#[doc(alias = "PTE_PFN_MASK")]
#[inline]
pub fn address_mask() -> u64 {
    // Without the bits below the page size, and those above the longest physical address.
    const PAGE_MASK: u64 = u64::MAX << PAGE_SHIFT;
    #[cfg(CONFIG_DYNAMIC_PHYSICAL_MASK)]
    {
        // Memory encryption takes a bit of the address.
        // SAFETY: Written early at boot only.
        PAGE_MASK & unsafe { bindings::physical_mask }
    }
    #[cfg(not(CONFIG_DYNAMIC_PHYSICAL_MASK))]
    {
        PAGE_MASK & ((1 << 52) - 1)
    }
}
