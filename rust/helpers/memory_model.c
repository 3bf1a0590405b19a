// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/mmzone.h>

unsigned long rust_helper_page_to_pfn(struct page *page)
{
	return page_to_pfn(page);
}

struct page *rust_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}
