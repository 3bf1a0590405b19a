// SPDX-License-Identifier: GPL-2.0

//! Superblocks, walks over their inodes, and inodes whose filesystem is kept active.
//!
//! A superblock is shut down when its last *active* reference is dropped: by the last unmount or,
//! if that comes later, by the code here. Taking and dropping an active reference needs no lock, so
//! neither a walk nor the holder of an [`ActiveInode`] takes `s_umount`, and neither waits for a
//! task that holds it. A walk keeps its place in the list of inodes by a reference to one of them:
//!
//! ```text
//!  lock the list -> next inode -> igrab() -> unlock -> iput() the one before -> visit
//! ```
//!
//! The unsafe code here encapsulates a superblock's list of inodes, its lock, and the references to
//! both.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::inode::Inode;
use crate::bindings;
use core::{
    ffi::c_void,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{ControlFlow, Deref},
    ptr::{addr_of, addr_of_mut, null_mut},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
};

/// The number of inodes that are skipped before the lock of the list is dropped for a moment.
const MAX_SKIPPED: usize = 1024;

/// An active reference to a superblock, which is not shut down before it is dropped.
///
/// Dropping it sleeps, and shuts the filesystem down if it was the last one.
///
/// # Invariants
///
/// The superblock is valid, and the value owns one of its active references.
struct ActiveSuperBlock(*mut bindings::super_block);

impl ActiveSuperBlock {
    /// Takes an active reference, unless the superblock is shut down. Any context.
    ///
    /// # Safety
    ///
    /// `sb` must point to a superblock that is not freed during the call.
    unsafe fn get(sb: *mut bindings::super_block) -> Option<Self> {
        // SAFETY: The caller promises that the superblock is valid. C changes this word by atomic
        // operations only.
        let active = unsafe { AtomicI32::from_ptr(addr_of_mut!((*sb).s_active.counter)) };
        active
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |count| {
                // OVERFLOW: The count is one of mounts and open files of the kernel.
                (count != 0).then_some(count.wrapping_add(1))
            })
            .ok()?;
        // INVARIANT: The reference has just been taken.
        Some(Self(sb))
    }
}

impl Drop for ActiveSuperBlock {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value owns an active reference, which ends here.
        unsafe { bindings::deactivate_super(self.0) };
    }
}

/// A reference to an inode, together with an active reference to its superblock. An unmount returns
/// at once meanwhile; the filesystem is shut down later, as if a file of it were open.
///
/// Dropping it sleeps. It may be the last reference to the inode, and to the filesystem.
///
/// # Invariants
///
/// The value owns a reference to the inode and an active reference to its superblock.
pub struct ActiveInode(*mut bindings::inode);

// SAFETY: References to an inode and to a superblock are not tied to a thread.
unsafe impl Send for ActiveInode {}
// SAFETY: Through a shared reference only an `&Inode` can be had, whose methods any thread may call.
unsafe impl Sync for ActiveInode {}

impl ActiveInode {
    /// Takes an active reference to the superblock of an inode. Returns whether it could: if not,
    /// the filesystem is being shut down. Any context.
    ///
    /// The reference is that of an [`ActiveInode`], which [`from_raw`](Self::from_raw) creates.
    pub fn activate(inode: &Inode) -> bool {
        // SAFETY: The superblock is valid as long as the inode.
        let active = unsafe { ActiveSuperBlock::get((*inode.as_raw()).i_sb) };
        active.map(ManuallyDrop::new).is_some()
    }

    /// Creates the value from the two references that it owns.
    ///
    /// # Safety
    ///
    /// The caller must own a reference to the inode, and the active reference that
    /// [`activate`](Self::activate) has taken, and must give up both.
    pub unsafe fn from_raw(inode: *mut bindings::inode) -> Self {
        // INVARIANT: The caller passes both references on.
        Self(inode)
    }

    /// Puts the inode, and then the filesystem, unless that is frozen. Sleeps, but not until a
    /// frozen filesystem is thawed.
    ///
    /// # Errors
    ///
    /// Returns the value if the filesystem is frozen.
    pub fn try_put(self) -> Result<(), Self> {
        // SAFETY: By the type invariants the inode is valid, and so is its superblock.
        let sb = unsafe { (*self.0).i_sb };
        // The eviction of an inode enters a deeper level of freeze protection. A freeze that begins
        // now stops at this level and waits until it is left, so it does not block the eviction.
        // SAFETY: The reference of `self` keeps the superblock valid.
        if !unsafe { bindings::sb_start_write_trylock(sb) } {
            return Err(self);
        }
        let inode = ManuallyDrop::new(self).0;
        // INVARIANT: The active reference is that of `self`, which is not dropped.
        let active = ActiveSuperBlock(sb);
        // SAFETY: The reference to the inode is that of `self`, which is not dropped; it ends here.
        // Write access has been obtained above, from this superblock, which `active` keeps.
        unsafe {
            bindings::iput(inode);
            bindings::sb_end_write(sb);
        }
        drop(active);
        Ok(())
    }

    /// Returns a number that identifies the superblock while it has inodes: its address.
    pub fn super_block_id(&self) -> usize {
        // SAFETY: By the type invariants the inode is valid. Its superblock does not change.
        unsafe { (*self.0).i_sb as usize }
    }
}

impl Deref for ActiveInode {
    type Target = Inode;

    fn deref(&self) -> &Inode {
        // SAFETY: By the type invariants there are references to the inode and to its superblock,
        // for as long as `self` is borrowed.
        unsafe { Inode::from_raw(self.0) }
    }
}

