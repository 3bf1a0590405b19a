/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_GUP_H
#define _ASM_X86_GUP_H

/*
 * The walk of get_user_pages_fast() in Rust, arch/x86/mm/gup.rs, for mm/gup.c.
 */

#include <linux/mm_types.h>
#include <linux/sched.h>

int gup_fast_walk(pgd_t *pgd, unsigned long start, unsigned long end,
		  unsigned int flags, struct page **pages);
void gup_unpin_pages(struct page **pages, unsigned long npages);

/* Interrupts are off. */
static inline void gup_fast_pgd_range(unsigned long start, unsigned long end,
				      unsigned int flags, struct page **pages,
				      int *nr)
{
	*nr = gup_fast_walk(current->mm->pgd, start, end, flags, pages);
}

#endif
