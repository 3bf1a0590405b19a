// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/lockdep.h>

void rust_helper_i_mmap_lock_read(struct address_space *mapping)
{
	i_mmap_lock_read(mapping);
}

void rust_helper_i_mmap_unlock_read(struct address_space *mapping)
{
	i_mmap_unlock_read(mapping);
}

/* How an inode is locked by who reads it or writes to it. */
void rust_helper_dax_assert_inode_locked(struct inode *inode, bool write)
{
	if (write)
		lockdep_assert_held_write(&inode->i_rwsem);
	else if (!sb_rdonly(inode->i_sb))
		lockdep_assert_held(&inode->i_rwsem);
}
