// SPDX-License-Identifier: GPL-2.0-only

//! Slots of page tables, and the locks of the tables.
//!
//! ```text
//!   Slot ---- lock() ----> LockedSlot::Vacant ------ install(Leaf) ----------> mapped
//!                     \
//!                      +-> LockedSlot::Occupied ---- set_access_flags(pfn) --> writable
//! ```
//!
//! An entry can change until its table is locked, so nothing can be installed in a [`Slot`].
//! Locking it reads the entry, and that decides what can be done: a vacant slot takes a [`Leaf`];
//! an entry in an occupied slot stays, and can only be made writable, by a caller that names its
//! PFN. [`Vacant`] and [`Occupied`] hold the lock, and unlock it when they are dropped.
//!
//! The lock order is C's: a page table lock is taken after all locks that sleep.
//!
//! This file encapsulates the accesses to page tables and their locks. `arch/x86/mm/gup` reads page
//! tables without locks.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use crate::entry::{Entry, Leaf, Level, Pmd, Pte, Pud};
use core::{
    marker::PhantomData,
    ptr::{null_mut, NonNull},
};
use kernel::{
    bindings,
    error::{
        code::{EFAULT, ENOMEM},
        Result,
    },
    mm::{pfn::Pfn, virt::VmaRef},
};

/// The C functions for the tables of a level.
pub(crate) trait Table: Level {
    /// Writes an entry, and reports it to the page table check. C: `set_pte_at()`, `set_pmd_at()`,
    /// `set_pud_at()`.
    ///
    /// # Safety
    ///
    /// `entry` must point to the entry for `address` in a table of this level of `mm`, and the
    /// caller must hold the lock of that table.
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64);

    /// Unlocks a table.
    ///
    /// # Safety
    ///
    /// `entry` must point into a table of this level, `lock` must be the lock of that table, and
    /// the caller must hold it and must not use it afterwards.
    unsafe fn unlock(entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>);
}

impl Table for Pte {
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64) {
        let pte = bindings::pte_t { pte: bits as _ };
        // SAFETY: The caller promises that the entry belongs to `mm` and `address` and that its
        // table is locked, which is what the function requires.
        unsafe { bindings::set_pte_at(mm, address, entry.as_ptr().cast(), pte) };
    }

    #[inline]
    unsafe fn unlock(entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller promises that it holds this lock, which came with a mapped pte.
        unsafe { bindings::pte_unmap_unlock(entry.as_ptr().cast(), lock.as_ptr()) };
    }
}

impl Table for Pmd {
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64) {
        let pmd = bindings::pmd_t { pmd: bits as _ };
        // SAFETY: The caller promises that the entry belongs to `mm` and `address` and that its
        // table is locked, which is what the function requires.
        unsafe { bindings::set_pmd_at(mm, address, entry.as_ptr().cast(), pmd) };
    }

    #[inline]
    unsafe fn unlock(_entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller promises that it holds this lock.
        unsafe { bindings::spin_unlock(lock.as_ptr()) };
    }
}

impl Table for Pud {
    unsafe fn set(mm: *mut bindings::mm_struct, address: usize, entry: NonNull<u64>, bits: u64) {
        let pud = bindings::pud_t { pud: bits as _ };
        // SAFETY: The caller promises that the entry belongs to `mm` and `address` and that its
        // table is locked, which is what the function requires.
        unsafe { bindings::set_pud_at(mm, address, entry.as_ptr().cast(), pud) };
    }

    #[inline]
    unsafe fn unlock(_entry: NonNull<u64>, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller promises that it holds this lock.
        unsafe { bindings::spin_unlock(lock.as_ptr()) };
    }
}

/// A level above the lowest. Its table exists before the fault handler is called.
pub(crate) trait UpperTable: Table {
    /// Locks the table that contains an entry. Spins. C: `pmd_lock()`, `pud_lock()`.
    ///
    /// # Safety
    ///
    /// `entry` must point into a table of this level of `mm`, and the table must stay valid until
    /// it is unlocked.
    unsafe fn lock(
        mm: *mut bindings::mm_struct,
        entry: NonNull<u64>,
    ) -> NonNull<bindings::spinlock_t>;
}

