// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/memory.c`, Copyright (C) 1991, 1992, 1993, 1994 Linus Torvalds, and
// `mm/huge_memory.c`, Copyright (C) 2009 Red Hat, Inc.

//! Insertion of device memory into page tables: memory with a pgmap, and other PFNs.
//!
//! The handler of a fault (of a DAX file, of device-dax, of a driver's memory) knows the PFN that
//! belongs at the address, and asks for the entry. These are the entry points of `mm/memory.c` and
//! `mm/huge_memory.c` for that, with the same names, the same licence class and the same results:
//!
//! | entry point | level | callers |
//! |---|---|---|
//! | [`vmf_insert_mixed`] | 4 KiB | fs/dax, device-dax, drivers (gma500, omapdrm, intel_th, cramfs) |
//! | [`vmf_insert_mixed_mkwrite`] | 4 KiB | fs/dax, for a store |
//! | [`vmf_insert_pfn_pmd`] | 2 MiB | fs/dax, device-dax, vfio |
//! | [`vmf_insert_pfn_pud`] | 1 GiB | device-dax, vfio |
//!
//! `fs/dax` is another crate, so it calls them by their C symbols like every other caller, through
//! `kernel::mm::fault::VmFault`.
//!
//! The modules, in the order in which an insertion passes them:
//!
//! ```text
//!   vma       may this VMA map this PFN?
//!   insert    what happens with a vacant slot, with an occupied one, and with a marker
//!   slot      slots of page tables, under the lock of the table
//!   entry     the entries themselves, by level
//! ```
//!
//! An entry for device memory leaves out most of what entries for other memory need. No page is
//! counted in the process (`mm_counter()`), no reference to a page and no map count is taken, and
//! no page table is deposited for splitting a huge entry (x86 does not need one). The driver keeps
//! the memory valid: it removes the entries before it removes the pgmap. Nothing is removed here:
//! `zap_pte_range()`, `zap_huge_pmd()` and `zap_huge_pud()` in C remove these entries, and
//! recognise them by their devmap and special marks.
//!
//! This file encapsulates C's contract for fault handlers: that the raw VMA, fault and PFN which a
//! caller passes are valid and belong together.
//!
//! `Documentation/filesystems/dax-rust.rst` lists the deliberate differences from the C code.

use crate::{
    entry::{MappablePfn, Pmd, Pud},
    slot::{Slot, UpperTable},
    vma::VmaPfn,
};
use core::ptr::NonNull;
use kernel::{
    arch::x86::paravirt::EntryPtr,
    bindings,
    ffi::c_ulong,
    macros::export,
    mm::{fault::VmFaultResult, pfn_t::PfnT, virt::VmaRef},
};

mod entry;
mod insert;
mod slot;
mod vma;

const __LOG_PREFIX: &[u8] = b"devmap\0";

/// Maps the page at `addr` to a PFN. May sleep.
///
/// Returns `VM_FAULT_NOPAGE`, also if the page is mapped already; `VM_FAULT_SIGBUS` if the VMA must
/// not map the PFN; `VM_FAULT_OOM`.
///
/// # Safety
///
/// `vma` must be the VMA of a fault that is being handled. The process must be allowed to access
/// the memory of the PFN until the driver removes the entry.
#[export(EXPORT_SYMBOL)]
pub unsafe extern "C" fn vmf_insert_mixed(
    vma: *mut bindings::vm_area_struct,
    addr: c_ulong,
    pfn: bindings::pfn_t,
) -> bindings::vm_fault_t {
    // SAFETY: The caller promises that a fault in the VMA is being handled, which keeps the VMA,
    // and that the process may access the memory while it is mapped.
    let (vma, pfn) = unsafe { (VmaRef::from_raw(vma), MappablePfn::new(PfnT::from_raw(pfn))) };
    insert::page::<false>(vma, addr, pfn).as_raw()
}

