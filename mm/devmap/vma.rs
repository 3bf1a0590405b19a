// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/memory.c`, Copyright (C) 1991, 1992, 1993, 1994 Linus Torvalds, and
// `mm/huge_memory.c`, Copyright (C) 2009 Red Hat, Inc.

//! Which PFNs a VMA may map.
//!
//! Code that walks page tables later (`vm_normal_page()`, GUP) decides by the flags of the VMA and
//! the marks of the entry whether a PFN is a page with counted references. A PFN for which it would
//! decide wrongly is refused here. What is not refused is a [`VmaPfn`], and nothing else can be
//! made a leaf, or be looked for in an entry that is opened for stores.
//!
//! C: `vm_mixed_ok()`, `vm_mixed_zeropage_allowed()`, the assertions of `vmf_insert_pfn_pmd()` and
//! `vmf_insert_pfn_pud()`

use crate::entry::MappablePfn;
use kernel::mm::{
    fault::{is_huge_zero_pfn, is_zero_pfn},
    pfn_t::{PfnFlags, PfnT},
    prot::PageProt,
    virt::{VmFlags, VmaRef},
};

/// The first PFN that a VMA may map by an entry, and the access that the entry is for.
///
/// # Invariants
///
/// The process of the VMA may access the memory of the PFNs with the rights of the VMA. For a store
/// they are not those of the zero page or the huge zero folio.
#[derive(Clone, Copy)]
pub(crate) struct VmaPfn<'a> {
    vma: VmaRef<'a>,
    first: MappablePfn,
    store: bool,
}

impl<'a> VmaPfn<'a> {
    /// Returns the PFN if the VMA may map it as a page, for a store if `store`. C: `vm_mixed_ok()`.
    #[doc(alias = "vm_mixed_ok")]
    #[inline(always)]
    pub(crate) fn page(vma: VmaRef<'a>, first: MappablePfn, store: bool) -> Option<Self> {
        // INVARIANT: By the invariants of `MappablePfn` the process may access the memory, and
        // `may_map_page()` refuses the zero page for a store.
        may_map_page(vma, first.first(), store).then_some(Self { vma, first, store })
    }

    /// Returns the PFN if the VMA may map it, and those behind it, by a large entry, for a store if
    /// `store`. Otherwise the driver has a bug, which is reported once.
    #[inline(always)]
    pub(crate) fn large(vma: VmaRef<'a>, first: MappablePfn, store: bool) -> Option<Self> {
        // INVARIANT: By the invariants of `MappablePfn` the process may access the memory, and
        // `may_map_large()` refuses the huge zero folio for a store.
        may_map_large(vma, first.first(), store).then_some(Self { vma, first, store })
    }

    /// Returns the VMA.
    #[inline]
    pub(crate) fn vma(self) -> VmaRef<'a> {
        self.vma
    }

    /// Returns the PFN with the protection of a new pte for it, if the running task may map it so.
    /// Spins. C: `track_pfn_insert()`, `pfn_modify_allowed()`.
    #[doc(alias = "pfn_modify_allowed")]
    #[inline(always)]
    pub(crate) fn with_prot(self) -> Option<NewPte<'a>> {
        let prot = self.vma.prot_for(self.first());
        // INVARIANT: This is the protection for the PFN.
        prot.may_map(self.first().pfn())
            .then_some(NewPte { pfn: self, prot })
    }

    /// Returns the first PFN.
    #[inline]
    pub(crate) fn first(self) -> PfnT {
        self.first.first()
    }

    /// Returns whether the entry is for a store.
    #[inline]
    pub(crate) fn is_store(self) -> bool {
        self.store
    }

    /// Returns whether the process may store to the VMA. C: `maybe_mkwrite()`.
    #[inline]
    pub(crate) fn is_writable(self) -> bool {
        self.vma.flags().contains(VmFlags::WRITE)
    }
}

/// A PFN and the protection of a new pte for it.
///
/// # Invariants
///
/// `prot` is the protection that the VMA gives an entry for the PFN, and the running task may map
/// it so.
#[derive(Clone, Copy)]
pub(crate) struct NewPte<'a> {
    pfn: VmaPfn<'a>,
    prot: PageProt,
}

impl<'a> NewPte<'a> {
    /// Returns the PFN.
    #[inline]
    pub(crate) fn pfn(self) -> VmaPfn<'a> {
        self.pfn
    }

    /// Returns the protection.
    #[inline]
    pub(crate) fn prot(self) -> PageProt {
        self.prot
    }
}

/// Returns whether the VMA may map the PFN as a page, for a store if `store`.
#[inline(always)]
fn may_map_page(vma: VmaRef<'_>, pfn: PfnT, store: bool) -> bool {
    if is_zero_pfn(pfn.pfn()) {
        return !store && may_map_zero_page(vma);
    }
    pfn.is_devmap()
        || pfn.flags().contains(PfnFlags::SPECIAL)
        || vma.flags().contains(VmFlags::MIXEDMAP)
}

/// Returns whether the VMA may map the zero page. C: `vm_mixed_zeropage_allowed()`.
///
/// It must not if the zero page could be pinned there and then be replaced at the first store: the
/// pin would be of the wrong page.
#[doc(alias = "vm_mixed_zeropage_allowed")]
fn may_map_zero_page(vma: VmaRef<'_>) -> bool {
    let flags = vma.flags();
    // The first store makes a private copy, and a pin for writing is of the copy.
    flags.is_cow()
        // There is no store.
        || !flags.intersects(VmFlags::WRITE | VmFlags::MAYWRITE)
        // `pfn_mkwrite()` replaces the zero page, and long-term pins are refused.
        || (vma.has_pfn_mkwrite() && (vma.is_fsdax() || flags.contains(VmFlags::IO)))
}

/// Returns whether the VMA may map the PFNs by a large entry, for a store if `store`.
#[inline(always)]
fn may_map_large(vma: VmaRef<'_>, pfn: PfnT, store: bool) -> bool {
    let flags = vma.flags();
    let may_map = match flags.intersects(VmFlags::PFNMAP | VmFlags::MIXEDMAP) {
        // The huge zero folio has no pgmap.
        false => pfn.is_devmap(),
        true if flags.contains(VmFlags::PFNMAP | VmFlags::MIXEDMAP) => false,
        true => {
            (flags.contains(VmFlags::MIXEDMAP) || !flags.is_cow())
                && !(store && is_huge_zero_pfn(pfn.pfn()))
        }
    };
    if !may_map {
        report(flags, pfn);
    }
    may_map
}

/// Warns about a driver that maps PFNs by a large entry in a VMA that must not.
#[cold]
fn report(flags: VmFlags, pfn: PfnT) {
    kernel::warn_once!("devmap: VMA with flags {flags:?} must not map {pfn:?}");
}
