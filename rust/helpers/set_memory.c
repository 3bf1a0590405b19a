// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/set_memory.h>

int rust_helper_clear_mce_nospec(unsigned long pfn)
{
	return clear_mce_nospec(pfn);
}
