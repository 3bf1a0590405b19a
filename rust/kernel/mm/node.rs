// SPDX-License-Identifier: GPL-2.0

//! Where memory is near to.
//!
//! C header: [`include/linux/nodemask.h`](srctree/include/linux/nodemask.h)

use crate::{bindings, device::Device};

/// A NUMA node, or none in particular, which is the default.
///
/// # Invariants
///
/// There can be a node of this number, or it is `NUMA_NO_NODE`.
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
    // INVARIANT: That one.
    /// None in particular. C: `NUMA_NO_NODE`.
    #[doc(alias = "NUMA_NO_NODE")]
    pub const NONE: Self = Self(bindings::NUMA_NO_NODE);

    /// The node of this number, if there can be one. Any context. C: `node_possible()`.
    #[doc(alias = "node_possible")]
    pub fn new(number: u32) -> Option<Self> {
        // CAST: There are few nodes.
        let nid = number as i32;
        // SAFETY: Looks for a bit that is in the mask.
        let possible = number < bindings::MAX_NUMNODES && unsafe { bindings::node_possible(nid) };
        // INVARIANT: Just looked.
        possible.then_some(Self(nid))
    }

    /// What C calls `nid`: a node. A number that none can have stands for none in particular.
    pub fn from_raw(nid: i32) -> Self {
        u32::try_from(nid)
            .ok()
            .and_then(Self::new)
            .unwrap_or(Self::NONE)
    }

    /// The node that a device is close to, if it is close to one. C: `dev_to_node()`.
    #[doc(alias = "dev_to_node")]
    pub fn of(dev: &Device) -> Self {
        // SAFETY: A valid device.
        Self::from_raw(unsafe { bindings::dev_to_node(dev.as_raw()) })
    }

    /// What C code takes for `nid`.
    #[inline]
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// This node, or, if it is none in particular, the nearest that has memory. C: `numa_mem_id()`.
    #[doc(alias = "numa_mem_id")]
    pub fn or_nearest(self) -> Self {
        if self == Self::NONE {
            // INVARIANT: A node that is there.
            // SAFETY: No preconditions.
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
