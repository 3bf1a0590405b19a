// SPDX-License-Identifier: GPL-2.0-only

//! The page tables of the current process, read without locks.
//!
//! Interrupts are off. So no page table that was reachable when the walk began is freed: a task
//! that frees one first sends an interrupt to the CPUs that may be walking, or waits for a grace
//! period, and neither completes while interrupts are off on this CPU. An entry can change at any
//! time, but the table that it is in stays valid.
//!
//! The `unsafe` code here reads entries through the linear mapping, turns the PFN of a leaf into a
//! page, and reads PKRU.

use super::{
    pgtable::{Entry, LeafKind},
    walk::{Leaf, Root, Slot, Table, Tables},
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    arch::x86::{cpufeature::boot_cpu_has, paravirt::EntryPtr, pgprot},
    bindings,
    interrupt::LocalInterruptDisabled,
    mm::{page::PageRef, pfn::Pfn},
};

/// The page tables of the current process, in the linear mapping.
///
/// # Invariants
///
/// Interrupts are off for `'irq`, and slots come from the walk: they lie in tables that were
/// reachable from the top table of this process while interrupts were off.
pub(crate) struct UserTables<'irq>(PhantomData<LocalInterruptDisabled<'irq>>);

impl<'irq> UserTables<'irq> {
    /// Creates a view of this process's tables, and returns it with the top table, `pgd`.
    ///
    /// # Safety
    ///
    /// `pgd` must be the top page table of the current process, and the walk must be over user
    /// addresses.
    #[inline]
    pub(crate) unsafe fn new(
        pgd: *mut bindings::pgd_t,
        _irq: LocalInterruptDisabled<'irq>,
    ) -> (Self, Root) {
        // SAFETY: The variable is written once, early at boot, so the read is not a data race.
        let linear = unsafe { bindings::page_offset_base };
        // The table is in the linear mapping.
        let table = Table::at((pgd as u64).wrapping_sub(linear as u64));
        let root = match pgtable_l5_enabled() {
            true => Root::Pgd(table),
            false => Root::P4d(table),
        };
        // INVARIANT: Interrupts are off for `'irq`, and by the caller's promise the walk begins at
        // this process's top table.
        (Self(PhantomData), root)
    }
}

impl Tables for UserTables<'_> {
    #[inline]
    fn read(&self, slot: Slot, shift: u32) -> Entry {
        // SAFETY: The variable is written once, early at boot, so the read is not a data race.
        let linear = unsafe { bindings::page_offset_base } as u64;
        let entry = linear.wrapping_add(slot.phys()) as *mut u64;
        // SAFETY: By the type invariants the slot is in a table that stays valid, and all page
        // tables are in the linear mapping, so the pointer is valid, and not null.
        unsafe { EntryPtr::new(NonNull::new_unchecked(entry)).read(shift) }
    }

    #[inline]
    fn address_mask(&self) -> u64 {
        pgprot::address_mask()
    }
}

/// Returns the first page that a leaf of this process maps, or `None` for a leaf of device memory:
/// how long its pages stay valid depends on the pgmap.
#[inline]
pub(crate) fn page_of<'irq>(
    leaf: &Leaf<'_, UserTables<'irq>>,
    _irq: LocalInterruptDisabled<'irq>,
) -> Option<PageRef<'irq>> {
    if leaf.kind() != LeafKind::Normal {
        return None;
    }
    // CAST: A PFN has at most 40 bits.
    let pfn = Pfn::new(leaf.pfn() as usize);
    // SAFETY: The walk shows leaves that permit access from user space and are not special, and
    // this one is not of device memory. Such an entry is only ever made for memory that has a
    // `struct page`, and the memory is not removed while interrupts are off.
    Some(unsafe { PageRef::from_pfn(pfn) })
}

/// Returns whether the processor walks five levels. C: `pgtable_l5_enabled()`.
#[inline]
fn pgtable_l5_enabled() -> bool {
    #[cfg(CONFIG_X86_5LEVEL)]
    {
        // SAFETY: The variable is written once, early at boot, so the read is not a data race.
        unsafe { bindings::pgdir_shift == 48 }
    }
    #[cfg(not(CONFIG_X86_5LEVEL))]
    {
        false
    }
}

/// Returns the rights of this thread by protection key: its PKRU register, or 0, which denies
/// nothing, if the processor has none. C: `read_pkru()`.
#[inline]
pub(crate) fn read_pkru(_irq: LocalInterruptDisabled<'_>) -> u32 {
    #[cfg(CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS)]
    {
        if boot_cpu_has::<{ bindings::X86_FEATURE_OSPKE }>() {
            let pkru;
            // SAFETY: OSPKE says that the processor has the register and the kernel has enabled it.
            // The instruction requires 0 in ECX, and clears EDX.
            unsafe {
                core::arch::asm!("rdpkru", in("ecx") 0, out("eax") pkru, out("edx") _,
                    options(nomem, nostack, preserves_flags))
            };
            return pkru;
        }
    }
    0
}
