// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/set_memory.h>

int rust_helper_clear_mce_nospec(unsigned long pfn)
{
	return clear_mce_nospec(pfn);
}

/*
 * The pages of a stretch of the linear mapping hold good data again. Whoever
 * calls keeps their memmap in place.
 */
void rust_helper_pmem_mark_pages_good(unsigned long pfn, unsigned long pages)
{
#ifdef CONFIG_MEMORY_FAILURE
	for (; pages; pfn++, pages--)
		if (TestClearPageHWPoison(pfn_to_page(pfn)))
			clear_mce_nospec(pfn);
#endif
}
