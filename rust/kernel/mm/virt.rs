// SPDX-License-Identifier: GPL-2.0

//! Virtual memory areas (VMAs): ranges of a process's addresses that are mapped alike.
//!
//! [`VmaRef`] is a VMA that neither moves nor changes its size, because the mmap lock or the lock
//! of the VMA is held for reading at least. That is the case in a fault handler.
//!
//! This file encapsulates access to the fields of such a `struct vm_area_struct`.
//!
//! C headers: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{pfn_t::PfnT, prot::PageProt};
use crate::{
    bindings,
    fs::{address_space::AddressSpace, inode::Inode},
};
use core::{
    fmt,
    marker::PhantomData,
    ops::{BitAnd, BitOr},
    ptr::{addr_of, NonNull},
};

/// The flags of a VMA: what is mapped, and what may be done with it. C: `vm_flags_t`, `VM_*`.
///
/// # Examples
///
/// ```
/// use kernel::mm::virt::VmFlags;
///
/// // A private mapping that may be written to: a store makes a copy of the page.
/// let private = VmFlags::WRITE | VmFlags::MAYWRITE;
/// assert!(private.is_cow());
/// // In a shared mapping stores go to the file.
/// let shared = private | VmFlags::SHARED;
/// assert!(!shared.is_cow());
///
/// assert!(shared.contains(private) && !private.contains(shared));
/// assert!(shared.intersects(VmFlags::IO | VmFlags::SHARED));
/// assert!(!shared.intersects(VmFlags::IO | VmFlags::PFNMAP));
/// ```
#[doc(alias = "vm_flags_t")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VmFlags(usize);

impl fmt::Debug for VmFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl VmFlags {
    /// Stores are allowed. C: `VM_WRITE`.
    #[doc(alias = "VM_WRITE")]
    pub const WRITE: Self = Self(bindings::VM_WRITE as usize);
    /// `mprotect()` may allow stores. C: `VM_MAYWRITE`.
    #[doc(alias = "VM_MAYWRITE")]
    pub const MAYWRITE: Self = Self(bindings::VM_MAYWRITE as usize);
    /// Stores go to the file. C: `VM_SHARED`.
    #[doc(alias = "VM_SHARED")]
    pub const SHARED: Self = Self(bindings::VM_SHARED as usize);
    /// The process may flush its stores without the kernel: `MAP_SYNC`. C: `VM_SYNC`.
    #[doc(alias = "VM_SYNC")]
    pub const SYNC: Self = Self(bindings::VM_SYNC as usize);
    /// Memory of a device, to which GUP must not take references. C: `VM_IO`.
    #[doc(alias = "VM_IO")]
    pub const IO: Self = Self(bindings::VM_IO as usize);
    /// PFNs that are not to be used as pages, with or without a `struct page`. C: `VM_PFNMAP`.
    #[doc(alias = "VM_PFNMAP")]
    pub const PFNMAP: Self = Self(bindings::VM_PFNMAP as usize);
    /// Such PFNs and pages. C: `VM_MIXEDMAP`.
    #[doc(alias = "VM_MIXEDMAP")]
    pub const MIXEDMAP: Self = Self(bindings::VM_MIXEDMAP as usize);

    /// Returns whether all flags of `other` are set.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self & other == other
    }

    /// Returns whether at least one flag of `other` is set.
    #[inline]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether a store makes a private copy of the page. C: `is_cow_mapping()`.
    #[doc(alias = "is_cow_mapping")]
    #[inline]
    pub fn is_cow(self) -> bool {
        self & (Self::SHARED | Self::MAYWRITE) == Self::MAYWRITE
    }
}

impl BitOr for VmFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for VmFlags {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// A VMA that is locked for reading at least. C: `struct vm_area_struct`.
///
/// # Invariants
///
/// For `'a` the VMA is valid, its address space stays valid, and the VMA neither moves nor changes
/// its size: the mmap lock of the address space or the lock of the VMA is held for reading at
/// least.
///
/// # Examples
///
/// ```
/// use kernel::mm::virt::{VmFlags, VmaRef};
///
/// /// Returns whether `len` bytes at `address` lie in the VMA and may be written to.
/// fn may_store(vma: VmaRef<'_>, address: usize, len: usize) -> bool {
///     let (_start, end) = vma.range();
///     vma.contains(address)
///         && end - address >= len
///         && vma.flags().contains(VmFlags::WRITE)
/// }
/// ```
#[doc(alias = "vm_area_struct")]
#[derive(Clone, Copy)]
pub struct VmaRef<'a>(NonNull<bindings::vm_area_struct>, PhantomData<&'a ()>);

impl<'a> VmaRef<'a> {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a VMA that stays valid for `'a`, with its address space. For `'a` the
    /// mmap lock of the address space or the lock of the VMA must be held for reading at least.
    #[inline]
    pub unsafe fn from_raw(ptr: *mut bindings::vm_area_struct) -> Self {
        // SAFETY: The caller promises that `ptr` points to a valid VMA, so it is not null.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        // INVARIANT: The caller promises that the VMA is valid and locked for `'a`.
        Self(ptr, PhantomData)
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }

