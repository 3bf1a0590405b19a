// SPDX-License-Identifier: GPL-2.0-only

//! Putting frames into page tables: those of devices that have a pgmap, and others.
//!
//! Who deals with a fault of a DAX file, of device-dax, or of a driver's memory knows the frame that
//! belongs there, and asks for the entry. These are the entry points of `mm/memory.c` and
//! `mm/huge_memory.c` for that: same names, same licence class, same answers.
//!
//! ```text
//!   entry point     level           whose
//!   mixed           4 KiB           fs/dax, device-dax, drivers (gma500, omapdrm, intel_th, cramfs)
//!   mixed_mkwrite   4 KiB           fs/dax: a store
//!   pfn_pmd         2 MiB           fs/dax, device-dax, vfio
//!   pfn_pud         1 GiB           device-dax, vfio
//! ```
//!
//! [`area`] says which frames an area may have, [`insert`] puts them there. The entries, and the locks
//! that they are changed under, are in `rust/kernel/mm/page_table/`.
//!
//! What an entry for such a frame leaves out is most of what others do: nothing is counted in the
//! process, no reference to a page is taken, no table is set aside for splitting a huge entry (x86
//! needs none). A pgmap outlives the entries because its driver takes them away first.
//!
//! Where this differs from the C code on purpose, see `Documentation/filesystems/dax-rust.rst`.

use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::c_ulong,
    macros::export,
    mm::{
        page_table::{Frames, Pmd, Pud, Slot, Upper},
        pfn_t::PfnT,
        virt::VmaRef,
    },
};

mod insert;
mod vma;

const __LOG_PREFIX: &[u8] = b"devmap\0";

/// Maps the page at `addr` to a frame. May sleep. Returns `VM_FAULT_NOPAGE`, also if something is
/// mapped there; `VM_FAULT_SIGBUS` if the area must not have the frame; `VM_FAULT_OOM`.
///
/// # Safety
///
/// `vma` is an area whose fault is being dealt with. Programs may have the frame for as long as the
/// driver does not take the entry away.
#[export(EXPORT_SYMBOL)]
pub unsafe extern "C" fn vmf_insert_mixed(
    vma: *mut bindings::vm_area_struct,
    addr: c_ulong,
    pfn: bindings::pfn_t,
) -> bindings::vm_fault_t {
    // SAFETY: The caller's promise.
    let (vma, frame) = unsafe { (VmaRef::from_raw(vma), Frames::new(PfnT::from_raw(pfn))) };
    insert::page::<false>(vma, addr, frame).as_raw()
}

/// The same for a store: an entry that is there already, for the same frame, is made writable.
///
/// # Safety
///
/// As for `vmf_insert_mixed()`.
#[export]
pub unsafe extern "C" fn vmf_insert_mixed_mkwrite(
    vma: *mut bindings::vm_area_struct,
    addr: c_ulong,
    pfn: bindings::pfn_t,
) -> bindings::vm_fault_t {
    // SAFETY: The caller's promise.
    let (vma, frame) = unsafe { (VmaRef::from_raw(vma), Frames::new(PfnT::from_raw(pfn))) };
    insert::page::<true>(vma, addr, frame).as_raw()
}

/// Maps the 2 MiB that the fault is in to the frames from `pfn` on. If it is for a store, an entry
/// that is there already, for the same frames, is made writable. Spins only. Returns
/// `VM_FAULT_NOPAGE`, also if something else is mapped there, or `VM_FAULT_SIGBUS` if the area must
/// not have it.
///
/// # Safety
///
/// `vmf` is a fault that is being dealt with. Programs may have the frames for as long as the driver
/// does not take the entry away.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn vmf_insert_pfn_pmd(
    vmf: *mut bindings::vm_fault,
    pfn: bindings::pfn_t,
    write: bool,
) -> bindings::vm_fault_t {
    // SAFETY: The caller's promise.
    let (slot, frames) = unsafe {
        (
            slot::<Pmd>(vmf, (*vmf).pmd.cast()),
            Frames::new(PfnT::from_raw(pfn)),
        )
    };
    insert::large(slot, frames, write).as_raw()
}

/// The same for the 1 GiB that the fault is in.
///
/// # Safety
///
/// As for `vmf_insert_pfn_pmd()`.
#[export(EXPORT_SYMBOL_GPL)]
pub unsafe extern "C" fn vmf_insert_pfn_pud(
    vmf: *mut bindings::vm_fault,
    pfn: bindings::pfn_t,
    write: bool,
) -> bindings::vm_fault_t {
    // SAFETY: The caller's promise.
    let (slot, frames) = unsafe {
        (
            slot::<Pud>(vmf, (*vmf).pud.cast()),
            Frames::new(PfnT::from_raw(pfn)),
        )
    };
    insert::large(slot, frames, write).as_raw()
}

/// Where the entry of a fault is.
///
/// # Safety
///
/// `vmf` is a fault that is being dealt with, and `entry` what it has for level `L`.
#[inline(always)]
unsafe fn slot<'a, L: Upper>(vmf: *mut bindings::vm_fault, entry: *mut u64) -> Slot<'a, L> {
    // SAFETY: The caller's promise: who deals with a fault has found the entries of these levels for
    // the address, and keeps the area, which keeps the tables.
    unsafe {
        let at = (*vmf).__bindgen_anon_1;
        Slot::from_raw(
            VmaRef::from_raw(at.vma),
            at.address,
            NonNull::new_unchecked(entry),
        )
    }
}
