// SPDX-License-Identifier: GPL-2.0

//! Mounted filesystems, and walks over their inodes.
//!
//! While a walk is in a filesystem, that is locked (`s_umount`) and so stays mounted. The walk
//! keeps its place in the list of inodes by a reference to one of them:
//!
//! ```text
//!  lock the list -> next inode -> igrab() -> unlock -> iput() the one before -> visit
//! ```
//!
//! The unsafe code here encapsulates that list, its lock, and the references.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::inode::Inode;
use crate::bindings;
use core::{
    ffi::c_void,
    ptr::{addr_of, addr_of_mut, null_mut},
};

/// The number of inodes that are skipped before the lock of the list is dropped for a moment.
const MAX_SKIPPED: usize = 1024;

/// Calls `visit` for each inode in memory, of all mounted filesystems, for which `wanted` returns
/// `true`. C: `iterate_supers()`.
///
/// Inodes that are being freed are skipped. Sleeps, and `visit` may sleep as well; `wanted` must
/// not, because it is called under a spinlock.
///
/// The caller must not hold a lock of a filesystem: each one is locked against unmounting
/// (`s_umount`) while its inodes are visited.
///
/// # Examples
///
/// ```
/// use kernel::fs::super_block;
///
/// let mut bytes = 0i64;
/// super_block::for_each_inode(
///     |inode| inode.is_dax(),
///     |inode| bytes = bytes.saturating_add(inode.size()),
/// );
/// ```
#[doc(alias = "iterate_supers")]
pub fn for_each_inode<W, V>(wanted: W, visit: V)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode),
{
    let mut closures = (wanted, visit);
    // SAFETY: C calls `visit_super_block` only during this call, with a superblock that it has
    // locked and with the pointer passed here, which points to closures of the types that the
    // function expects.
    unsafe {
        bindings::iterate_supers(
            Some(visit_super_block::<W, V>),
            addr_of_mut!(closures).cast(),
        )
    };
}

/// Calls `visit` as [`for_each_inode`] does, for the inodes of the filesystem with this device
/// number, if it is mounted. C: `user_get_super()`.
#[doc(alias = "user_get_super")]
pub fn for_each_inode_of<W, V>(device: u32, wanted: W, visit: V)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode),
{
    let mut closures = (wanted, visit);
    // SAFETY: The function has no preconditions but that the caller may sleep.
    let sb = unsafe { bindings::user_get_super(device, false) };
    if sb.is_null() {
        return;
    }
    // SAFETY: `user_get_super()` has locked the superblock, so it stays mounted until it is dropped
    // below. The pointer is that of closures of the types that the function expects.
    unsafe { visit_super_block::<W, V>(sb, addr_of_mut!(closures).cast()) };
    // SAFETY: `user_get_super()` has taken a reference, and the lock for reading; both end here.
    unsafe { bindings::drop_super(sb) };
}

/// Calls the second closure for each inode of a filesystem for which the first returns `true`.
///
/// # Safety
///
/// `sb` must be mounted, and stay so for the call. `closures` must point to a `(W, V)` that no
/// other code accesses during the call.
unsafe extern "C" fn visit_super_block<W, V>(sb: *mut bindings::super_block, closures: *mut c_void)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode),
{
    // SAFETY: The caller promises a pointer to closures of these types, with exclusive access.
    let (wanted, visit) = unsafe { &mut *closures.cast::<(W, V)>() };
    let mut previous = None;
    // SAFETY: The caller promises that the filesystem stays mounted, and `previous` is one of its
    // inodes.
    while let Some(current) = unsafe { InodeRef::after(sb, previous, wanted) } {
        // It may be an inode at which the walk only paused.
        if wanted(current.inode()) {
            visit(current.inode());
        }
        previous = Some(current);
        // SAFETY: No spinlock is held here, so the task may sleep.
        unsafe { bindings::cond_resched() };
    }
}

/// A reference to an inode in the list of its filesystem, which keeps its place in the list.
///
/// Dropping it may sleep.
///
/// # Invariants
///
/// The value owns a reference to the inode, and the filesystem is mounted as long as the value
/// exists.
struct InodeRef(*mut bindings::inode);

impl InodeRef {
    /// Returns the next inode behind `previous`, or the first one, for which `wanted` returns
    /// `true`; or any inode, after many that are not wanted, so that the lock is not held for long.
    ///
    /// # Safety
    ///
    /// `sb` must be mounted, and stay so as long as the result exists. `previous` must be one of
    /// its inodes.
    unsafe fn after(
        sb: *mut bindings::super_block,
        previous: Option<Self>,
        wanted: &impl Fn(&Inode) -> bool,
    ) -> Option<Self> {
        // SAFETY: The caller promises that the superblock is valid; only addresses of fields are
        // computed.
        let (head, lock) = unsafe {
            (
                addr_of_mut!((*sb).s_inodes),
                addr_of_mut!((*sb).s_inode_list_lock),
            )
        };
        let mut link = previous.as_ref().map_or(head, |previous| {
            // SAFETY: By the type invariants the inode is valid; only the address of a field is
            // computed.
            unsafe { addr_of_mut!((*previous.0).i_sb_list) }
        });
        // SAFETY: The lock of a mounted superblock is initialised.
        unsafe { bindings::spin_lock(lock) };
        let mut skipped = 0usize;
        let found = loop {
            // SAFETY: The list is locked. `link` is its head, or the link of an inode in it: either
            // of the one found in the last turn, or of `previous`, whose reference keeps it in the
            // list.
            link = unsafe { addr_of!((*link).next).read() };
            if link == head {
                break null_mut();
            }
            // SAFETY: Every link but the head is the field `i_sb_list` of an inode.
            let inode = unsafe { crate::container_of!(link, bindings::inode, i_sb_list) };
            let inode = inode.cast_mut();
            // SAFETY: An inode in the list is initialised, and is not freed while the list is
            // locked.
            let is_wanted = wanted(unsafe { Inode::from_raw(inode) });
            skipped = skipped.wrapping_add(1);
            if is_wanted || skipped >= MAX_SKIPPED {
                // SAFETY: The inode is valid while the list is locked. The function returns null
                // for an inode that is being freed.
                let inode = unsafe { bindings::igrab(inode) };
                if !inode.is_null() {
                    break inode;
                }
            }
        };
        // SAFETY: The lock was taken above, by this task.
        unsafe { bindings::spin_unlock(lock) };
        // After the unlock, because it sleeps if it puts the last reference.
        drop(previous);
        // INVARIANT: `igrab()` has taken a reference, and the caller promises that the filesystem
        // stays mounted.
        (!found.is_null()).then_some(Self(found))
    }

    /// Returns the inode.
    fn inode(&self) -> &Inode {
        // SAFETY: By the type invariants there is a reference and the filesystem is mounted, for as
        // long as `self` is borrowed.
        unsafe { Inode::from_raw(self.0) }
    }
}

impl Drop for InodeRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value owns a reference, which ends here.
        unsafe { bindings::iput(self.0) };
    }
}
