// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/pfn_t.h>

pfn_t rust_helper___pfn_to_pfn_t(unsigned long pfn, u64 flags)
{
	return __pfn_to_pfn_t(pfn, flags);
}

bool rust_helper_pfn_t_devmap(pfn_t pfn)
{
	return pfn_t_devmap(pfn);
}

bool rust_helper_pfn_t_has_page(pfn_t pfn)
{
	return pfn_t_has_page(pfn);
}
