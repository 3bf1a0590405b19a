// SPDX-License-Identifier: GPL-2.0

//! Accesses to entries of page tables.
//!
//! A page table consists of words. The [`Entry`] that a word stands for is the word itself, in
//! every kernel but one: that of a Xen PV guest, a guest without hardware virtualization. There the
//! processor walks the guest's own tables, and so a present word contains a *machine frame number*
//! instead of a PFN. And the guest must not write its tables; the hypervisor does that, after it
//! has checked the word.
//!
//! This module alone knows the difference. An [`EntryPtr`] points to a word and gives out only an
//! [`Entry`], which has PFNs everywhere, so nothing else can take a word for an entry.
//!
//! | kernel | read | written |
//! |---|---|---|
//! | without `CONFIG_PARAVIRT_XXL` | one load | one store |
//! | with it, not in a Xen PV guest | a test of a bit, one load | a test of a bit, one store |
//! | in a Xen PV guest | one load, `pte_val()` and its like of C | `set_pte_at()` and its like of C |
//!
//! C decides by the same bit, `X86_FEATURE_XENPV`, once at boot, when it replaces the call of
//! `pv_ops.mmu.pte_val()` by an instruction (`ALT_NOT_XEN`). No other hypervisor has functions of
//! its own for these operations.
//!
//! With `CONFIG_PAGE_TABLE_CHECK` an entry is more than a word, and is always written by C.
//!
//! This file encapsulates the accesses to the words, and the calls of C's accessors.
//!
//! C headers: [`arch/x86/include/asm/paravirt.h`](srctree/arch/x86/include/asm/paravirt.h),
//! [`arch/x86/include/asm/pgtable.h`](srctree/arch/x86/include/asm/pgtable.h)

use super::pgtable::Entry;
use crate::bindings;
use core::ptr::NonNull;

/// A pointer to an entry of a page table, of any level. C: `pte_t *`, `pmd_t *`, `pud_t *`.
///
/// Methods that depend on the level take its `shift`, as those of [`Entry`] do.
///
/// # Examples
///
/// ```
/// use core::ptr::NonNull;
/// use kernel::arch::x86::{
///     paravirt::EntryPtr,
///     pgtable::{Entry, PMD_SHIFT},
/// };
///
/// // An entry that is not present is the same in all kernels.
/// let mut word = Entry::PROTNONE | Entry::PSE;
/// let entry = EntryPtr::new(NonNull::from(&mut word));
/// // SAFETY: The pointer is valid, and nothing else writes the word.
/// let entry = unsafe { entry.read(PMD_SHIFT) };
/// assert_eq!(entry, Entry::new(Entry::PROTNONE | Entry::PSE));
/// ```
#[doc(alias = "pte_t")]
#[doc(alias = "pmd_t")]
#[doc(alias = "pud_t")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct EntryPtr(NonNull<u64>);

impl EntryPtr {
    /// Creates a pointer to the entry at an address.
    #[inline]
    pub const fn new(word: NonNull<u64>) -> Self {
        Self(word)
    }

    /// Returns the pointer to a pte, for C functions.
    #[inline]
    pub const fn as_pte(self) -> *mut bindings::pte_t {
        self.0.as_ptr().cast()
    }

    /// Returns the pointer to a pmd, for C functions.
    #[inline]
    pub const fn as_pmd(self) -> *mut bindings::pmd_t {
        self.0.as_ptr().cast()
    }

    /// Returns the pointer to a pud, for C functions.
    #[inline]
    pub const fn as_pud(self) -> *mut bindings::pud_t {
        self.0.as_ptr().cast()
    }

    /// Returns the pointer to the `n`-th entry behind this one.
    ///
    /// # Safety
    ///
    /// It must be in the same table.
    #[inline]
    pub const unsafe fn nth(self, n: usize) -> Self {
        // SAFETY: By the caller's promise both entries are in one table, so the pointer is valid,
        // and not null.
        Self(unsafe { NonNull::new_unchecked(self.0.as_ptr().add(n)) })
    }

