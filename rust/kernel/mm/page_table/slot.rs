// SPDX-License-Identifier: GPL-2.0-only

//! Places in page tables, and the locks of these.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use super::{Entry, Leaf, Level, Pmd, Pte, Pud};
use crate::{
    bindings,
    error::{
        code::{EFAULT, ENOMEM},
        Result,
    },
    mm::{pfn::Pfn, virt::VmaRef},
};
use core::{
    marker::PhantomData,
    ptr::{null_mut, NonNull},
};

/// What C does differently with the tables of each level.
pub trait Table: Sized {
    /// Writes an entry, and tells who wants to know. C: `set_pte_at()`, `set_pmd_at()`,
    /// `set_pud_at()`.
    ///
    /// # Safety
    ///
    /// `entry` is in a table of this level of the address space, for this address, and locked.
    #[doc(hidden)]
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64);

    /// Lets go of a table.
    ///
    /// # Safety
    ///
    /// `entry` is in a table of this level, and the caller gives up its lock, which is `lock`.
    #[doc(hidden)]
    unsafe fn unlock(entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>);
}

impl Table for Pte {
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64) {
        let pte = bindings::pte_t { pte: bits as _ };
        // SAFETY: The caller's promise.
        unsafe { bindings::set_pte_at(mm, address, entry.as_ptr().cast(), pte) };
    }

    #[inline]
    unsafe fn unlock(entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller's promise.
        unsafe { bindings::pte_unmap_unlock(entry.as_ptr().cast(), lock.as_ptr()) };
    }
}

impl Table for Pmd {
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64) {
        let pmd = bindings::pmd_t { pmd: bits as _ };
        // SAFETY: The caller's promise.
        unsafe { bindings::set_pmd_at(mm, address, entry.as_ptr().cast(), pmd) };
    }

    #[inline]
    unsafe fn unlock(_entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller's promise.
        unsafe { bindings::spin_unlock(lock.as_ptr()) };
    }
}

impl Table for Pud {
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64) {
        let pud = bindings::pud_t { pud: bits as _ };
        // SAFETY: The caller's promise.
        unsafe { bindings::set_pud_at(mm, address, entry.as_ptr().cast(), pud) };
    }

    #[inline]
    unsafe fn unlock(_entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller's promise.
        unsafe { bindings::spin_unlock(lock.as_ptr()) };
    }
}

/// A level above the lowest: its table is there before a fault is dealt with.
pub trait Upper: Level {
    /// Locks the table that has an entry. Spins. C: `pmd_lock()`, `pud_lock()`.
    ///
    /// # Safety
    ///
    /// `entry` is in a table of this level of the address space, which stays.
    #[doc(hidden)]
    unsafe fn lock(
        mm: *mut bindings::mm_struct,
        entry: NonNull<u64>,
    ) -> NonNull<bindings::spinlock_t>;
}

impl Upper for Pmd {
    #[inline]
    unsafe fn lock(
        mm: *mut bindings::mm_struct,
        entry: NonNull<u64>,
    ) -> NonNull<bindings::spinlock_t> {
        // SAFETY: The caller's promise. There is a lock for every table.
        unsafe { NonNull::new_unchecked(bindings::pmd_lock(mm, entry.as_ptr().cast())) }
    }
}

impl Upper for Pud {
    #[inline]
    unsafe fn lock(
        mm: *mut bindings::mm_struct,
        entry: NonNull<u64>,
    ) -> NonNull<bindings::spinlock_t> {
        // SAFETY: The caller's promise. There is a lock for every table.
        unsafe { NonNull::new_unchecked(bindings::pud_lock(mm, entry.as_ptr().cast())) }
    }
}

/// The place for the entry that maps an address of an area.
///
/// # Invariants
///
/// `entry` is the entry of level `L` for `address`, a multiple of what it maps, in the tables of the
/// area's address space. The table stays for `'a`.
pub struct Slot<'a, L> {
    vma: VmaRef<'a>,
    address: usize,
    entry: NonNull<u64>,
    level: PhantomData<L>,
}

impl<L> Clone for Slot<'_, L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Slot<'_, L> {}

impl<'a, L: Upper> Slot<'a, L> {
    /// The place that C code has found: `entry`, for `address` in bytes.
    ///
    /// # Safety
    ///
    /// It is the entry of level `L` for that address, in the tables of the area's address space,
    /// and its table stays for `'a`.
    #[inline]
    pub unsafe fn from_raw(vma: VmaRef<'a>, address: usize, entry: NonNull<u64>) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            vma,
            address: address & !(L::SIZE - 1),
            entry,
            level: PhantomData,
        }
    }

    /// The area.
    #[inline]
    pub fn vma(self) -> VmaRef<'a> {
        self.vma
    }

    /// The first address that the entry maps, in bytes.
    #[inline]
    pub fn address(self) -> usize {
        self.address
    }

    /// What is there at this moment. It may be something else at once.
    #[inline]
    pub fn peek(self) -> Entry<L> {
        // SAFETY: By the invariant the entry is there; it is read once, as a whole.
        Entry::new(unsafe { self.entry.as_ptr().read_volatile() })
    }

    /// Locks the table. Spins.
    #[inline]
    pub fn lock(self) -> Found<'a, L> {
        // SAFETY: By the invariant.
        let lock = unsafe { L::lock(self.vma.mm(), self.entry) };
        // INVARIANT: It was just taken.
        Found::read(Locked { slot: self, lock })
    }
}

