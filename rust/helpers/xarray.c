// SPDX-License-Identifier: GPL-2.0

#include <linux/xarray.h>

void rust_helper_xa_init(struct xarray *xa)
{
	xa_init(xa);
}

void rust_helper_xa_lock_irq(struct xarray *xa)
{
	xa_lock_irq(xa);
}

void rust_helper_xa_unlock_irq(struct xarray *xa)
{
	xa_unlock_irq(xa);
}