/// Maps the page at `addr` to a PFN for a store, as `vmf_insert_mixed()` does, and makes an
/// existing entry for this PFN writable. May sleep.
///
/// # Safety
///
/// `vma` must be the VMA of a fault that is being handled. The process must be allowed to access
/// the memory of the PFN until the driver removes the entry.
#[export]
pub unsafe extern "C" fn vmf_insert_mixed_mkwrite(
    vma: *mut bindings::vm_area_struct,
    addr: c_ulong,
    pfn: bindings::pfn_t,
) -> bindings::vm_fault_t {
    // SAFETY: The caller promises that a fault in the VMA is being handled, which keeps the VMA,
    // and that the process may access the memory while it is mapped.
    let (vma, pfn) = unsafe { (VmaRef::from_raw(vma), MappablePfn::new(PfnT::from_raw(pfn))) };
    insert::page::<true>(vma, addr, pfn).as_raw()
}

/// Maps the 2 MiB around the address of the fault to the PFNs from `pfn` on, for a store if
/// `write`. Spins, does not sleep.
///
/// A store makes an existing entry for these PFNs writable. Returns `VM_FAULT_NOPAGE`, also if
/// something else is mapped there, or `VM_FAULT_SIGBUS` if the VMA must not map the PFNs, or does
/// not contain all of the 2 MiB.
///
/// # Safety
///
/// `vmf` must be a fault that is being handled. The process must be allowed to access the memory of
/// the PFNs until the driver removes the entry. `pfn` must be a multiple of 2 MiB.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn vmf_insert_pfn_pmd(
    vmf: *mut bindings::vm_fault,
    pfn: bindings::pfn_t,
    write: bool,
) -> bindings::vm_fault_t {
    // SAFETY: The caller promises that the fault is being handled, so it has the pmd for its
    // address, and that the process may access the memory while it is mapped.
    unsafe { insert_large::<Pmd>(vmf, (*vmf).pmd.cast(), pfn, write) }
}

/// Maps the 1 GiB around the address of the fault to the PFNs from `pfn` on, as
/// `vmf_insert_pfn_pmd()` does for 2 MiB. Spins, does not sleep.
///
/// # Safety
///
/// `vmf` must be a fault that is being handled. The process must be allowed to access the memory of
/// the PFNs until the driver removes the entry. `pfn` must be a multiple of 1 GiB.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn vmf_insert_pfn_pud(
    vmf: *mut bindings::vm_fault,
    pfn: bindings::pfn_t,
    write: bool,
) -> bindings::vm_fault_t {
    // SAFETY: The caller promises that the fault is being handled, so it has the pud for its
    // address, and that the process may access the memory while it is mapped.
    unsafe { insert_large::<Pud>(vmf, (*vmf).pud.cast(), pfn, write) }
}

/// Maps what an entry of level `L` maps around the address of a fault to the PFNs from `pfn` on.
///
/// # Safety
///
/// `vmf` must be a fault that is being handled, and `entry` its entry of level `L`. The process
/// must be allowed to access the memory of the PFNs until the driver removes the entry. `pfn` must
/// be a multiple of the number of PFNs.
#[inline(always)]
unsafe fn insert_large<L: UpperTable>(
    vmf: *mut bindings::vm_fault,
    entry: *mut u64,
    pfn: bindings::pfn_t,
    write: bool,
) -> bindings::vm_fault_t {
    // SAFETY: The caller promises that the fault is being handled, which keeps the VMA, and that
    // the process may access the memory while it is mapped.
    let (vma, address, pfn) = unsafe {
        let at = (*vmf).__bindgen_anon_1;
        (
            VmaRef::from_raw(at.vma),
            at.address,
            MappablePfn::new(PfnT::from_raw(pfn)),
        )
    };
    let slot = VmaPfn::large(vma, pfn, write).and_then(|pfn| {
        // SAFETY: C's fault code has found the entries of these levels for the address before it
        // called the handler, so `entry` is not null, and it keeps the VMA, which keeps the tables.
        unsafe {
            let entry = EntryPtr::new(NonNull::new_unchecked(entry));
            Slot::<L>::from_raw(pfn, address, entry)
        }
    });
    match slot {
        Some(slot) => insert::large(slot),
        None => VmFaultResult::SIGBUS,
    }
    .as_raw()
}
