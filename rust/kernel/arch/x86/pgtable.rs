// SPDX-License-Identifier: GPL-2.0

//! Entries of x86-64 page tables.
//!
//! ```text
//!   level    maps of an address       an entry is
//!   pgd      bits 48..57              a table            (with five levels only)
//!   p4d      bits 39..48              a table
//!   pud      bits 30..39              a table, or a leaf of 1 GiB
//!   pmd      bits 21..30              a table, or a leaf of 2 MiB
//!   pte      bits 12..21              a leaf of 4 KiB
//! ```
//!
//! An entry is one word of 64 bits at every level, and most bits mean the same at every level: so
//! there is one type, [`Entry`], and the methods that depend on the level take its `shift`. An
//! entry of that level maps `1 << shift` bytes.
//!
//! A leaf that is not present for the processor but still maps memory (`PROT_NONE`, NUMA hints) has
//! its address bits inverted. A processor that speculates past the missing present bit then reads
//! no memory of another process from the L1 cache (L1TF). [`Entry::leaf`] inverts, and
//! [`Entry::pfn`] inverts back.
//!
//! This module uses nothing of the kernel: words go in, words come out, and the bits of an entry
//! that are a physical address, which depend on the machine, are a parameter (`mask`, C:
//! `PTE_PFN_MASK`). The host tests in `tools/testing/pagetable` compile this very file.
//!
//! C headers:
//! [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h),
//! [`arch/x86/include/asm/pgtable-invert.h`](srctree/arch/x86/include/asm/pgtable-invert.h)

/// The number of entries of a table. C: `PTRS_PER_PTE`.
pub const ENTRIES: u64 = 512;
/// The lowest address bit above a page of 4 KiB. C: `PAGE_SHIFT`.
pub const PTE_SHIFT: u32 = 12;
/// The lowest address bit above the 2 MiB of a pmd. C: `PMD_SHIFT`.
pub const PMD_SHIFT: u32 = 21;
/// The lowest address bit above the 1 GiB of a pud. C: `PUD_SHIFT`.
pub const PUD_SHIFT: u32 = 30;
/// The lowest address bit above the 512 GiB of a p4d. C: `P4D_SHIFT`.
pub const P4D_SHIFT: u32 = 39;
/// The lowest address bit above the 256 TiB of a pgd, with five levels. C: `PGDIR_SHIFT`.
pub const PGD_SHIFT: u32 = 48;

/// What the memory that a leaf maps has, as the marks of the leaf say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeafKind {
    /// A `struct page` with a map count: no mark.
    Normal,
    /// A `struct page` and a pgmap: [`Entry::DEVMAP`], in a pte [`Entry::SPECIAL`] as well.
    Devmap,
    /// No `struct page`, or one that must not be used: [`Entry::SPECIAL`].
    Special,
}

