// SPDX-License-Identifier: GPL-2.0

/*
 * What a driver for persistent memory needs of C inlines. Nothing here is on
 * the way of a bio or a fault unless media errors are cleared.
 */

#include <linux/device.h>
#include <linux/libnvdimm.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/set_memory.h>

const char *rust_helper_dev_name(const struct device *dev)
{
	return dev_name(dev);
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

void rust_helper_pmem_invalidate_cache(void *addr, size_t size)
{
	arch_invalidate_pmem(addr, size);
}

/* The address of a page that is in the linear mapping. */
void *rust_helper_page_to_virt(struct page *page)
{
	return page_to_virt(page);
}
