// SPDX-License-Identifier: GPL-2.0

/* Apart from page.c, which is upstream's file. */

#include <linux/mm.h>
#include <asm/page.h>

void *rust_helper___va(phys_addr_t phys)
{
	return __va(phys);
}

struct page *rust_helper_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}
