/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM fs_dax

/* A second header of a trace system needs its own names for both of these. */
#undef TRACE_SYSTEM_VAR
#define TRACE_SYSTEM_VAR fs_dax_fallback
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE fs_dax_fallback

#if !defined(_TRACE_FS_DAX_FALLBACK_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_FS_DAX_FALLBACK_H

#include <linux/fs_dax_glue.h>
#include <linux/tracepoint.h>

/* Exported for tools that read the binary event. */
TRACE_DEFINE_ENUM(DAX_FALLBACK_COW);
TRACE_DEFINE_ENUM(DAX_FALLBACK_VMA_START);
TRACE_DEFINE_ENUM(DAX_FALLBACK_VMA_END);
TRACE_DEFINE_ENUM(DAX_FALLBACK_OFFSET);
TRACE_DEFINE_ENUM(DAX_FALLBACK_EOF);
TRACE_DEFINE_ENUM(DAX_FALLBACK_THP_OFF);
TRACE_DEFINE_ENUM(DAX_FALLBACK_SHORT);
TRACE_DEFINE_ENUM(DAX_FALLBACK_DEVICE);
TRACE_DEFINE_ENUM(DAX_FALLBACK_NO_MEMMAP);
TRACE_DEFINE_ENUM(DAX_FALLBACK_CONFLICT);
TRACE_DEFINE_ENUM(DAX_FALLBACK_NO_ZERO_PAGE);
TRACE_DEFINE_ENUM(DAX_FALLBACK_NO_MEMORY);
TRACE_DEFINE_ENUM(DAX_FALLBACK_OTHER);

TRACE_EVENT(dax_fault_fallback,
	TP_PROTO(struct inode *inode, struct vm_fault *vmf,
		 unsigned int reason),
	TP_ARGS(inode, vmf, reason),
	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(unsigned long, address)
		__field(pgoff_t, pgoff)
		__field(dev_t, dev)
		__field(unsigned int, reason)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->address = vmf->address;
		__entry->pgoff = vmf->pgoff;
		__entry->reason = reason;
	),
	TP_printk("dev %d:%d ino %#lx pgoff %#lx address %#lx reason %s",
		MAJOR(__entry->dev), MINOR(__entry->dev),
		__entry->ino, __entry->pgoff, __entry->address,
		__print_symbolic(__entry->reason,
			{ DAX_FALLBACK_COW, "cow" },
			{ DAX_FALLBACK_VMA_START, "vma-start" },
			{ DAX_FALLBACK_VMA_END, "vma-end" },
			{ DAX_FALLBACK_OFFSET, "offset" },
			{ DAX_FALLBACK_EOF, "eof" },
			{ DAX_FALLBACK_THP_OFF, "thp-off" },
			{ DAX_FALLBACK_SHORT, "short" },
			{ DAX_FALLBACK_DEVICE, "device" },
			{ DAX_FALLBACK_NO_MEMMAP, "no-memmap" },
			{ DAX_FALLBACK_CONFLICT, "conflict" },
			{ DAX_FALLBACK_NO_ZERO_PAGE, "no-zero-page" },
			{ DAX_FALLBACK_NO_MEMORY, "no-memory" },
			{ DAX_FALLBACK_OTHER, "other" }))
);

#endif

/* This part must be outside protection */
#include <trace/define_trace.h>
