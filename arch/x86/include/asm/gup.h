/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_GUP_H
#define _ASM_X86_GUP_H

/*
 * The walk of get_user_pages_fast() in Rust, arch/x86/mm/gup/gup.rs, and the slow
 * path's leaves of device memory, arch/x86/mm/gup/slow.rs, for mm/gup.c.
 */

#include <linux/mm_types.h>

/* Interrupts are off; pgd is that of the process that runs. */
int gup_fast_walk(pgd_t *pgd, unsigned long start, unsigned long end,
		  unsigned int flags, struct page **pages);

/*
 * As follow_page_mask() for a leaf of device memory; the lock of the page table
 * is held. What is wanted ends at end (exclusive). *more is how many pages were
 * taken behind the one that is returned; or, with -EEXIST, how many are mapped
 * there. It is 0 before, and stays so for every other answer.
 */
struct page *gup_follow_devmap_pte(struct vm_area_struct *vma,
				   unsigned long addr, pte_t *pte,
				   unsigned int flags, unsigned long end,
				   unsigned int *more);
struct page *gup_follow_devmap_pmd(struct vm_area_struct *vma,
				   unsigned long addr, pmd_t *pmd,
				   unsigned int flags, unsigned long end,
				   unsigned int *more);
struct page *gup_follow_devmap_pud(struct vm_area_struct *vma,
				   unsigned long addr, pud_t *pud,
				   unsigned int flags, unsigned long end,
				   unsigned int *more);

/* One pin of each page; entries may be NULL. */
void gup_unpin_pages(struct page **pages, unsigned long npages);

#endif
