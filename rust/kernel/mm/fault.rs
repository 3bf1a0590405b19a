// SPDX-License-Identifier: GPL-2.0

//! Page faults, as whoever has the memory sees them.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h)

use super::{
    page_table,
    pfn::Pfn,
    pfn_t::{PfnFlags, PfnT},
    virt::{Flags, VmaRef},
};
use crate::{
    bindings,
    error::{
        code::{EHWPOISON, ENOMEM},
        to_result, Error, Result,
    },
    ffi::c_void,
    fs::address_space::AddressSpace,
};
use core::{
    marker::PhantomData,
    ops::BitOr,
    ptr::{addr_of, NonNull},
};

/// What becomes of a fault. C: `vm_fault_t`.
#[doc(alias = "vm_fault_t")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct VmFaultResult(bindings::vm_fault_t);

impl VmFaultResult {
    /// Nothing to say. What was to be done is done by somebody else, or will be asked again.
    pub const NONE: Self = Self(0);
    /// The page table entry is there. C: `VM_FAULT_NOPAGE`.
    pub const NOPAGE: Self = Self(bindings::vm_fault_reason_VM_FAULT_NOPAGE);
    /// To be tried with small pages. C: `VM_FAULT_FALLBACK`.
    pub const FALLBACK: Self = Self(bindings::vm_fault_reason_VM_FAULT_FALLBACK);
    /// No memory. C: `VM_FAULT_OOM`.
    pub const OOM: Self = Self(bindings::vm_fault_reason_VM_FAULT_OOM);
    /// There is nothing, or it cannot be read. C: `VM_FAULT_SIGBUS`.
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
    /// It was there only after I/O. C: `VM_FAULT_MAJOR`.
    pub const MAJOR: Self = Self(bindings::vm_fault_reason_VM_FAULT_MAJOR);
    /// The memory is bad. C: `VM_FAULT_HWPOISON`.
    pub const HWPOISON: Self = Self(bindings::vm_fault_reason_VM_FAULT_HWPOISON);
    /// The private page was filled. C: `VM_FAULT_DONE_COW`.
    pub const DONE_COW: Self = Self(bindings::vm_fault_reason_VM_FAULT_DONE_COW);
    /// Metadata has to be written before the page table entry may be there. C:
    /// `VM_FAULT_NEEDDSYNC`.
    pub const NEEDDSYNC: Self = Self(bindings::vm_fault_reason_VM_FAULT_NEEDDSYNC);

    /// C: `VM_FAULT_ERROR`.
    const ERROR: Self = Self(
        bindings::vm_fault_reason_VM_FAULT_OOM
            | bindings::vm_fault_reason_VM_FAULT_SIGBUS
            | bindings::vm_fault_reason_VM_FAULT_SIGSEGV
            | bindings::vm_fault_reason_VM_FAULT_HWPOISON
            | bindings::vm_fault_reason_VM_FAULT_HWPOISON_LARGE
            | bindings::vm_fault_reason_VM_FAULT_FALLBACK,
    );

    /// What an error becomes. C: `vmf_error()`.
    #[doc(alias = "vmf_error")]
    #[inline]
    pub fn from_error(error: Error) -> Self {
        if error == ENOMEM {
            Self::OOM
        } else if error == EHWPOISON {
            Self::HWPOISON
        } else {
            Self::SIGBUS
        }
    }

    /// Whether it was not dealt with. C: `VM_FAULT_ERROR`.
    #[doc(alias = "VM_FAULT_ERROR")]
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// What C takes.
    #[inline]
    pub const fn as_raw(self) -> bindings::vm_fault_t {
        self.0
    }
}

impl BitOr for VmFaultResult {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What an entry of a page middle directory maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PmdEntry {
    /// Nothing.
    None,
    /// Small pages, through a table; or one that is being moved.
    Table,
    /// A huge page of anonymous memory, of a page cache, or of zeroes.
    Huge,
    /// A huge page of a device.
    Device,
}

/// A page fault of a file's mapping that is being dealt with. C: `struct vm_fault`.
///
/// # Invariants
///
/// It is valid for `'a` and nobody else uses it; the VMA is kept, and has a file a mapping.
#[doc(alias = "vm_fault")]
pub struct VmFault<'a>(NonNull<bindings::vm_fault>, PhantomData<&'a mut ()>);

impl<'a> VmFault<'a> {
    /// The fault that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: The caller's promise.
        Self(ptr, PhantomData)
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::vm_fault {
        self.0.as_ptr()
    }

