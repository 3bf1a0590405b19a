// SPDX-License-Identifier: GPL-2.0

//! Memory that is added to no node in particular would be put into the zone of the node -1.

//@ within: mm/memremap/memremap.rs
//@ error: E0308 mismatched types

use crate::{
    hotplug::{Memory, TrackedPfns},
    registry::Entry,
};
use kernel::{device::Device, error::Result, mm::node::Node};

fn add<'m>(entry: &Entry<'m>, tracking: &TrackedPfns, device: &Device) -> Result<Memory<'m>> {
    let node = Node::of(device);
    //@ wrong
    Memory::add(entry, tracking, node)
    //@ right
    Memory::add(entry, tracking, node.unwrap_or_else(Node::nearest))
    //@ end
}
