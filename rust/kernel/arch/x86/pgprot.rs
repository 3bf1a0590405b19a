// SPDX-License-Identifier: GPL-2.0

//! Which bits of a page table entry this machine has.
//!
//! [`pgtable`](super::pgtable) has the entries themselves, and takes these bits as parameters. This
//! file encapsulates the reads of the two variables that are set at boot.
//!
//! C headers:
//! [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

use super::pgtable::{Entry, LeafKind};
use crate::{bindings, page::PAGE_SHIFT};

/// Returns the bits of an entry that are a physical address, in bytes. C: `PTE_PFN_MASK`.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::pgprot::address_mask;
///
/// // Bits below the page size and above the longest physical address are flags.
/// assert_eq!(address_mask() & 0xfff0_0000_0000_0fff, 0);
/// assert_eq!(address_mask() & 0xffff_f000, 0xffff_f000);
/// ```
#[doc(alias = "PTE_PFN_MASK")]
#[inline]
pub fn address_mask() -> u64 {
    // Without the bits below the page size, and those above the longest physical address.
    const PAGE_MASK: u64 = u64::MAX << PAGE_SHIFT;
    #[cfg(CONFIG_DYNAMIC_PHYSICAL_MASK)]
    {
        // Memory encryption uses one of the address bits.
        // SAFETY: The variable is only written early at boot, before this code can run, so the read
        // is not a data race.
        PAGE_MASK & unsafe { bindings::physical_mask }
    }
    #[cfg(not(CONFIG_DYNAMIC_PHYSICAL_MASK))]
    {
        PAGE_MASK & ((1 << 52) - 1)
    }
}

/// Creates a leaf that maps the physical address `phys`, in bytes, on this machine. C: `pfn_pte()`,
/// `pfn_pmd()`, `pfn_pud()`, `check_pgprot()`.
///
/// An entry of the level maps `1 << shift` bytes. `prot` are the bits that are no address. A
/// present entry gets those of them that the processor supports, because it would fault on others.
/// See [`Entry::leaf`] for the rest.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::{
///     pgprot::{address_mask, leaf},
///     pgtable::{Entry, LeafKind, PMD_SHIFT},
/// };
///
/// // Every processor supports these bits.
/// let prot = Entry::PRESENT | Entry::RW | Entry::USER;
/// let entry = leaf(0x4000_0000, prot, LeafKind::Devmap, PMD_SHIFT);
/// assert!(entry.is_present() && entry.is_writable() && entry.is_devmap());
/// assert_eq!(entry.pfn(PMD_SHIFT, address_mask()), 0x4_0000);
/// ```
#[doc(alias = "massage_pgprot")]
#[doc(alias = "check_pgprot")]
#[inline(always)]
pub fn leaf(phys: u64, prot: u64, kind: LeafKind, shift: u32) -> Entry {
    let mask = address_mask();
    if prot & Entry::PRESENT == 0 {
        return Entry::leaf(phys, prot, kind, shift, mask);
    }
    // SAFETY: The variable is only written early at boot, before this code can run, so the read is
    // not a data race.
    let supported = prot & unsafe { bindings::__supported_pte_mask } as u64;
    if cfg!(CONFIG_DEBUG_VM) && supported != prot {
        crate::warn_once!("pgprot: unsupported bits {:#x}", prot ^ supported);
    }
    Entry::present_leaf(phys, supported, kind, shift, mask)
}
