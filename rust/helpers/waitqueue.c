// SPDX-License-Identifier: GPL-2.0

/* Apart from wait.c, which is upstream's file. */

#include <linux/wait.h>

void rust_helper_init_waitqueue_head(struct wait_queue_head *wq_head)
{
	init_waitqueue_head(wq_head);
}
