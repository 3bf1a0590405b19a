/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The headers that the abstractions for persistent memory and DAX need, on top
 * of those in bindings_helper.h.
 *
 * Sorted alphabetically.
 */

#ifdef CONFIG_RUST_X86_GUP
#include <asm/gup.h>
#endif
#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/init.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap_registry.h>
#include <linux/percpu-refcount.h>
#include <linux/pfn_t.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <linux/secretmem.h>
#include <linux/seq_file.h>
#include <linux/shmem_fs.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>

#include "../../mm/internal.h"

/* `bindgen` cannot evaluate macros with casts. */
const xa_mark_t RUST_CONST_HELPER_XA_PRESENT = XA_PRESENT;
const unsigned long RUST_CONST_HELPER_NODES_PGSHIFT = NODES_PGSHIFT;
const unsigned long RUST_CONST_HELPER_ZONES_PGSHIFT = ZONES_PGSHIFT;

/* Declared inside the inline function that compares with it. */
extern unsigned long zero_pfn;
