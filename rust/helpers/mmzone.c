// SPDX-License-Identifier: GPL-2.0

#include <linux/mmzone.h>

struct pglist_data *rust_helper_NODE_DATA(int nid)
{
	return NODE_DATA(nid);
}

bool rust_helper_pfn_valid(unsigned long pfn)
{
	return pfn_valid(pfn);
}
