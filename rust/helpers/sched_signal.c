// SPDX-License-Identifier: GPL-2.0

/* Apart from signal.c, which is upstream's file. */

#include <linux/sched/signal.h>

int rust_helper_fatal_signal_pending(struct task_struct *p)
{
	return fatal_signal_pending(p);
}