    /// Returns the address space, which stays valid for `'a`. C: `vma->vm_mm`.
    #[inline]
    pub fn mm(self) -> *mut bindings::mm_struct {
        // SAFETY: By the type invariants the VMA is valid. The field does not change while the VMA
        // is in use, so the read is not a data race.
        unsafe { (*self.as_raw()).vm_mm }
    }

    /// Returns the addresses of the first byte and of the byte behind the last one. C:
    /// `vma->vm_start`, `vma->vm_end`.
    #[inline]
    pub fn range(self) -> (usize, usize) {
        // SAFETY: By the type invariants the VMA is valid and does not change its size, so the read
        // is not a data race.
        let range = unsafe { (*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1 };
        (range.vm_start, range.vm_end)
    }

    /// Returns whether the byte at `address` lies in the VMA.
    #[inline]
    pub fn contains(self, address: usize) -> bool {
        let (start, end) = self.range();
        start <= address && address < end
    }

    /// Returns the flags. C: `vma->vm_flags`.
    #[inline]
    pub fn flags(self) -> VmFlags {
        // SAFETY: By the type invariants the VMA is valid. Both members of the union are the same
        // word. Other tasks may change it, so it is read once, as a whole.
        VmFlags(unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_2)
                .cast::<usize>()
                .read_volatile()
        })
    }

    /// Returns the protection of new page table entries. It lacks write permission if the
    /// filesystem or soft-dirty tracking has to see the first store. C: `vma->vm_page_prot`.
    #[inline]
    pub fn prot(self) -> PageProt {
        // SAFETY: By the type invariants the VMA is valid. Other tasks may change the field, so it
        // is read once, as a whole. It has no address bits and maps memory for a process: C takes it
        // from the table of user rights.
        unsafe { PageProt::from_raw(addr_of!((*self.as_raw()).vm_page_prot).read_volatile()) }
    }

    /// Returns the protection of a new page table entry for `pfn`: [`Self::prot`] with the cache
    /// mode that is recorded for this memory. Spins on the lock of these records. C:
    /// `track_pfn_insert()`.
    #[doc(alias = "track_pfn_insert")]
    #[inline]
    pub fn prot_for(self, pfn: PfnT) -> PageProt {
        let mut prot = self.prot();
        // SAFETY: By the type invariants the VMA is valid. The function replaces the cache mode of
        // the protection, which has no address bits.
        unsafe {
            bindings::track_pfn_insert(self.as_raw(), prot.as_raw_mut(), pfn.into_raw());
        }
        prot
    }

    /// Returns whether the VMA maps a file of a filesystem with DAX. C: `vma_is_fsdax()`.
    ///
    /// Device-dax is a character device, and does not count.
    #[doc(alias = "vma_is_fsdax")]
    #[inline]
    pub fn is_fsdax(self) -> bool {
        // SAFETY: By the type invariants the VMA is valid. It holds a reference to its file, which
        // keeps the inode and the mapping valid. In a device file, they may be of two inodes.
        let (inode, mapping) = unsafe {
            let file = (*self.as_raw()).vm_file;
            if file.is_null() {
                return false;
            }
            (
                Inode::from_raw((*file).f_inode),
                AddressSpace::from_raw((*file).f_mapping),
            )
        };
        mapping.inode().is_dax() && !inode.is_char_device()
    }

    /// Returns whether the driver or filesystem handles faults of huge pages. C:
    /// `vma->vm_ops->huge_fault`.
    #[inline]
    pub fn has_huge_fault(self) -> bool {
        // SAFETY: By the type invariants the VMA is valid. Its operations, if it has any, are
        // constant and stay valid as long as the VMA.
        unsafe { (*self.as_raw()).vm_ops.as_ref() }
            .is_some_and(|operations| operations.huge_fault.is_some())
    }

    /// Returns whether `MADV_NOHUGEPAGE` or `PR_SET_THP_DISABLE` keeps the kernel from handling
    /// faults by huge pages here. C: `vma_thp_disabled()`.
    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    #[doc(alias = "vma_thp_disabled")]
    #[inline]
    pub fn is_thp_disabled(self) -> bool {
        // SAFETY: By the type invariants the VMA is valid and has an address space. The function
        // reads a word of each, which other tasks change as a whole.
        unsafe { bindings::vma_thp_disabled(self.as_raw(), self.flags().0 as _) }
    }

    /// Returns whether the driver or filesystem handles the first store to a PFN that is mapped
    /// read-only. C: `vma->vm_ops->pfn_mkwrite`.
    #[inline]
    pub fn has_pfn_mkwrite(self) -> bool {
        // SAFETY: By the type invariants the VMA is valid. Its operations, if it has any, are
        // constant and stay valid as long as the VMA.
        unsafe { (*self.as_raw()).vm_ops.as_ref() }
            .is_some_and(|operations| operations.pfn_mkwrite.is_some())
    }
}
