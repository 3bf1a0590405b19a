/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_GUP_H
#define _ASM_X86_GUP_H

/*
 * The walk of get_user_pages_fast() in Rust, arch/x86/mm/gup.rs, for mm/gup.c.
 */

#include <linux/mm_types.h>

/* Interrupts are off; pgd is that of the process that runs. */
int gup_fast_walk(pgd_t *pgd, unsigned long start, unsigned long end,
		  unsigned int flags, struct page **pages);

/* One pin of each page; entries may be NULL. */
void gup_unpin_pages(struct page **pages, unsigned long npages);

#endif
