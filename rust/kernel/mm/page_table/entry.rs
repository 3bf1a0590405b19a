// SPDX-License-Identifier: GPL-2.0-only

//! Entries of x86-64 page tables, as words.
//!
//! Three levels have entries that map memory. An [`Entry`] is what was read at one of them and can be
//! anything; a [`Leaf`] is one that was made here and maps frames. The level is in the type: what is
//! made for one level cannot be put into a table of another, whose bits mean something else.
//!
//! C headers: [`arch/x86/include/asm/pgtable_types.h`](srctree/arch/x86/include/asm/pgtable_types.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

use crate::{
    bindings,
    mm::{
        pfn::Pfn,
        pfn_t::PfnT,
        prot::{address_mask, PageProt},
    },
    page::PAGE_SHIFT,
};
use core::{fmt, marker::PhantomData};

const PRESENT: u64 = 1 << bindings::_PAGE_BIT_PRESENT;
const WRITE: u64 = 1 << bindings::_PAGE_BIT_RW;
const ACCESSED: u64 = 1 << bindings::_PAGE_BIT_ACCESSED;
const DIRTY: u64 = 1 << bindings::_PAGE_BIT_DIRTY;
/// A leaf, above the lowest level. C: `_PAGE_PSE`.
const LARGE: u64 = 1 << bindings::_PAGE_BIT_PSE;
/// There is no `struct page`, or it is not to be used. C: `_PAGE_SPECIAL`.
const SPECIAL: u64 = 1 << bindings::_PAGE_BIT_SPECIAL;
/// Device memory with a pgmap. C: `_PAGE_DEVMAP`.
const DEVMAP: u64 = 1 << bindings::_PAGE_BIT_DEVMAP;
/// Stands in for the dirty bit while stores are not allowed: without write permission that one means
/// a shadow stack. C: `_PAGE_SAVED_DIRTY`.
const SAVED_DIRTY: u64 = 1 << bindings::_PAGE_BIT_SAVED_DIRTY;
/// What some processors set by mistake in an entry that is empty. C: `_PAGE_KNL_ERRATUM_MASK`.
const ERRATUM: u64 = DIRTY | ACCESSED;
/// Written since somebody asked for a fresh start. C: `_PAGE_SOFT_DIRTY`.
const SOFT_DIRTY: u64 = if cfg!(CONFIG_MEM_SOFT_DIRTY) {
    1 << bindings::_PAGE_BIT_SOFT_DIRTY
} else {
    0
};

/// The address bits of an entry that does not let the processor in are inverted: what it might
/// speculate on is not there (L1TF). C: `protnone_mask()`.
#[inline]
const fn inversion(bits: u64) -> u64 {
    if bits != 0 && bits & PRESENT == 0 {
        u64::MAX
    } else {
        0
    }
}

/// A level of the page tables whose entries may map memory: [`Pte`], [`Pmd`] or [`Pud`].
pub trait Level: super::slot::Table {
    /// How much an entry maps, as a power of two, in bytes.
    const SHIFT: u32;

    /// How much an entry maps, in bytes.
    const SIZE: usize = 1 << Self::SHIFT;
}

/// The lowest level: 4 KiB an entry. C: `pte_t`.
#[doc(alias = "pte_t")]
pub enum Pte {}

/// The level above it: 2 MiB. C: `pmd_t`.
#[doc(alias = "pmd_t")]
pub enum Pmd {}

/// The one above that: 1 GiB. C: `pud_t`.
#[doc(alias = "pud_t")]
pub enum Pud {}

impl Level for Pte {
    const SHIFT: u32 = bindings::PAGE_SHIFT;
}

impl Level for Pmd {
    const SHIFT: u32 = bindings::PMD_SHIFT;
}

impl Level for Pud {
    const SHIFT: u32 = bindings::PUD_SHIFT;
}

/// The address bits of a leaf.
#[inline]
fn leaf_mask<L: Level>() -> u64 {
    address_mask() & !(L::SIZE as u64).wrapping_sub(1)
}

/// What marks a leaf that `L` has, besides being present.
const fn leaf_mark(shift: u32) -> u64 {
    if shift > PAGE_SHIFT as u32 {
        LARGE
    } else {
        0
    }
}

/// An entry of level `L` that was read. It need not be present.
#[repr(transparent)]
pub struct Entry<L>(u64, PhantomData<L>);

