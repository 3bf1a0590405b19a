// SPDX-License-Identifier: GPL-2.0

#include <linux/highmem.h>

void rust_helper_clear_user_highpage(struct page *page, unsigned long vaddr)
{
	clear_user_highpage(page, vaddr);
}

void rust_helper_copy_user_page(void *to, void *from, unsigned long vaddr,
				struct page *topage)
{
	copy_user_page(to, from, vaddr, topage);
}
