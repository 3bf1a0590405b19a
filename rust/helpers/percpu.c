// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

/* x86-64 has these as single instructions in rust/kernel/arch/x86/percpu.rs. */
#if !defined(CONFIG_X86_64) || defined(CONFIG_UML)
void rust_helper_this_cpu_inc_u64(u64 *counter)
{
	this_cpu_inc(*(u64 __percpu *)counter);
}

void rust_helper_this_cpu_dec_u64(u64 *counter)
{
	this_cpu_dec(*(u64 __percpu *)counter);
}
#endif
