// SPDX-License-Identifier: GPL-2.0

#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/vmstat.h>

void rust_helper_split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd,
				unsigned long address)
{
	split_huge_pmd(vma, pmd, address);
}

#ifdef CONFIG_FS_DAX_PMD
/* Lets the page that is about to be faulted in small have a table. */
void rust_helper_dax_split_pmd(struct vm_fault *vmf)
{
	split_huge_pmd(vmf->vma, vmf->pmd, vmf->address);
	count_vm_event(THP_FAULT_FALLBACK);
}

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
