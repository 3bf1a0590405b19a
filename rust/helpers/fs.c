// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>

void rust_helper_i_mmap_lock_read(struct address_space *mapping)
{
	i_mmap_lock_read(mapping);
}

void rust_helper_i_mmap_unlock_read(struct address_space *mapping)
{
	i_mmap_unlock_read(mapping);
}

bool rust_helper_sb_rdonly(const struct super_block *sb)
{
	return sb_rdonly(sb);
}

bool rust_helper_sb_start_write_trylock(struct super_block *sb)
{
	return sb_start_write_trylock(sb);
}

void rust_helper_sb_end_write(struct super_block *sb)
{
	sb_end_write(sb);
}