impl UpperTable for Pmd {
    #[inline]
    unsafe fn lock(
        mm: *mut bindings::mm_struct,
        entry: NonNull<u64>,
    ) -> NonNull<bindings::spinlock_t> {
        // SAFETY: The caller promises that the entry lies in a table of `mm` that stays. The
        // function returns the lock of that table, and every table has one, so it is not null.
        unsafe { NonNull::new_unchecked(bindings::pmd_lock(mm, entry.as_ptr().cast())) }
    }
}

impl UpperTable for Pud {
    #[inline]
    unsafe fn lock(
        mm: *mut bindings::mm_struct,
        entry: NonNull<u64>,
    ) -> NonNull<bindings::spinlock_t> {
        // SAFETY: The caller promises that the entry lies in a table of `mm` that stays. The
        // function returns the lock of that table, and every table has one, so it is not null.
        unsafe { NonNull::new_unchecked(bindings::pud_lock(mm, entry.as_ptr().cast())) }
    }
}

/// The slot of a page table for the entry that maps an address of a VMA.
///
/// # Invariants
///
/// `entry` points to the entry of level `L` for `address` in the page tables of the VMA's address
/// space, and `address` is a multiple of `L::SIZE`. The table stays valid for `'a`.
pub(crate) struct Slot<'a, L> {
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

impl<'a, L: UpperTable> Slot<'a, L> {
    /// Creates a slot from the entry that C code has found for `address`, in bytes.
    ///
    /// # Safety
    ///
    /// `entry` must point to the entry of level `L` for `address` in the page tables of the VMA's
    /// address space, and the table must stay valid for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(vma: VmaRef<'a>, address: usize, entry: NonNull<u64>) -> Self {
        // INVARIANT: The caller promises that the entry is the one for `address`. It maps all
        // addresses that differ from it in the lower bits only.
        Self {
            vma,
            address: address & !(L::SIZE - 1),
            entry,
            level: PhantomData,
        }
    }

    /// Returns the VMA.
    #[inline]
    pub(crate) fn vma(self) -> VmaRef<'a> {
        self.vma
    }

    /// Returns the first address that the entry maps, in bytes.
    #[inline]
    pub(crate) fn address(self) -> usize {
        self.address
    }

    /// Reads the entry without the lock, so it may change at any time.
    #[inline]
    pub(crate) fn peek(self) -> Entry<L> {
        // SAFETY: By the type invariants the pointer is valid. Processors and holders of the lock
        // write the entry concurrently, but as a whole word, and this reads it once.
        Entry::new(unsafe { self.entry.as_ptr().read_volatile() })
    }

    /// Locks the table and reads the entry. Spins.
    #[inline]
    pub(crate) fn lock(self) -> LockedSlot<'a, L> {
        // SAFETY: By the type invariants the entry lies in a table of this address space, which
        // stays valid for `'a`, and so as long as the returned value can hold the lock.
        let lock = unsafe { L::lock(self.vma.mm(), self.entry) };
        // INVARIANT: `lock` is the lock of the table, and was just taken.
        LockedSlot::read(Locked { slot: self, lock })
    }
}

impl<'a> Slot<'a, Pte> {
    /// Locks the table with the pte for `address`, in bytes, and reads the pte. Allocates the table
    /// if there is none, so it may sleep. C: `get_locked_pte()`.
    ///
    /// # Errors
    ///
    /// Returns `EFAULT` if the address is not in the VMA, and `ENOMEM` if a table cannot be
    /// allocated.
    #[doc(alias = "get_locked_pte")]
    #[inline]
    pub(crate) fn lock_pte(vma: VmaRef<'a>, address: usize) -> Result<LockedSlot<'a, Pte>> {
        if !vma.contains(address) {
            return Err(EFAULT);
        }
        let mut lock = null_mut();
        // SAFETY: By the invariants of `VmaRef` the address space is valid, and the address is one
        // of it. `lock` is written to before the function returns an entry.
        let entry = unsafe { bindings::__get_locked_pte(vma.mm(), address, &mut lock) };
        let entry = NonNull::new(entry.cast::<u64>()).ok_or(ENOMEM)?;
        // SAFETY: The function returned an entry, so it has also stored the lock that it took,
        // which is not null.
        let lock = unsafe { NonNull::new_unchecked(lock) };
        // INVARIANT: The entry is the pte for `address`, and the table stays valid while it is
        // locked.
        let slot = Self {
            vma,
            address: address & !(Pte::SIZE - 1),
            entry,
            level: PhantomData,
        };
        // INVARIANT: `lock` is the lock of the table, and was just taken.
        Ok(LockedSlot::read(Locked { slot, lock }))
    }
}

/// The lock of the table that a slot lies in. Dropping it unlocks the table.
///
/// # Invariants
///
/// `lock` is the lock of the table, and this value holds it.
struct Locked<'a, L: Table> {
    slot: Slot<'a, L>,
    lock: NonNull<bindings::spinlock_t>,
}

