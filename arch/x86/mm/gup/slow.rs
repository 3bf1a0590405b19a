// SPDX-License-Identifier: GPL-2.0-only
// Derived from `mm/gup.c` and `mm/huge_memory.c`, Copyright (C) 2009 Red Hat, Inc.

//! The slow path's leaves of device memory.
//!
//! In the slow path C walks the page tables of any process, with the mmap lock held, and faults in
//! what is missing. At an entry with `_PAGE_DEVMAP` it calls one of the functions here, with the
//! page table lock held, so the entry does not change. The result is one of four, as for any other
//! entry:
//!
//! | result | C |
//! |---|---|
//! | `NULL` | handles a page fault and tries again |
//! | a page, and how many more were taken behind it | writes them into the array and goes on behind them |
//! | `-EEXIST`, and how many more are mapped | goes on behind them: the caller wants no references |
//! | another errno | ends |
//!
//! A leaf is taken at once, as far as the caller's range and the VMA go, with neighbouring ptes as
//! one leaf, as in the walk without locks. Entries of another process are handled in the same way,
//! because nothing here depends on the process that they belong to.
//!
//! The `unsafe` code here reads entries under the page table lock, and converts C's arguments.
//!
//! C: `follow_devmap_pmd()`, and what `follow_huge_pud()` and `follow_page_pte()` do with device
//! memory

use super::{
    device_run::{DeviceRun, WalkedPgmap},
    flags::GupFlags,
    gup_flags,
    pgtable::{Entry, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT},
    pte::pte_run,
    vmstat::FollPinStat,
};
use core::ptr::{self, NonNull};
use kernel::{
    arch::x86::{paravirt::EntryPtr, pgprot::address_mask},
    bindings,
    error::{
        code::{EEXIST, EFAULT, EINVAL},
        Result,
    },
    ffi::{c_uint, c_ulong},
    interrupt::{self, LocalInterruptDisabled},
    macros::export,
    mm::{pfn::Pfn, virt::VmaRef},
};

/// What is mapped at an address.
enum Followed {
    /// Nothing that can be taken without a page fault.
    Nothing,
    /// The first page and the number of pages that were taken, at least 1.
    Taken(*mut bindings::page, usize),
    /// The number of pages that are mapped, at least 1, if the caller wants no references.
    Mapped(usize),
}

/// An entry with `_PAGE_DEVMAP` at the address that is followed. The page table lock is held.
///
/// # Invariants
///
/// While the value lives, the page table lock is held, `first` points to the entry, and the entries
/// behind it, up to the end of the table, are valid. The entry is a leaf of the level that maps
/// from bit `shift` on, or was one when C read it without the lock. It maps `address` in `vma`. The
/// range of the VMA does not change, because the mmap lock is held as well.
struct LockedLeaf<'a> {
    first: EntryPtr,
    shift: u32,
    vma: VmaRef<'a>,
    address: u64,
}

