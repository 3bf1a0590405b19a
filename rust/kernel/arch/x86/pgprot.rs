// SPDX-License-Identifier: GPL-2.0

//! Which bits of a page table entry this machine has.
//!
//! [`pgtable`](super::pgtable) has the entries themselves, and takes these bits as parameters. This
//! file encapsulates the reads of the two variables that are set at boot.
//!
//! C headers: [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

use super::pgtable::Entry;
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

/// Returns those of `bits`, which are no address, that this processor supports if an entry with them
/// is present, and otherwise all of them. C: `massage_pgprot()`, `check_pgprot()`.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::{pgprot::supported_bits, pgtable::Entry};
///
/// // Every processor supports these.
/// let bits = Entry::PRESENT | Entry::RW | Entry::USER;
/// assert_eq!(supported_bits(bits), bits);
/// // The processor does not read an entry that is not present.
/// assert_eq!(supported_bits(Entry::PROTNONE), Entry::PROTNONE);
/// ```
#[doc(alias = "massage_pgprot")]
#[doc(alias = "check_pgprot")]
#[inline]
pub fn supported_bits(bits: u64) -> u64 {
    if bits & Entry::PRESENT == 0 {
        return bits;
    }
    // SAFETY: The variable is only written early at boot, before this code can run, so the read is not
    // a data race.
    let supported = bits & unsafe { bindings::__supported_pte_mask } as u64;
    if cfg!(CONFIG_DEBUG_VM) && supported != bits {
        crate::warn_once!("pgprot: unsupported bits {:#x}", bits ^ supported);
    }
    // Every processor supports the present bit; that it is still set is news to the compiler only.
    supported | Entry::PRESENT
}
