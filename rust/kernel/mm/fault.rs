// SPDX-License-Identifier: GPL-2.0

//! Page fault handlers: `struct vm_fault` and what a handler returns.
//!
//! A driver or a filesystem handles faults in its VMAs in `vm_ops->fault()` and
//! `vm_ops->huge_fault()`. To write such a handler in Rust, do the following:
//!
//! 1. Create a [`VmFault`] from the pointer that C passes.
//! 2. Find the PFN for [`VmFault::index`]. The VMA stays as it is meanwhile, but the entry of the page
//!    table may change, because other tasks fault as well.
//! 3. Insert it with [`VmFault::insert_mixed`] or [`VmFault::insert_pfn_pmd`]. If the fault is that of
//!    a store to a private mapping ([`VmFault::has_cow_page`]), fill the private page instead, and
//!    map it with [`VmFault::finish_cow_page`].
//! 4. Return the [`VmFaultResult`] to C.
//!
//! This file encapsulates access to the fields of a fault that is being handled, and calls of C
//! functions that need nothing but such a fault. Inserting a PFN needs more, so it is `unsafe`.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/huge_mm.h`](srctree/include/linux/huge_mm.h)

use super::{
    page::PageRef,
    pfn::Pfn,
    pfn_t::{PfnFlags, PfnT},
    virt::{VmFlags, VmaRef},
};
#[cfg(all(CONFIG_TRANSPARENT_HUGEPAGE, CONFIG_X86_64, not(CONFIG_UML)))]
use crate::arch::x86::{
    paravirt::EntryPtr,
    pgprot,
    pgtable::{self, PMD_SHIFT},
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
use core::{marker::PhantomData, ops::BitOr, ptr::NonNull};

/// The result of a fault handler: a set of `VM_FAULT_*`. C: `vm_fault_t`.
///
/// # Examples
///
/// ```
/// use kernel::{error::code::{EIO, ENOMEM}, mm::fault::VmFaultResult};
///
/// assert!(VmFaultResult::from_error(ENOMEM) == VmFaultResult::OOM);
/// assert!(VmFaultResult::from_error(EIO) == VmFaultResult::SIGBUS);
///
/// // Major faults are counted as such; they are no errors.
/// let mapped = VmFaultResult::NOPAGE | VmFaultResult::MAJOR;
/// assert!(!mapped.is_error() && VmFaultResult::SIGBUS.is_error());
/// ```
#[doc(alias = "vm_fault_t")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct VmFaultResult(bindings::vm_fault_t);

impl VmFaultResult {
    /// No flag: another task has handled the fault, or the access is tried again.
    pub const NONE: Self = Self(0);
    /// The page table entry is installed. C: `VM_FAULT_NOPAGE`.
    #[doc(alias = "VM_FAULT_NOPAGE")]
    pub const NOPAGE: Self = Self(bindings::vm_fault_reason_VM_FAULT_NOPAGE);
    /// The fault is to be handled again with small pages. C: `VM_FAULT_FALLBACK`.
    #[doc(alias = "VM_FAULT_FALLBACK")]
    pub const FALLBACK: Self = Self(bindings::vm_fault_reason_VM_FAULT_FALLBACK);
    /// Memory could not be allocated. C: `VM_FAULT_OOM`.
    #[doc(alias = "VM_FAULT_OOM")]
    pub const OOM: Self = Self(bindings::vm_fault_reason_VM_FAULT_OOM);
    /// Nothing can be mapped there: the address is beyond the end of the file, or I/O failed. C:
    /// `VM_FAULT_SIGBUS`.
    #[doc(alias = "VM_FAULT_SIGBUS")]
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);
    /// The fault needed I/O, or blocks to be allocated. C: `VM_FAULT_MAJOR`.
    #[doc(alias = "VM_FAULT_MAJOR")]
    pub const MAJOR: Self = Self(bindings::vm_fault_reason_VM_FAULT_MAJOR);
    /// The memory is poisoned. C: `VM_FAULT_HWPOISON`.
    #[doc(alias = "VM_FAULT_HWPOISON")]
    pub const HWPOISON: Self = Self(bindings::vm_fault_reason_VM_FAULT_HWPOISON);
    /// The private page was filled and mapped. C: `VM_FAULT_DONE_COW`.
    #[doc(alias = "VM_FAULT_DONE_COW")]
    pub const DONE_COW: Self = Self(bindings::vm_fault_reason_VM_FAULT_DONE_COW);
    /// The filesystem has to make metadata durable before the page table entry may be installed. C:
    /// `VM_FAULT_NEEDDSYNC`.
    #[doc(alias = "VM_FAULT_NEEDDSYNC")]
    pub const NEEDDSYNC: Self = Self(bindings::vm_fault_reason_VM_FAULT_NEEDDSYNC);

    /// The flags of a fault that was not handled. C: `VM_FAULT_ERROR`.
    const ERROR: Self = Self(
        bindings::vm_fault_reason_VM_FAULT_OOM
            | bindings::vm_fault_reason_VM_FAULT_SIGBUS
            | bindings::vm_fault_reason_VM_FAULT_SIGSEGV
            | bindings::vm_fault_reason_VM_FAULT_HWPOISON
            | bindings::vm_fault_reason_VM_FAULT_HWPOISON_LARGE
            | bindings::vm_fault_reason_VM_FAULT_FALLBACK,
    );

    /// Converts an error. C: `vmf_error()`.
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

    /// Returns whether the fault was not handled. C: `VM_FAULT_ERROR`.
    #[doc(alias = "VM_FAULT_ERROR")]
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Returns the value for C.
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

/// What a pmd maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PmdEntry {
    /// Nothing.
    None,
    /// Small pages, through a table; or a huge page that is being migrated.
    Table,
    /// A huge page of anonymous memory or of a page cache, or the huge zero folio.
    Huge,
    /// 2 MiB of device memory with a pgmap.
    Device,
}

