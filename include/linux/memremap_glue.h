/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MEMREMAP_GLUE_H
#define _LINUX_MEMREMAP_GLUE_H

/*
 * Objects of the pgmap registry in Rust that only a C macro can initialise, which
 * are in mm/memremap/memremap_glue.c, and the prototype of an entry point that C
 * declares in a header private to mm/, against which the Rust side is checked.
 */

#include <linux/mutex.h>
#include <linux/xarray.h>

struct folio;

extern struct xarray pgmap_array;
extern struct mutex pgmap_lock;

void free_zone_device_folio(struct folio *folio);

#endif
