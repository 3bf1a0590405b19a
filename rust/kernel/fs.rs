// SPDX-License-Identifier: GPL-2.0

//! Filesystem objects, as code below a filesystem sees them.
//!
//! | module | C structure |
//! |---|---|
//! | [`super_block`] | `struct super_block`: a mounted filesystem, and the walk over its inodes |
//! | [`inode`] | `struct inode`: a file |
//! | [`address_space`] | `struct address_space`: the pages or DAX entries of a file |
//! | [`kiocb`] | `struct kiocb`: one read or write |
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

pub mod address_space;
pub mod inode;
pub mod kiocb;
pub mod super_block;
