// SPDX-License-Identifier: GPL-2.0

#include <linux/memcontrol.h>
#include <linux/memremap.h>
#include <linux/mm.h>

#ifdef CONFIG_ZONE_DEVICE
/* What the last user of a device folio may have left on it. */
void rust_helper_zone_device_folio_reset(struct folio *folio)
{
	mem_cgroup_uncharge(folio);
	if (folio_test_anon(folio)) {
		VM_BUG_ON_FOLIO(folio_test_large(folio), folio);
		__ClearPageAnonExclusive(folio_page(folio, 0));
	}
	folio->mapping = NULL;
}
#endif
