// SPDX-License-Identifier: GPL-2.0-only

//! Entries of page tables, by level.
//!
//! Three levels have entries that map memory. An [`Entry`] was read from a table and can be
//! anything. A [`Leaf`] was made here and maps the PFNs that a [`VmaPfn`] stands for. Both have the
//! level in their type, so a leaf of one level cannot be installed in a table of another level,
//! where its bits mean something else.
//!
//! Two bits of an entry are for programs that follow the stores of a process. A store sets
//! soft-dirty, which `/proc/PID/clear_refs` clears. A store ends uffd-wp, by which userfaultfd and
//! the `PAGEMAP_SCAN` ioctl write-protect pages. An entry is opened for stores by one function,
//! [`Entry::with_store`], and that changes both.
//!
//! The bits are those of [`kernel::arch::x86::pgtable`]. This file encapsulates that a [`Leaf`]
//! maps only memory that the process may access: [`MappablePfn::new`] is `unsafe`.

use crate::vma::VmaPfn;
use core::{fmt, marker::PhantomData};
use kernel::{
    arch::x86::{
        paravirt,
        pgprot::{self, address_mask},
        pgtable::{self, LeafKind, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT},
    },
    bindings,
    mm::{
        fault::{is_huge_zero_pfn, is_zero_pfn},
        pfn::Pfn,
        pfn_t::PfnT,
        prot::PageProt,
    },
};

/// The soft-dirty bit, in kernels that track it. C: `_PAGE_SOFT_DIRTY`.
const SOFT_DIRTY: u64 = if cfg!(CONFIG_MEM_SOFT_DIRTY) {
    pgtable::Entry::SOFT_DIRTY
} else {
    0
};

/// A level of the page tables with entries that may map memory: [`Pte`], [`Pmd`] or [`Pud`].
pub(crate) trait Level: Sized {
    /// The number of bytes that an entry maps, as a power of two.
    const SHIFT: u32;

    /// The number of bytes that an entry maps.
    const SIZE: usize = 1 << Self::SHIFT;

    /// Returns whether the entry maps the zero page of this level, as holes of files are mapped.
    fn is_zero_page(entry: Entry<Self>) -> bool;
}

/// The lowest level: 4 KiB an entry. C: `pte_t`.
#[doc(alias = "pte_t")]
pub(crate) enum Pte {}

/// The level above [`Pte`]: 2 MiB an entry. C: `pmd_t`.
#[doc(alias = "pmd_t")]
pub(crate) enum Pmd {}

/// The level above [`Pmd`]: 1 GiB an entry. C: `pud_t`.
#[doc(alias = "pud_t")]
pub(crate) enum Pud {}

impl Level for Pte {
    const SHIFT: u32 = PTE_SHIFT;

    fn is_zero_page(entry: Entry<Self>) -> bool {
        is_zero_pfn(entry.pfn())
    }
}

impl Level for Pmd {
    const SHIFT: u32 = PMD_SHIFT;

    fn is_zero_page(entry: Entry<Self>) -> bool {
        is_huge_zero_pfn(entry.pfn())
    }
}

impl Level for Pud {
    const SHIFT: u32 = PUD_SHIFT;

    /// Returns `false`: there is no zero page of 1 GiB.
    fn is_zero_page(_entry: Entry<Self>) -> bool {
        false
    }
}

/// An entry of level `L` that was read from a table. It need not be present.
#[repr(transparent)]
pub(crate) struct Entry<L>(pgtable::Entry, PhantomData<L>);

impl<L> fmt::Debug for Entry<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0.bits())
    }
}

impl<L> Clone for Entry<L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Entry<L> {}

impl<L> PartialEq for Entry<L> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<L: Level> Entry<L> {
    /// Gives an entry its level.
    #[inline]
    pub(crate) const fn new(entry: pgtable::Entry) -> Self {
        Self(entry, PhantomData)
    }

    /// Returns the entry without its level.
    #[inline]
    pub(crate) const fn entry(self) -> pgtable::Entry {
        self.0
    }

