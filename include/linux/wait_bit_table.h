/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_WAIT_BIT_TABLE_H
#define _LINUX_WAIT_BIT_TABLE_H

/*
 * The wait queues of kernel/sched/wait_bit.c, which rust/kernel/sync/wait_var.rs
 * looks into. That file includes this header as well, so the compiler refuses a
 * number of queues that is not its own.
 */

#include <linux/wait.h>

#define WAIT_TABLE_BITS 8

extern wait_queue_head_t bit_wait_table[1 << WAIT_TABLE_BITS];

#endif
