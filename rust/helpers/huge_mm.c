// SPDX-License-Identifier: GPL-2.0

#include <linux/huge_mm.h>
#include <linux/mm.h>

void rust_helper_split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd,
				unsigned long address)
{
	split_huge_pmd(vma, pmd, address);
}
