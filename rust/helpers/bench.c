// SPDX-License-Identifier: GPL-2.0

/*
 * What the reader of `make bench` needs of C inlines; all of it outside of what
 * is measured.
 */

#include <linux/mm.h>

struct page *rust_helper_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}
