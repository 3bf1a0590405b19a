/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MEMREMAP_GLUE_H
#define _LINUX_MEMREMAP_GLUE_H

/*
 * What mm/memremap/memremap_glue.c defines for mm/memremap/memremap.rs: objects that only a C macro
 * can initialise. And prototypes: of an entry point that C keeps in a header
 * private to mm/, for the Rust side to be checked against it, and of one that
 * only the registry in Rust has.
 */

#include <linux/mutex.h>
#include <linux/xarray.h>

struct folio;
struct page;

extern struct xarray pgmap_array;
extern struct mutex pgmap_lock;

void free_zone_device_folio(struct folio *folio);

/* fs/dax.c: somebody is about to wait until the page is idle. */
void dax_page_wait_begin(struct page *page);

#endif
