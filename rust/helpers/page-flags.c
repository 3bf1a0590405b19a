// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/page-flags.h>

void rust_helper___ClearPageAnonExclusive(struct page *page)
{
	__ClearPageAnonExclusive(page);
}

void rust_helper___SetPageHead(struct page *page)
{
	__SetPageHead(page);
}

void rust_helper___SetPageReserved(struct page *page)
{
	__SetPageReserved(page);
}

void rust_helper___SetPageUptodate(struct page *page)
{
	__SetPageUptodate(page);
}

#ifdef CONFIG_MEMORY_FAILURE
bool rust_helper_TestClearPageHWPoison(struct page *page)
{
	return TestClearPageHWPoison(page);
}
#endif