impl<L> fmt::Debug for Entry<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl<L> Clone for Entry<L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Entry<L> {}

impl<L: Level> Entry<L> {
    /// The entry with these bits.
    #[inline]
    pub const fn new(bits: u64) -> Self {
        Self(bits, PhantomData)
    }

    /// The bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether there is nothing. C: `pte_none()`, `pmd_none()`, `pud_none()`.
    #[doc(alias = "pte_none")]
    #[doc(alias = "pmd_none")]
    #[doc(alias = "pud_none")]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 & !ERRATUM == 0
    }

    /// Whether it is there for the processor, or will be again. C: `_PAGE_PRESENT`.
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether it maps device memory with a pgmap. C: `pte_devmap()`, `pmd_devmap()`,
    /// `pud_devmap()`.
    #[doc(alias = "pte_devmap")]
    #[doc(alias = "pmd_devmap")]
    #[doc(alias = "pud_devmap")]
    #[inline]
    pub const fn is_device(self) -> bool {
        self.0 & DEVMAP != 0
    }

    /// Whether an entry above the lowest level is a leaf. C: `pmd_leaf()`, `pud_leaf()`.
    #[doc(alias = "pmd_leaf")]
    #[doc(alias = "pud_leaf")]
    #[inline]
    pub const fn is_large(self) -> bool {
        self.0 & leaf_mark(L::SHIFT) != 0
    }

    /// Whether it lets programs store. C: `_PAGE_RW`.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// The frame that the address bits name. C: `pte_pfn()`, `pmd_pfn()`, `pud_pfn()`.
    #[doc(alias = "pte_pfn")]
    #[doc(alias = "pmd_pfn")]
    #[doc(alias = "pud_pfn")]
    #[inline]
    pub fn pfn(self) -> Pfn {
        let mask = if self.is_large() {
            leaf_mask::<L>()
        } else {
            address_mask()
        };
        Pfn::containing((self.0 ^ inversion(self.0)) & mask)
    }

    /// The same after a store: accessed and dirty, and writable if the area lets programs store. C:
    /// `pte_mkyoung()`, `pte_mkdirty()`, `maybe_mkwrite()`.
    ///
    /// Not for a shadow stack. Those are anonymous memory, never frames.
    #[doc(alias = "maybe_mkwrite")]
    #[doc(alias = "maybe_pmd_mkwrite")]
    #[doc(alias = "pte_mkdirty")]
    #[doc(alias = "pmd_mkdirty")]
    #[doc(alias = "pud_mkdirty")]
    #[inline]
    pub const fn stored_to(self, writable: bool) -> Self {
        let bits = self.0 | ACCESSED | SOFT_DIRTY;
        Self::new(if writable {
            (bits | DIRTY | WRITE) & !SAVED_DIRTY
        } else if bits & WRITE != 0 {
            bits | DIRTY
        } else {
            (bits | SAVED_DIRTY) & !DIRTY
        })
    }
}

/// The first of the frames that an entry is to map for programs.
///
/// # Invariants
///
/// Programs may have these frames, as many as the entry maps, for as long as such an entry can be
/// there.
#[derive(Clone, Copy)]
pub struct Frames(PfnT);

impl Frames {
    /// Those from `first` on.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says. If there is a pgmap for the frames, that is so if its
    /// driver takes the entries away before the pgmap goes.
    #[inline]
    pub unsafe fn new(first: PfnT) -> Self {
        // INVARIANT: The caller's promise.
        Self(first)
    }

    /// The first.
    #[inline]
    pub fn first(self) -> PfnT {
        self.0
    }
}

