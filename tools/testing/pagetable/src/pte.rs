// SPDX-License-Identifier: GPL-2.0-only

//! Entries of x86-64 page tables, as the processor and C's page table code have them.
//!
//! A leaf permits accesses by three bits, and maps a frame. One that permits none, because the
//! process took its own rights away (`PROT_NONE`), is not present for the processor, and has the
//! bits of its address inverted: so a processor that speculates past that finds no memory there.
//!
//! C headers: [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable-invert.h`](srctree/arch/x86/include/asm/pgtable-invert.h)

/// The entries of a table.
pub(crate) const ENTRIES: u64 = 512;
pub(crate) const PTE_SHIFT: u32 = 12;
pub(crate) const PMD_SHIFT: u32 = 21;
pub(crate) const PUD_SHIFT: u32 = 30;
pub(crate) const P4D_SHIFT: u32 = 39;
pub(crate) const PGD_SHIFT: u32 = 48;

/// An entry of any level, as the processor reads it. C: `pgd_t` to `pte_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct Entry(u64);

impl Entry {
    pub(crate) const PRESENT: u64 = 1 << 0;
    pub(crate) const WRITE: u64 = 1 << 1;
    pub(crate) const USER: u64 = 1 << 2;
    /// The processor has used it. C: `_PAGE_ACCESSED`.
    pub(crate) const ACCESSED: u64 = 1 << 5;
    /// The processor has written through it. C: `_PAGE_DIRTY`.
    pub(crate) const DIRTY: u64 = 1 << 6;
    /// In a pud or a pmd: a leaf. C: `_PAGE_PSE`.
    pub(crate) const LARGE: u64 = 1 << 7;
    /// Not present for the processor, but there: nobody has rights. C: `_PAGE_PROTNONE`.
    pub(crate) const NO_RIGHTS: u64 = 1 << 8;
    /// There is no `struct page`, or it is not to be used. C: `_PAGE_SPECIAL`.
    pub(crate) const SPECIAL: u64 = 1 << 9;
    /// Device memory with a pgmap. C: `_PAGE_DEVMAP`.
    pub(crate) const DEVMAP: u64 = 1 << 57;
    /// The first of four bits. C: `_PAGE_PKEY_BIT0`.
    pub(crate) const PKEY_SHIFT: u32 = 59;

    /// The entry with these bits.
    #[inline]
    pub(crate) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Whether one of these bits is set.
    #[inline]
    pub(crate) const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// Whether a leaf that the entry is can be written. C: `pte_write()`.
    #[inline]
    pub(crate) const fn is_writable(self) -> bool {
        self.has(Self::WRITE)
    }

    /// The entry that maps the `n`-th page behind the one that a pte maps, and is the same in all
    /// else.
    #[inline]
    pub(crate) const fn nth_page(self, n: usize) -> Self {
        Self(self.0.wrapping_add((n as u64) << PTE_SHIFT))
    }

    /// The frame that a present leaf maps `address` to, of a level whose entries map from bit
    /// `shift` on. `mask` has the bits of an entry that are a physical address. C: `pmd_pfn()`, and
    /// an offset.
    #[inline]
    pub(crate) const fn frame(self, address: u64, shift: u32, mask: u64) -> u64 {
        let inside = 1_u64.wrapping_shl(shift).wrapping_sub(1);
        // The lowest bit of the address is used for something else in a leaf of 2 MiB or more.
        ((self.0 & mask & !inside) | (address & inside)) >> PTE_SHIFT
    }

    /// The same of any leaf. C: what `protnone_mask()` is for.
    #[inline]
    pub(crate) const fn frame_without_rights(self, address: u64, shift: u32, mask: u64) -> u64 {
        match self.has(Self::PRESENT) {
            true => self.frame(address, shift, mask),
            false => Self(!self.0).frame(address, shift, mask),
        }
    }

    /// How many ptes from this one on, `most` at most, map one page after the other and are the same
    /// in all else; at least 1. Also the first that does not go on with that, if it was read.
    /// `nth` reads the `n`-th behind this one, `mask` is as in [`Self::frame`].
    #[inline(always)]
    pub(crate) fn run(
        self,
        most: usize,
        mask: u64,
        nth: impl Fn(usize) -> Self,
    ) -> (usize, Option<Self>) {
        // Not further than to the last frame before a carry into bits that are no address.
        let counted = mask & !mask.wrapping_add(1 << PTE_SHIFT);
        // CAST: At most 2^40.
        let before_carry = ((!self.0 & counted) >> PTE_SHIFT) as usize;
        let most = most.min(before_carry + 1);
        let mut pages = 1;
        let mut behind = None;
        while pages < most {
            let next = nth(pages);
            if next != self.nth_page(pages) {
                behind = Some(next);
                break;
            }
            pages += 1;
        }
        (pages, behind)
    }

    /// The first of the two bits that PKRU has for the leaf's protection key: an even number below 32.
    #[inline]
    const fn pkru_bit(self) -> u32 {
        // CAST: Five bits.
        (((self.0 >> Self::PKEY_SHIFT) & 0xf) << 1) as u32
    }
}

/// What the walk asks of a leaf before it shows it to anybody. C: `pte_access_permitted()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    needed: u64,
    denied: u32,
}

impl Access {
    /// Access from user space: to write if `write`, to read else, with the rights that the
    /// register PKRU of this thread gives to protection keys (two bits a key: no access, no
    /// writing).
    #[inline]
    pub(crate) const fn user(write: bool, pkru: u32) -> Self {
        let no_access = pkru & 0x5555_5555;
        let no_write = pkru & 0xaaaa_aaaa;
        let needed = Entry::PRESENT | Entry::USER;
        let (needed, denied) = match write {
            true => (needed | Entry::WRITE, no_access | (no_write >> 1)),
            false => (needed, no_access),
        };
        Self { needed, denied }
    }

    /// Whether a leaf permits it.
    #[inline]
    pub(crate) const fn is_permitted(self, leaf: Entry) -> bool {
        leaf.0 & self.needed == self.needed
            && (self.denied == 0 || self.denied.wrapping_shr(leaf.pkru_bit()) & 1 == 0)
    }
}
