/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_GUP_H
#define _ASM_X86_GUP_H

/*
 * What mm/gup.c calls in arch/x86/mm/gup/: the walk of get_user_pages_fast(),
 * the slow path's leaves of device memory, and unpin_user_pages().
 */

#include <linux/mm_types.h>

/*
 * Takes the pages from start to end (exclusive), up to the first that cannot be
 * taken without locks. Returns their number. Interrupts must be off, and pgd
 * must be that of the current process.
 */
int gup_fast_walk(pgd_t *pgd, unsigned long start, unsigned long end,
		  unsigned int flags, struct page **pages);

/*
 * As follow_page_mask() for a leaf of device memory. The page table lock must be
 * held. The caller's range ends at end (exclusive). *more is set to the number
 * of pages that were taken behind the one that is returned or, with -EEXIST, of
 * those that are mapped there. It must be 0 before, and remains 0 for every
 * other result.
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

/* Unpins each page of the array once. Entries may be NULL. */
void gup_unpin_pages(struct page **pages, unsigned long npages);

/*
 * Returns how many entries at the beginning of the array are pages of folio, at
 * least 1. The folio is large, the first entry is a page of it, and a reference
 * keeps it.
 */
unsigned long gup_folio_run(struct folio *folio, struct page **pages,
			    unsigned long npages);

/* Writes the addresses of npages consecutive pages, from page on, to an array. */
void gup_record_pages(struct page **array, struct page *page,
		      unsigned long npages);

#endif
