// SPDX-License-Identifier: GPL-2.0

#include "../../mm/internal.h"

void rust_helper_prep_compound_head(struct page *page, unsigned int order)
{
	prep_compound_head(page, order);
}

void rust_helper_prep_compound_tail(struct page *head, int tail_idx)
{
	prep_compound_tail(head, tail_idx);
}
