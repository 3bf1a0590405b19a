// SPDX-License-Identifier: GPL-2.0

#include <linux/lockdep.h>
#include <linux/rwsem.h>

void rust_helper_lockdep_assert_held(struct rw_semaphore *sem)
{
	lockdep_assert_held(sem);
}

void rust_helper_lockdep_assert_held_write(struct rw_semaphore *sem)
{
	lockdep_assert_held_write(sem);
}

#ifdef CONFIG_PROVE_LOCKING
void rust_helper_lockdep_assert_irqs_disabled(void)
{
	lockdep_assert_irqs_disabled();
}
#endif
