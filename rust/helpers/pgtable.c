// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/pgtable.h>

#ifdef CONFIG_RUST_FS_DAX
/* Entries of device memory have no page table deposited to split them into. */
static_assert(!arch_needs_pgtable_deposit());
#endif

pgprot_t rust_helper_PAGE_KERNEL(void)
{
	return PAGE_KERNEL;
}

pgprot_t rust_helper_pgprot_decrypted(pgprot_t prot)
{
	return pgprot_decrypted(prot);
}

pgprot_t rust_helper_pgprot_noncached(pgprot_t prot)
{
	return pgprot_noncached(prot);
}

unsigned long rust_helper_my_zero_pfn(unsigned long address)
{
	return my_zero_pfn(address);
}

#ifdef CONFIG_PARAVIRT_XXL
/* In a Xen PV guest the words in page tables have machine frames. */
pteval_t rust_helper_pte_val(pte_t pte)
{
	return pte_val(pte);
}

pte_t rust_helper___pte(pteval_t val)
{
	return __pte(val);
}

pmdval_t rust_helper_pmd_val(pmd_t pmd)
{
	return pmd_val(pmd);
}

pmd_t rust_helper___pmd(pmdval_t val)
{
	return __pmd(val);
}

pudval_t rust_helper_pud_val(pud_t pud)
{
	return pud_val(pud);
}

pud_t rust_helper___pud(pudval_t val)
{
	return __pud(val);
}

p4dval_t rust_helper_p4d_val(p4d_t p4d)
{
	return p4d_val(p4d);
}

pgdval_t rust_helper_pgd_val(pgd_t pgd)
{
	return pgd_val(pgd);
}
#endif

/*
 * For kernels in which an entry is more than a word (CONFIG_PAGE_TABLE_CHECK), or is
 * written by the hypervisor (a Xen PV guest).
 */
void rust_helper_set_pte_at(struct mm_struct *mm, unsigned long address,
			    pte_t *ptep, pte_t pte)
{
	set_pte_at(mm, address, ptep, pte);
}

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE
void rust_helper_set_pmd_at(struct mm_struct *mm, unsigned long address,
			    pmd_t *pmdp, pmd_t pmd)
{
	set_pmd_at(mm, address, pmdp, pmd);
}
#endif

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD
void rust_helper_set_pud_at(struct mm_struct *mm, unsigned long address,
			    pud_t *pudp, pud_t pud)
{
	set_pud_at(mm, address, pudp, pud);
}
#endif

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
