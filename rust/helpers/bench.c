// SPDX-License-Identifier: GPL-2.0

/*
 * What the reader of `make bench` needs of C inlines; all of it outside of what
 * is measured.
 */

#include <linux/irqflags.h>
#include <linux/mm.h>

unsigned long rust_helper_local_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void rust_helper_local_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

struct page *rust_helper_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}