/// A page fault in a file mapping that is being handled. C: `struct vm_fault`.
///
/// # Invariants
///
/// For `'a` the structure is valid and no other code uses it. Its VMA is locked for reading at
/// least, and maps a file, which has a mapping with an inode. The page tables of the VMA exist down
/// to the pmd, and stay.
///
/// # Examples
///
/// ```
/// use kernel::mm::{
///     fault::{VmFault, VmFaultResult},
///     pfn::Pfn,
///     pfn_t::{PfnFlags, PfnT},
/// };
///
/// /// Handles a fault in the mapping of a device with `pages` pages of memory from `first` on.
/// fn handle(fault: &mut VmFault<'_>, first: Pfn, pages: usize) -> VmFaultResult {
///     let index = fault.index();
///     if index >= pages || fault.has_cow_page() {
///         return VmFaultResult::SIGBUS;
///     }
///     let pfn = PfnT::new(Pfn::new(first.nr() + index), PfnFlags::DEV | PfnFlags::MAP);
///     // SAFETY: This process has opened the device, so it may access its memory. Removal of the
///     // device unmaps the mapping of the device file before it removes the pgmap.
///     unsafe { fault.insert_mixed(pfn, fault.is_write()) }
/// }
/// ```
#[doc(alias = "vm_fault")]
pub struct VmFault<'a>(NonNull<bindings::vm_fault>, PhantomData<&'a mut ()>);

impl<'a> VmFault<'a> {
    /// Creates a value from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a fault that is being handled, in a VMA that maps a file with a mapping
    /// and an inode. For `'a` it must stay valid, and no other code may use it.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: The caller promises that the fault is valid and exclusively used for `'a`. C's
        // fault code locks the VMA and allocates the tables before it calls a handler.
        Self(ptr, PhantomData)
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::vm_fault {
        self.0.as_ptr()
    }

