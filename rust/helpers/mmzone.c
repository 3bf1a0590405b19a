// SPDX-License-Identifier: GPL-2.0

#include <linux/mmzone.h>

struct pglist_data *rust_helper_NODE_DATA(int nid)
{
	return NODE_DATA(nid);
}

#ifdef CONFIG_SPARSEMEM
int rust_helper_early_section(struct mem_section *section)
{
	return early_section(section);
}

struct mem_section *rust_helper___pfn_to_section(unsigned long pfn)
{
	return __pfn_to_section(pfn);
}
#endif

bool rust_helper_pfn_valid(unsigned long pfn)
{
	return pfn_valid(pfn);
}
