// SPDX-License-Identifier: GPL-2.0

/*
 * What the Rust walk of get_user_pages_fast() needs of C inlines. None of it is
 * called per page, but when something is given back or pinned for long.
 */

#include <linux/mm.h>
#include <linux/vmstat.h>

#ifdef NODE_NOT_IN_PAGE_FLAGS
#error "the node of a page is not where Rust looks for it"
#endif

bool rust_helper_folio_is_longterm_pinnable(struct folio *folio)
{
	return folio_is_longterm_pinnable(folio);
}

void rust_helper_gup_put_refs(struct folio *folio, int refs)
{
	if (!put_devmap_managed_folio_refs(folio, refs))
		folio_put_refs(folio, refs);
}

/* Pages of one node, in one update of its books. */
void rust_helper_gup_count_pins(int nid, enum node_stat_item item, long pages)
{
	mod_node_page_state(NODE_DATA(nid), item, pages);
}
