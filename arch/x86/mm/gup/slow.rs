// SPDX-License-Identifier: GPL-2.0-only

//! The slow path's leaves of device memory.
//!
//! There C walks the page tables of any process, with the lock of its mm, and brings in what is
//! missing. At an entry with `_PAGE_DEVMAP` it calls in here, with the lock of the page table, so
//! that the entry stays what it is. The answer is one of four, as for any other entry there:
//!
//! | answer | C does |
//! |---|---|
//! | nothing | a page fault, and comes again |
//! | a page, and how many more were taken behind it | writes them down and goes on behind them |
//! | `-EEXIST`, and how many more there are | the same, if nobody wants references: they are mapped |
//! | another errno | ends |
//!
//! A leaf is taken at once, as far as the caller and the VMA go: ptes side by side as one, as the
//! walk without locks does. Page tables of another process can be taken as well, because nothing
//! here depends on whose they are.
//!
//! C: `follow_devmap_pmd()`, and what `follow_huge_pud()` and `follow_page_pte()` do with device
//! memory

use super::pte::{Entry, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT};
use core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::{
        code::{EEXIST, EFAULT, EINVAL},
        Result,
    },
    ffi::{c_uint, c_ulong},
    irq,
    macros::export,
    mm::{
        gup::{DeviceRun, PinStatistics, Request, WalkedPgmap},
        pfn::Pfn,
        prot,
    },
};

/// What there is at an address.
enum Followed {
    /// Nothing that can be had without a page fault.
    Nothing,
    /// The first page and how many were taken: at least 1.
    Taken(*mut bindings::page, usize),
    /// So many pages, which nobody wants references to: at least 1.
    Mapped(usize),
}

/// An entry with `_PAGE_DEVMAP` of a page table whose lock is held, at an address that is followed.
///
/// # Invariants
///
/// For as long as the value lives the lock is held; `first` points to the entry, and the entries
/// behind it, up to the end of the table, are there. It is a leaf of the level that maps from bit
/// `shift` on, or was one when C looked without the lock. `address` is what it maps, in `vma`, whose
/// addresses do not change: the lock of the mm is held as well.
struct Locked {
    first: NonNull<u64>,
    shift: u32,
    vma: NonNull<bindings::vm_area_struct>,
    address: u64,
}

impl Locked {
    /// The `n`-th entry behind the one that is followed.
    ///
    /// # Safety
    ///
    /// It is in the same table.
    #[inline]
    unsafe fn nth(&self, n: usize) -> Entry {
        // SAFETY: By the type's invariant and the caller's promise there is an entry. Volatile: the
        // processors may note at any time that they use it.
        Entry::new(unsafe { self.first.as_ptr().add(n).read_volatile() })
    }

    /// The entry that is followed.
    #[inline]
    fn entry(&self) -> Entry {
        // SAFETY: It is where `first` points to.
        unsafe { self.nth(0) }
    }

    /// How many pages there are from the address on, `wanted` at most: as many as `entry` maps, or
    /// the ptes behind it that go on with what it maps, in this VMA. At least 1.
    #[inline]
    fn pages(&self, entry: Entry, wanted: usize) -> usize {
        if wanted <= 1 {
            return 1;
        }
        // One without rights is rare, and counts the other way round.
        if self.shift == PTE_SHIFT && !entry.has(Entry::PRESENT) {
            return 1;
        }
        // A huge leaf does not go beyond its VMA, but the next pte may be another VMA's.
        let in_vma = self.vma_end().wrapping_sub(self.address) >> PTE_SHIFT;
        // To the end of the leaf, or of the table of ptes, which maps as much as a pmd.
        let inside = 1_u64
            .wrapping_shl(self.shift.max(PMD_SHIFT))
            .wrapping_sub(1);
        let at = (self.address & inside) >> PTE_SHIFT;
        let behind = (inside >> PTE_SHIFT).wrapping_sub(at).wrapping_add(1);
        // CAST: At most 2^18.
        let most = wanted.min(in_vma.min(behind) as usize).max(1);
        if self.shift != PTE_SHIFT {
            return most;
        }
        let (pages, _) = entry.run(most, prot::address_mask(), |n| {
            // SAFETY: Less than `most`, so before the end of the table.
            unsafe { self.nth(n) }
        });
        pages
    }

    #[inline]
    fn vma_end(&self) -> u64 {
        // SAFETY: The VMA is there, and C has filled in these members of its unions. By the invariant
        // nobody writes to them now.
        unsafe {
            ptr::addr_of!(
                (*self.vma.as_ptr())
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .vm_end
            )
            .read() as u64
        }
    }

    /// Notes that a huge leaf is used, as `FOLL_TOUCH` asks for.
    ///
    /// Of ptes C marks the pages instead; device memory has no use for that.
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

    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    #[cold]
    fn touch_huge(&self, write: bool) {
        let vma = self.vma.as_ptr();
        let (address, slot) = (self.address as c_ulong, self.first.as_ptr());
        match self.shift {
            // SAFETY: By the invariant a pmd of this VMA, under its lock.
            PMD_SHIFT => unsafe { bindings::touch_pmd(vma, address, slot.cast(), write) },
            // SAFETY: As above, a pud.
            _ => unsafe { bindings::touch_pud(vma, address, slot.cast(), write) },
        }
    }

    #[cfg(not(CONFIG_TRANSPARENT_HUGEPAGE))]
    fn touch_huge(&self, _write: bool) {}

