// SPDX-License-Identifier: GPL-2.0-only

//! Which frames an area may have.
//!
//! Whoever walks page tables later decides by the flags of the area and the marks of the entry
//! whether a frame is a page whose references count. What is refused here is what he would get wrong.
//!
//! C: `vm_mixed_ok()` and the assertions of `vmf_insert_pfn_pmd()`

use core::ptr::addr_of;
use kernel::{
    bindings,
    mm::{
        pfn::Pfn,
        pfn_t::{PfnFlags, PfnT},
        virt::{Flags, VmaRef},
    },
};

/// Whether it is the zero page. C: `is_zero_pfn()`.
#[inline]
pub(crate) fn is_zero_page(pfn: Pfn) -> bool {
    // SAFETY: Written once, at boot.
    pfn.nr() == unsafe { bindings::zero_pfn }
}

/// Whether it is the first of the huge zero page. C: `is_huge_zero_pmd()`.
pub(crate) fn is_huge_zero_page(pfn: Pfn) -> bool {
    // SAFETY: Read once: it changes when that page is made, or goes.
    pfn.nr() == unsafe { addr_of!(bindings::huge_zero_pfn).read_volatile() }
}

/// Whether the area may have the frame as a page.
#[inline(always)]
pub(crate) fn takes_page(vma: VmaRef<'_>, pfn: PfnT, store: bool) -> bool {
    if is_zero_page(pfn.pfn()) {
        return !store && takes_zero_page(vma);
    }
    pfn.is_devmap()
        || pfn.flags().contains(PfnFlags::SPECIAL)
        || vma.flags().contains(Flags::MIXEDMAP)
}

/// Whether the zero page does no harm in the area.
///
/// It does if it is pinned there, and another page takes its place at the first store: the pin would
/// be of the wrong page. C: `vm_mixed_zeropage_allowed()`.
fn takes_zero_page(vma: VmaRef<'_>) -> bool {
    let flags = vma.flags();
    // A copy is made at the first store, and the pin taken from that.
    flags.is_cow()
        // There is no store.
        || !flags.intersects(Flags::WRITE | Flags::MAYWRITE)
        // Somebody puts another page there, and long pins are refused.
        || (vma.has_pfn_mkwrite() && (vma.is_fsdax() || flags.contains(Flags::IO)))
}

/// Whether the area may have the frames in a large entry. Anything else is a driver's mistake, and
/// reported once.
#[inline(always)]
pub(crate) fn takes_large(vma: VmaRef<'_>, pfn: PfnT) -> bool {
    let flags = vma.flags();
    let right = match flags.intersects(Flags::PFNMAP | Flags::MIXEDMAP) {
        false => pfn.is_devmap(),
        true if flags.contains(Flags::PFNMAP | Flags::MIXEDMAP) => false,
        true => flags.contains(Flags::MIXEDMAP) || !flags.is_cow(),
    };
    if !right {
        refuse(flags, pfn);
    }
    right
}

#[cold]
fn refuse(flags: Flags, pfn: PfnT) {
    kernel::warn_once!("devmap: an area with flags {flags:?} must not have {pfn:?}");
}
