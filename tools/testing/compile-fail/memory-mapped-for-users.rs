// SPDX-License-Identifier: GPL-2.0

//! A protection of a user mapping, passed for the linear mapping, would map the kernel's addresses of
//! a device for user space.

//@ within: mm/memremap/memremap.rs
//@ error: E0308 mismatched types

use crate::{
    hotplug::{Memory, TrackedPfns},
    registry::Entry,
};
use kernel::{
    error::Result,
    mm::{node::Node, virt::VmaRef},
};

fn add<'m>(entry: &Entry<'m>, tracking: &TrackedPfns, vma: VmaRef<'_>) -> Result<Memory<'m>> {
    //@ wrong
    Memory::add(entry, &vma.prot(), Node::nearest())
    //@ right
    let _ = vma;
    Memory::add(entry, tracking, Node::nearest())
    //@ end
}