/// An entry of level `L` that maps memory.
///
/// # Invariants
///
/// It is a leaf, for [`Frames`] or for a part of them. Memory with a pgmap is marked as such;
/// other frames are special, so that nobody looks for a `struct page` that keeps them.
///
/// # Examples
///
/// ```
/// use kernel::mm::{
///     page_table::{Frames, Leaf, Pmd, Pte},
///     pfn::Pfn,
///     pfn_t::{PfnFlags, PfnT},
///     prot::PageProt,
/// };
///
/// // Present, for user space, read-only.
/// let prot = PageProt::new(0b101);
/// let frame = Pfn::new(0x24_0000);
/// // SAFETY: No entry that is made here is put into a table.
/// let frames = |pfn, flags| unsafe { Frames::new(PfnT::new(pfn, flags)) };
///
/// // Device memory with a pgmap, as a page: special, too.
/// let device = frames(frame, PfnFlags::DEV | PfnFlags::MAP);
/// let small = Leaf::<Pte>::new(device, prot);
/// assert_eq!(small.entry().bits(), 1 << 57 | 0x2_4000_0000 | 1 << 9 | 0b101);
/// assert_eq!(small.entry().pfn(), frame);
///
/// // As 2 MiB: large, not special. What is below the size is left out.
/// let large = Leaf::<Pmd>::new(device, prot);
/// assert_eq!(large.entry().bits(), 1 << 57 | 0x2_4000_0000 | 1 << 7 | 0b101);
/// let crooked = frames(Pfn::new(0x24_0001), PfnFlags::DEV | PfnFlags::MAP);
/// assert_eq!(Leaf::<Pmd>::new(crooked, prot).entry().pfn(), frame);
///
/// // Without a pgmap: special.
/// let bar = Leaf::<Pmd>::new(frames(frame, PfnFlags::DEV), prot);
/// assert!(!bar.entry().is_device());
/// assert_eq!(bar.entry().bits(), 0x2_4000_0000 | 1 << 9 | 1 << 7 | 0b101);
///
/// // A store: accessed, dirty, writable. Where programs may not store, the dirty bit has to be
/// // another one.
/// let stored = small.stored_to(true).entry();
/// assert!(stored.is_writable() && stored.bits() & (1 << 6 | 1 << 5) == 1 << 6 | 1 << 5);
/// let forced = small.stored_to(false).entry();
/// assert!(!forced.is_writable() && forced.bits() & (1 << 6 | 1 << 58) == 1 << 58);
///
/// // For the kernel alone (PROT_NONE): the address is inverted, and read back the right way.
/// let none = Leaf::<Pte>::new(device, PageProt::new(1 << 8 | 1 << 5));
/// assert!(!none.entry().is_present() && none.entry().pfn() == frame);
/// assert!(none.entry().bits() & 0x2_4000_0000 == 0);
/// ```
pub struct Leaf<L>(Entry<L>);

impl<L> Clone for Leaf<L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Leaf<L> {}

impl<L: Level> Leaf<L> {
    /// Maps these frames. C: `pfn_t_pte()`, `pte_mkdevmap()`,
    /// `pte_mkspecial()`; and the same for `pmd` and `pud`, with `pmd_mkhuge()`.
    ///
    /// As in C, the cache modes that need a bit of their own in large entries (write-through and
    /// write-protect) are not passed on to these.
    #[doc(alias = "pfn_t_pte")]
    #[doc(alias = "pfn_t_pmd")]
    #[doc(alias = "pfn_t_pud")]
    #[doc(alias = "pte_mkdevmap")]
    #[doc(alias = "pmd_mkdevmap")]
    #[doc(alias = "pud_mkdevmap")]
    #[inline]
    pub fn new(frames: Frames, prot: PageProt) -> Self {
        let pfn = frames.first();
        let mark = match (pfn.is_devmap(), leaf_mark(L::SHIFT)) {
            (true, 0) => DEVMAP | SPECIAL,
            (true, large) => DEVMAP | large,
            (false, large) => SPECIAL | large,
        };
        let bits = prot.bits();
        let (address, bits) = if bits & PRESENT != 0 {
            (pfn.phys(), supported(bits))
        } else {
            (pfn.phys() ^ inversion(bits), bits)
        };
        // INVARIANT: The marks are as it says.
        Self(Entry::new((address & leaf_mask::<L>()) | bits | mark))
    }

    /// The same after a store; see [`Entry::stored_to`].
    #[inline]
    pub const fn stored_to(self, writable: bool) -> Self {
        // INVARIANT: Neither mark changes.
        Self(self.0.stored_to(writable))
    }

    /// The entry.
    #[inline]
    pub const fn entry(self) -> Entry<L> {
        self.0
    }
}

/// Those bits of a present entry that this processor knows. C: `check_pgprot()`.
#[inline]
fn supported(bits: u64) -> u64 {
    // SAFETY: Written early at boot only.
    let known = bits & unsafe { bindings::__supported_pte_mask } as u64;
    if cfg!(CONFIG_DEBUG_VM) && known != bits {
        crate::warn_once!("page table: bits {:#x} are not supported", bits ^ known);
    }
    known
}