impl<'a> Slot<'a, Pte> {
    /// Locks the table with the entry for `address` (in bytes). May sleep, for there may be no table
    /// yet. C: `get_locked_pte()`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the address is not in the area, `ENOMEM` if there is no memory for a table.
    #[doc(alias = "get_locked_pte")]
    #[inline]
    pub fn lock_page(vma: VmaRef<'a>, address: usize) -> Result<Found<'a, Pte>> {
        if !vma.contains(address) {
            return Err(EFAULT);
        }
        let mut lock = null_mut();
        // SAFETY: The address space of an area is valid, and so is the address.
        let entry = unsafe { bindings::__get_locked_pte(vma.mm(), address, &mut lock) };
        let entry = NonNull::new(entry.cast::<u64>()).ok_or(ENOMEM)?;
        // SAFETY: With an entry comes its lock.
        let lock = unsafe { NonNull::new_unchecked(lock) };
        // INVARIANT: The table stays while it is locked, and the lock was just taken.
        let slot = Self {
            vma,
            address: address & !(Pte::SIZE - 1),
            entry,
            level: PhantomData,
        };
        Ok(Found::read(Locked { slot, lock }))
    }
}

/// A place whose table is locked. Dropped, it lets go of the table.
///
/// # Invariants
///
/// `lock` is the lock of the table, and this value holds it.
struct Locked<'a, L: Level> {
    slot: Slot<'a, L>,
    lock: NonNull<bindings::spinlock_t>,
}

impl<L: Level> Locked<'_, L> {
    #[inline]
    fn set(&mut self, entry: Entry<L>) {
        let slot = self.slot;
        // An entry is just a word, unless who counts them wants to know.
        if cfg!(CONFIG_PAGE_TABLE_CHECK) {
            // SAFETY: By the invariants of both types.
            unsafe { L::set(slot.vma.mm(), slot.address, slot.entry, entry.bits()) };
        } else {
            // SAFETY: By the invariants of both types. Processors, which read it at any time, find
            // the one word or the other.
            unsafe { slot.entry.as_ptr().write_volatile(entry.bits()) };
        }
    }
}

impl<L: Level> Drop for Locked<'_, L> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { L::unlock(self.slot.entry, self.lock) };
    }
}

/// What is in a place whose table is locked.
pub enum Found<'a, L: Level> {
    /// Nothing.
    Vacant(Vacant<'a, L>),
    /// Something, or what is left of it: it may be swapped out or be moved to another place.
    Occupied(Occupied<'a, L>),
}

impl<'a, L: Level> Found<'a, L> {
    #[inline]
    fn read(locked: Locked<'a, L>) -> Self {
        // SAFETY: By the invariant the entry is there. Processors may set bits at any time.
        let entry = Entry::new(unsafe { locked.slot.entry.as_ptr().read_volatile() });
        match entry.is_none() {
            true => Self::Vacant(Vacant(locked)),
            false => Self::Occupied(Occupied { locked, entry }),
        }
    }
}

/// A place where there is nothing, for as long as this value has the lock of the table.
pub struct Vacant<'a, L: Level>(Locked<'a, L>);

impl<L: Level> Vacant<'_, L> {
    /// Maps the memory of the leaf, and lets go of the table. Nothing has to be flushed: no
    /// processor keeps that there was nothing. C: `set_pte_at()`, `update_mmu_cache()`.
    #[doc(alias = "set_pte_at")]
    #[doc(alias = "set_pmd_at")]
    #[doc(alias = "set_pud_at")]
    #[inline]
    pub fn install(mut self, leaf: Leaf<L>) {
        self.0.set(leaf.entry());
    }
}

/// The entry maps another frame.
pub struct OtherFrame<L>(Entry<L>);

impl<L: Level> OtherFrame<L> {
    /// The entry.
    #[inline]
    pub fn entry(&self) -> Entry<L> {
        self.0
    }
}

/// A place where there is an entry, for as long as this value has the lock of the table.
pub struct Occupied<'a, L: Level> {
    locked: Locked<'a, L>,
    entry: Entry<L>,
}

impl<L: Level> Occupied<'_, L> {
    /// Notes a store to the frame `pfn`, which the caller knows to be mapped here, allows further
    /// ones if the area does, and lets go of the table. C: `ptep_set_access_flags()`,
    /// `pmdp_set_access_flags()`, `pudp_set_access_flags()`.
    ///
    /// Nothing is flushed: a processor that still takes the entry for read-only asks again.
    ///
    /// # Errors
    ///
    /// The entry, unchanged, if it is not for that frame.
    #[doc(alias = "ptep_set_access_flags")]
    #[doc(alias = "pmdp_set_access_flags")]
    #[doc(alias = "pudp_set_access_flags")]
    #[inline]
    pub fn allow_stores(mut self, pfn: Pfn, writable: bool) -> Result<(), OtherFrame<L>> {
        if self.entry.pfn() != pfn {
            return Err(OtherFrame(self.entry));
        }
        let entry = self.entry.stored_to(writable);
        if entry.bits() != self.entry.bits() {
            self.locked.set(entry);
        }
        Ok(())
    }
}