    /// Reads the entry, once. Any context. C: `ptep_get_lockless()`, `pmdp_get_lockless()`,
    /// `pte_val()`, `pmd_val()` and their like.
    ///
    /// `shift` is a constant where it matters, and the choice between the levels costs nothing
    /// elsewhere.
    ///
    /// # Safety
    ///
    /// The pointer must be valid, and the entry one of the level that maps from bit `shift` on.
    /// Other tasks and the processors may write it meanwhile, as a whole word.
    #[doc(alias = "ptep_get")]
    #[doc(alias = "ptep_get_lockless")]
    #[doc(alias = "pmdp_get_lockless")]
    #[doc(alias = "pudp_get")]
    #[doc(alias = "pte_val")]
    #[doc(alias = "pmd_val")]
    #[doc(alias = "pud_val")]
    #[inline(always)]
    pub unsafe fn read(self, shift: u32) -> Entry {
        // SAFETY: By the caller's promise the pointer is valid. The volatile read is one load, as
        // the processors' own accesses are, so it returns a whole word.
        let word = unsafe { self.0.as_ptr().read_volatile() };
        #[cfg(CONFIG_PARAVIRT_XXL)]
        if is_xen_pv() {
            return xen::entry(word, shift);
        }
        let _ = shift;
        Entry::new(word)
    }

    /// Writes the entry. Any context. C: `set_pte_at()`, `set_pmd_at()`, `set_pud_at()`.
    ///
    /// Nothing is flushed.
    ///
    /// # Safety
    ///
    /// The pointer must be to the entry for `address` in a table of `mm`, of the level that maps
    /// from bit `shift` on, which is one with leaves. The caller must hold the lock of that table.
    /// `mm` must be allowed to access what `entry` maps.
    #[doc(alias = "set_pte_at")]
    #[doc(alias = "set_pmd_at")]
    #[doc(alias = "set_pud_at")]
    #[inline(always)]
    pub unsafe fn set(
        self,
        mm: *mut bindings::mm_struct,
        address: usize,
        entry: Entry,
        shift: u32,
    ) {
        #[cfg(any(CONFIG_PARAVIRT_XXL, CONFIG_PAGE_TABLE_CHECK))]
        if cfg!(CONFIG_PAGE_TABLE_CHECK) || is_xen_pv() {
            // SAFETY: The caller promises what the function requires.
            return unsafe { self.set_by_c(mm, address, entry, shift) };
        }
        let _ = (mm, address, shift);
        // SAFETY: By the caller's promise the pointer is valid, and no other code writes the entry.
        // Processors, which read it at any time, read the old word or the new one.
        unsafe { self.0.as_ptr().write_volatile(entry.bits()) };
    }

    /// Has C write the entry.
    ///
    /// # Safety
    ///
    /// As for [`Self::set`].
    #[cfg(any(CONFIG_PARAVIRT_XXL, CONFIG_PAGE_TABLE_CHECK))]
    #[cold]
    unsafe fn set_by_c(
        self,
        mm: *mut bindings::mm_struct,
        address: usize,
        entry: Entry,
        shift: u32,
    ) {
        use super::pgtable::{PMD_SHIFT, PTE_SHIFT};
        match shift {
            // SAFETY: By the caller's promise this is the pte for the address, in a locked table.
            PTE_SHIFT => unsafe { bindings::set_pte_at(mm, address, self.as_pte(), pte(entry)) },
            // SAFETY: By the caller's promise this is the pmd for the address, in a locked table.
            PMD_SHIFT => unsafe { bindings::set_pmd_at(mm, address, self.as_pmd(), pmd(entry)) },
            // SAFETY: By the caller's promise this is the pud for the address, in a locked table.
            _ => unsafe { bindings::set_pud_at(mm, address, self.as_pud(), pud(entry)) },
        }
    }
}

