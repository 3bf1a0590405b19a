/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_GUP_CHECK_H
#define _ASM_X86_GUP_CHECK_H

/*
 * Compares both walks, in a kernel that has both. The C walk takes the pages and
 * they are put, the Rust walk takes the pages of the same addresses a moment
 * later, and the pages and the counts of their folios are compared.
 *
 * Interrupts are off, but other CPUs may change an entry or a count in between,
 * so only a difference that persists is reported. The memmap of a page is read
 * after the page was put. It is still valid: before a memmap is freed, the pages
 * are unmapped, which waits for this CPU.
 */

#include <asm/gup.h>

#define GUP_CHECK_TRIES 8

/* What the C walk took: the number of pages, checksums of PFNs and counts. */
struct gup_check {
	int nr;
	u64 pages;
	u64 counts;
};

/*
 * Puts the pages as if they had never been taken: tests compare the vmstat
 * counters of pins, so these are corrected as well.
 */
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

/* Returns a checksum of reference counts, and of pin counts of large folios. */
static u64 gup_check_counts(struct page **pages, int nr)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		sum = sum * 31 + folio_ref_count(folio);
		if (folio_test_large(folio))
			sum = sum * 31 + atomic_read(&folio->_pincount);
	}
	return sum;
}

/* Returns a checksum of the PFNs. */
static u64 gup_check_pages(struct page **pages, int nr)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < nr; i++)
		sum = sum * 31 + page_to_pfn(pages[i]);
	return sum;
}

/*
 * Returns whether both walks took the same pages. The Rust walk may go on with
 * device memory where the C walk ends.
 */
static bool gup_check_same_pages(struct page **pages, int nr,
				 const struct gup_check *c)
{
	if (nr < c->nr || gup_check_pages(pages, c->nr) != c->pages)
		return false;
	return nr == c->nr || is_zone_device_page(pages[c->nr]);
}

/* Takes what gup_fast_walk() takes, and warns if the C walk differs. */
static int gup_fast_checked_walk(unsigned long start, unsigned long end,
				 unsigned int flags, struct page **pages)
{
	bool pages_differ = true, counts_differ = true;
	struct gup_check c;
	int nr, tries;
	u64 idle;

	for (tries = 0; tries < GUP_CHECK_TRIES; tries++) {
		bool same, quiet;

		nr = 0;
		gup_fast_pgd_range(start, end, flags, pages, &nr);
		c = (struct gup_check) {
			.nr = nr,
			.pages = gup_check_pages(pages, nr),
			.counts = gup_check_counts(pages, nr),
		};
		gup_check_put(pages, nr, flags);
		idle = gup_check_counts(pages, nr);

		nr = gup_fast_walk(current->mm->pgd, start, end, flags, pages);
		same = gup_check_same_pages(pages, nr, &c);
		if (same && (nr > c.nr ||
			     gup_check_counts(pages, nr) == c.counts))
			return nr;
		gup_check_put(pages, nr, flags);
		/* Counts cannot be compared while other CPUs take the same folios. */
		quiet = same && gup_check_counts(pages, nr) == idle;
		pages_differ &= !same;
		counts_differ &= quiet;
	}
	nr = gup_fast_walk(current->mm->pgd, start, end, flags, pages);
	WARN_ONCE(pages_differ, "gup: at %lx, flags %x, Rust takes %d pages and C %d\n",
		  start, flags, nr, c.nr);
	WARN_ONCE(counts_differ, "gup: at %lx, flags %x, Rust and C count %d pages differently\n",
		  start, flags, nr);
	return nr;
}

#endif
