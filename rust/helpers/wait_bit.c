// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/page_ref.h>
#include <linux/sched.h>
#include <linux/wait_bit.h>

/* Sleeps until the page is idle, for at most a second. */
void rust_helper_dax_wait_page_idle(struct page *page)
{
	___wait_var_event(&page->_refcount, page_ref_count(page) == 1,
			  TASK_UNINTERRUPTIBLE, 0, 0,
			  if (!schedule_timeout(HZ)) break);
}
