// SPDX-License-Identifier: GPL-2.0-only

/*
 * What Rust needs of C inlines to change page tables: their locks, which are
 * found in many ways. Entries are read, made and, where they are just words,
 * written without these.
 */

#include <linux/mm.h>
#include <linux/pgtable.h>

/* An entry of device memory has no table set aside to split it into. */
static_assert(!arch_needs_pgtable_deposit());

spinlock_t *rust_helper_pmd_lock(struct mm_struct *mm, pmd_t *pmd)
{
	return pmd_lock(mm, pmd);
}

spinlock_t *rust_helper_pud_lock(struct mm_struct *mm, pud_t *pud)
{
	return pud_lock(mm, pud);
}

void rust_helper_pte_unmap_unlock(pte_t *pte, spinlock_t *ptl)
{
	pte_unmap_unlock(pte, ptl);
}

/* For kernels where an entry is more than a word. */
void rust_helper_set_pte_at(struct mm_struct *mm, unsigned long address,
			    pte_t *ptep, pte_t pte)
{
	set_pte_at(mm, address, ptep, pte);
}

void rust_helper_set_pmd_at(struct mm_struct *mm, unsigned long address,
			    pmd_t *pmdp, pmd_t pmd)
{
	set_pmd_at(mm, address, pmdp, pmd);
}

void rust_helper_set_pud_at(struct mm_struct *mm, unsigned long address,
			    pud_t *pudp, pud_t pud)
{
	set_pud_at(mm, address, pudp, pud);
}
