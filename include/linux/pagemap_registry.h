/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_PAGEMAP_REGISTRY_H
#define _LINUX_PAGEMAP_REGISTRY_H

/*
 * What mm/pagemap_glue.c defines for mm/pagemap.rs: objects that only a C macro
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
void dax_page_awaited(struct page *page);

#endif