    /// Returns the VMA that the address lies in.
    #[inline]
    pub fn vma(&self) -> VmaRef<'a> {
        // SAFETY: By the type invariants the structure is valid, and its VMA is valid and locked
        // for reading at least for `'a`.
        unsafe { VmaRef::from_raw((*self.as_raw()).__bindgen_anon_1.vma) }
    }

    /// Returns the mapping of the file. C: `vma->vm_file->f_mapping`.
    #[inline]
    pub fn mapping(&self) -> &'a AddressSpace {
        // SAFETY: By the type invariants the VMA maps a file that has a mapping with an inode. The
        // VMA keeps the file, which keeps both, for `'a`.
        unsafe { AddressSpace::from_raw((*(*self.vma().as_raw()).vm_file).f_mapping) }
    }

    /// Returns the address that was accessed, in bytes, rounded down to a page. C: `vmf->address`.
    #[inline]
    pub fn address(&self) -> usize {
        // SAFETY: By the type invariants the structure is valid, and no other code writes to it.
        unsafe { (*self.as_raw()).__bindgen_anon_1.address }
    }

    /// Returns the offset of that address in the file, in pages. C: `vmf->pgoff`.
    #[inline]
    pub fn index(&self) -> usize {
        // SAFETY: By the type invariants the structure is valid, and no other code writes to it.
        unsafe { (*self.as_raw()).__bindgen_anon_1.pgoff }
    }

    /// Returns whether the access was a store. C: `FAULT_FLAG_WRITE`.
    #[doc(alias = "FAULT_FLAG_WRITE")]
    #[inline]
    pub fn is_write(&self) -> bool {
        // SAFETY: By the type invariants the structure is valid, and no other code writes to it.
        unsafe { (*self.as_raw()).flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0 }
    }

    /// Returns whether the handler has to fill a private page. C: `vmf->cow_page`.
    #[inline]
    pub fn has_cow_page(&self) -> bool {
        !self.cow_page().is_null()
    }

    /// Returns the private page that the handler has to fill, or null. C: `vmf->cow_page`.
    #[inline]
    fn cow_page(&self) -> *mut bindings::page {
        // SAFETY: By the type invariants the structure is valid, and no other code writes to it.
        unsafe { (*self.as_raw()).cow_page }
    }

    /// Returns whether stores go to the file. C: `VM_SHARED`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::fault::VmFault;
    ///
    /// /// Returns whether the fault makes a private copy: huge pages are not copied.
    /// fn copies(fault: &VmFault<'_>) -> bool {
    ///     fault.is_write() && !fault.is_shared()
    /// }
    /// ```
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.vma().flags().contains(VmFlags::SHARED)
    }

    /// Returns whether the process may flush its stores without the kernel (`MAP_SYNC`). C:
    /// `VM_SYNC`.
    #[inline]
    pub fn is_sync(&self) -> bool {
        self.vma().flags().contains(VmFlags::SYNC)
    }

    /// Maps the page at the address to a PFN, for writing if `write`. May sleep. C:
    /// `vmf_insert_mixed()`, `vmf_insert_mixed_mkwrite()`.
    ///
    /// # Safety
    ///
    /// The process must be allowed to access the page, and code that revokes that access must be
    /// sure to find the mapping.
    #[doc(alias = "vmf_insert_mixed")]
    #[doc(alias = "vmf_insert_mixed_mkwrite")]
    #[inline(always)]
    pub unsafe fn insert_mixed(&mut self, pfn: PfnT, write: bool) -> VmFaultResult {
        let (vma, address, pfn) = (self.vma().as_raw(), self.address(), pfn.into_raw());
        // SAFETY: By the type invariants the VMA is valid and locked, and the caller promises that
        // the page may be mapped there.
        VmFaultResult(unsafe {
            if write {
                bindings::vmf_insert_mixed_mkwrite(vma, address, pfn)
            } else {
                bindings::vmf_insert_mixed(vma, address, pfn)
            }
        })
    }

    /// Maps the 2 MiB around the address to the PFNs from `pfn` on, for writing if `write`. Spins.
    /// C: `vmf_insert_pfn_pmd()`.
    ///
    /// # Safety
    ///
    /// The process must be allowed to access the 2 MiB, which start at an aligned PFN, and code
    /// that revokes that access must be sure to find the mapping.
    #[doc(alias = "vmf_insert_pfn_pmd")]
    #[inline(always)]
    pub unsafe fn insert_pfn_pmd(&mut self, pfn: PfnT, write: bool) -> VmFaultResult {
        // SAFETY: By the type invariants the fault is valid, and the caller promises that the PFNs
        // may be mapped there.
        VmFaultResult(unsafe { bindings::vmf_insert_pfn_pmd(self.as_raw(), pfn.into_raw(), write) })
    }

    /// Returns the zero page for the address. C: `my_zero_pfn()`.
    #[doc(alias = "my_zero_pfn")]
    #[inline]
    pub fn zero_page(&self) -> ZeroPage {
        // SAFETY: The function computes the PFN from any address.
        let pfn = unsafe { bindings::my_zero_pfn(self.address() as _) };
        // INVARIANT: The function returns the PFN of a zero page.
        ZeroPage(Pfn::new(pfn as usize))
    }

    /// Maps the page at the address to the zero page, read-only. May sleep.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::fault::{VmFault, VmFaultResult};
    ///
    /// /// Handles a load from a hole of a file.
    /// fn map_hole(fault: &mut VmFault<'_>) -> VmFaultResult {
    ///     let zero = fault.zero_page();
    ///     fault.insert_zero_page(zero)
    /// }
    /// ```
    #[inline]
    pub fn insert_zero_page(&mut self, zero: ZeroPage) -> VmFaultResult {
        // SAFETY: Every process may read the zero page, and access to it is never revoked.
        unsafe { self.insert_mixed(PfnT::new(zero.0, PfnFlags::NONE), false) }
    }

    /// Fills the private page with zeroes. C: `clear_user_highpage()`.
    #[doc(alias = "clear_user_highpage")]
    #[inline]
    pub fn clear_cow_page(&mut self) {
        if self.has_cow_page() {
            // SAFETY: By the type invariants the fault is valid, so its private page is one that C
            // has allocated for it and that no other code uses yet.
            unsafe { bindings::clear_user_highpage(self.cow_page(), self.address() as _) };
        }
    }

    /// Copies the page at `from` to the private page. C: `copy_user_page()`.
    ///
    /// # Safety
    ///
    /// The `PAGE_SIZE` bytes at `from` must be readable.
    #[doc(alias = "copy_user_page")]
    #[inline]
    pub unsafe fn copy_to_cow_page(&mut self, from: *mut c_void) {
        let page = self.cow_page();
        if !page.is_null() {
            // SAFETY: By the type invariants the fault is valid, so its private page is one that C
            // has allocated for it and that no other code uses yet. It is mapped for the time of
            // the copy, and the caller promises that the other page is readable.
            unsafe {
                let to = bindings::kmap_local_page(page);
                bindings::copy_user_page(to, from, self.address() as _, page);
                bindings::kunmap_local(to);
            }
        }
    }

    /// Maps the private page, which the handler has filled. May sleep. C: `finish_fault()`.
    ///
    /// Returns [`VmFaultResult::SIGBUS`] if the fault has no private page.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::fault::{VmFault, VmFaultResult};
    ///
    /// /// Handles a store to a hole of a file in a private mapping.
    /// fn fill_private_page(fault: &mut VmFault<'_>) -> VmFaultResult {
    ///     fault.clear_cow_page();
    ///     match fault.finish_cow_page() {
    ///         VmFaultResult::NONE => VmFaultResult::DONE_COW,
    ///         result => result,
    ///     }
    /// }
    /// ```
    #[doc(alias = "finish_fault")]
    #[inline]
    pub fn finish_cow_page(&mut self) -> VmFaultResult {
        let page = self.cow_page();
        if page.is_null() {
            return VmFaultResult::SIGBUS;
        }
        // SAFETY: By the type invariants the fault is valid, so its private page is one that C has
        // allocated for it and that no other code uses before the function has mapped it.
        VmFaultResult(unsafe {
            bindings::__SetPageUptodate(page);
            bindings::finish_fault(self.as_raw())
        })
    }

    /// Counts a major fault, in the system and in the memory cgroup of the process. C:
    /// `count_vm_event(PGMAJFAULT)`, `count_memcg_event_mm()`.
    #[doc(alias = "count_memcg_event_mm")]
    #[cold]
    pub fn count_major(&self) {
        // SAFETY: By the type invariants the VMA is valid and has an address space. Events may be
        // counted in any context.
        unsafe {
            bindings::count_vm_event(bindings::vm_event_item_PGMAJFAULT);
            bindings::count_memcg_event_mm(self.vma().mm(), bindings::vm_event_item_PGMAJFAULT);
        }
    }

    /// Makes the data from byte `first` to byte `last` of the file, inclusive, and the metadata
    /// that it needs durable. Sleeps. C: `vfs_fsync_range()`.
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

