/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_GUP_CHECK_H
#define _ASM_X86_GUP_CHECK_H

/*
 * For mm/gup.c of a kernel that has both walks: what the Rust walk took is
 * compared with what the C walk takes of the same addresses a moment later.
 * Interrupts are off, but other CPUs may change an entry in between, so only a
 * difference that stays is reported.
 */

#include <asm/gup.h>

#define GUP_CHECK_PAGES 32
#define GUP_CHECK_TRIES 8

/* As if they had never been taken: the books of pins are for tests to compare. */
static void gup_check_put(struct page **pages, int nr, unsigned int flags)
{
	int i;

	if (!(flags & FOLL_PIN)) {
		for (i = 0; i < nr; i++)
			put_page(pages[i]);
		return;
	}
	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		if (is_zero_folio(folio))
			continue;
		node_stat_mod_folio(folio, NR_FOLL_PIN_ACQUIRED, -1);
		node_stat_mod_folio(folio, NR_FOLL_PIN_RELEASED, -1);
	}
	gup_fast_unpin_user_pages(pages, nr);
}

/* The Rust walk may take device memory where the C walk leaves off. */
static bool gup_check_same(struct page **rust, int nr_rust, struct page **c,
			   int nr_c)
{
	int i;

	for (i = 0; i < nr_c; i++)
		if (i == nr_rust || rust[i] != c[i])
			return false;
	return nr_rust == nr_c || is_zone_device_page(rust[nr_c]);
}

/* Takes what gup_fast_walk() takes, and says whether the C walk agrees. */
static int gup_fast_checked_walk(unsigned long start, unsigned long end,
				 unsigned int flags, struct page **pages)
{
	struct page *c[GUP_CHECK_PAGES];
	int nr_rust, nr_c, tries;
	bool same;

	for (tries = 0;; tries++) {
		nr_rust = gup_fast_walk(current->mm->pgd, start, end, flags, pages);
		if (end - start > GUP_CHECK_PAGES * PAGE_SIZE)
			return nr_rust;
		nr_c = 0;
		gup_fast_pgd_range(start, end, flags, c, &nr_c);
		same = gup_check_same(pages, nr_rust, c, nr_c);
		gup_check_put(c, nr_c, flags);
		if (same || tries == GUP_CHECK_TRIES)
			break;
		gup_check_put(pages, nr_rust, flags);
	}
	WARN_ONCE(!same, "gup: at %lx, flags %x, Rust takes %d pages and C %d\n",
		  start, flags, nr_rust, nr_c);
	return nr_rust;
}

#endif
