// SPDX-License-Identifier: GPL-2.0

#include <linux/kasan.h>

#ifdef CONFIG_ZONE_DEVICE
int rust_helper_kasan_add_zero_shadow(void *start, unsigned long size)
{
	return kasan_add_zero_shadow(start, size);
}

void rust_helper_kasan_remove_zero_shadow(void *start, unsigned long size)
{
	kasan_remove_zero_shadow(start, size);
}
#endif
