// SPDX-License-Identifier: GPL-2.0

#include <linux/sysfs.h>

#ifndef CONFIG_SYSFS
int rust_helper_sysfs_emit_at(char *buf, int at, const char *fmt, ...)
{
	return sysfs_emit_at(buf, at, fmt);
}
#endif
