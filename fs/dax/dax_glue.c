// SPDX-License-Identifier: GPL-2.0-only
/*
 * What only C macros can define for fs/dax/ in Rust: tracepoints and per-CPU data.
 *
 * The Rust code checks the key of a tracepoint itself, and calls the function here
 * only if the tracepoint is enabled.
 */

#include <linux/cpumask.h>
#include <linux/dax.h>
#include <linux/fs_dax_glue.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/pfn_t.h>

#define CREATE_TRACE_POINTS
#include <trace/events/fs_dax.h>
#undef TRACE_INCLUDE_FILE
#define CREATE_TRACE_POINTS
#include <trace/events/fs_dax_fallback.h>

DEFINE_PER_CPU(unsigned long,
	       dax_fault_counts[DAX_FAULT_FILESYSTEMS * DAX_FAULT_COUNTS]);

unsigned long dax_fault_counts_sum(unsigned int index)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(dax_fault_counts[index], cpu);
	return sum;
}

void dax_fault_counts_clear(unsigned int first, unsigned int nr)
{
	int cpu;

	for_each_possible_cpu(cpu)
		memset(&per_cpu(dax_fault_counts[first], cpu), 0,
		       nr * sizeof(unsigned long));
}

void rust_do_trace_dax_pmd_fault(struct inode *inode, struct vm_fault *vmf,
				 pgoff_t max_pgoff)
{
	trace_dax_pmd_fault(inode, vmf, max_pgoff, 0);
}

void rust_do_trace_dax_pmd_fault_done(struct inode *inode, struct vm_fault *vmf,
				      pgoff_t max_pgoff, int result)
{
	trace_dax_pmd_fault_done(inode, vmf, max_pgoff, result);
}

void rust_do_trace_dax_pmd_load_hole(struct inode *inode, struct vm_fault *vmf,
				     struct folio *zero_folio, void *entry)
{
	trace_dax_pmd_load_hole(inode, vmf, zero_folio, entry);
}

void rust_do_trace_dax_pmd_load_hole_fallback(struct inode *inode,
					      struct vm_fault *vmf,
					      struct folio *zero_folio,
					      void *entry)
{
	trace_dax_pmd_load_hole_fallback(inode, vmf, zero_folio, entry);
}

void rust_do_trace_dax_pte_fault(struct inode *inode, struct vm_fault *vmf)
{
	trace_dax_pte_fault(inode, vmf, 0);
}

void rust_do_trace_dax_pte_fault_done(struct inode *inode, struct vm_fault *vmf,
				      int result)
{
	trace_dax_pte_fault_done(inode, vmf, result);
}

void rust_do_trace_dax_load_hole(struct inode *inode, struct vm_fault *vmf,
				 int result)
{
	trace_dax_load_hole(inode, vmf, result);
}

void rust_do_trace_dax_insert_pfn_mkwrite(struct inode *inode,
					  struct vm_fault *vmf, int result)
{
	trace_dax_insert_pfn_mkwrite(inode, vmf, result);
}

void rust_do_trace_dax_insert_pfn_mkwrite_no_entry(struct inode *inode,
						   struct vm_fault *vmf,
						   int result)
{
	trace_dax_insert_pfn_mkwrite_no_entry(inode, vmf, result);
}

void rust_do_trace_dax_writeback_range(struct inode *inode, pgoff_t start,
				       pgoff_t end)
{
	trace_dax_writeback_range(inode, start, end);
}

void rust_do_trace_dax_writeback_range_done(struct inode *inode, pgoff_t start,
					    pgoff_t end)
{
	trace_dax_writeback_range_done(inode, start, end);
}

void rust_do_trace_dax_writeback_one(struct inode *inode, pgoff_t start,
				     pgoff_t len)
{
	trace_dax_writeback_one(inode, start, len);
}

void rust_do_trace_dax_fault_fallback(struct inode *inode, struct vm_fault *vmf,
				      unsigned int reason)
{
	trace_dax_fault_fallback(inode, vmf, reason);
}