/// Huge pages.
#[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
impl<'a> VmFault<'a> {
    /// Returns the pointer to the pmd for the address.
    #[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
    #[inline]
    fn pmd_ptr(&self) -> EntryPtr {
        // SAFETY: By the type invariants the fault has a pmd, so the pointer is not null.
        EntryPtr::new(unsafe { NonNull::new_unchecked((*self.as_raw()).pmd.cast()) })
    }

    /// Reads the pmd for the address, which may change at any time. C: `pmd_none()`,
    /// `pmd_trans_huge()`, `pmd_devmap()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::fault::{PmdEntry, VmFault};
    ///
    /// /// Returns whether another task has mapped a huge page there in the meantime.
    /// fn is_huge(fault: &VmFault<'_>) -> bool {
    ///     matches!(fault.pmd(), PmdEntry::Huge | PmdEntry::Device)
    /// }
    /// ```
    #[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
    #[doc(alias = "pmd_none")]
    #[doc(alias = "pmd_trans_huge")]
    #[doc(alias = "pmd_devmap")]
    #[inline]
    pub fn pmd(&self) -> PmdEntry {
        // SAFETY: By the type invariants the pmd exists and stays. Other tasks and the processors
        // write it concurrently, as a whole word.
        let entry = unsafe { self.pmd_ptr().read(PMD_SHIFT) };
        if entry.is_none() {
            PmdEntry::None
        } else if entry.is_devmap() {
            PmdEntry::Device
        } else if entry.is_leaf(PMD_SHIFT) {
            PmdEntry::Huge
        } else {
            PmdEntry::Table
        }
    }

