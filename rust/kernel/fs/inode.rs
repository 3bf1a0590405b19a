// SPDX-License-Identifier: GPL-2.0

//! Inodes, as code below a filesystem sees them.
//!
//! The unsafe code here encapsulates access to the fields of a valid `struct inode`. A reference to
//! an inode does not keep its filesystem alive, so the type that owns one, [`ActiveInode`], has an
//! active reference to the superblock as well.
//!
//! [`ActiveInode`]: crate::fs::super_block::ActiveInode
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::address_space::AddressSpace;
use crate::{bindings, cstr, str::CStr, types::Opaque};
use core::{
    ptr::addr_of_mut,
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
};

/// An inode. C: `struct inode`.
///
/// # Invariants
///
/// The inode is initialised, and its filesystem is mounted or at least not shut down, for the
/// lifetime of the reference.
///
/// # Examples
///
/// ```
/// use kernel::{fs::inode::Inode, prelude::*};
///
/// /// Prints which file it is, as `ls -i` and `/proc/self/mountinfo` show it.
/// fn print(inode: &Inode) {
///     let (major, minor) = inode.device_numbers();
///     pr_info!("{major}:{minor} inode {}: {} bytes\n", inode.ino(), inode.size());
/// }
/// ```
#[doc(alias = "inode")]
#[repr(transparent)]
pub struct Inode(Opaque<bindings::inode>);

impl Inode {
    /// Creates a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to an initialised inode. The inode must stay valid, and its filesystem
    /// mounted, for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: The type is transparent over `struct inode`, and the caller promises that `ptr`
        // is valid for `'a`.
        unsafe { &*ptr.cast::<Self>() }
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Returns the mapping of the file. C: `inode->i_mapping`.
    #[inline]
    pub fn mapping(&self) -> &AddressSpace {
        // SAFETY: By the type invariants the inode is initialised, so `i_mapping` points to a
        // mapping, which stays valid as long as the inode.
        unsafe { AddressSpace::from_raw((*self.as_raw()).i_mapping) }
    }

    /// Returns the size of the file, in bytes. Any context. C: `i_size_read()`.
    #[doc(alias = "i_size_read")]
    #[inline]
    pub fn size(&self) -> i64 {
        // SAFETY: By the type invariants the field is valid. It is an aligned word that other CPUs
        // write as a whole, so it may be accessed as an atomic.
        let size = unsafe { AtomicI64::from_ptr(addr_of_mut!((*self.as_raw()).i_size)) };
        // Pairs with the release in `i_size_write()`.
        size.load(Ordering::Acquire)
    }

    /// Returns whether the file is mapped without the page cache. C: `IS_DAX()`.
    #[doc(alias = "IS_DAX")]
    #[inline]
    pub fn is_dax(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid. C reads the flags without a lock as
        // well.
        unsafe { (*self.as_raw()).i_flags & bindings::S_DAX != 0 }
    }

    /// Returns whether it is a character device, such as device-dax. C: `S_ISCHR()`.
    #[doc(alias = "S_ISCHR")]
    #[inline]
    pub fn is_char_device(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid. The type of a file, which is the part
        // of the mode that counts here, does not change.
        let mode = u32::from(unsafe { (*self.as_raw()).i_mode });
        mode & bindings::S_IFMT == bindings::S_IFCHR
    }

    /// Returns the size of a block of the filesystem, as a power of two. C: `inode->i_blkbits`.
    #[inline]
    pub fn block_bits(&self) -> u32 {
        // SAFETY: By the type invariants the inode is valid. The field does not change while the
        // file is in use.
        u32::from(unsafe { (*self.as_raw()).i_blkbits })
    }

    /// Returns the number of hard links. If it is 0, the blocks are freed with the last reference.
    /// C: `inode->i_nlink`.
    #[inline]
    pub fn link_count(&self) -> u32 {
        // SAFETY: By the type invariants the inode is valid. C reads the number without a lock as
        // well.
        unsafe { (*self.as_raw()).__bindgen_anon_1.i_nlink }
    }

    /// Returns whether the inode is being freed, so that no reference to it can be taken. C:
    /// `inode->i_state & I_FREEING`.
    #[inline]
    pub fn is_freeing(&self) -> bool {
        // SAFETY: By the type invariants the inode is valid. The flags are a word that other CPUs
        // write as a whole.
        let state = unsafe { AtomicU32::from_ptr(addr_of_mut!((*self.as_raw()).i_state)) };
        state.load(Ordering::Relaxed) & bindings::I_FREEING != 0
    }

