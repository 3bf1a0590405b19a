// SPDX-License-Identifier: GPL-2.0-only

//! What GUP asks of page table entries: whether a leaf permits an access, and how many neighbouring
//! ptes continue each other.
//!
//! The entries themselves are [`kernel::arch::x86::pgtable`]. As that file, this one uses nothing
//! of the kernel: the host tests compile it as it is.
//!
//! C headers: [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h),
//! [`arch/x86/include/asm/pkeys.h`](srctree/arch/x86/include/asm/pkeys.h)

use super::pgtable::{Entry, PTE_SHIFT};

/// The access that a caller of GUP asks for, in the form in which leaves are checked for it. C:
/// `pte_access_permitted()`.
#[doc(alias = "pte_access_permitted")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// The bits that a leaf must have.
    needed: u64,
    /// The lower of the two PKRU bits of each protection key that denies the access.
    denied: u32,
}

impl Access {
    /// Creates an access from user space: a write if `write`, otherwise a read, with the rights
    /// that the register PKRU gives. It has two bits per protection key: the lower one denies all
    /// accesses, the upper one writes.
    #[inline]
    pub(crate) const fn user(write: bool, pkru: u32) -> Self {
        let no_access = pkru & 0x5555_5555;
        let no_write = pkru & 0xaaaa_aaaa;
        let needed = Entry::PRESENT | Entry::USER;
        let (needed, denied) = match write {
            true => (needed | Entry::RW, no_access | (no_write >> 1)),
            false => (needed, no_access),
        };
        Self { needed, denied }
    }

    /// Returns whether a leaf permits the access.
    #[inline]
    pub(crate) const fn is_permitted(self, leaf: Entry) -> bool {
        leaf.bits() & self.needed == self.needed
            && (self.denied == 0 || self.denied.wrapping_shr(pkru_bit(leaf)) & 1 == 0)
    }
}

/// Returns the lower of the two PKRU bits of a leaf's protection key, an even number below 32. C:
/// `pte_flags_pkey()`.
#[doc(alias = "pte_flags_pkey")]
#[inline]
const fn pkru_bit(leaf: Entry) -> u32 {
    // CAST: Five bits.
    (((leaf.bits() >> Entry::PKEY_SHIFT) & 0xf) << 1) as u32
}

/// Returns how many ptes from `first` on, at least 1 and at most `most`, map consecutive pages and
/// are the same in all other bits. Also returns the first pte that does not continue them, if it
/// was read.
///
/// `nth` reads the `n`-th pte behind `first`, which is present. `mask` has the bits of an entry
/// that are a physical address.
#[inline(always)]
pub(crate) fn pte_run(
    first: Entry,
    most: usize,
    mask: u64,
    nth: impl Fn(usize) -> Entry,
) -> (usize, Option<Entry>) {
    // The run must end at the last PFN before a carry into bits that are no address.
    let counted = mask & !mask.wrapping_add(1 << PTE_SHIFT);
    // CAST: At most 2^40.
    let before_carry = ((!first.bits() & counted) >> PTE_SHIFT) as usize;
    let most = most.min(before_carry + 1);
    let mut pages = 1;
    let mut behind = None;
    while pages < most {
        let next = nth(pages);
        if next != first.nth_page(pages) {
            behind = Some(next);
            break;
        }
        pages += 1;
    }
    (pages, behind)
}
