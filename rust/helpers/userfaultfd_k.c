// SPDX-License-Identifier: GPL-2.0

#include <linux/userfaultfd_k.h>

bool rust_helper_pte_marker_uffd_wp(pte_t pte)
{
	return pte_marker_uffd_wp(pte);
}
