// SPDX-License-Identifier: GPL-2.0

//! Protections of pages: how an entry of a page table maps its memory.
//!
//! What the bits mean depends on the architecture; see [`crate::arch`]. This file encapsulates that
//! an entry with a [`PageProt`] maps memory for a process, and where is left to the address.
//!
//! C header: [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use super::pfn::Pfn;
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
use crate::arch::x86::pgtable::Entry;
use crate::bindings;

/// The bits of a page table entry that are no address, as an entry of the lowest level has them:
/// permissions and cache mode. C: `pgprot_t`.
///
/// # Invariants
///
/// No address bit of an entry is set. An entry with these bits maps memory with the rights that a
/// VMA gives its process: it is neither empty nor one of a swap entry, and the kernel's own memory
/// is not mapped so.
#[doc(alias = "pgprot_t")]
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct PageProt(bindings::pgprot_t);

impl PageProt {
    /// Creates a protection from C's.
    ///
    /// # Safety
    ///
    /// `prot` must have no address bits of an entry (on x86 those of `PTE_PFN_MASK`), and must be
    /// one that a VMA can have: `vma->vm_page_prot`, or that with another cache mode.
    #[inline]
    pub const unsafe fn from_raw(prot: bindings::pgprot_t) -> Self {
        // INVARIANT: By the caller's promise there are no address bits, and C gives a VMA only
        // protections of its table of user rights.
        Self(prot)
    }

    /// Returns the protection as C takes it.
    #[inline]
    pub const fn as_raw(self) -> bindings::pgprot_t {
        self.0
    }

    /// Returns a pointer for C functions that change the cache mode.
    #[inline]
    pub(super) fn as_raw_mut(&mut self) -> *mut bindings::pgprot_t {
        &mut self.0
    }

    /// Returns the bits. C: `pgprot_val()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{bindings::pgprot_t, mm::prot::PageProt};
    ///
    /// // SAFETY: These are the rights of a VMA that may be read, without address bits.
    /// let prot = unsafe { PageProt::from_raw(pgprot_t { pgprot: 0b101 }) };
    /// assert_eq!(prot.bits(), 0b101);
    /// ```
    #[doc(alias = "pgprot_val")]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0.pgprot as u64
    }

    /// Returns whether this task may map `pfn` with this protection. Only x86 refuses any. C:
    /// `pfn_modify_allowed()`.
    ///
    /// The address in an x86 entry without the present bit is inverted. The inverse of a PFN above
    /// the L1TF limit may be that of memory, which an affected processor could then read
    /// speculatively, so only a task with `CAP_SYS_ADMIN` may map such a PFN without rights.
    #[doc(alias = "pfn_modify_allowed")]
    #[inline]
    pub fn may_map(self, pfn: Pfn) -> bool {
        #[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
        if self.bits() & Entry::PRESENT == 0 {
            // SAFETY: The function only computes with its arguments and checks the running task's
            // capabilities; it has no preconditions.
            return unsafe { bindings::pfn_modify_allowed(pfn.nr(), self.as_raw()) };
        }
        let _ = pfn;
        true
    }
}
