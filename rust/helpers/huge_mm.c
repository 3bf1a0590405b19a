// SPDX-License-Identifier: GPL-2.0

#include <linux/huge_mm.h>
#include <linux/mm.h>

void rust_helper_split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd,
				unsigned long address)
{
	split_huge_pmd(vma, pmd, address);
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
bool rust_helper_vma_thp_disabled(struct vm_area_struct *vma,
				  unsigned long vm_flags)
{
	return vma_thp_disabled(vma, vm_flags);
}
#endif
