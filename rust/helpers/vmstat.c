// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/vmstat.h>

void rust_helper_count_vm_event(enum vm_event_item item)
{
	count_vm_event(item);
}

void rust_helper___mod_node_page_state(struct pglist_data *pgdat,
				       enum node_stat_item item, long delta)
{
	__mod_node_page_state(pgdat, item, delta);
}

void rust_helper_mod_node_page_state(struct pglist_data *pgdat,
				     enum node_stat_item item, long delta)
{
	mod_node_page_state(pgdat, item, delta);
}