impl<L: Table> Locked<'_, L> {
    /// Writes the entry. C: `set_pte_at()`, `set_pmd_at()`, `set_pud_at()`.
    #[inline]
    fn set(&mut self, entry: Entry<L>) {
        let slot = self.slot;
        // Only the page table check needs the C functions; otherwise an entry is just a word.
        if cfg!(CONFIG_PAGE_TABLE_CHECK) {
            // SAFETY: By the invariants of `Slot` the entry is the one for this address in a table
            // of this address space, and by those of `Locked` the table is locked.
            unsafe { L::set(slot.vma.mm(), slot.address, slot.entry, entry.bits()) };
        } else {
            // SAFETY: By the invariants of `Slot` the pointer is valid, and by those of `Locked` no
            // other code writes the entry. Processors, which read it at any time, read the old word
            // or the new one.
            unsafe { slot.entry.as_ptr().write_volatile(entry.bits()) };
        }
    }
}

impl<L: Table> Drop for Locked<'_, L> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants this value holds `lock`, which is the lock of the table
        // that the slot lies in, and it is not used after the drop.
        unsafe { L::unlock(self.slot.entry, self.lock) };
    }
}

/// A slot in a locked table: empty, or with an entry.
pub(crate) enum LockedSlot<'a, L: Table> {
    /// The slot is empty.
    Vacant(Vacant<'a, L>),
    /// The slot has an entry, which need not be present: the page may be swapped out or migrating.
    Occupied(Occupied<'a, L>),
}

impl<'a, L: Table> LockedSlot<'a, L> {
    /// Reads the entry of a locked slot.
    #[inline]
    fn read(locked: Locked<'a, L>) -> Self {
        // SAFETY: By the invariants of `Slot` the pointer is valid. Processors may set bits
        // concurrently, but the word is read once, as a whole.
        let entry = Entry::new(unsafe { locked.slot.entry.as_ptr().read_volatile() });
        match entry.is_none() {
            true => Self::Vacant(Vacant(locked)),
            false => Self::Occupied(Occupied { locked, entry }),
        }
    }
}

/// An empty slot, and the lock of its table.
pub(crate) struct Vacant<'a, L: Table>(Locked<'a, L>);

impl<L: Table> Vacant<'_, L> {
    /// Installs the leaf, and unlocks the table. C: `set_pte_at()`, `update_mmu_cache()`.
    ///
    /// Nothing is flushed: no processor caches that an entry is empty.
    #[doc(alias = "set_pte_at")]
    #[doc(alias = "set_pmd_at")]
    #[doc(alias = "set_pud_at")]
    #[inline]
    pub(crate) fn install(mut self, leaf: Leaf<L>) {
        self.0.set(leaf.entry());
    }
}

/// The error of [`Occupied::set_access_flags`]: the entry maps another PFN.
pub(crate) struct OtherPfn<L>(pub(crate) Entry<L>);

/// A slot with an entry, and the lock of its table.
pub(crate) struct Occupied<'a, L: Table> {
    locked: Locked<'a, L>,
    entry: Entry<L>,
}

impl<L: Table> Occupied<'_, L> {
    /// Marks the entry accessed and dirty for a store to `pfn`, makes it writable if `writable`,
    /// and unlocks the table. C: `ptep_set_access_flags()`, `pmdp_set_access_flags()`,
    /// `pudp_set_access_flags()`.
    ///
    /// Nothing is flushed: a processor that has cached the read-only entry faults, and reads it
    /// again.
    ///
    /// # Errors
    ///
    /// Returns the entry, unchanged, if it does not map `pfn`.
    #[doc(alias = "ptep_set_access_flags")]
    #[doc(alias = "pmdp_set_access_flags")]
    #[doc(alias = "pudp_set_access_flags")]
    #[inline]
    pub(crate) fn set_access_flags(mut self, pfn: Pfn, writable: bool) -> Result<(), OtherPfn<L>> {
        if self.entry.pfn() != pfn {
            return Err(OtherPfn(self.entry));
        }
        let entry = self.entry.with_store(writable);
        if entry != self.entry {
            self.locked.set(entry);
        }
        Ok(())
    }
}