impl Drop for ActiveInode {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the inode is valid, and so is its superblock.
        let sb = unsafe { (*self.0).i_sb };
        // SAFETY: By the type invariants the value owns both references, which end here, that to
        // the superblock last.
        unsafe {
            bindings::iput(self.0);
            bindings::deactivate_super(sb);
        }
    }
}

/// The closures of a walk, and what is known of it.
struct Walk<W, V> {
    /// The device number of the filesystem, or `None` for all filesystems on block devices.
    device: Option<u32>,
    wanted: W,
    visit: V,
    result: ControlFlow<()>,
}

/// Calls `visit` for each inode in memory for which `wanted` returns `true`, of the filesystem with
/// this device number or, if that is `None`, of all filesystems on block devices. Ends early if
/// `visit` returns [`ControlFlow::Break`].
///
/// Inodes that are being freed are skipped. Sleeps, and `visit` may sleep as well; `wanted` must
/// not, because it is called under a spinlock. The walk itself waits for no lock of a filesystem.
///
/// The caller must not hold a lock of a filesystem either: if one is unmounted meanwhile, the walk
/// has its last reference and shuts it down.
///
/// # Examples
///
/// ```
/// use core::ops::ControlFlow;
/// use kernel::fs::super_block;
///
/// let mut bytes = 0i64;
/// super_block::for_each_inode(
///     None,
///     |inode| inode.is_dax(),
///     |inode| {
///         bytes = bytes.saturating_add(inode.size());
///         ControlFlow::Continue(())
///     },
/// );
/// ```
#[doc(alias = "iterate_supers")]
pub fn for_each_inode<W, V>(device: Option<u32>, wanted: W, visit: V)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode) -> ControlFlow<()>,
{
    let mut walk = Walk {
        device,
        wanted,
        visit,
        result: ControlFlow::Continue(()),
    };
    // SAFETY: C calls `visit_super_block` only during this call, with a superblock that it does not
    // free meanwhile and with the pointer passed here, which points to a walk of the type that the
    // function expects.
    unsafe {
        bindings::iterate_supers_unlocked(
            Some(visit_super_block::<W, V>),
            addr_of_mut!(walk).cast(),
        )
    };
}

/// Visits the inodes of one filesystem.
///
/// # Safety
///
/// `sb` must not be freed during the call. `walk` must point to a `Walk<W, V>` that no other code
/// accesses during the call.
unsafe extern "C" fn visit_super_block<W, V>(sb: *mut bindings::super_block, walk: *mut c_void)
where
    W: Fn(&Inode) -> bool,
    V: FnMut(&Inode) -> ControlFlow<()>,
{
    // SAFETY: The caller promises a pointer to a walk of this type, with exclusive access.
    let walk = unsafe { &mut *walk.cast::<Walk<W, V>>() };
    // SAFETY: The caller promises that the superblock is not freed. Its device numbers do not
    // change once it is born; the flags are a word that other CPUs write as a whole. The acquire
    // pairs with the release in `super_wake()`.
    let is_wanted = unsafe {
        let flags = AtomicUsize::from_ptr(addr_of_mut!((*sb).s_flags).cast());
        flags.load(Ordering::Acquire) & bindings::SB_BORN != 0
            && match walk.device {
                Some(device) => (*sb).s_dev == device,
                None => !(*sb).s_bdev.is_null(),
            }
    };
    if walk.result.is_break() || !is_wanted {
        return;
    }
    // SAFETY: The caller promises that the superblock is not freed.
    let Some(active) = (unsafe { ActiveSuperBlock::get(sb) }) else {
        return;
    };
    let mut previous = None;
    while let Some(current) = InodeRef::after(&active, previous, &walk.wanted) {
        // It may be an inode at which the walk only paused.
        if (walk.wanted)(current.inode()) {
            walk.result = (walk.visit)(current.inode());
        }
        if walk.result.is_break() {
            break;
        }
        previous = Some(current);
        // SAFETY: No spinlock is held here, so the task may sleep.
        unsafe { bindings::cond_resched() };
    }
}

/// A reference to an inode in the list of its superblock, which keeps its place in the list.
///
/// Dropping it may sleep.
///
/// # Invariants
///
/// The value owns a reference to the inode, and the superblock is active for `'sb`.
struct InodeRef<'sb>(*mut bindings::inode, PhantomData<&'sb ActiveSuperBlock>);

impl<'sb> InodeRef<'sb> {
    /// Returns the next inode behind `previous`, which is one of this superblock, or the first one,
    /// for which `wanted` returns `true`; or any inode, after many that are not wanted, so that the
    /// lock is not held for long.
    fn after(
        sb: &'sb ActiveSuperBlock,
        previous: Option<Self>,
        wanted: &impl Fn(&Inode) -> bool,
    ) -> Option<Self> {
        let sb = sb.0;
        // SAFETY: By its type invariants the superblock is valid; only addresses of fields are
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
        // SAFETY: The lock of an active superblock is initialised.
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
        // INVARIANT: `igrab()` has taken a reference, and `sb` keeps the superblock active.
        (!found.is_null()).then_some(Self(found, PhantomData))
    }

    /// Returns the inode.
    fn inode(&self) -> &Inode {
        // SAFETY: By the type invariants there is a reference and the superblock is active, for as
        // long as `self` is borrowed.
        unsafe { Inode::from_raw(self.0) }
    }
}

impl Drop for InodeRef<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value owns a reference, which ends here.
        unsafe { bindings::iput(self.0) };
    }
}
