// SPDX-License-Identifier: GPL-2.0-only

//! Slots of page tables, and the locks of the tables.
//!
//! ```text
//!   Slot ---- lock() ----> LockedSlot::Vacant ------ install() ------------> mapped
//!    of a             \
//!   VmaPfn             +-> LockedSlot::Occupied ---- set_access_flags() --> writable
//! ```
//!
//! A slot is made for a [`VmaPfn`], which says what the VMA may map there and for which access, so
//! no step takes a PFN, a right or a protection from its caller.
//!
//! An entry can change until its table is locked, so nothing can be installed in a [`Slot`].
//! Locking it reads the entry, and that decides what can be done: a vacant slot takes a [`Leaf`];
//! an entry in an occupied slot stays, and can only be made writable, if it maps the PFN. [`Vacant`]
//! and [`Occupied`] hold the lock, and unlock it when they are dropped.
//!
//! The lock order is C's: a page table lock is taken after all locks that sleep.
//!
//! This file encapsulates which entry is accessed, and the locks of the tables.
//! `arch/x86/mm/gup` reads page tables without locks.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pgtable.h`](srctree/include/linux/pgtable.h)

use crate::{
    entry::{Entry, Leaf, Level, Pmd, Pte, Pud},
    vma::{NewPte, VmaPfn},
};
use core::{
    marker::PhantomData,
    ptr::{null_mut, NonNull},
};
use kernel::{
    arch::x86::paravirt::EntryPtr,
    bindings,
    error::{
        code::{EFAULT, ENOMEM},
        Result,
    },
    mm::prot::PageProt,
};

/// The C functions for the locks of the tables of a level.
pub(crate) trait Table: Level {
    /// Unlocks a table.
    ///
    /// # Safety
    ///
    /// `entry` must point into a table of this level, `lock` must be the lock of that table, and
    /// the caller must hold it and must not use it afterwards.
    unsafe fn unlock(entry: EntryPtr, lock: NonNull<bindings::spinlock_t>);
}

impl Table for Pte {
    #[inline]
    unsafe fn unlock(entry: EntryPtr, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller promises that it holds this lock, which came with a mapped pte.
        unsafe { bindings::pte_unmap_unlock(entry.as_pte(), lock.as_ptr()) };
    }
}

impl Table for Pmd {
    #[inline]
    unsafe fn unlock(_entry: EntryPtr, lock: NonNull<bindings::spinlock_t>) {
        // SAFETY: The caller promises that it holds this lock.
        unsafe { bindings::spin_unlock(lock.as_ptr()) };
    }
}

