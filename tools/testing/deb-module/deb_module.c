// SPDX-License-Identifier: GPL-2.0
/*
 * A module from outside of the tree that uses the entry points of the pieces: it describes a
 * range of device memory, and takes a page of the process that loads it. If one of these
 * fails, the module does not load.
 */

#include <linux/device.h>
#include <linux/err.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>

/* Memory that no guest of these tests has; nothing accesses it. */
#define START	0xc000000000ULL
#define SIZE	(128ULL << 20)

static struct device *device;

static int describe(void)
{
	struct dev_pagemap *pgmap, *found;
	struct resource *range;
	void *address;

	range = devm_request_mem_region(device, START, SIZE, "deb_module");
	pgmap = devm_kzalloc(device, sizeof(*pgmap), GFP_KERNEL);
	if (!range || !pgmap)
		return -EBUSY;
	pgmap->type = MEMORY_DEVICE_GENERIC;
	pgmap->nr_range = 1;
	pgmap->range.start = range->start;
	pgmap->range.end = range->end;
	address = devm_memremap_pages(device, pgmap);
	if (IS_ERR(address))
		return PTR_ERR(address);
	found = get_dev_pagemap(PHYS_PFN(START), NULL);
	if (found != pgmap)
		return -ENOENT;
	put_dev_pagemap(found);
	return 0;
}

static int take(void)
{
	unsigned long address;
	struct page *page;
	int taken;

	address = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(address))
		return address;
	taken = get_user_pages_fast(address, 1, FOLL_WRITE, &page);
	if (taken == 1)
		put_page(page);
	vm_munmap(address, PAGE_SIZE);
	return taken == 1 ? 0 : -EFAULT;
}

static int __init deb_module_init(void)
{
	void *group;
	int ret;

	device = root_device_register("deb_module");
	if (IS_ERR(device))
		return PTR_ERR(device);
	group = devres_open_group(device, NULL, GFP_KERNEL);
	ret = group ? describe() : -ENOMEM;
	if (!ret)
		ret = take();
	if (ret) {
		if (group)
			devres_release_group(device, group);
		root_device_unregister(device);
	}
	return ret;
}

static void __exit deb_module_exit(void)
{
	devres_release_group(device, NULL);
	root_device_unregister(device);
}

module_init(deb_module_init);
module_exit(deb_module_exit);
MODULE_DESCRIPTION("Uses the pieces from outside of the tree");
MODULE_LICENSE("GPL");
