/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_FS_DAX_GLUE_H
#define _LINUX_FS_DAX_GLUE_H

/*
 * Interface between fs/dax/dax_glue.c and fs/dax/ in Rust: tracepoints and per-CPU
 * data, which only C macros can define, and the functions that fs/ and mm/ call
 * only if fs/dax/ is in Rust.
 */

#include <linux/mm_types.h>
#include <linux/percpu-defs.h>
#include <linux/types.h>

struct address_space;
struct folio;
struct inode;
struct page;
struct super_block;
struct vm_fault;

/*
 * Why a fault is not a PMD fault. The order is that of the columns in
 * /sys/kernel/debug/fs_dax/faults.
 */
enum dax_fallback_reason {
	DAX_FALLBACK_COW,
	DAX_FALLBACK_VMA_START,
	DAX_FALLBACK_VMA_END,
	DAX_FALLBACK_OFFSET,
	DAX_FALLBACK_EOF,
	DAX_FALLBACK_THP_OFF,
	DAX_FALLBACK_SHORT,
	DAX_FALLBACK_DEVICE,
	DAX_FALLBACK_NO_MEMMAP,
	DAX_FALLBACK_CONFLICT,
	DAX_FALLBACK_NO_ZERO_PAGE,
	DAX_FALLBACK_NO_MEMORY,
	DAX_FALLBACK_OTHER,
	DAX_FALLBACK_REASONS
};

/* For each filesystem: faults of each size, then fallbacks by reason. */
enum {
	DAX_FAULT_COUNTS = 2 + DAX_FALLBACK_REASONS,
	DAX_FAULT_FILESYSTEMS = 32,
};

DECLARE_PER_CPU(unsigned long,
		dax_fault_counts[DAX_FAULT_FILESYSTEMS * DAX_FAULT_COUNTS]);
unsigned long dax_fault_counts_sum(unsigned int index);
void dax_fault_counts_clear(unsigned int first, unsigned int nr);

/*
 * Each fires one tracepoint of fs/dax, as DEFINE_RUST_DO_TRACE() of later kernels
 * would define it.
 */
void rust_do_trace_dax_pmd_fault(struct inode *inode, struct vm_fault *vmf,
				 pgoff_t max_pgoff);
void rust_do_trace_dax_pmd_fault_done(struct inode *inode, struct vm_fault *vmf,
				      pgoff_t max_pgoff, int result);
void rust_do_trace_dax_pmd_load_hole(struct inode *inode, struct vm_fault *vmf,
				     struct folio *zero_folio, void *entry);
void rust_do_trace_dax_pmd_load_hole_fallback(struct inode *inode,
					      struct vm_fault *vmf,
					      struct folio *zero_folio,
					      void *entry);
void rust_do_trace_dax_pte_fault(struct inode *inode, struct vm_fault *vmf);
void rust_do_trace_dax_pte_fault_done(struct inode *inode, struct vm_fault *vmf,
				      int result);
void rust_do_trace_dax_load_hole(struct inode *inode, struct vm_fault *vmf,
				 int result);
void rust_do_trace_dax_insert_pfn_mkwrite(struct inode *inode,
					  struct vm_fault *vmf, int result);
void rust_do_trace_dax_insert_pfn_mkwrite_no_entry(struct inode *inode,
						   struct vm_fault *vmf,
						   int result);
void rust_do_trace_dax_writeback_range(struct inode *inode, pgoff_t start,
				       pgoff_t end);
void rust_do_trace_dax_writeback_range_done(struct inode *inode, pgoff_t start,
					    pgoff_t end);
void rust_do_trace_dax_writeback_one(struct inode *inode, pgoff_t start,
				     pgoff_t len);
void rust_do_trace_dax_fault_fallback(struct inode *inode, struct vm_fault *vmf,
				      unsigned int reason);

/*
 * Implemented in fs/dax/dax.rs: waits until none of the pages that contain the bytes
 * from start to end is pinned, or a signal is pending. The caller holds
 * invalidate_lock for writing, which is released while the task sleeps.
 */
int dax_break_layout(struct inode *inode, loff_t start, loff_t end);

/*
 * Implemented in fs/dax/dax.rs: dax_inode_busy() returns whether a page of an inode
 * without references is pinned, and then takes an active reference to the superblock.
 * dax_add_delayed_iput() passes that and a reference to the inode on to a worker,
 * which puts both once no page is pinned.
 */
bool dax_inode_busy(struct inode *inode);
void dax_add_delayed_iput(struct inode *inode);

/*
 * Implemented in fs/dax/dax.rs: dax_lock_folio() of the entry that names this page. Its
 * folio may be split or merged until the entry is locked.
 */
unsigned long dax_lock_page(struct page *page);

/*
 * In fs/super.c: calls f() for each superblock, without a lock. A superblock is not
 * freed during the call, but may not be set up yet, or be shut down.
 */
void iterate_supers_unlocked(void (*f)(struct super_block *, void *), void *arg);

/*
 * Implemented in fs/dax/dax.rs: splits the entries that cross a bound of the
 * pages from start to end - 1.
 */
void dax_split_bounds(struct address_space *mapping, pgoff_t start, pgoff_t end);

#endif
