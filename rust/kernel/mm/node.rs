// SPDX-License-Identifier: GPL-2.0

//! NUMA nodes.
//!
//! The `unsafe` code in this file encapsulates the node masks and the node of a device.
//!
//! C header: [`include/linux/nodemask.h`](srctree/include/linux/nodemask.h)

use crate::{bindings, device::Device};

/// A NUMA node, or none in particular, which is the default.
///
/// # Invariants
///
/// The number is that of a possible node, or `NUMA_NO_NODE`.
///
/// # Examples
///
/// ```
/// use kernel::mm::node::Node;
///
/// assert!(Node::new(0).is_some());
/// assert!(Node::new(u32::MAX).is_none());
/// assert_eq!(Node::from_raw(-7), Node::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node(i32);

impl Node {
    // INVARIANT: The number is `NUMA_NO_NODE`.
    /// No node in particular. C: `NUMA_NO_NODE`.
    #[doc(alias = "NUMA_NO_NODE")]
    pub const NONE: Self = Self(bindings::NUMA_NO_NODE);

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

    /// Creates the node with the number `nid` of C code. A number that no node can have stands for
    /// [`Node::NONE`].
    pub fn from_raw(nid: i32) -> Self {
        u32::try_from(nid)
            .ok()
            .and_then(Self::new)
            .unwrap_or(Self::NONE)
    }

    /// Returns the node to which a device is close, or [`Node::NONE`]. C: `dev_to_node()`.
    #[doc(alias = "dev_to_node")]
    pub fn of(dev: &Device) -> Self {
        // SAFETY: By its type's invariants the device is valid.
        Self::from_raw(unsafe { bindings::dev_to_node(dev.as_raw()) })
    }

    /// Returns the number as C code takes it.
    #[inline]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Returns this node or, for [`Node::NONE`], the nearest one that has memory. C:
    /// `numa_mem_id()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::node::Node;
    ///
    /// assert_ne!(Node::NONE.or_nearest(), Node::NONE);
    /// ```
    #[doc(alias = "numa_mem_id")]
    pub fn or_nearest(self) -> Self {
        if self == Self::NONE {
            // INVARIANT: A node that has memory is possible.
            // SAFETY: The function reads a variable of this CPU and has no preconditions.
            Self(unsafe { bindings::numa_mem_id() })
        } else {
            self
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::NONE
    }
}
