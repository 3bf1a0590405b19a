// SPDX-License-Identifier: GPL-2.0-only

//! The page tables of this process, as a walk without locks reads them. All that is unsafe about
//! that is here.
//!
//! Interrupts are off. So no page table is freed that was reachable when the walk began: who frees
//! one sends an interrupt to the processors that may be walking, or waits for a grace period, and
//! neither gets past this one. An entry, once read, can change at any time; a table cannot go away.

use super::{
    pte::Entry,
    walk::{Kind, Leaf, Root, Slot, Table, Tables},
};
use core::marker::PhantomData;
use kernel::{
    bindings,
    irq::LocalInterruptDisabled,
    mm::{page::PageRef, pfn::Pfn, prot},
    static_assert,
};

// What the walk takes for the processor's and the kernel's bits.
static_assert!(Entry::PRESENT == 1 << bindings::_PAGE_BIT_PRESENT);
static_assert!(Entry::WRITE == 1 << bindings::_PAGE_BIT_RW);
static_assert!(Entry::USER == 1 << bindings::_PAGE_BIT_USER);
static_assert!(Entry::ACCESSED == 1 << bindings::_PAGE_BIT_ACCESSED);
static_assert!(Entry::DIRTY == 1 << bindings::_PAGE_BIT_DIRTY);
static_assert!(Entry::NO_RIGHTS == 1 << bindings::_PAGE_BIT_PROTNONE);
static_assert!(Entry::LARGE == 1 << bindings::_PAGE_BIT_PSE);
static_assert!(Entry::SPECIAL == 1 << bindings::_PAGE_BIT_SPECIAL);
static_assert!(Entry::DEVMAP == 1 << bindings::_PAGE_BIT_DEVMAP);
static_assert!(Entry::PKEY_SHIFT == bindings::_PAGE_BIT_PKEY_BIT0);

/// The page tables of the process that runs, in the kernel's map of all memory.
///
/// # Invariants
///
/// Interrupts are off for `'irq`, and slots come from the walk: they lie in tables that were
/// reachable from the root of this process while they were off.
pub(crate) struct UserTables<'irq>(PhantomData<LocalInterruptDisabled<'irq>>);

impl<'irq> UserTables<'irq> {
    /// The tables of this process, and the one to begin with: `pgd`.
    ///
    /// # Safety
    ///
    /// `pgd` is the first table of the process that runs, and the walk is over addresses of user
    /// space.
    #[inline]
    pub(crate) unsafe fn new(
        pgd: *mut bindings::pgd_t,
        _irq: LocalInterruptDisabled<'irq>,
    ) -> (Self, Root) {
        // SAFETY: Written once, early at boot.
        let map = unsafe { bindings::page_offset_base };
        // The table is in the map of all memory.
        let table = Table::at((pgd as u64).wrapping_sub(map as u64));
        let root = match has_five_levels() {
            true => Root::Pgd(table),
            false => Root::P4d(table),
        };
        // INVARIANT: The caller's promise.
        (Self(PhantomData), root)
    }
}

impl Tables for UserTables<'_> {
    #[inline]
    fn read(&self, slot: Slot) -> Entry {
        // SAFETY: Written once, early at boot.
        let map = unsafe { bindings::page_offset_base } as u64;
        let entry = map.wrapping_add(slot.phys()) as *const u64;
        // SAFETY: By the invariant the slot is in a table that is there, and all memory is in the
        // map. The read is a single load, as the processors' own.
        Entry::new(unsafe { entry.read_volatile() })
    }

    #[inline]
    fn address_mask(&self) -> u64 {
        prot::address_mask()
    }
}

/// The first page that a leaf of this process maps.
///
/// `None` if it is one of a device: the pgmap answers for its pages.
#[inline]
pub(crate) fn page_of<'irq>(
    leaf: &Leaf<'_, UserTables<'irq>>,
    _irq: LocalInterruptDisabled<'irq>,
) -> Option<PageRef<'irq>> {
    if leaf.kind() != Kind::Normal {
        return None;
    }
    // CAST: A frame number has at most 40 bits.
    let pfn = Pfn::new(leaf.pfn() as usize);
    // SAFETY: The walk shows leaves that permit access from user space and are not special, and this
    // one is not of a device: such an entry is only ever made for memory that has a `struct page`.
    Some(unsafe { PageRef::from_pfn(pfn) })
}

/// Whether the processor walks five levels. C: `pgtable_l5_enabled()`.
#[inline]
fn has_five_levels() -> bool {
    #[cfg(CONFIG_X86_5LEVEL)]
    {
        // SAFETY: Written once, early at boot.
        unsafe { bindings::pgdir_shift == 48 }
    }
    #[cfg(not(CONFIG_X86_5LEVEL))]
    {
        false
    }
}

/// The rights of this thread by protection key: its PKRU register, or all of them. C: `read_pkru()`.
#[inline]
pub(crate) fn protection_key_rights(_irq: LocalInterruptDisabled<'_>) -> u32 {
    #[cfg(CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS)]
    {
        const WORD: usize = bindings::X86_FEATURE_OSPKE as usize / 32;
        const BIT: u32 = 1 << (bindings::X86_FEATURE_OSPKE % 32);
        // SAFETY: Written early at boot only; the array has a word for each 32 features.
        let word = unsafe {
            core::ptr::addr_of!(bindings::boot_cpu_data.__bindgen_anon_2.x86_capability)
                .cast::<u32>()
                .add(WORD)
                .read()
        };
        if word & BIT != 0 {
            let rights;
            // SAFETY: The processor has the register and the kernel has turned it on. The
            // instruction wants 0 in ECX, and clears EDX.
            unsafe {
                core::arch::asm!("rdpkru", in("ecx") 0, out("eax") rights, out("edx") _,
                    options(nomem, nostack, preserves_flags))
            };
            return rights;
        }
    }
    0
}
