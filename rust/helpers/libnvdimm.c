// SPDX-License-Identifier: GPL-2.0

#include <linux/libnvdimm.h>

void rust_helper_arch_invalidate_pmem(void *addr, size_t size)
{
	arch_invalidate_pmem(addr, size);
}