    /// Takes of the leaf what is before `end`.
    ///
    /// # Errors
    ///
    /// * `EFAULT` if the pgmap is dying or gone;
    /// * why pages of this pgmap are [`Refused`](kernel::mm::gup::Refused);
    /// * `EINVAL` if `flags` want two kinds of references.
    fn follow(&self, flags: u32, end: u64) -> Result<Followed> {
        let entry = self.entry();
        let write = flags & bindings::FOLL_WRITE != 0;
        // C looked at the entry without the lock, and may have done so some time ago.
        let there =
            entry.has(Entry::PRESENT | Entry::NO_RIGHTS | Entry::LARGE) && entry.has(Entry::DEVMAP);
        if !there || (write && !entry.is_writable()) {
            return Ok(Followed::Nothing);
        }
        if flags & bindings::FOLL_TOUCH != 0 {
            self.touch(entry, write);
        }
        let wanted = end.wrapping_sub(self.address) >> PTE_SHIFT;
        // CAST: At most 2^52.
        let pages = self.pages(entry, wanted as usize);
        if flags & (bindings::FOLL_GET | bindings::FOLL_PIN) == 0 {
            return Ok(Followed::Mapped(pages));
        }
        let Some(request) = Request::from_flags(flags) else {
            kernel::warn_once!("gup: flags {flags:#x} do not say how to take pages");
            return Err(EINVAL);
        };
        let mask = prot::address_mask();
        // CAST: A frame number has at most 40 bits.
        let pfn = Pfn::new(entry.frame_without_rights(self.address, self.shift, mask) as usize);
        // SAFETY: By the type's invariant the lock is held, and the entry under it maps the frame.
        let (first, taken) = unsafe {
            match request.kind().is_pin() {
                true => take::<true>(pfn, pages, request)?,
                false => take::<false>(pfn, pages, request)?,
            }
        };
        Ok(Followed::Taken(first, taken))
    }
}

/// Takes `pages` pages from `pfn` on, or as many as there are in one range of its pgmap. Returns
/// the first and how many.
///
/// The pgmap is kept by interrupts being off, as in the walk without locks: for not longer than
/// the references are counted.
///
/// # Safety
///
/// An entry of a page table whose lock is held maps `pfn`.
unsafe fn take<const PIN: bool>(
    pfn: Pfn,
    pages: usize,
    request: Request,
) -> Result<(*mut bindings::page, usize)> {
    irq::with_disabled(|irq| {
        let live = WalkedPgmap::lookup(pfn, None, irq).ok_or(EFAULT)?;
        // SAFETY: The caller's promise, and the pgmap was looked up for this frame.
        let run = unsafe { DeviceRun::<PIN>::try_some(&live, pfn, pages, request, irq)? };
        Ok(run.hand_over(&mut PinStatistics::acquired(irq)))
    })
}

/// What the three levels have in common.
///
/// # Safety
///
/// As [`gup_follow_devmap_pte`] and the others ask for; `slot` is of the level that maps from bit
/// `shift` on.
#[inline]
unsafe fn follow(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    (slot, shift): (*mut u64, u32),
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: The caller's promise; neither is null.
    let (vma, first) = unsafe { (NonNull::new_unchecked(vma), NonNull::new_unchecked(slot)) };
    // INVARIANT: The caller's promise; the value does not outlive this call.
    let leaf = Locked {
        first,
        shift,
        vma,
        // The caller of GUP may mean any byte of the page.
        address: address as u64 & !(bindings::PAGE_SIZE as u64 - 1),
    };
    let (answer, pages) = match leaf.follow(flags, end as u64) {
        Ok(Followed::Nothing) => return ptr::null_mut(),
        Ok(Followed::Taken(first, pages)) => (first, pages),
        Ok(Followed::Mapped(pages)) => (EEXIST.to_ptr(), pages),
        Err(error) => return error.to_ptr(),
    };
    // CAST: At most 2^18. OVERFLOW: At least 1.
    // SAFETY: It is the caller's.
    unsafe { more.write(pages.wrapping_sub(1) as c_uint) };
    answer
}

/// Takes the pages that ptes of a device map from `address` on.
///
/// # Safety
///
/// The lock of the mm is held for reading at least, and the one of this page table; `pte` points to
/// the entry for `address`, which is in `vma`; `end` is behind it, and `more` is the caller's.
#[export]
pub(crate) unsafe extern "C" fn gup_follow_devmap_pte(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    pte: *mut bindings::pte_t,
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: The caller's promise.
    unsafe { follow(vma, address, (pte.cast(), PTE_SHIFT), flags, end, more) }
}

/// Takes the pages that a pmd of a device maps from `address` on. C: `follow_devmap_pmd()`.
///
/// # Safety
///
/// As for [`gup_follow_devmap_pte`].
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
    // SAFETY: The caller's promise.
    unsafe { follow(vma, address, (pmd.cast(), PMD_SHIFT), flags, end, more) }
}

/// Takes the pages that a pud of a device maps from `address` on. C: a part of `follow_huge_pud()`.
///
/// # Safety
///
/// As for [`gup_follow_devmap_pte`].
#[export]
pub(crate) unsafe extern "C" fn gup_follow_devmap_pud(
    vma: *mut bindings::vm_area_struct,
    address: c_ulong,
    pud: *mut bindings::pud_t,
    flags: c_uint,
    end: c_ulong,
    more: *mut c_uint,
) -> *mut bindings::page {
    // SAFETY: The caller's promise.
    unsafe { follow(vma, address, (pud.cast(), PUD_SHIFT), flags, end, more) }
}