impl Table for Pud {
    #[inline]
    unsafe fn unlock(_entry: EntryPtr, lock: NonNull<bindings::spinlock_t>) {
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
    unsafe fn lock(mm: *mut bindings::mm_struct, entry: EntryPtr) -> NonNull<bindings::spinlock_t>;
}

impl UpperTable for Pmd {
    #[inline]
    unsafe fn lock(mm: *mut bindings::mm_struct, entry: EntryPtr) -> NonNull<bindings::spinlock_t> {
        // SAFETY: The caller promises that the entry lies in a table of `mm` that stays. The
        // function returns the lock of that table, and every table has one, so it is not null.
        unsafe { NonNull::new_unchecked(bindings::pmd_lock(mm, entry.as_pmd())) }
    }
}

impl UpperTable for Pud {
    #[inline]
    unsafe fn lock(mm: *mut bindings::mm_struct, entry: EntryPtr) -> NonNull<bindings::spinlock_t> {
        // SAFETY: The caller promises that the entry lies in a table of `mm` that stays. The
        // function returns the lock of that table, and every table has one, so it is not null.
        unsafe { NonNull::new_unchecked(bindings::pud_lock(mm, entry.as_pud())) }
    }
}

/// The slot of a page table for the entry that maps an address of a VMA, and the PFN that the entry
/// is to map.
///
/// # Invariants
///
/// `entry` points to the entry of level `L` for `address` in the page tables of the VMA's address
/// space, `address` is a multiple of `L::SIZE`, and the VMA contains the `L::SIZE` bytes there. The
/// table stays valid for `'a`.
pub(crate) struct Slot<'a, L> {
    pfn: VmaPfn<'a>,
    address: usize,
    entry: EntryPtr,
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
    /// Creates a slot from the entry that C code has found for `address`, in bytes, or returns
    /// `None` if the VMA does not contain all that the entry maps.
    ///
    /// # Safety
    ///
    /// `entry` must point to the entry of level `L` for `address` in the page tables of the VMA's
    /// address space, and the table must stay valid for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(
        pfn: VmaPfn<'a>,
        address: usize,
        entry: EntryPtr,
    ) -> Option<Self> {
        let address = address & !(L::SIZE - 1);
        let (start, end) = pfn.vma().range();
        // OVERFLOW: User addresses end before those of the kernel begin.
        if address < start || address.wrapping_add(L::SIZE) > end {
            return None;
        }
        // INVARIANT: The caller promises that the entry is the one for `address`. It maps all
        // addresses that differ from it in the lower bits only, and they were checked.
        Some(Self {
            pfn,
            address,
            entry,
            level: PhantomData,
        })
    }

    /// Returns the PFN that the entry is to map.
    #[inline]
    pub(crate) fn pfn(self) -> VmaPfn<'a> {
        self.pfn
    }

    /// Reads the entry without the lock, so it may change at any time.
    #[inline]
    pub(crate) fn peek(self) -> Entry<L> {
        // SAFETY: By the type invariants the pointer is valid. Processors and holders of the lock
        // write the entry concurrently, but as a whole word.
        Entry::new(unsafe { self.entry.read(L::SHIFT) })
    }

    /// Locks the table and reads the entry, after a lookup of the cache mode. Spins.
    #[inline]
    pub(crate) fn lock(self) -> LockedSlot<'a, L> {
        let prot = self.pfn.vma().prot_for(self.pfn.first());
        LockedSlot::read(self.lock_table(), prot)
    }

    /// Locks the table and reads the entry; returns `None`, and unlocks it, if the slot is empty.
    /// Spins.
    #[inline]
    pub(crate) fn lock_occupied(self) -> Option<Occupied<'a, L>> {
        let locked = self.lock_table();
        let entry = locked.read();
        match entry.is_none() {
            true => None,
            false => Some(Occupied { locked, entry }),
        }
    }

    /// Locks the table. Spins.
    #[inline]
    fn lock_table(self) -> Locked<'a, L> {
        // SAFETY: By the type invariants the entry lies in a table of this address space, which
        // stays valid for `'a`, and so as long as the returned value can hold the lock.
        let lock = unsafe { L::lock(self.pfn.vma().mm(), self.entry) };
        // INVARIANT: `lock` is the lock of the table, and was just taken.
        Locked { slot: self, lock }
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
    #[inline(always)]
    pub(crate) fn lock_pte(new: NewPte<'a>, address: usize) -> Result<LockedSlot<'a, Pte>> {
        Ok(LockedSlot::read(
            Self::lock_pte_table(new.pfn(), address)?,
            new.prot(),
        ))
    }

    /// Locks the table with the pte for `address` as [`Self::lock_pte`] does, and returns the slot
    /// if the pte is a marker of userfaultfd.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::lock_pte`].
    pub(crate) fn lock_marker(new: NewPte<'a>, address: usize) -> Result<Option<Marker<'a>>> {
        let locked = Self::lock_pte_table(new.pfn(), address)?;
        Ok(match locked.read().is_uffd_wp_marker() {
            // INVARIANT: The pte is a marker, and its table is locked.
            true => Some(Marker {
                locked,
                prot: new.prot(),
            }),
            false => None,
        })
    }

    /// Locks the table with the pte for `address`. C: `get_locked_pte()`.
    #[doc(alias = "get_locked_pte")]
    #[inline(always)]
    fn lock_pte_table(pfn: VmaPfn<'a>, address: usize) -> Result<Locked<'a, Pte>> {
        let vma = pfn.vma();
        if !vma.contains(address) {
            return Err(EFAULT);
        }
        let mut lock = null_mut();
        // SAFETY: By the invariants of `VmaRef` the address space is valid, and the address is one
        // of it. `lock` is written to before the function returns an entry.
        let entry = unsafe { bindings::__get_locked_pte(vma.mm(), address, &mut lock) };
        let entry = NonNull::new(entry.cast())
            .map(EntryPtr::new)
            .ok_or(ENOMEM)?;
        // SAFETY: The function returned an entry, so it has also stored the lock that it took,
        // which is not null.
        let lock = unsafe { NonNull::new_unchecked(lock) };
        // INVARIANT: The entry is the pte for `address`, and the table stays valid while it is
        // locked. A VMA consists of whole pages.
        let slot = Self {
            pfn,
            address: address & !(Pte::SIZE - 1),
            entry,
            level: PhantomData,
        };
        // INVARIANT: `lock` is the lock of the table, and was just taken.
        Ok(Locked { slot, lock })
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
    /// Reads the entry.
    #[inline]
    fn read(&self) -> Entry<L> {
        // SAFETY: By the invariants of `Slot` the pointer is valid. Processors may set bits
        // concurrently, but write the word as a whole.
        Entry::new(unsafe { self.slot.entry.read(L::SHIFT) })
    }

    /// Writes the entry. C: `set_pte_at()`, `set_pmd_at()`, `set_pud_at()`.
    #[inline]
    fn set(&mut self, entry: Entry<L>) {
        let slot = self.slot;
        // SAFETY: By the invariants of `Slot` the entry is the one for this address in a table of
        // this address space, and by those of `Locked` the table is locked. An entry that is set
        // is a leaf for the PFN of the slot, which the VMA may map.
        unsafe {
            slot.entry
                .set(slot.pfn.vma().mm(), slot.address, entry.entry(), L::SHIFT)
        };
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
    /// Reads the entry of a locked slot. `prot` is the protection of a new entry.
    #[inline]
    fn read(locked: Locked<'a, L>, prot: PageProt) -> Self {
        let entry = locked.read();
        match entry.is_none() {
            true => Self::Vacant(Vacant { locked, prot }),
            false => Self::Occupied(Occupied { locked, entry }),
        }
    }
}

/// An empty slot, and the lock of its table.
///
/// # Invariants
///
/// `prot` is the protection that the VMA gives a new entry for the PFN of the slot.
pub(crate) struct Vacant<'a, L: Table> {
    locked: Locked<'a, L>,
    prot: PageProt,
}

impl<L: Table> Vacant<'_, L> {
    /// Installs the leaf, and unlocks the table. C: `set_pte_at()`, `update_mmu_cache()`.
    ///
    /// Nothing is flushed: no processor caches that an entry is empty.
    #[doc(alias = "set_pte_at")]
    #[doc(alias = "set_pmd_at")]
    #[doc(alias = "set_pud_at")]
    #[inline]
    pub(crate) fn install(mut self) {
        let leaf = Leaf::new(self.locked.slot.pfn, self.prot);
        self.locked.set(leaf.entry());
    }
}

/// A slot with a marker of userfaultfd, and the lock of its table. C: `PTE_MARKER_UFFD_WP`.
///
/// # Invariants
///
/// The pte is such a marker. `prot` is the protection that the VMA gives a new entry for the PFN of
/// the slot.
#[doc(alias = "PTE_MARKER_UFFD_WP")]
pub(crate) struct Marker<'a> {
    locked: Locked<'a, Pte>,
    prot: PageProt,
}

impl Marker<'_> {
    /// Replaces the marker by the leaf, write-protected for userfaultfd unless it is for a store,
    /// and unlocks the table. C: `set_pte_range()`.
    ///
    /// Nothing is flushed: no processor caches an entry that is not present.
    pub(crate) fn install(mut self) {
        let pfn = self.locked.slot.pfn;
        let leaf = Leaf::new(pfn, self.prot);
        let leaf = match pfn.is_store() {
            true => leaf,
            false => leaf.with_uffd_wp(),
        };
        self.locked.set(leaf.entry());
    }
}

