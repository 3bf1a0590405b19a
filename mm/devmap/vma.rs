// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/memory.c`, Copyright (C) 1991, 1992, 1993, 1994 Linus Torvalds, and
// `mm/huge_memory.c`, Copyright (C) 2009 Red Hat, Inc.

//! Which PFNs a VMA may map.
//!
//! Code that walks page tables later (`vm_normal_page()`, GUP) decides by the flags of the VMA and
//! the marks of the entry whether a PFN is a page with counted references. A PFN for which it would
//! decide wrongly is refused here.
//!
//! C: `vm_mixed_ok()`, `vm_mixed_zeropage_allowed()`, the assertions of `vmf_insert_pfn_pmd()` and
//! `vmf_insert_pfn_pud()`

use kernel::mm::{
    fault::is_zero_pfn,
    pfn_t::{PfnFlags, PfnT},
    virt::{VmFlags, VmaRef},
};

/// Returns whether the VMA may map the PFN as a page, for a store if `store`. C: `vm_mixed_ok()`.
#[doc(alias = "vm_mixed_ok")]
#[inline(always)]
pub(crate) fn may_map_page(vma: VmaRef<'_>, pfn: PfnT, store: bool) -> bool {
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

/// Returns whether the VMA may map the PFNs by a large entry. Otherwise the driver has a bug, which
/// is reported once.
#[inline(always)]
pub(crate) fn may_map_large(vma: VmaRef<'_>, pfn: PfnT) -> bool {
    let flags = vma.flags();
    let may_map = match flags.intersects(VmFlags::PFNMAP | VmFlags::MIXEDMAP) {
        false => pfn.is_devmap(),
        true if flags.contains(VmFlags::PFNMAP | VmFlags::MIXEDMAP) => false,
        true => flags.contains(VmFlags::MIXEDMAP) || !flags.is_cow(),
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
