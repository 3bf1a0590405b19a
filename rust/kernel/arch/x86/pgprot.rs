// SPDX-License-Identifier: GPL-2.0

//! What entries of page tables depend on besides their words: the machine.
//!
//! [`pgtable`](super::pgtable) has the entries themselves. This file encapsulates the reads of the
//! two variables that are set at boot: which bits of an entry are a physical address, and which
//! bits the processor supports.
//!
//! C headers: [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

use super::pgtable::Entry;
use crate::{
    bindings,
    mm::{pfn::Pfn, prot::PageProt},
    page::PAGE_SHIFT,
};

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

/// The parts of a protection that depend on x86.
impl PageProt {
    /// Returns whether this task may map `pfn` with this protection. C: `pfn_modify_allowed()`.
    ///
    /// The address in an entry without the present bit is inverted. The inverse of a PFN above the
    /// L1TF limit may be that of memory, which an affected processor could then read speculatively, so
    /// only a task with `CAP_SYS_ADMIN` may map such a PFN without rights.
    #[doc(alias = "pfn_modify_allowed")]
    #[inline]
    pub fn may_map(self, pfn: Pfn) -> bool {
        if self.bits() & Entry::PRESENT != 0 {
            return true;
        }
        // SAFETY: The function only computes with its arguments and checks the running task's
        // capabilities; it has no preconditions.
        unsafe { bindings::pfn_modify_allowed(pfn.nr(), self.as_raw()) }
    }

    /// Returns the bits for an entry: those that this processor supports if the entry is to be
    /// present, otherwise all. C: `massage_pgprot()`, `check_pgprot()`.
    #[doc(alias = "massage_pgprot")]
    #[doc(alias = "check_pgprot")]
    #[inline]
    pub fn supported_bits(self) -> u64 {
        let bits = self.bits();
        if bits & Entry::PRESENT == 0 {
            return bits;
        }
        // SAFETY: The variable is only written early at boot, before this code can run, so the read
        // is not a data race.
        let supported = bits & unsafe { bindings::__supported_pte_mask } as u64;
        if cfg!(CONFIG_DEBUG_VM) && supported != bits {
            crate::warn_once!("pgprot: unsupported bits {:#x}", bits ^ supported);
        }
        // Every processor supports this bit. That it is set is said again for the compiler.
        supported | Entry::PRESENT
    }
}