    /// Marks the inode as having dirty pages. Any context in which the inode's spinlock may be
    /// taken. C: `__mark_inode_dirty(inode, I_DIRTY_PAGES)`.
    #[doc(alias = "__mark_inode_dirty")]
    #[inline]
    pub fn mark_pages_dirty(&self) {
        // SAFETY: By the type invariants the inode is valid and its filesystem mounted, which is
        // all that the function needs.
        unsafe { bindings::__mark_inode_dirty(self.as_raw(), bindings::I_DIRTY_PAGES as _) };
    }

    /// Returns the device number of the filesystem. C: `inode->i_sb->s_dev`.
    #[inline]
    pub fn device(&self) -> u32 {
        // SAFETY: By the type invariants the filesystem is mounted, so the superblock is valid. Its
        // device number does not change.
        unsafe { (*(*self.as_raw()).i_sb).s_dev }
    }

    /// Returns whether the filesystem is mounted read-only. C: `sb_rdonly()`.
    #[doc(alias = "sb_rdonly")]
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants the filesystem is mounted, so the superblock is valid.
        unsafe { bindings::sb_rdonly((*self.as_raw()).i_sb) }
    }

    /// Returns the major and the minor device number of the filesystem.
    pub fn device_numbers(&self) -> (u32, u32) {
        device_numbers(self.device())
    }

    /// Returns the number of the inode in its filesystem. C: `inode->i_ino`.
    pub fn ino(&self) -> usize {
        // SAFETY: By the type invariants the inode is valid. The number of an inode does not
        // change.
        unsafe { (*self.as_raw()).i_ino }
    }

    /// Returns what the file is called on the medium. Any context.
    pub fn persistent_id(&self) -> PersistentId {
        // SAFETY: By the type invariants the inode is valid and its filesystem mounted. Number and
        // generation of an inode, and the UUID of a filesystem, are words or bytes that are set when
        // it is read from the medium.
        unsafe {
            PersistentId {
                filesystem: (*(*self.as_raw()).i_sb).s_uuid.b,
                ino: self.ino(),
                generation: (*self.as_raw()).i_generation,
            }
        }
    }

    /// Returns a number that identifies the type of the filesystem: the address of
    /// `struct file_system_type`.
    ///
    /// Together with [`device`](Self::device) it distinguishes filesystems of different types that
    /// are mounted from one device one after the other.
    #[inline]
    pub fn filesystem_id(&self) -> usize {
        // SAFETY: By the type invariants the filesystem is mounted, so the superblock is valid. Its
        // type does not change.
        unsafe { (*(*self.as_raw()).i_sb).s_type as usize }
    }

    /// Returns the name of the type of the filesystem, such as `ext4`.
    pub fn filesystem_name(&self) -> &CStr {
        // SAFETY: By the type invariants the filesystem is mounted, so its type is registered. Its
        // name is a constant string.
        unsafe { cstr::from_char_ptr((*(*(*self.as_raw()).i_sb).s_type).name) }
    }

    /// Asserts, in kernels with lockdep, that the inode is locked for reading or writing its data.
    ///
    /// A read-only filesystem may read without the lock.
    #[doc(alias = "lockdep_assert_held")]
    #[inline]
    pub fn assert_locked(&self, write: bool) {
        if !cfg!(CONFIG_LOCKDEP) {
            return;
        }
        // SAFETY: By the type invariants the inode is valid, so its lock is initialised, and its
        // filesystem is mounted, so the superblock is valid.
        unsafe {
            let lock = addr_of_mut!((*self.as_raw()).i_rwsem);
            if write {
                bindings::lockdep_assert_held_write(lock);
            } else if (*(*self.as_raw()).i_sb).s_flags & bindings::SB_RDONLY == 0 {
                bindings::lockdep_assert_held(lock);
            }
        }
    }
}

/// A file as it is called on the medium: the same before and after the filesystem is unmounted and
/// mounted again. C: `inode->i_sb->s_uuid`, `inode->i_ino`, `inode->i_generation`.
///
/// Snapshots of one filesystem have the same UUID. A filesystem without UUID has zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PersistentId {
    filesystem: [u8; 16],
    ino: usize,
    generation: u32,
}

/// Splits a device number into its major and minor number. C: `MAJOR()`, `MINOR()`.
///
/// # Examples
///
/// ```
/// assert_eq!(kernel::fs::inode::device_numbers(0x1030_0005), (259, 5));
/// ```
#[doc(alias = "MAJOR")]
#[doc(alias = "MINOR")]
pub const fn device_numbers(device: u32) -> (u32, u32) {
    (device >> 20, device & 0xf_ffff)
}