    /// Allocates the huge zero folio, if there is none, and keeps it for as long as the address
    /// space exists. Sleeps. Returns `None` if memory cannot be allocated. C:
    /// `mm_get_huge_zero_folio()`.
    #[doc(alias = "mm_get_huge_zero_folio")]
    #[inline]
    pub fn huge_zero(&self) -> Option<HugeZeroFolio<'a>> {
        let mm = self.vma().mm();
        // SAFETY: By the type invariants the VMA is valid and has an address space.
        let folio = unsafe { bindings::mm_get_huge_zero_folio(mm) };
        // INVARIANT: The function returns the huge zero folio, and holds a reference to it that the
        // address space drops when it is freed. The VMA keeps the address space for `'a`.
        NonNull::new(folio).map(|folio| HugeZeroFolio {
            folio,
            mm,
            _mm: PhantomData,
        })
    }

    /// Maps the 2 MiB around the address to the huge zero folio, read-only, if nothing is mapped
    /// there. Returns whether it did. Spins. C: `set_huge_zero_folio()`.
    ///
    /// It does not if the VMA does not cover the 2 MiB, or if the folio was allocated for another
    /// address space, which may be freed before this one.
    #[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
    #[inline]
    pub fn insert_huge_zero(&mut self, zero: HugeZeroFolio<'_>) -> bool {
        let vma = self.vma();
        let address = self.address() & !((1 << PMD_SHIFT) - 1);
        let (start, end) = vma.range();
        // OVERFLOW: A VMA ends after it begins.
        let is_covered = start <= address && end.wrapping_sub(address) >= 1 << PMD_SHIFT;
        if !is_covered || !core::ptr::eq(zero.mm, vma.mm()) {
            return false;
        }
        let phys = PfnT::new(zero.pfn(), PfnFlags::NONE).phys();
        let kind = pgtable::LeafKind::Normal;
        let entry = pgprot::leaf(phys, vma.prot().bits(), kind, PMD_SHIFT);
        // SAFETY: By the type invariants the pmd exists and stays, and belongs to this address
        // space. It is written under the lock of its table, and only if it is empty. The VMA covers
        // what it maps. By the invariants of `HugeZeroFolio` the folio stays as long as the address
        // space.
        unsafe {
            let pmd = self.pmd_ptr();
            let lock = bindings::pmd_lock(vma.mm(), pmd.as_pmd());
            let is_none = self.pmd() == PmdEntry::None;
            if is_none {
                pmd.set(vma.mm(), address, entry, PMD_SHIFT);
            }
            bindings::spin_unlock(lock);
            is_none
        }
    }

    /// Splits the huge page that is mapped at the address, if there is one: it is then mapped by
    /// small entries, or faulted in again. C: `split_huge_pmd()`.
    #[inline]
    pub fn split_huge_pmd(&mut self) {
        // SAFETY: By the type invariants the VMA is valid and locked, and the pmd exists and is the
        // one for this address.
        unsafe {
            bindings::split_huge_pmd(
                self.vma().as_raw(),
                (*self.as_raw()).pmd,
                self.address() as _,
            )
        };
    }

    /// Counts a huge fault that falls back to small pages. C: `count_vm_event(THP_FAULT_FALLBACK)`.
    #[inline]
    pub fn count_fallback(&self) {
        // SAFETY: Events may be counted in any context.
        unsafe { bindings::count_vm_event(bindings::vm_event_item_THP_FAULT_FALLBACK) };
    }
}

