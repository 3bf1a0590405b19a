// SPDX-License-Identifier: GPL-2.0

/*
 * What Rust needs of the C inlines around ZONE_DEVICE. Nothing here is called
 * per page on a hot path: those have their Rust inlines.
 */

#include <linux/completion.h>
#include <linux/kasan.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/page-flags.h>
#include <linux/page_ref.h>
#include <linux/pagemap.h>
#include <linux/percpu-refcount.h>
#include <linux/pfn_t.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/topology.h>
#include <linux/xarray.h>

void rust_helper_rcu_read_lock(void)
{
	rcu_read_lock();
}

void rust_helper_rcu_read_unlock(void)
{
	rcu_read_unlock();
}

void rust_helper_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}

bool rust_helper_fatal_signal_pending_current(void)
{
	return fatal_signal_pending(current);
}

void rust_helper_cond_resched(void)
{
	cond_resched();
}

void rust_helper_init_completion(struct completion *x)
{
	init_completion(x);
}

void rust_helper_xa_init(struct xarray *xa)
{
	xa_init(xa);
}

bool rust_helper_percpu_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}

void rust_helper_percpu_ref_get_many(struct percpu_ref *ref, unsigned long nr)
{
	percpu_ref_get_many(ref, nr);
}

void rust_helper_percpu_ref_put_many(struct percpu_ref *ref, unsigned long nr)
{
	percpu_ref_put_many(ref, nr);
}

int rust_helper_numa_mem_id(void)
{
	return numa_mem_id();
}

bool rust_helper_node_possible(int nid)
{
	return node_possible(nid);
}

int rust_helper_dev_to_node(struct device *dev)
{
	return dev_to_node(dev);
}

void *rust_helper___va(phys_addr_t phys)
{
	return __va(phys);
}

struct page *rust_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

bool rust_helper_pfn_valid(unsigned long pfn)
{
	return pfn_valid(pfn);
}

unsigned long rust_helper_page_to_pfn(struct page *page)
{
	return page_to_pfn(page);
}

void rust_helper_lock_page(struct page *page)
{
	lock_page(page);
}

void rust_helper_unlock_page(struct page *page)
{
	unlock_page(page);
}

void rust_helper_get_page(struct page *page)
{
	get_page(page);
}

void rust_helper_put_page(struct page *page)
{
	put_page(page);
}

void rust_helper_set_page_count(struct page *page, int v)
{
	set_page_count(page, v);
}

int rust_helper_folio_ref_sub_return(struct folio *folio, int nr)
{
	return folio_ref_sub_return(folio, nr);
}

pgprot_t rust_helper_page_kernel(void)
{
	return PAGE_KERNEL;
}

pgprot_t rust_helper_page_kernel_decrypted(void)
{
	return pgprot_decrypted(PAGE_KERNEL);
}

pgprot_t rust_helper_page_kernel_noncached(void)
{
	return pgprot_noncached(PAGE_KERNEL);
}

pfn_t rust_helper___pfn_to_pfn_t(unsigned long pfn, u64 flags)
{
	return __pfn_to_pfn_t(pfn, flags);
}

bool rust_helper_pfn_t_has_page(pfn_t pfn)
{
	return pfn_t_has_page(pfn);
}

bool rust_helper_pfn_t_devmap(pfn_t pfn)
{
	return pfn_t_devmap(pfn);
}

/* Without page attribute tables there is nothing on record. */
#ifndef __HAVE_PFNMAP_TRACKING
int rust_helper_track_pfn_remap(struct vm_area_struct *vma, pgprot_t *prot,
				unsigned long pfn, unsigned long addr,
				unsigned long size)
{
	return track_pfn_remap(vma, prot, pfn, addr, size);
}

void rust_helper_track_pfn_insert(struct vm_area_struct *vma, pgprot_t *prot,
				  pfn_t pfn)
{
	track_pfn_insert(vma, prot, pfn);
}

void rust_helper_untrack_pfn(struct vm_area_struct *vma, unsigned long pfn,
			     unsigned long size, bool mm_wr_locked)
{
	untrack_pfn(vma, pfn, size, mm_wr_locked);
}
#endif

#ifdef CONFIG_ZONE_DEVICE
struct zone *rust_helper_zone_device(int nid)
{
	return &NODE_DATA(nid)->node_zones[ZONE_DEVICE];
}

struct zone *rust_helper_page_zone(const struct page *page)
{
	return page_zone(page);
}

int rust_helper_kasan_add_zero_shadow(void *start, unsigned long size)
{
	return kasan_add_zero_shadow(start, size);
}

void rust_helper_kasan_remove_zero_shadow(void *start, unsigned long size)
{
	kasan_remove_zero_shadow(start, size);
}

void rust_helper_devmap_managed_key_inc(void)
{
#ifdef CONFIG_FS_DAX
	static_branch_inc(&devmap_managed_key);
#endif
}

void rust_helper_devmap_managed_key_dec(void)
{
#ifdef CONFIG_FS_DAX
	static_branch_dec(&devmap_managed_key);
#endif
}

/* What the last user of a device folio may have left on it. */
void rust_helper_zone_device_folio_reset(struct folio *folio)
{
	mem_cgroup_uncharge(folio);
	if (folio_test_anon(folio)) {
		VM_BUG_ON_FOLIO(folio_test_large(folio), folio);
		__ClearPageAnonExclusive(folio_page(folio, 0));
	}
	folio->mapping = NULL;
}
#endif
