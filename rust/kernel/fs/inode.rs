// SPDX-License-Identifier: GPL-2.0

//! Inodes, as far as code below a filesystem looks at them.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::address_space::AddressSpace;
use crate::{bindings, cstr, str::CStr, types::Opaque};
use core::{
    ptr::addr_of_mut,
    sync::atomic::{AtomicI64, Ordering},
};

/// An inode that somebody keeps. C: `struct inode`.
///
/// # Invariants
///
/// The inode is initialised and belongs to a filesystem that stays at least as long as the value.
#[repr(transparent)]
pub struct Inode(Opaque<bindings::inode>);

impl Inode {
    /// The inode that C code has at `ptr`.
    ///
    /// # Safety
    ///
    /// It is as the type's invariant says, for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: The type is transparent over `struct inode`; the rest is the caller's promise.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// What C code takes.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Its mapping. C: `i_mapping`.
    #[inline]
    pub fn mapping(&self) -> &AddressSpace {
        // SAFETY: By the invariant the inode has a mapping, which stays as long.
        unsafe { AddressSpace::from_raw((*self.as_raw()).i_mapping) }
    }

    /// The size of the file, in bytes. C: `i_size_read()`. Any context.
    #[doc(alias = "i_size_read")]
    #[inline]
    pub fn size(&self) -> i64 {
        // SAFETY: By the invariant the field is there; it is an aligned word that others change as a
        // whole. The load pairs with the release in `i_size_write()`.
        unsafe { AtomicI64::from_ptr(addr_of_mut!((*self.as_raw()).i_size)) }
            .load(Ordering::Acquire)
    }

    /// Whether its files are mapped without page cache. C: `IS_DAX()`.
    #[doc(alias = "IS_DAX")]
    #[inline]
    pub fn is_dax(&self) -> bool {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).i_flags & bindings::S_DAX != 0 }
    }

    /// Whether it is a character device: device-dax. C: `S_ISCHR()`.
    #[doc(alias = "S_ISCHR")]
    #[inline]
    pub fn is_char_device(&self) -> bool {
        // SAFETY: By the invariant the field is there.
        let mode = u32::from(unsafe { (*self.as_raw()).i_mode });
        mode & bindings::S_IFMT == bindings::S_IFCHR
    }

    /// The size of a block, as a power of two. C: `i_blkbits`.
    #[inline]
    pub fn block_bits(&self) -> u32 {
        // SAFETY: By the invariant the field is there.
        u32::from(unsafe { (*self.as_raw()).i_blkbits })
    }

    /// Says that pages of it are dirty. C: `__mark_inode_dirty(inode, I_DIRTY_PAGES)`. Any context
    /// that may take the inode's spinlock.
    #[doc(alias = "__mark_inode_dirty")]
    #[inline]
    pub fn mark_pages_dirty(&self) {
        // SAFETY: By the invariant the inode is valid.
        unsafe { bindings::__mark_inode_dirty(self.as_raw(), bindings::I_DIRTY_PAGES as _) };
    }

    /// The number of the filesystem's device. C: `i_sb->s_dev`.
    #[inline]
    pub fn device(&self) -> u32 {
        // SAFETY: By the invariant the inode has a superblock.
        unsafe { (*(*self.as_raw()).i_sb).s_dev }
    }

    /// The same as its two parts. C: `MAJOR()`, `MINOR()`.
    pub fn device_numbers(&self) -> (u32, u32) {
        device_numbers(self.device())
    }

    /// The number of the inode in its filesystem. C: `i_ino`.
    pub fn number(&self) -> usize {
        // SAFETY: By the invariant the field is there.
        unsafe { (*self.as_raw()).i_ino }
    }

    /// What tells filesystems on one device that come after each other apart, unless they are of
    /// one type.
    #[inline]
    pub fn filesystem_id(&self) -> usize {
        // SAFETY: By the invariant the inode has a superblock.
        unsafe { (*(*self.as_raw()).i_sb).s_type as usize }
    }

    /// The name of the filesystem's type.
    pub fn filesystem_name(&self) -> &CStr {
        // SAFETY: By the invariant the filesystem stays, and its type has a name, which never changes.
        unsafe { cstr::from_char_ptr((*(*(*self.as_raw()).i_sb).s_type).name) }
    }

    /// Reports if the inode is not locked as it has to be for reading or writing its data. C:
    /// `lockdep_assert_held()`. Nothing without lockdep.
    #[inline]
    pub fn assert_locked(&self, write: bool) {
        if cfg!(CONFIG_LOCKDEP) {
            // SAFETY: By the invariant the inode is valid.
            unsafe { bindings::dax_assert_inode_locked(self.as_raw(), write) };
        }
    }
}

/// The two parts of a device number. C: `MAJOR()`, `MINOR()`.
#[doc(alias = "MAJOR")]
#[doc(alias = "MINOR")]
pub const fn device_numbers(device: u32) -> (u32, u32) {
    (device >> 20, device & 0xf_ffff)
}