impl LockedLeaf<'_> {
    /// Reads the `n`-th entry behind the one that is followed.
    ///
    /// # Safety
    ///
    /// The entry must be in the same table.
    #[inline]
    unsafe fn nth(&self, n: usize) -> Entry {
        // SAFETY: By the type invariants and the caller's promise the entry is valid, in the table
        // of `first`. Processors may set its accessed and dirty bits at any time.
        unsafe { self.first.nth(n).read(self.shift) }
    }

    /// Reads the entry that is followed.
    #[inline]
    fn entry(&self) -> Entry {
        // SAFETY: By the type invariants `first` points to an entry.
        unsafe { self.nth(0) }
    }

    /// Returns how many pages are mapped from the address on, from 1 to `wanted`: those that
    /// `entry` maps, or, of a pte, also those of the following ptes that continue it, within the
    /// VMA.
    #[inline]
    fn pages(&self, entry: Entry, wanted: usize) -> usize {
        if wanted <= 1 {
            return 1;
        }
        // A pte without rights is rare, and its address bits are inverted.
        if self.shift == PTE_SHIFT && !entry.has(Entry::PRESENT) {
            return 1;
        }
        // A huge leaf does not go beyond its VMA, but the next pte may belong to another VMA.
        let (_, vma_end) = self.vma.range();
        let in_vma = (vma_end as u64).wrapping_sub(self.address) >> PTE_SHIFT;
        // To the end of the leaf, or of the table of ptes, which maps as much as a pmd.
        let inside = 1_u64
            .wrapping_shl(self.shift.max(PMD_SHIFT))
            .wrapping_sub(1);
        let at = (self.address & inside) >> PTE_SHIFT;
        let behind = (inside >> PTE_SHIFT).wrapping_sub(at).wrapping_add(1);
        // CAST: At most 2^18 pages.
        let most = wanted.min(in_vma.min(behind) as usize).max(1);
        if self.shift != PTE_SHIFT {
            return most;
        }
        let (pages, _) = pte_run(entry, most, address_mask(), |n| {
            // SAFETY: `n` is less than `most`, so the entry is before the end of the table.
            unsafe { self.nth(n) }
        });
        pages
    }

    /// Marks a huge leaf as accessed, and as dirty if `write`. C: `touch_pmd()`, `touch_pud()`.
    ///
    /// For a pte C marks the page instead, which has no meaning for device memory.
    #[inline]
    fn touch(&self, entry: Entry, write: bool) {
        let missing = match write {
            true => !entry.bits() & (Entry::ACCESSED | Entry::DIRTY),
            false => !entry.bits() & Entry::ACCESSED,
        };
        if missing != 0 && self.shift != PTE_SHIFT {
            self.touch_huge(write);
        }
    }

    /// Calls C to mark a huge leaf.
    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    #[cold]
    fn touch_huge(&self, write: bool) {
        let vma = self.vma.as_raw();
        let (address, slot) = (self.address as c_ulong, self.first);
        match self.shift {
            // SAFETY: By the type invariants `slot` is a pmd of this VMA and its lock is held.
            PMD_SHIFT => unsafe { bindings::touch_pmd(vma, address, slot.as_pmd(), write) },
            // SAFETY: By the type invariants `slot` is a pud of this VMA and its lock is held.
            _ => unsafe { bindings::touch_pud(vma, address, slot.as_pud(), write) },
        }
    }

    /// Does nothing: there is no huge leaf.
    #[cfg(not(CONFIG_TRANSPARENT_HUGEPAGE))]
    fn touch_huge(&self, _write: bool) {}

    /// Takes what the leaf maps before `end` (exclusive).
    ///
    /// # Errors
    ///
    /// * `EFAULT` if the pgmap is dying or gone;
    /// * the errno of the [`DeviceError`](crate::device_run::DeviceError) if its pages cannot be taken;
    /// * `EINVAL` if `flags` ask for two kinds of references.
    fn follow(&self, flags: u32, end: u64) -> Result<Followed> {
        let entry = self.entry();
        let write = flags & bindings::FOLL_WRITE != 0;
        // C read the entry without the lock, so it may have changed since.
        let there = entry.has(Entry::PRESENT | Entry::PROTNONE | Entry::PSE) && entry.is_devmap();
        if !there || (write && !entry.is_writable()) {
            return Ok(Followed::Nothing);
        }
        if flags & bindings::FOLL_TOUCH != 0 {
            self.touch(entry, write);
        }
        let wanted = end.wrapping_sub(self.address) >> PTE_SHIFT;
        // CAST: At most 2^52 pages.
        let pages = self.pages(entry, wanted as usize);
        if flags & (bindings::FOLL_GET | bindings::FOLL_PIN) == 0 {
            return Ok(Followed::Mapped(pages));
        }
        let flags = gup_flags(flags).ok_or(EINVAL)?;
        let mask = address_mask();
        // CAST: A PFN has at most 40 bits.
        let pfn = Pfn::new(entry.pfn_at(self.address, self.shift, mask) as usize);
        // SAFETY: By the type invariants the page table lock is held, and the entry maps the PFN.
        let (first, taken) = unsafe {
            match flags.kind().is_pin() {
                true => take::<true>(pfn, pages, flags)?,
                false => take::<false>(pfn, pages, flags)?,
            }
        };
        Ok(Followed::Taken(first, taken))
    }
}