    /// The area that the address is in.
    #[inline]
    pub fn vma(&self) -> VmaRef<'a> {
        // SAFETY: By the invariant the field is there, and the area is kept.
        unsafe { VmaRef::from_raw((*self.as_raw()).__bindgen_anon_1.vma) }
    }

    /// The mapping of the file.
    #[inline]
    pub fn mapping(&self) -> &'a AddressSpace {
        // SAFETY: By the invariant the VMA has a file, which has a mapping, which stays.
        unsafe { AddressSpace::from_raw((*(*self.vma().as_raw()).vm_file).f_mapping) }
    }

    /// The address that was accessed, rounded down to a page.
    #[inline]
    pub fn address(&self) -> usize {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).__bindgen_anon_1.address }
    }

    /// The page of the file that is there.
    #[inline]
    pub fn index(&self) -> usize {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).__bindgen_anon_1.pgoff }
    }

    /// Whether it was a store. C: `FAULT_FLAG_WRITE`.
    #[inline]
    pub fn is_write(&self) -> bool {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0 }
    }

    /// Whether a private page is to be filled. C: `cow_page`.
    #[inline]
    pub fn has_cow_page(&self) -> bool {
        // SAFETY: By the invariant the field is there.
        unsafe { !(*self.as_raw()).cow_page.is_null() }
    }

    /// Whether stores go to the file. C: `VM_SHARED`.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.vma().flags().contains(Flags::SHARED)
    }

    /// Whether a store may be flushed by the program alone: `MAP_SYNC`. C: `VM_SYNC`.
    #[inline]
    pub fn is_sync(&self) -> bool {
        self.vma().flags().contains(Flags::SYNC)
    }

    /// What the entry of the page middle directory maps at this moment. C: `pmd_none()`,
    /// `pmd_trans_huge()`, `pmd_devmap()`.
    #[doc(alias = "pmd_trans_huge")]
    #[doc(alias = "pmd_devmap")]
    #[inline]
    pub fn pmd(&self) -> PmdEntry {
        // SAFETY: By the invariant the entry is there; read once, for it may change.
        let word = unsafe { addr_of!((*(*self.as_raw()).pmd).pmd).read_volatile() };
        let entry = page_table::Entry::<page_table::Pmd>::new(word as u64);
        if entry.is_none() {
            PmdEntry::None
        } else if entry.is_device() {
            PmdEntry::Device
        } else if entry.is_large() {
            PmdEntry::Huge
        } else {
            PmdEntry::Table
        }
    }

    /// Maps the page at the address to a PFN, for writing if `write`. May sleep. C:
    /// `vmf_insert_mixed()`, `vmf_insert_mixed_mkwrite()`.
    ///
    /// # Safety
    ///
    /// The process must be allowed to access the page, and code that revokes that access must be sure
    /// to find the mapping.
    #[doc(alias = "vmf_insert_mixed")]
    #[doc(alias = "vmf_insert_mixed_mkwrite")]
    #[inline(always)]
    pub unsafe fn insert_mixed(&mut self, pfn: PfnT, write: bool) -> VmFaultResult {
        let (vma, address, pfn) = (self.vma().as_raw(), self.address(), pfn.into_raw());
        // SAFETY: By the type invariants the VMA is valid and kept, and the caller promises that the
        // page may be mapped there.
        VmFaultResult(unsafe {
            if write {
                bindings::vmf_insert_mixed_mkwrite(vma, address, pfn)
            } else {
                bindings::vmf_insert_mixed(vma, address, pfn)
            }
        })
    }

    /// Maps the 2 MiB around the address to the PFNs from `pfn` on, for writing if `write`. May sleep.
    /// C: `vmf_insert_pfn_pmd()`.
    ///
    /// # Safety
    ///
    /// The process must be allowed to access the 2 MiB, which start at an aligned PFN, and code that
    /// revokes that access must be sure to find the mapping.
    #[doc(alias = "vmf_insert_pfn_pmd")]
    #[inline(always)]
    pub unsafe fn insert_pfn_pmd(&mut self, pfn: PfnT, write: bool) -> VmFaultResult {
        // SAFETY: By the type invariants the fault is valid, and the caller promises that the PFNs may
        // be mapped there.
        VmFaultResult(unsafe { bindings::vmf_insert_pfn_pmd(self.as_raw(), pfn.into_raw(), write) })
    }

    /// The zero page at the address. C: `my_zero_pfn()`.
    #[doc(alias = "my_zero_pfn")]
    #[inline]
    pub fn zero_page(&self) -> ZeroPage {
        // SAFETY: No preconditions.
        let pfn = unsafe { bindings::my_zero_pfn(self.address() as _) };
        // INVARIANT: That is it.
        ZeroPage(Pfn::new(pfn as usize))
    }

    /// Maps the page at the address to the zero page, read-only. May sleep.
    #[inline]
    pub fn insert_zero_page(&mut self, zero: ZeroPage) -> VmFaultResult {
        // SAFETY: Everybody may read it, and it never goes.
        unsafe { self.insert_mixed(PfnT::new(zero.0, PfnFlags::NONE), false) }
    }

    /// The huge zero page, which stays as long as the process has memory. Sleeps. `None` if
    /// there is no memory for one. C: `mm_get_huge_zero_folio()`.
    #[doc(alias = "mm_get_huge_zero_folio")]
    #[inline]
    pub fn huge_zero(&self) -> Option<HugeZeroFolio> {
        // SAFETY: By the invariant the VMA has an address space.
        let folio = unsafe { bindings::mm_get_huge_zero_folio((*self.vma().as_raw()).vm_mm) };
        NonNull::new(folio).map(HugeZeroFolio)
    }

    /// Maps the 2 MiB that the address is in to the huge zero page, read-only. Returns `false`
    /// if something was mapped there.
    #[inline]
    pub fn insert_huge_zero(&mut self, zero: HugeZeroFolio) -> bool {
        // SAFETY: By the invariant the fault is valid, and the page stays with the process.
        unsafe { bindings::dax_map_huge_zero(self.as_raw(), zero.0.as_ptr()) }
    }

    /// A huge page that is mapped here is mapped by small ones from now on, and the fallback is
    /// counted among the events of the system. C: `split_huge_pmd()`.
    #[doc(alias = "split_huge_pmd")]
    #[inline]
    pub fn split(&mut self) {
        // SAFETY: By the invariant the fault is valid.
        unsafe { bindings::dax_split_pmd(self.as_raw()) };
    }

    /// Fills the private page with zeroes. C: `clear_user_highpage()`.
    #[doc(alias = "clear_user_highpage")]
    #[inline]
    pub fn clear_cow_page(&mut self) {
        if self.has_cow_page() {
            // SAFETY: The fault has such a page.
            unsafe { bindings::dax_clear_cow_page(self.as_raw()) };
        }
    }

    /// Copies a page to the private page. C: `copy_user_page()`.
    ///
    /// # Safety
    ///
    /// A page from `from` on must be readable.
    #[doc(alias = "copy_user_page")]
    #[inline]
    pub unsafe fn copy_to_cow_page(&mut self, from: *mut c_void) {
        if self.has_cow_page() {
            // SAFETY: The fault has a private page, and the caller promises that the other page is
            // readable.
            unsafe { bindings::dax_copy_to_cow_page(self.as_raw(), from) };
        }
    }

    /// Maps the private page, which was filled. May sleep. C: `finish_fault()`.
    #[doc(alias = "finish_fault")]
    #[inline]
    pub fn finish_cow_page(&mut self) -> VmFaultResult {
        // SAFETY: By the invariant the fault is valid.
        VmFaultResult(unsafe { bindings::dax_finish_cow_page(self.as_raw()) })
    }

    /// Counts a fault that needed blocks to be allocated. C: `count_vm_event(PGMAJFAULT)`.
    #[cold]
    pub fn count_major(&self) {
        // SAFETY: By the invariant the VMA has an address space.
        unsafe { bindings::dax_count_major_fault((*self.vma().as_raw()).vm_mm) };
    }

    /// Makes the data from byte `first` to byte `last` of the file, inclusive, and the metadata that it
    /// needs durable. Sleeps. C: `vfs_fsync_range()`.
    ///
    /// # Errors
    ///
    /// Returns the error of the filesystem.
    #[doc(alias = "vfs_fsync_range")]
    #[inline]
    pub fn fsync_range(&self, first: i64, last: i64) -> Result {
        // SAFETY: By the type invariants the VMA has a file, which stays valid during the fault.
        to_result(unsafe {
            bindings::vfs_fsync_range((*self.vma().as_raw()).vm_file, first, last, 1)
        })
    }
}

/// The zero page for an address.
///
/// # Invariants
///
/// The frame is of such a page.
#[derive(Clone, Copy)]
pub struct ZeroPage(Pfn);

impl ZeroPage {
    /// Its frame.
    #[inline]
    pub fn pfn(self) -> Pfn {
        self.0
    }
}

/// The huge zero page.
#[derive(Clone, Copy)]
pub struct HugeZeroFolio(NonNull<bindings::folio>);

impl HugeZeroFolio {
    /// Its first frame.
    #[inline]
    pub fn pfn(self) -> Pfn {
        // SAFETY: A folio begins with its first page, which is valid.
        Pfn::new(unsafe { bindings::page_to_pfn(self.0.as_ptr().cast()) } as usize)
    }

    /// What C takes, for none as well.
    #[inline]
    pub fn as_raw(this: Option<Self>) -> *mut bindings::folio {
        this.map_or(core::ptr::null_mut(), |this| this.0.as_ptr())
    }
}