/// A slot with an entry, and the lock of its table.
pub(crate) struct Occupied<'a, L: Table> {
    locked: Locked<'a, L>,
    entry: Entry<L>,
}

impl<'a, L: Table> Occupied<'a, L> {
    /// Returns the PFN that the slot was made for.
    #[inline]
    pub(crate) fn pfn(&self) -> VmaPfn<'a> {
        self.locked.slot.pfn
    }

    /// Marks the entry accessed and dirty for a store, makes it writable if the VMA is, and unlocks
    /// the table. C: `ptep_set_access_flags()`, `pmdp_set_access_flags()`,
    /// `pudp_set_access_flags()`.
    ///
    /// Nothing is flushed: a processor that has cached the read-only entry faults, and reads it
    /// again.
    ///
    /// # Errors
    ///
    /// Returns the entry, unchanged, if the slot is not for a store, or if the entry is not a
    /// present leaf that maps the PFN of the slot.
    #[doc(alias = "ptep_set_access_flags")]
    #[doc(alias = "pmdp_set_access_flags")]
    #[doc(alias = "pudp_set_access_flags")]
    #[inline]
    pub(crate) fn set_access_flags(mut self) -> core::result::Result<(), Entry<L>> {
        let pfn = self.pfn();
        if !pfn.is_store() || !self.entry.maps(pfn.first()) {
            return Err(self.entry);
        }
        let entry = self.entry.with_store(pfn.is_writable());
        if entry != self.entry {
            self.locked.set(entry);
        }
        Ok(())
    }
}