/// Takes references to `pages` pages from `pfn` on, or to as many as are in one range of its pgmap.
/// Returns the first page and the number of pages.
///
/// Disabled interrupts keep the pgmap, as in the walk without locks, and only until the references
/// are counted.
///
/// # Safety
///
/// An entry must map `pfn`, and the lock of its page table must be held.
unsafe fn take<const PIN: bool>(
    pfn: Pfn,
    pages: usize,
    flags: GupFlags,
) -> Result<(*mut bindings::page, usize)> {
    let take = |irq: LocalInterruptDisabled<'_>| {
        let pgmap = WalkedPgmap::lookup(pfn, None, irq).ok_or(EFAULT)?;
        // SAFETY: By the caller's promise an entry maps the PFN, and the pgmap was looked up for
        // it.
        let run = unsafe { DeviceRun::<PIN>::try_grab_some(&pgmap, pfn, pages, flags, irq)? };
        Ok(run.into_raw(&mut FollPinStat::acquired(irq)))
    };
    // SAFETY: Neither the lookup nor the counts sleep.
    unsafe { interrupt::with_disabled(take) }
}

/// Takes the pages that an entry of any level maps from `address` on.
///
/// # Safety
///
/// The mmap lock must be held at least for reading, and so must the lock of the page table. `slot`
/// must point to the entry for `address`, of the level that maps from bit `shift` on. `address`
/// must be in `vma`, `end` must be behind it, and `more` must be the caller's to write.
#[inline]
unsafe fn follow(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    (slot, shift): (*mut u64, u32),
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: By the caller's promise the VMA is valid and the mmap lock is held, and `slot` points
    // to an entry, so it is not null.
    let (vma, first) = unsafe { (VmaRef::from_raw(vma), NonNull::new_unchecked(slot)) };
    // INVARIANT: By the caller's promise the locks are held and the entry is valid. The value does
    // not outlive this call.
    let leaf = LockedLeaf {
        first: EntryPtr::new(first),
        shift,
        vma,
        // The caller of GUP may pass the address of any byte of the page.
        address: address as u64 & !(bindings::PAGE_SIZE as u64 - 1),
    };
    let (result, pages) = match leaf.follow(flags, end as u64) {
        Ok(Followed::Nothing) => return ptr::null_mut(),
        Ok(Followed::Taken(first, pages)) => (first, pages),
        Ok(Followed::Mapped(pages)) => (EEXIST.to_ptr(), pages),
        Err(error) => return error.to_ptr(),
    };
    // CAST: At most 2^18. OVERFLOW: `pages` is at least 1.
    // SAFETY: By the caller's promise `more` can be written to.
    unsafe { more.write(pages.wrapping_sub(1) as c_uint) };
    result
}

/// Takes the pages that ptes of device memory map from `address` on. C: a part of
/// `follow_page_pte()`.
///
/// # Safety
///
/// The mmap lock must be held at least for reading, and so must the lock of the page table. `pte`
/// must point to the entry for `address`, which must be in `vma`. `end` must be behind `address`,
/// and `more` must be the caller's to write.
#[doc(alias = "follow_page_pte")]
#[export]
pub(crate) unsafe extern "C" fn gup_follow_devmap_pte(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    pte: *mut bindings::pte_t,
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: The caller promises what `follow()` requires, of a pte.
    unsafe { follow(vma, address, (pte.cast(), PTE_SHIFT), flags, end, more) }
}

/// Takes the pages that a pmd of device memory maps from `address` on. C: `follow_devmap_pmd()`.
///
/// # Safety
///
/// The mmap lock must be held at least for reading, and so must the lock of the page table. `pmd`
/// must point to the entry for `address`, which must be in `vma`. `end` must be behind `address`,
/// and `more` must be the caller's to write.
#[doc(alias = "follow_devmap_pmd")]
#[export]
pub(crate) unsafe extern "C" fn gup_follow_devmap_pmd(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    pmd: *mut bindings::pmd_t,
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: The caller promises what `follow()` requires, of a pmd.
    unsafe { follow(vma, address, (pmd.cast(), PMD_SHIFT), flags, end, more) }
}

/// Takes the pages that a pud of device memory maps from `address` on. C: a part of
/// `follow_huge_pud()`.
///
/// # Safety
///
/// The mmap lock must be held at least for reading, and so must the lock of the page table. `pud`
/// must point to the entry for `address`, which must be in `vma`. `end` must be behind `address`,
/// and `more` must be the caller's to write.
#[doc(alias = "follow_huge_pud")]
#[export]
pub(crate) unsafe extern "C" fn gup_follow_devmap_pud(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    pud: *mut bindings::pud_t,
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: The caller promises what `follow()` requires, of a pud.
    unsafe { follow(vma, address, (pud.cast(), PUD_SHIFT), flags, end, more) }
}
