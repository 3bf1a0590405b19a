// SPDX-License-Identifier: GPL-2.0

#include <linux/topology.h>

int rust_helper_numa_mem_id(void)
{
	return numa_mem_id();
}