/// An entry of a page table, of any level. C: `pgd_t`, `p4d_t`, `pud_t`, `pmd_t`, `pte_t`.
///
/// # Examples
///
/// ```
/// use kernel::arch::x86::pgtable::{Entry, LeafKind, PMD_SHIFT, PTE_SHIFT};
///
/// // The address bits of a processor with 52 physical address bits.
/// let mask = (1 << 52) - 4096;
/// // Present, for user space, read-only.
/// let prot = Entry::PRESENT | Entry::USER;
///
/// // Device memory with a pgmap, as a page of 4 KiB: the entry is special as well.
/// let small = Entry::leaf(0x2_4000_0000, prot, LeafKind::Devmap, PTE_SHIFT, mask);
/// assert_eq!(small.bits(), 1 << 57 | 0x2_4000_0000 | 1 << 9 | 0b101);
/// assert_eq!(small.pfn(PTE_SHIFT, mask), 0x24_0000);
///
/// // As 2 MiB: large, not special. Address bits below 2 MiB are dropped.
/// let large = Entry::leaf(0x2_4000_1000, prot, LeafKind::Devmap, PMD_SHIFT, mask);
/// assert_eq!(large.bits(), 1 << 57 | 0x2_4000_0000 | 1 << 7 | 0b101);
/// assert!(large.is_leaf(PMD_SHIFT) && large.is_devmap());
/// assert_eq!(large.pfn(PMD_SHIFT, mask), 0x24_0000);
///
/// // Memory without a pgmap is special at every level.
/// let bar = Entry::leaf(0x2_4000_0000, prot, LeafKind::Special, PMD_SHIFT, mask);
/// assert!(!bar.is_devmap());
/// assert_eq!(bar.bits(), 0x2_4000_0000 | 1 << 9 | 1 << 7 | 0b101);
///
/// // After a store: accessed, dirty, writable. In a VMA without VM_WRITE the saved dirty bit
/// // stands in for the dirty bit.
/// let stored = small.with_store(true);
/// assert!(stored.is_writable() && stored.bits() & (1 << 6 | 1 << 5) == 1 << 6 | 1 << 5);
/// let forced = small.with_store(false);
/// assert!(!forced.is_writable() && forced.bits() & (1 << 6 | 1 << 58) == 1 << 58);
///
/// // PROT_NONE: the address bits are inverted, and `pfn()` inverts them back.
/// let prot = Entry::PROTNONE | Entry::ACCESSED;
/// let none = Entry::leaf(0x2_4000_0000, prot, LeafKind::Devmap, PTE_SHIFT, mask);
/// assert!(!none.is_present() && none.pfn(PTE_SHIFT, mask) == 0x24_0000);
/// assert!(none.bits() & 0x2_4000_0000 == 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    /// The processor uses the entry. C: `_PAGE_PRESENT`.
    pub const PRESENT: u64 = 1 << 0;
    /// Stores are permitted. C: `_PAGE_RW`.
    pub const RW: u64 = 1 << 1;
    /// Accesses from user space are permitted. C: `_PAGE_USER`.
    pub const USER: u64 = 1 << 2;
    /// The processor has used the entry. C: `_PAGE_ACCESSED`.
    pub const ACCESSED: u64 = 1 << 5;
    /// The processor has stored through the entry. C: `_PAGE_DIRTY`.
    pub const DIRTY: u64 = 1 << 6;
    /// In a pud or a pmd: the entry is a leaf. C: `_PAGE_PSE`.
    pub const PSE: u64 = 1 << 7;
    /// In an entry that is not present: it maps memory, without rights. C: `_PAGE_PROTNONE`.
    pub const PROTNONE: u64 = 1 << 8;
    /// The memory has no `struct page`, or the page must not be used. C: `_PAGE_SPECIAL`.
    pub const SPECIAL: u64 = 1 << 9;
    /// Stores are to be noticed by userfaultfd. Never together with [`Self::RW`]. C:
    /// `_PAGE_BIT_UFFD_WP`.
    pub const UFFD_WP: u64 = 1 << 10;
    /// A store happened since `/proc/PID/clear_refs` was written to. C: `_PAGE_BIT_SOFT_DIRTY`.
    pub const SOFT_DIRTY: u64 = 1 << 11;
    /// Device memory with a pgmap. C: `_PAGE_DEVMAP`.
    pub const DEVMAP: u64 = 1 << 57;
    /// Stands in for [`Self::DIRTY`] in an entry without [`Self::RW`], where the processor reads
    /// the dirty bit as a shadow stack. C: `_PAGE_SAVED_DIRTY`.
    pub const SAVED_DIRTY: u64 = 1 << 58;
    /// The lowest of the four bits of the protection key. C: `_PAGE_BIT_PKEY_BIT0`.
    pub const PKEY_SHIFT: u32 = 59;
    /// Bits that some processors set by mistake in an entry that is none. C:
    /// `_PAGE_KNL_ERRATUM_MASK`.
    const ERRATUM: u64 = Self::DIRTY | Self::ACCESSED;

    /// Creates an entry from its bits.
    #[inline]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Creates a leaf that maps the physical address `phys`, in bytes. C: `pfn_pte()`,
    /// `pfn_t_pte()`, `pte_mkdevmap()`, `pte_mkspecial()`; `pfn_pmd()`, `pmd_mkhuge()`,
    /// `pmd_mkdevmap()`; and the same for a pud.
    ///
    /// Bits of `phys` below `shift` are dropped. `prot` are the bits that are no address.
    #[doc(alias = "pfn_pte")]
    #[doc(alias = "pfn_pmd")]
    #[doc(alias = "pfn_pud")]
    #[doc(alias = "pte_mkdevmap")]
    #[doc(alias = "pmd_mkdevmap")]
    #[doc(alias = "pud_mkdevmap")]
    #[doc(alias = "pte_mkspecial")]
    #[inline(always)]
    pub const fn leaf(phys: u64, prot: u64, kind: LeafKind, shift: u32, mask: u64) -> Self {
        let address = phys ^ Self(prot).protnone_mask();
        Self::present_leaf(address, prot, kind, shift, mask)
    }

    /// Creates a leaf as [`Self::leaf`] does, if `prot` has [`Self::PRESENT`]: then the address is
    /// not inverted.
    #[inline(always)]
    pub const fn present_leaf(phys: u64, prot: u64, kind: LeafKind, shift: u32, mask: u64) -> Self {
        let large = shift > PTE_SHIFT;
        let kind = match kind {
            LeafKind::Normal => 0,
            LeafKind::Devmap if large => Self::DEVMAP,
            LeafKind::Devmap => Self::DEVMAP | Self::SPECIAL,
            LeafKind::Special => Self::SPECIAL,
        };
        let mark = if large { kind | Self::PSE } else { kind };
        Self((phys & leaf_mask(shift, mask)) | prot | mark)
    }

    /// Returns the bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns whether at least one of these bits is set.
    #[inline]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Returns whether the entry is empty. C: `pte_none()`, `pmd_none()`, `pud_none()`.
    #[doc(alias = "pte_none")]
    #[doc(alias = "pmd_none")]
    #[doc(alias = "pud_none")]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 & !Self::ERRATUM == 0
    }

    /// Returns whether the processor uses the entry. C: `_PAGE_PRESENT`.
    ///
    /// C's `pte_present()` is also true for `PROT_NONE`.
    #[inline]
    pub const fn is_present(self) -> bool {
        self.has(Self::PRESENT)
    }

    /// Returns whether the entry permits stores. C: `pte_write()`, without shadow stacks.
    #[doc(alias = "pte_write")]
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.has(Self::RW)
    }

    /// Returns whether the entry maps device memory with a pgmap. C: `pte_devmap()`,
    /// `pmd_devmap()`, `pud_devmap()`.
    #[doc(alias = "pte_devmap")]
    #[doc(alias = "pmd_devmap")]
    #[doc(alias = "pud_devmap")]
    #[inline]
    pub const fn is_devmap(self) -> bool {
        self.has(Self::DEVMAP)
    }

    /// Returns whether an entry that is not none is a leaf. C: `pmd_leaf()`, `pud_leaf()`; a pte
    /// always is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::arch::x86::pgtable::{Entry, PMD_SHIFT, PTE_SHIFT};
    ///
    /// let entry = Entry::new(0x4000_0000 | Entry::PRESENT);
    /// // As a pmd it points to a table; as a pte it maps a page.
    /// assert!(!entry.is_leaf(PMD_SHIFT) && entry.is_leaf(PTE_SHIFT));
    /// ```
    #[doc(alias = "pmd_leaf")]
    #[doc(alias = "pud_leaf")]
    #[inline]
    pub const fn is_leaf(self, shift: u32) -> bool {
        shift <= PTE_SHIFT || self.has(Self::PSE)
    }

    /// Returns the PFN in an entry that is not none: of a leaf the first PFN that it maps,
    /// otherwise the PFN of the table. C: `pte_pfn()`, `pmd_pfn()`, `pud_pfn()`.
    #[doc(alias = "pte_pfn")]
    #[doc(alias = "pmd_pfn")]
    #[doc(alias = "pud_pfn")]
    #[inline]
    pub const fn pfn(self, shift: u32, mask: u64) -> u64 {
        let mask = match self.is_leaf(shift) {
            true => leaf_mask(shift, mask),
            false => mask,
        };
        ((self.0 ^ self.protnone_mask()) & mask) >> PTE_SHIFT
    }

    /// Returns the PFN to which a leaf maps `address`. C: `pmd_pfn()`, plus the offset.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::arch::x86::pgtable::{Entry, PMD_SHIFT};
    ///
    /// let mask = (1 << 52) - 4096;
    /// let leaf = Entry::new(0x4000_0000 | Entry::PRESENT | Entry::PSE);
    /// // The fourth page of the 2 MiB.
    /// assert_eq!(leaf.pfn_at(0x7f00_0020_3abc, PMD_SHIFT, mask), 0x4_0003);
    /// ```
    #[inline]
    pub const fn pfn_at(self, address: u64, shift: u32, mask: u64) -> u64 {
        match self.is_present() {
            true => self.present_pfn_at(address, shift, mask),
            false => Self(!self.0).present_pfn_at(address, shift, mask),
        }
    }

    /// Returns the PFN to which a present leaf maps `address`, as [`Self::pfn_at`] does for any
    /// leaf. The address bits of a present leaf are never inverted.
    #[inline]
    pub const fn present_pfn_at(self, address: u64, shift: u32, mask: u64) -> u64 {
        let inside = 1_u64.wrapping_shl(shift).wrapping_sub(1);
        // `leaf_mask()` also drops `_PAGE_PAT_LARGE`, the lowest address bit of a large leaf.
        ((self.0 & leaf_mask(shift, mask)) | (address & inside)) >> PTE_SHIFT
    }

    /// Returns the pte that maps the `n`-th page behind the page of this present pte, and is the
    /// same in all other bits. C: `pte_advance_pfn()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::arch::x86::pgtable::Entry;
    ///
    /// let first = Entry::new(0x4000_0000 | Entry::PRESENT | Entry::DIRTY);
    /// assert_eq!(first.nth_page(3).bits(), 0x4000_3000 | Entry::PRESENT | Entry::DIRTY);
    /// ```
    #[doc(alias = "pte_advance_pfn")]
    #[inline]
    pub const fn nth_page(self, n: usize) -> Self {
        Self(self.0.wrapping_add((n as u64) << PTE_SHIFT))
    }

    /// Returns whether this is a present leaf that maps the memory from the physical address `phys`
    /// on, a multiple of what the leaf maps.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::arch::x86::pgtable::{Entry, PMD_SHIFT};
    ///
    /// let mask = (1 << 52) - 4096;
    /// let leaf = Entry::new(0x4000_0000 | Entry::PRESENT | Entry::PSE);
    /// assert!(leaf.maps(0x4000_0000, PMD_SHIFT, mask));
    /// assert!(!leaf.maps(0x4020_0000, PMD_SHIFT, mask));
    /// // A table at this address maps something else.
    /// assert!(!Entry::new(0x4000_0000 | Entry::PRESENT).maps(0x4000_0000, PMD_SHIFT, mask));
    /// ```
    #[inline]
    pub const fn maps(self, phys: u64, shift: u32, mask: u64) -> bool {
        let marks = match shift > PTE_SHIFT {
            true => Self::PRESENT | Self::PSE,
            false => Self::PRESENT,
        };
        self.0 & (leaf_mask(shift, mask) | marks) == phys | marks
    }

    /// Returns the leaf as it is after a store: accessed, dirty, and writable if `writable`. C:
    /// `pte_mkyoung()`, `pte_mkdirty()`, `maybe_mkwrite()`.
    ///
    /// A writable leaf is no longer write-protected for userfaultfd: while [`Self::UFFD_WP`] is
    /// set, the store counts as not noticed yet.
    ///
    /// [`Self::SOFT_DIRTY`] is left to the caller: a kernel need not have it. Not for shadow
    /// stacks, which are anonymous memory, never device memory.
    #[doc(alias = "maybe_mkwrite")]
    #[doc(alias = "maybe_pmd_mkwrite")]
    #[doc(alias = "pte_mkyoung")]
    #[doc(alias = "pte_mkdirty")]
    #[doc(alias = "pmd_mkdirty")]
    #[doc(alias = "pud_mkdirty")]
    #[inline]
    pub const fn with_store(self, writable: bool) -> Self {
        let bits = self.0 | Self::ACCESSED;
        Self(if writable {
            (bits | Self::DIRTY | Self::RW) & !(Self::SAVED_DIRTY | Self::UFFD_WP)
        } else if bits & Self::RW != 0 {
            bits | Self::DIRTY
        } else {
            (bits | Self::SAVED_DIRTY) & !Self::DIRTY
        })
    }

    /// Returns the leaf write-protected for userfaultfd. C: `pte_mkuffd_wp()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::arch::x86::pgtable::Entry;
    ///
    /// let leaf = Entry::new(0x4000_0000 | Entry::PRESENT).with_store(true);
    /// let protected = leaf.with_uffd_wp();
    /// assert!(protected.has(Entry::UFFD_WP) && !protected.is_writable());
    /// // It stays dirty, and the next store ends the protection.
    /// assert!(protected.has(Entry::SAVED_DIRTY) && !protected.has(Entry::DIRTY));
    /// assert_eq!(protected.with_store(true), leaf);
    /// ```
    #[doc(alias = "pte_mkuffd_wp")]
    #[inline]
    pub const fn with_uffd_wp(self) -> Self {
        let bits = (self.0 | Self::UFFD_WP) & !Self::RW;
        Self(match bits & Self::DIRTY {
            0 => bits,
            dirty => (bits ^ dirty) | Self::SAVED_DIRTY,
        })
    }

    /// Returns the bits to flip in the address of an entry with these bits: all of them if it is
    /// neither present nor zero. C: `protnone_mask()`.
    #[inline]
    const fn protnone_mask(self) -> u64 {
        if self.0 != 0 && !self.has(Self::PRESENT) {
            u64::MAX
        } else {
            0
        }
    }
}

/// Returns the bits of a leaf that are a physical address.
#[inline]
const fn leaf_mask(shift: u32, mask: u64) -> u64 {
    mask & !1_u64.wrapping_shl(shift).wrapping_sub(1)
}
