// SPDX-License-Identifier: GPL-2.0

//! The filesystems that are mounted, and their inodes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::inode::Inode;
use crate::bindings;
use core::{
    ffi::c_void,
    ptr::{addr_of, addr_of_mut, null_mut},
};

/// After how many inodes that are not wanted others get the lock of the list.
const CHECK: usize = 1024;

/// Calls `visit` for every inode in memory that `wanted` says, of every filesystem that is mounted, but
/// not for those that are just being freed. Sleeps; so may `visit`, but `wanted` may not: it is
/// asked under a spinlock. C: `iterate_supers()`.
///
/// The caller holds no lock of a filesystem: each is kept from being unmounted (`s_umount`) while its
/// inodes are visited.
#[doc(alias = "iterate_supers")]
pub fn for_each_inode<W, V>(wanted: W, visit: V)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode),
{
    let mut both = (wanted, visit);
    // SAFETY: `of_super_block` is called with what is handed over here, of the types that it takes,
    // and only during this call.
    unsafe { bindings::iterate_supers(Some(of_super_block::<W, V>), addr_of_mut!(both).cast()) };
}

/// The same for one filesystem, the one with this device number, if there is one. C:
/// `user_get_super()`.
#[doc(alias = "user_get_super")]
pub fn for_each_inode_of<W, V>(device: u32, wanted: W, visit: V)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode),
{
    let mut both = (wanted, visit);
    // SAFETY: Looks at the list of filesystems.
    let sb = unsafe { bindings::user_get_super(device, false) };
    if sb.is_null() {
        return;
    }
    // SAFETY: It is locked, so it stays mounted.
    unsafe { of_super_block::<W, V>(sb, addr_of_mut!(both).cast()) };
    // SAFETY: We have it from above, locked for reading.
    unsafe { bindings::drop_super(sb) };
}

/// # Safety
///
/// `sb` is mounted and stays so for the call. `both` are a `W` and a `V` that nobody else uses.
unsafe extern "C" fn of_super_block<W, V>(sb: *mut bindings::super_block, both: *mut c_void)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode),
{
    // SAFETY: The caller's promise.
    let (wanted, visit) = unsafe { &mut *both.cast::<(W, V)>() };
    let mut from = None;
    // SAFETY: As above; the inode that it goes on from is one of its.
    while let Some(kept) = unsafe { Kept::after(sb, from, wanted) } {
        // It may be one at which the walk only took a breath.
        if wanted(kept.inode()) {
            visit(kept.inode());
        }
        from = Some(kept);
        // SAFETY: Nothing that forbids to sleep is held.
        unsafe { bindings::cond_resched() };
    }
}

/// An inode that was found in the list of its filesystem, and a reference to it, which keeps it
/// there. Dropping it sleeps.
///
/// # Invariants
///
/// The value owns a reference to the inode.
struct Kept(*mut bindings::inode);

impl Kept {
    /// The next inode of the filesystem, behind `from`, that is wanted and not being freed; or one
    /// that is not wanted, after many of these, so that the lock is not held for long.
    ///
    /// # Safety
    ///
    /// `sb` is mounted and stays so for the call, and while the result is there; `from` is one of its
    /// inodes.
    unsafe fn after(
        sb: *mut bindings::super_block,
        from: Option<Self>,
        wanted: &impl Fn(&Inode) -> bool,
    ) -> Option<Self> {
        // SAFETY: By the caller's promise the fields are there; only addresses are taken.
        let (head, lock) = unsafe {
            (
                addr_of_mut!((*sb).s_inodes),
                addr_of_mut!((*sb).s_inode_list_lock),
            )
        };
        let mut place = from.as_ref().map_or(head, |kept| {
            // SAFETY: By the invariant the inode is there.
            unsafe { addr_of_mut!((*kept.0).i_sb_list) }
        });
        // SAFETY: An initialised lock.
        unsafe { bindings::spin_lock(lock) };
        let mut passed = 0usize;
        let found = loop {
            // SAFETY: The list is locked, and `place` is its head or the place of an inode in it: one
            // that was just found, or one that is kept.
            place = unsafe { addr_of!((*place).next).read() };
            if place == head {
                break null_mut();
            }
            // SAFETY: All places but the head are fields of inodes.
            let inode = unsafe { crate::container_of!(place, bindings::inode, i_sb_list) };
            let inode = inode.cast_mut();
            // SAFETY: An inode in the list is initialised, and is not freed while that is locked.
            let is_wanted = wanted(unsafe { Inode::from_raw(inode) });
            passed = passed.wrapping_add(1);
            if is_wanted || passed >= CHECK {
                // SAFETY: As above.
                let inode = unsafe { bindings::igrab(inode) };
                if !inode.is_null() {
                    break inode;
                }
            }
        };
        // SAFETY: Locked above.
        unsafe { bindings::spin_unlock(lock) };
        // Not under the lock: it may be the last reference.
        drop(from);
        // INVARIANT: The reference was just taken.
        (!found.is_null()).then_some(Self(found))
    }

    fn inode(&self) -> &Inode {
        // SAFETY: By the invariant there is a reference, and its filesystem stays mounted.
        unsafe { Inode::from_raw(self.0) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours.
        unsafe { bindings::iput(self.0) };
    }
}
