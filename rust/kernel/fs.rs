// SPDX-License-Identifier: GPL-2.0

//! Files and what is below them.

pub mod address_space;
pub mod inode;
pub mod kiocb;
pub mod super_block;
