// SPDX-License-Identifier: GPL-2.0

//! NUMA nodes.
//!
//! The `unsafe` code in this file encapsulates the node masks and the node of a device.
//!
//! C header: [`include/linux/nodemask.h`](srctree/include/linux/nodemask.h)

use crate::{bindings, device::Device};

/// A NUMA node. `None` of an [`Option`] stands for no node in particular (C: `NUMA_NO_NODE`).
///
/// # Invariants
///
/// The number is that of a possible node, which has a `struct pglist_data` from boot on.
///
/// # Examples
///
/// ```
/// use kernel::mm::node::Node;
///
/// assert!(Node::new(0).is_some());
/// assert!(Node::new(u32::MAX).is_none());
/// assert_eq!(Node::from_raw(-7), None);
/// assert_eq!(Node::to_raw(None), -1);
/// ```
#[doc(alias = "NUMA_NO_NODE")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node(i32);

impl Node {
    /// Creates the node of this number, or returns `None` if the machine cannot have it. Any
    /// context. C: `node_possible()`.
    #[doc(alias = "node_possible")]
    pub fn new(number: u32) -> Option<Self> {
        // CAST: The number is checked against `MAX_NUMNODES`, which is small.
        let nid = number as i32;
        // SAFETY: The function tests a bit of a mask of `MAX_NUMNODES` bits, and the number is
        // below that.
        let possible = number < bindings::MAX_NUMNODES && unsafe { bindings::node_possible(nid) };
        // INVARIANT: The node is possible.
        possible.then_some(Self(nid))
    }

    /// Creates the node with the number `nid` of C code, or returns `None` if no node can have that
    /// number.
    pub fn from_raw(nid: i32) -> Option<Self> {
        u32::try_from(nid).ok().and_then(Self::new)
    }

    /// Returns the number as C code takes it: that of the node, or `NUMA_NO_NODE`.
    #[inline]
    pub fn to_raw(node: Option<Self>) -> i32 {
        node.map_or(bindings::NUMA_NO_NODE, Self::as_raw)
    }

    /// Returns the node to which a device is close, if it is close to one. C: `dev_to_node()`.
    #[doc(alias = "dev_to_node")]
    pub fn of(dev: &Device) -> Option<Self> {
        // SAFETY: By its type's invariants the device is valid.
        Self::from_raw(unsafe { bindings::dev_to_node(dev.as_raw()) })
    }

    /// Returns the number.
    #[inline]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Returns the nearest node that has memory. Any context. C: `numa_mem_id()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::node::Node;
    ///
    /// assert_eq!(Node::from_raw(Node::nearest().as_raw()), Some(Node::nearest()));
    /// ```
    #[doc(alias = "numa_mem_id")]
    pub fn nearest() -> Self {
        // INVARIANT: A node that has memory is possible.
        // SAFETY: The function reads a variable of this CPU and has no preconditions.
        Self(unsafe { bindings::numa_mem_id() })
    }
}
