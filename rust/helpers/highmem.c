// SPDX-License-Identifier: GPL-2.0

#include <linux/highmem.h>

void rust_helper_clear_user_highpage(struct page *page, unsigned long vaddr)
{
	clear_user_highpage(page, vaddr);
}

void rust_helper_copy_user_page(void *to, void *from, unsigned long vaddr,
				struct page *topage)
{
	copy_user_page(to, from, vaddr, topage);
}

void rust_helper_dax_clear_cow_page(struct vm_fault *vmf)
{
	clear_user_highpage(vmf->cow_page, vmf->address);
}

/* Returns the VM_FAULT_* of the fault whose private page this fills. */
void rust_helper_dax_copy_to_cow_page(struct vm_fault *vmf, void *from)
{
	void *to = kmap_local_page(vmf->cow_page);

	copy_user_page(to, from, vmf->address, vmf->cow_page);
	kunmap_local(to);
}