/// Returns whether this kernel runs as a Xen PV guest. C: `cpu_feature_enabled(X86_FEATURE_XENPV)`.
#[cfg(any(CONFIG_PARAVIRT_XXL, CONFIG_PAGE_TABLE_CHECK))]
#[inline(always)]
fn is_xen_pv() -> bool {
    cfg!(CONFIG_PARAVIRT_XXL)
        && super::cpufeature::boot_cpu_has::<{ bindings::X86_FEATURE_XENPV }>()
}

/// Returns the word of a pte, as C functions take it. C: `__pte()`.
#[doc(alias = "__pte")]
#[inline]
pub fn pte(entry: Entry) -> bindings::pte_t {
    #[cfg(CONFIG_PARAVIRT_XXL)]
    if is_xen_pv() {
        // SAFETY: The function only computes with its argument; it has no preconditions.
        return unsafe { bindings::__pte(entry.bits() as _) };
    }
    bindings::pte_t {
        pte: entry.bits() as _,
    }
}

/// Returns the word of a pmd. C: `__pmd()`.
#[cfg(any(CONFIG_PARAVIRT_XXL, CONFIG_PAGE_TABLE_CHECK))]
#[doc(alias = "__pmd")]
#[inline]
fn pmd(entry: Entry) -> bindings::pmd_t {
    #[cfg(CONFIG_PARAVIRT_XXL)]
    if is_xen_pv() {
        // SAFETY: The function only computes with its argument; it has no preconditions.
        return unsafe { bindings::__pmd(entry.bits() as _) };
    }
    bindings::pmd_t {
        pmd: entry.bits() as _,
    }
}

/// Returns the word of a pud. C: `__pud()`.
#[cfg(any(CONFIG_PARAVIRT_XXL, CONFIG_PAGE_TABLE_CHECK))]
#[doc(alias = "__pud")]
#[inline]
fn pud(entry: Entry) -> bindings::pud_t {
    #[cfg(CONFIG_PARAVIRT_XXL)]
    if is_xen_pv() {
        // SAFETY: The function only computes with its argument; it has no preconditions.
        return unsafe { bindings::__pud(entry.bits() as _) };
    }
    bindings::pud_t {
        pud: entry.bits() as _,
    }
}

/// The words of a Xen PV guest.
#[cfg(CONFIG_PARAVIRT_XXL)]
mod xen {
    use crate::{
        arch::x86::pgtable::{Entry, P4D_SHIFT, PMD_SHIFT, PTE_SHIFT, PUD_SHIFT},
        bindings,
    };

    /// Returns the entry that a word of the level that maps from bit `shift` on stands for. C:
    /// `pte_val()`, `pmd_val()`, `pud_val()`, `p4d_val()`, `pgd_val()`.
    ///
    /// An entry whose machine frame is none of this guest's is not present.
    #[doc(alias = "p4d_val")]
    #[doc(alias = "pgd_val")]
    #[cold]
    #[inline(never)]
    pub(super) fn entry(word: u64, shift: u32) -> Entry {
        let word = word as _;
        // SAFETY: The functions only compute with their argument, and look up machine frames in a
        // table that the hypervisor keeps; they have no preconditions.
        let bits = unsafe {
            match shift {
                PTE_SHIFT => bindings::pte_val(bindings::pte_t { pte: word }),
                PMD_SHIFT => bindings::pmd_val(bindings::pmd_t { pmd: word }),
                PUD_SHIFT => bindings::pud_val(bindings::pud_t { pud: word }),
                #[cfg(CONFIG_X86_5LEVEL)]
                P4D_SHIFT => bindings::p4d_val(bindings::p4d_t { p4d: word }),
                #[cfg(not(CONFIG_X86_5LEVEL))]
                P4D_SHIFT => bindings::p4d_val(bindings::p4d_t {
                    pgd: bindings::pgd_t { pgd: word },
                }),
                _ => bindings::pgd_val(bindings::pgd_t { pgd: word }),
            }
        };
        Entry::new(bits as u64)
    }
}
