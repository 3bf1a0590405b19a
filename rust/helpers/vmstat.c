// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/vmstat.h>

void rust_helper_count_vm_event(enum vm_event_item item)
{
	count_vm_event(item);
}

void rust_helper_mod_node_page_state(struct pglist_data *pgdat,
				     enum node_stat_item item, long delta)
{
	mod_node_page_state(pgdat, item, delta);
}

/* Pages of one node, in one update of its books. */
void rust_helper_gup_count_pins(int nid, enum node_stat_item item, long pages)
{
	mod_node_page_state(NODE_DATA(nid), item, pages);
}
