// SPDX-License-Identifier: GPL-2.0

#include <linux/pagemap.h>

void rust_helper_lock_page(struct page *page)
{
	lock_page(page);
}

void rust_helper_unlock_page(struct page *page)
{
	unlock_page(page);
}

void rust_helper_mapping_set_error(struct address_space *mapping, int error)
{
	mapping_set_error(mapping, error);
}
