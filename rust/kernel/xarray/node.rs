// SPDX-License-Identifier: GPL-2.0

//! How a lookup goes down the tree, without a call.
//!
//! A slot, and the head of the array, holds one word. Its two lowest bits tell what it is:
//!
//! | word | is |
//! |---|---|
//! | 0 | nothing |
//! | `…00`, `…01`, `…11` | an entry: a pointer (tagged or not) or a number |
//! | `…10`, above 4,096 | a node, at that address less 2 |
//! | `…10`, below the fan-out | a sibling: the entry is in the slot of that number |
//! | `…10`, 256 | this tree is being changed: begin again |
//! | `…10`, 257 | a place that is reserved and empty |
//!
//! Each word is read once. A node that was reachable stays for a grace period.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use crate::{bindings, sync::rcu};
use core::{
    ffi::c_void,
    ptr::{addr_of, null_mut},
};

/// The slots of a node. C: `XA_CHUNK_SIZE`.
const SLOTS: usize = {
    // SAFETY: Integers, pointers and arrays of these: all zeroes are a value.
    let node: bindings::xa_node = unsafe { core::mem::zeroed() };
    node.slots.len()
};

/// C: `XA_RETRY_ENTRY`.
const RETRY: usize = internal(256);

/// C: `xa_mk_internal()`.
const fn internal(value: usize) -> usize {
    (value << 2) | 2
}

/// C: `xa_is_internal()`.
#[inline(always)]
const fn is_internal(word: usize) -> bool {
    word & 3 == 2
}

/// The node that a word points to, if it does. C: `xa_is_node()`, `xa_to_node()`.
#[inline(always)]
fn to_node(word: usize) -> Option<*const bindings::xa_node> {
    (is_internal(word) && word > 4096).then_some((word & !3) as *const bindings::xa_node)
}

/// The slot that a word refers to, if it does. C: `xa_is_sibling()`, `xa_to_sibling()`.
#[inline(always)]
const fn to_sibling(word: usize) -> Option<usize> {
    if is_internal(word) && word < internal(SLOTS - 1) {
        Some(word >> 2)
    } else {
        None
    }
}

/// What the array whose head is `head` has at `index`, or null. C: `xa_load()`.
///
/// # Safety
///
/// `head` is the head of an initialised array, which lives as long as the section.
#[inline(always)]
pub(super) unsafe fn load(
    head: *const *mut c_void,
    index: usize,
    _rcu: &rcu::Guard,
) -> *mut c_void {
    loop {
        // SAFETY: By the caller's promise, and a node that was reachable inside the section stays
        // until its end.
        let word = unsafe { descend(head, index) };
        if !is_internal(word) {
            return word as *mut c_void;
        }
        if word != RETRY {
            return null_mut();
        }
    }
}

/// Goes down once.
///
/// # Safety
///
/// As for [`load`].
#[inline(always)]
unsafe fn descend(head: *const *mut c_void, index: usize) -> usize {
    // SAFETY: The caller's promise.
    let mut word = unsafe { head.read_volatile() } as usize;
    let Some(mut node) = to_node(word) else {
        // A tree without nodes has one entry, at 0.
        return if index == 0 { word } else { 0 };
    };
    // OVERFLOW: A level's shift is less than the bits of an index.
    // SAFETY: A node is initialised before it can be reached, and its level does not change.
    let mut shift = unsafe { addr_of!((*node).shift).read() };
    if index.wrapping_shr(shift.into()) >= SLOTS {
        return 0;
    }
    loop {
        let slot = index.wrapping_shr(shift.into()) % SLOTS;
        // SAFETY: A slot of a node that is there.
        word = unsafe { slot_of(node, slot) };
        if let Some(first) = to_sibling(word) {
            // SAFETY: As above: less than the number of slots.
            word = unsafe { slot_of(node, first) };
            if shift != 0 && to_node(word).is_some() {
                // The entry is just being split.
                return RETRY;
            }
        }
        match to_node(word) {
            // SAFETY: As for the first node.
            Some(below) => (node, shift) = (below, unsafe { addr_of!((*below).shift).read() }),
            None => return word,
        }
    }
}

/// # Safety
///
/// The node is there, and `slot` is less than [`SLOTS`].
#[inline(always)]
unsafe fn slot_of(node: *const bindings::xa_node, slot: usize) -> usize {
    // SAFETY: The caller's promise.
    let slots = unsafe { addr_of!((*node).slots) }.cast::<*mut c_void>();
    // SAFETY: As above. Read once, for it may change.
    unsafe { slots.add(slot).read_volatile() as usize }
}