/// The zero page for an address.
///
/// # Invariants
///
/// The PFN is that of a zero page.
#[derive(Clone, Copy)]
pub struct ZeroPage(Pfn);

impl ZeroPage {
    /// Returns the PFN.
    #[inline]
    pub fn pfn(self) -> Pfn {
        self.0
    }
}

/// Returns whether this is the PFN of the zero page. C: `is_zero_pfn()`.
///
/// # Examples
///
/// ```
/// use kernel::mm::{fault::is_zero_pfn, pfn::Pfn};
///
/// // Beyond all memory.
/// assert!(!is_zero_pfn(Pfn::new(usize::MAX)));
/// ```
#[inline]
pub fn is_zero_pfn(pfn: Pfn) -> bool {
    // SAFETY: The variable is written once, at boot, before there are page faults, so the read is
    // not a data race.
    pfn.nr() == unsafe { bindings::zero_pfn }
}

/// Returns whether this is the first PFN of the huge zero folio, if there is one. C:
/// `is_huge_zero_pmd()`.
#[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
#[doc(alias = "is_huge_zero_pmd")]
pub fn is_huge_zero_pfn(pfn: Pfn) -> bool {
    // SAFETY: The variable is static. It changes when the folio is allocated or freed, and is read
    // once, as a whole word.
    pfn.nr() == unsafe { core::ptr::addr_of!(bindings::huge_zero_pfn).read_volatile() }
}

/// The huge zero folio.
///
/// # Invariants
///
/// The folio stays as long as the address space `mm`, which is valid for `'a`.
#[derive(Clone, Copy)]
pub struct HugeZeroFolio<'a> {
    folio: NonNull<bindings::folio>,
    mm: *const bindings::mm_struct,
    _mm: PhantomData<&'a ()>,
}

impl HugeZeroFolio<'_> {
    /// Returns its first PFN.
    #[inline]
    pub fn pfn(self) -> Pfn {
        // SAFETY: A folio begins with its first page, which by the type invariants is valid.
        unsafe { PageRef::from_raw(self.folio.cast()) }.pfn()
    }

    /// Returns the C pointer, or null for `None`.
    #[inline]
    pub fn as_raw(this: Option<Self>) -> *mut bindings::folio {
        this.map_or(core::ptr::null_mut(), |this| this.folio.as_ptr())
    }
}
