// SPDX-License-Identifier: GPL-2.0-only

/*
 * What filesystem DAX in Rust needs of C inlines. On the way of an ordinary
 * fault it is the unlocking of a mapping's entries only.
 */

#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/lockdep.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/page_ref.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/vmstat.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>
#include <asm/pgalloc.h>

void rust_helper_xa_lock_irq(struct xarray *xa)
{
	xa_lock_irq(xa);
}

void rust_helper_xa_unlock_irq(struct xarray *xa)
{
	xa_unlock_irq(xa);
}

void rust_helper_dax_wait_queue_init(struct wait_queue_head *wq)
{
	init_waitqueue_head(wq);
}

void rust_helper_mapping_set_error(struct address_space *mapping, int error)
{
	mapping_set_error(mapping, error);
}

void rust_helper_i_mmap_lock_read(struct address_space *mapping)
{
	i_mmap_lock_read(mapping);
}

void rust_helper_i_mmap_unlock_read(struct address_space *mapping)
{
	i_mmap_unlock_read(mapping);
}

/* How an inode is locked by who reads it or writes to it. */
void rust_helper_dax_assert_inode_locked(struct inode *inode, bool write)
{
	if (write)
		lockdep_assert_held_write(&inode->i_rwsem);
	else if (!sb_rdonly(inode->i_sb))
		lockdep_assert_held(&inode->i_rwsem);
}

unsigned long rust_helper_dax_copy_mc(void *to, const void *from, size_t len)
{
	return copy_mc_to_kernel(to, from, len);
}

/* Returns the VM_FAULT_* of the fault whose private page this fills. */
void rust_helper_dax_copy_to_cow_page(struct vm_fault *vmf, void *from)
{
	void *to = kmap_local_page(vmf->cow_page);

	copy_user_page(to, from, vmf->address, vmf->cow_page);
	kunmap_local(to);
}

void rust_helper_dax_clear_cow_page(struct vm_fault *vmf)
{
	clear_user_highpage(vmf->cow_page, vmf->address);
}

vm_fault_t rust_helper_dax_finish_cow_page(struct vm_fault *vmf)
{
	__SetPageUptodate(vmf->cow_page);
	return finish_fault(vmf);
}

void rust_helper_dax_count_major_fault(struct mm_struct *mm)
{
	count_vm_event(PGMAJFAULT);
	count_memcg_event_mm(mm, PGMAJFAULT);
}

/* Lets the page that is about to be faulted in small have a table. */
void rust_helper_dax_split_pmd(struct vm_fault *vmf)
{
	split_huge_pmd(vmf->vma, vmf->pmd, vmf->address);
	count_vm_event(THP_FAULT_FALLBACK);
}

unsigned long rust_helper_my_zero_pfn(unsigned long address)
{
	return my_zero_pfn(address);
}

/* Sleeps until the page is idle, for at most a second. */
void rust_helper_dax_wait_page_idle(struct page *page)
{
	___wait_var_event(&page->_refcount, page_ref_count(page) == 1,
			  TASK_UNINTERRUPTIBLE, 0, 0,
			  if (!schedule_timeout(HZ)) break);
}

#ifdef CONFIG_FS_DAX_PMD
/*
 * Maps the huge zero page, read-only, where nothing is mapped. False if
 * something was.
 */
bool rust_helper_dax_map_huge_zero(struct vm_fault *vmf, struct folio *zero)
{
	struct vm_area_struct *vma = vmf->vma;
	spinlock_t *ptl = pmd_lock(vma->vm_mm, vmf->pmd);
	bool none = pmd_none(*vmf->pmd);

	if (none)
		set_pmd_at(vma->vm_mm, vmf->address & PMD_MASK, vmf->pmd,
			   pmd_mkhuge(mk_pmd(&zero->page, vma->vm_page_prot)));
	spin_unlock(ptl);
	return none;
}
#endif
