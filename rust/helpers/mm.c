// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>

#if defined(CONFIG_RUST_X86_GUP) && defined(NODE_NOT_IN_PAGE_FLAGS)
#error "Rust code reads the node of a page from page->flags"
#endif

bool rust_helper_folio_is_longterm_pinnable(struct folio *folio)
{
	return folio_is_longterm_pinnable(folio);
}

void rust_helper_get_page(struct page *page)
{
	get_page(page);
}

/* The address of a page that is in the linear mapping. */
void *rust_helper_page_to_virt(struct page *page)
{
	return page_to_virt(page);
}

int rust_helper_mmap_read_lock_killable(struct mm_struct *mm)
{
	return mmap_read_lock_killable(mm);
}

void rust_helper_mmap_read_unlock(struct mm_struct *mm)
{
	mmap_read_unlock(mm);
}

void rust_helper_put_page(struct page *page)
{
	put_page(page);
}

spinlock_t *rust_helper_pmd_lock(struct mm_struct *mm, pmd_t *pmd)
{
	return pmd_lock(mm, pmd);
}

spinlock_t *rust_helper_pud_lock(struct mm_struct *mm, pud_t *pud)
{
	return pud_lock(mm, pud);
}

void rust_helper_pte_unmap_unlock(pte_t *pte, spinlock_t *ptl)
{
	pte_unmap_unlock(pte, ptl);
}

#ifdef CONFIG_ZONE_DEVICE
struct zone *rust_helper_page_zone(const struct page *page)
{
	return page_zone(page);
}

bool rust_helper_vmemmap_can_optimize(struct vmem_altmap *altmap,
				      struct dev_pagemap *pgmap)
{
	return vmemmap_can_optimize(altmap, pgmap);
}
#endif
