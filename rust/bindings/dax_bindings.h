/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Headers that the abstractions for persistent memory and DAX need in addition
 * to those in bindings_helper.h.
 *
 * Sorted alphabetically.
 */

#ifdef CONFIG_RUST_X86_GUP
#include <asm/gup.h>
#endif
#include <linux/badblocks.h>
#include <linux/bug.h>
#include <linux/cdev.h>
#include <linux/completion.h>
#include <linux/dax.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/iomap.h>
#include <linux/ioport.h>
#include <linux/kstrtox.h>
#include <linux/libnvdimm.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/memremap_glue.h>
#include <linux/page-isolation.h>
#include <linux/pagemap.h>
#include <linux/percpu-refcount.h>
#include <linux/miscdevice.h>
#include <linux/pfn_t.h>
#include <linux/pgtable.h>
#include <linux/poison.h>
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/secretmem.h>
#include <linux/seq_file.h>
#include <linux/set_memory.h>
#include <linux/shmem_fs.h>
#include <linux/stop_machine.h>
#include <linux/sysfs.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>
#include <linux/wait_bit_table.h>
#include <linux/writeback.h>
#include <linux/xarray.h>
#include <linux/fs_dax_glue.h>
#include <trace/events/fs_dax.h>
#include <trace/events/fs_dax_fallback.h>

#if IS_ENABLED(CONFIG_LIBNVDIMM)
/* nd.h needs btt.h, which needs this declaration. */
struct nd_namespace_common;
#include "../../drivers/nvdimm/btt.h"
#include "../../drivers/nvdimm/nd.h"
#include "../../drivers/nvdimm/pfn.h"
#include "../../drivers/nvdimm/pmem.h"
#endif
#if IS_ENABLED(CONFIG_RUST_DEV_DAX_FSDEV)
#include "../../drivers/dax/bus.h"
#include "../../drivers/dax/dax-private.h"
/* No header declares the lock under which the ranges of a device change. */
extern struct rw_semaphore dax_dev_rwsem;
#endif
#include "../../fs/internal.h"
#include "../../mm/internal.h"

/* `bindgen` cannot evaluate macros with casts. */
const gfp_t RUST_CONST_HELPER_GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER_MOVABLE;
const gfp_t RUST_CONST_HELPER_GFP_NOFS = GFP_NOFS;
const gfp_t RUST_CONST_HELPER___GFP_NOFAIL = __GFP_NOFAIL;
const xa_mark_t RUST_CONST_HELPER_XA_PRESENT = XA_PRESENT;
const unsigned long RUST_CONST_HELPER_NODES_PGSHIFT = NODES_PGSHIFT;
const unsigned long RUST_CONST_HELPER_ZONES_PGSHIFT = ZONES_PGSHIFT;
const unsigned long RUST_CONST_HELPER_PAGEBLOCK_NR_PAGES = pageblock_nr_pages;
const long RUST_CONST_HELPER_TAIL_MAPPING = (long)(0x400 + POISON_POINTER_DELTA);
const unsigned long RUST_CONST_HELPER_ARCH_MEMREMAP_PMEM = ARCH_MEMREMAP_PMEM;
const xa_mark_t RUST_CONST_HELPER_PAGECACHE_TAG_DIRTY = PAGECACHE_TAG_DIRTY;
const xa_mark_t RUST_CONST_HELPER_PAGECACHE_TAG_TOWRITE = PAGECACHE_TAG_TOWRITE;
const int RUST_CONST_HELPER_IOCB_NOWAIT = IOCB_NOWAIT;
const unsigned long RUST_CONST_HELPER_SB_BORN = SB_BORN;
const unsigned long RUST_CONST_HELPER_SB_RDONLY = SB_RDONLY;
#ifdef CONFIG_BLOCK
const blk_features_t RUST_CONST_HELPER_BLK_FEAT_WRITE_CACHE = BLK_FEAT_WRITE_CACHE;
const blk_features_t RUST_CONST_HELPER_BLK_FEAT_FUA = BLK_FEAT_FUA;
const blk_features_t RUST_CONST_HELPER_BLK_FEAT_IO_STAT = BLK_FEAT_IO_STAT;
const blk_features_t RUST_CONST_HELPER_BLK_FEAT_SYNCHRONOUS = BLK_FEAT_SYNCHRONOUS;
const blk_features_t RUST_CONST_HELPER_BLK_FEAT_NOWAIT = BLK_FEAT_NOWAIT;
const blk_features_t RUST_CONST_HELPER_BLK_FEAT_DAX = BLK_FEAT_DAX;
#endif

/* The C declaration is inside inline functions, where bindgen does not find it. */
extern unsigned long zero_pfn;
