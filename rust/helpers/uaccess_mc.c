// SPDX-License-Identifier: GPL-2.0

/* Apart from uaccess.c, which is upstream's file. */

#include <linux/uaccess.h>

unsigned long rust_helper_copy_mc_to_kernel(void *to, const void *from,
					    unsigned int len)
{
	return copy_mc_to_kernel(to, from, len);
}

void rust_helper_pagefault_disable(void)
{
	pagefault_disable();
}

void rust_helper_pagefault_enable(void)
{
	pagefault_enable();
}
