// SPDX-License-Identifier: GPL-2.0

#include <linux/kernfs.h>

#ifndef CONFIG_KERNFS
struct kernfs_node *rust_helper_kernfs_find_and_get_ns(struct kernfs_node *parent,
						       const char *name,
						       const void *ns)
{
	return kernfs_find_and_get_ns(parent, name, ns);
}

void rust_helper_kernfs_notify(struct kernfs_node *kn)
{
	kernfs_notify(kn);
}

void rust_helper_kernfs_put(struct kernfs_node *kn)
{
	kernfs_put(kn);
}
#endif
