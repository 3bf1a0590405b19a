// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/mmzone.h>

struct page *rust_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}
