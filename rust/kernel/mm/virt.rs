// SPDX-License-Identifier: GPL-2.0

//! Areas of a process's addresses that are mapped alike.
//!
//! C header: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h)

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

/// What is mapped, and what may be done with it: `VM_*`. C: `vm_flags_t`.
#[doc(alias = "vm_flags_t")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(usize);

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Flags {
    /// Stores are allowed. C: `VM_WRITE`.
    #[doc(alias = "VM_WRITE")]
    pub const WRITE: Self = Self(bindings::VM_WRITE as usize);
    /// `mprotect()` may allow stores. C: `VM_MAYWRITE`.
    #[doc(alias = "VM_MAYWRITE")]
    pub const MAYWRITE: Self = Self(bindings::VM_MAYWRITE as usize);
    /// Stores go to the file. C: `VM_SHARED`.
    #[doc(alias = "VM_SHARED")]
    pub const SHARED: Self = Self(bindings::VM_SHARED as usize);
    /// A store may be flushed by the program alone: `MAP_SYNC`. C: `VM_SYNC`.
    #[doc(alias = "VM_SYNC")]
    pub const SYNC: Self = Self(bindings::VM_SYNC as usize);
    /// Memory of a device, which nobody may refer to. C: `VM_IO`.
    #[doc(alias = "VM_IO")]
    pub const IO: Self = Self(bindings::VM_IO as usize);
    /// Frames, with `struct page`s or without, that are no pages of the mapping. C: `VM_PFNMAP`.
    #[doc(alias = "VM_PFNMAP")]
    pub const PFNMAP: Self = Self(bindings::VM_PFNMAP as usize);
    /// Such frames, and pages besides. C: `VM_MIXEDMAP`.
    #[doc(alias = "VM_MIXEDMAP")]
    pub const MIXEDMAP: Self = Self(bindings::VM_MIXEDMAP as usize);

    /// Whether all of `other` are set.
    #[inline]
    pub fn contains(self, other: Self) -> bool {
        self & other == other
    }

    /// Whether any of `other` is set.
    #[inline]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a store makes a private copy of the page. C: `is_cow_mapping()`.
    #[doc(alias = "is_cow_mapping")]
    #[inline]
    pub fn is_cow(self) -> bool {
        self & (Self::SHARED | Self::MAYWRITE) == Self::MAYWRITE
    }
}

impl BitOr for Flags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// An area of a process's addresses. C: `struct vm_area_struct`.
///
/// # Invariants
///
/// For `'a` it is valid, belongs to an address space that stays, and neither moves nor changes its
/// size: the lock of the address space, or of the area, is held for reading at least.
#[doc(alias = "vm_area_struct")]
#[derive(Clone, Copy)]
pub struct VmaRef<'a>(NonNull<bindings::vm_area_struct>, PhantomData<&'a ()>);

impl<'a> VmaRef<'a> {
    /// The area that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says.
    #[inline]
    pub unsafe fn from_raw(ptr: *mut bindings::vm_area_struct) -> Self {
        // SAFETY: By the caller's promise it is valid, so it is not null.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        // INVARIANT: The caller's promise.
        Self(ptr, PhantomData)
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }

    /// The address space.
    #[inline]
    pub(super) fn mm(self) -> *mut bindings::mm_struct {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).vm_mm }
    }

    /// The address of the first byte, and that behind the last.
    #[inline]
    pub fn range(self) -> (usize, usize) {
        // SAFETY: By the invariant the field is there, and does not change.
        let range = unsafe { (*self.as_raw()).__bindgen_anon_1.__bindgen_anon_1 };
        (range.vm_start, range.vm_end)
    }

    /// Whether the byte at `address` is in it.
    #[inline]
    pub fn contains(self, address: usize) -> bool {
        let (start, end) = self.range();
        start <= address && address < end
    }

    /// What may be done with it.
    #[inline]
    pub fn flags(self) -> Flags {
        // SAFETY: By the invariant the area is there; both members of the union are the same word,
        // which others may change.
        Flags(unsafe {
            addr_of!((*self.as_raw()).__bindgen_anon_2)
                .cast::<usize>()
                .read_volatile()
        })
    }

    /// How its pages are mapped, unless somebody has to be told of stores. C: `vm_page_prot`.
    #[inline]
    pub fn prot(self) -> PageProt {
        // SAFETY: By the invariant the field is there; others change it as a whole.
        // INVARIANT: An area has no address bits there.
        PageProt(unsafe { addr_of!((*self.as_raw()).vm_page_prot).read_volatile() })
    }

    /// The same with the cache mode that memory at this frame is on record with. Spins for that
    /// record's lock. C: `track_pfn_insert()`.
    #[doc(alias = "track_pfn_insert")]
    #[inline]
    pub fn prot_for(self, pfn: PfnT) -> PageProt {
        let mut prot = self.prot();
        // SAFETY: By the invariant the area is valid. `PageProt` is a `pgprot_t`.
        unsafe {
            bindings::track_pfn_insert(self.as_raw(), &raw mut prot.0, pfn.into_raw());
        }
        prot
    }

    /// Whether it maps a file of a filesystem without page cache. C: `vma_is_fsdax()`.
    #[doc(alias = "vma_is_fsdax")]
    #[inline]
    pub fn is_fsdax(self) -> bool {
        // SAFETY: By the invariant the field is there, and the area keeps its file, which keeps its
        // inode and its mapping. For a device these may be of two inodes.
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

    /// Whether its driver or filesystem wants to know of the first store to a frame that is mapped
    /// read-only. C: `vm_ops->pfn_mkwrite`.
    #[inline]
    pub fn has_pfn_mkwrite(self) -> bool {
        // SAFETY: By the invariant the field is there, and operations are constant.
        unsafe { (*self.as_raw()).vm_ops.as_ref() }
            .is_some_and(|operations| operations.pfn_mkwrite.is_some())
    }
}