    /// Returns whether the entry is empty. C: `pte_none()`, `pmd_none()`, `pud_none()`.
    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.0.is_none()
    }

    /// Returns the PFN in an entry that is not none. C: `pte_pfn()`, `pmd_pfn()`, `pud_pfn()`.
    #[inline]
    pub(crate) fn pfn(self) -> Pfn {
        // CAST: A PFN has at most 40 bits.
        Pfn::new(self.0.pfn(L::SHIFT, address_mask()) as usize)
    }

    /// Returns whether this is a present leaf that maps the PFNs from `first` on.
    #[inline]
    pub(crate) fn maps(self, first: PfnT) -> bool {
        self.0.maps(first.phys(), L::SHIFT, address_mask())
    }

    /// Returns the leaf as it is after a store: accessed, dirty, and writable if `writable`. C:
    /// `pte_mkyoung()`, `pte_mkdirty()`, `maybe_mkwrite()`.
    ///
    /// A writable leaf is no longer write-protected for userfaultfd: only VMAs of the asynchronous
    /// mode can have device memory, and there a store ends the protection. In C it stays, so the
    /// store is never reported.
    ///
    /// Not for shadow stacks, which are anonymous memory, never device memory.
    #[doc(alias = "maybe_mkwrite")]
    #[doc(alias = "maybe_pmd_mkwrite")]
    #[doc(alias = "maybe_pud_mkwrite")]
    #[inline]
    pub(crate) const fn with_store(self, writable: bool) -> Self {
        Self::new(pgtable::Entry::new(
            self.0.with_store(writable).bits() | SOFT_DIRTY,
        ))
    }
}

impl Entry<Pte> {
    /// Returns whether the entry maps nothing, but says that stores to the page are to be noticed
    /// by userfaultfd. C: `pte_marker_uffd_wp()`.
    #[doc(alias = "pte_marker_uffd_wp")]
    #[cold]
    pub(crate) fn is_uffd_wp_marker(self) -> bool {
        // SAFETY: The function only computes with its argument; it has no preconditions.
        unsafe { bindings::pte_marker_uffd_wp(paravirt::pte(self.0)) }
    }
}

/// The first of the PFNs that an entry is to map, as many as the entry maps.
///
/// # Invariants
///
/// The process may access the memory of these PFNs for as long as such an entry exists.
#[derive(Clone, Copy)]
pub(crate) struct MappablePfn(PfnT);

impl MappablePfn {
    /// Creates a value for the PFNs from `first` on.
    ///
    /// # Safety
    ///
    /// The process must be allowed to access the memory of these PFNs, with the rights of the VMA
    /// that the caller names with them, for as long as an entry that maps them exists. If they have
    /// a pgmap, it suffices that its driver removes such entries before it removes the pgmap.
    /// `first` must be a multiple of the number of PFNs, and must be marked devmap only if they
    /// have a pgmap.
    #[inline]
    pub(crate) unsafe fn new(first: PfnT) -> Self {
        // INVARIANT: The caller promises that the process may access the memory.
        Self(first)
    }

    /// Returns the first PFN.
    #[inline]
    pub(crate) fn first(self) -> PfnT {
        self.0
    }
}

/// An entry of level `L` that maps memory.
///
/// # Invariants
///
/// It is a leaf for a [`VmaPfn`], with no more rights than the VMA has. Memory with a pgmap is
/// marked devmap; other memory is marked special, so that code that walks page tables does not take
/// references to a `struct page` there.
pub(crate) struct Leaf<L>(Entry<L>);

impl<L> Clone for Leaf<L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Leaf<L> {}

impl<L: Level> Leaf<L> {
    /// Creates a leaf that maps `pfn`, as it is after the access that the fault is for. C:
    /// `pfn_t_pte()`, `pte_mkdevmap()`, `pte_mkspecial()`; and the same for pmd and pud, with
    /// `pmd_mkhuge()`.
    ///
    /// As in C, the cache modes that have another bit in large entries (write-through and
    /// write-protect) are not translated for these.
    #[doc(alias = "pfn_t_pte")]
    #[doc(alias = "pfn_t_pmd")]
    #[doc(alias = "pfn_t_pud")]
    #[inline]
    pub(crate) fn new(pfn: VmaPfn<'_>, prot: PageProt) -> Self {
        let first = pfn.first();
        let kind = match first.is_devmap() {
            true => LeafKind::Devmap,
            false => LeafKind::Special,
        };
        let leaf = Entry(
            pgprot::leaf(first.phys(), prot.bits(), kind, L::SHIFT),
            PhantomData,
        );
        // INVARIANT: By the invariants of `PageProt` the entry maps memory for the process.
        // `leaf()` marks it by `kind`, which is devmap with a pgmap only. A store changes neither
        // the PFN nor the marks, and makes the entry writable only if the VMA is.
        match pfn.is_store() {
            true => Self(leaf.with_store(pfn.is_writable())),
            false => Self(leaf),
        }
    }

    /// Returns the leaf write-protected for userfaultfd. C: `pte_mkuffd_wp()`.
    #[inline]
    pub(crate) const fn with_uffd_wp(self) -> Self {
        // INVARIANT: Only a right is taken away.
        Self(Entry(self.0 .0.with_uffd_wp(), PhantomData))
    }

    /// Returns the entry.
    #[inline]
    pub(crate) const fn entry(self) -> Entry<L> {
        self.0
    }
}
