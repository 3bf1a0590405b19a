// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu-refcount.h>

void rust_helper_percpu_ref_get_many(struct percpu_ref *ref, unsigned long nr)
{
	percpu_ref_get_many(ref, nr);
}

void rust_helper_percpu_ref_put_many(struct percpu_ref *ref, unsigned long nr)
{
	percpu_ref_put_many(ref, nr);
}

bool rust_helper_percpu_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}
