/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MEMREMAP_GLUE_H
#define _LINUX_MEMREMAP_GLUE_H

/*
 * Objects of the pgmap registry in Rust that only a C macro can initialise, which
 * are in mm/memremap/memremap_glue.c; the prototype of an entry point that C
 * declares in a header private to mm/, against which the Rust side is checked; and
 * the functions that mm/ and kernel/ call only if the registry is in Rust.
 */

#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct folio;

extern struct xarray pgmap_array;
extern struct mutex pgmap_lock;

void free_zone_device_folio(struct folio *folio);

/*
 * Implemented in mm/memremap/memremap.rs. Returns whether the pfn belongs to a pgmap,
 * live or dying, of which get_dev_pagemap() finds the former only.
 */
bool pfn_has_pgmap(unsigned long pfn);

/*
 * Implemented in mm/memremap/memremap.rs. Returns whether pages of an earlier user of
 * this memory are still in use, and logs that the user with this name is refused.
 */
bool pgmap_keeps_region(resource_size_t start, resource_size_t n,
			const char *name);

#endif
