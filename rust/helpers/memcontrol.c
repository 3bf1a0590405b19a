// SPDX-License-Identifier: GPL-2.0

#include <linux/memcontrol.h>
#include <linux/vmstat.h>

void rust_helper_count_memcg_event_mm(struct mm_struct *mm,
				      enum vm_event_item idx)
{
	count_memcg_event_mm(mm, idx);
}

void rust_helper_mem_cgroup_uncharge(struct folio *folio)
{
	mem_cgroup_uncharge(folio);
}
