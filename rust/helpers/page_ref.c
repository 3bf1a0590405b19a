// SPDX-License-Identifier: GPL-2.0

#include <linux/page_ref.h>

int rust_helper_folio_ref_sub_return(struct folio *folio, int nr)
{
	return folio_ref_sub_return(folio, nr);
}

void rust_helper_set_page_count(struct page *page, int v)
{
	set_page_count(page, v);
}
