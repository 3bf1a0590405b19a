// SPDX-License-Identifier: GPL-2.0
/*
 * The objects of the pgmap registry that only a C macro can initialise. The
 * registry itself is in mm/memremap/memremap.rs.
 */
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/memremap_glue.h>
#include <linux/xarray.h>
#include "../internal.h"

DEFINE_XARRAY(pgmap_array);
DEFINE_MUTEX(pgmap_lock);

#ifdef CONFIG_FS_DAX
/* C tests it inline whenever it drops a page reference. */
DEFINE_STATIC_KEY_FALSE(devmap_managed_key);
EXPORT_SYMBOL(devmap_managed_key);
#endif
