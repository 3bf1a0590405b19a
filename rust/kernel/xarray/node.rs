// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2017-2018 Microsoft Corporation
// Copyright (c) 2018-2020 Oracle
// Derived from `xa_load()` in `lib/xarray.c`. Author: Matthew Wilcox <willy@infradead.org>

//! Lookup in the nodes of an XArray, without a call.
//!
//! Every lookup of a pgmap comes here, so GUP comes here for each leaf of device memory. The
//! function of C, `xa_load()`, is out of line and sets up a cursor first. Instead, this file reads
//! the nodes as C lays them out.
//!
//! A slot of a node, and the head of the array, holds one word. Its two lowest bits give its
//! meaning:
//!
//! | word | meaning |
//! |---|---|
//! | 0 | empty |
//! | `…00`, `…01`, `…11` | an entry: a pointer, a value, or a tagged pointer |
//! | `…10`, above 4096 | the address of a node, plus 2 |
//! | `…10`, below the number of slots | a sibling: the entry is in the slot of that number |
//! | `…10`, 256 | retry: the array is being changed |
//! | `…10`, 257 | reserved and empty |
//!
//! Each word is read once. A node that can be reached inside a read-side critical section is not
//! freed before the section ends.
//!
//! The unsafe code here encapsulates these reads.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use crate::{bindings, sync::rcu};
use core::{
    ffi::c_void,
    ptr::{addr_of, null_mut},
};

/// The number of slots of a node. C: `XA_CHUNK_SIZE`.
const SLOTS: usize = {
    // SAFETY: The structure consists of integers, pointers and arrays of these, for which zeroes
    // are valid.
    let node: bindings::xa_node = unsafe { core::mem::zeroed() };
    node.slots.len()
};

/// The entry of a slot that is being changed. C: `XA_RETRY_ENTRY`.
const RETRY: usize = internal(256);

/// Returns the internal entry of this value. C: `xa_mk_internal()`.
const fn internal(value: usize) -> usize {
    (value << 2) | 2
}

/// Returns whether the word is an internal entry. C: `xa_is_internal()`.
#[inline(always)]
const fn is_internal(word: usize) -> bool {
    word & 3 == 2
}

/// Returns the node if the word is the address of one. C: `xa_is_node()`, `xa_to_node()`.
#[inline(always)]
fn to_node(word: usize) -> Option<*const bindings::xa_node> {
    (is_internal(word) && word > 4096).then_some((word & !3) as *const bindings::xa_node)
}

/// Returns the number of the slot if the word is a sibling entry. C: `xa_is_sibling()`,
/// `xa_to_sibling()`.
#[inline(always)]
const fn to_sibling(word: usize) -> Option<usize> {
    if is_internal(word) && word < internal(SLOTS - 1) {
        Some(word >> 2)
    } else {
        None
    }
}

/// Returns the entry at `index` of the array with this head, or null. C: `xa_load()`.
///
/// # Safety
///
/// `head` must be the head of an initialised array, which is not freed before the section of `_rcu`
/// ends.
#[inline(always)]
pub(super) unsafe fn load(
    head: *const *mut c_void,
    index: usize,
    _rcu: &rcu::Guard,
) -> *mut c_void {
    loop {
        // SAFETY: The caller promises a head that is valid during the section, and the guard shows
        // that this is inside the section.
        let word = unsafe { descend(head, index) };
        if !is_internal(word) {
            return word as *mut c_void;
        }
        if word != RETRY {
            return null_mut();
        }
    }
}

/// Returns the word at `index`: an entry, or an internal entry that is not a node.
///
/// # Safety
///
/// `head` must be the head of an initialised array, which is not freed before the current RCU
/// read-side critical section ends.
#[inline(always)]
unsafe fn descend(head: *const *mut c_void, index: usize) -> usize {
    // SAFETY: The caller promises a valid head. It changes at any time, as a whole, so it is read
    // once.
    let mut word = unsafe { head.read_volatile() } as usize;
    let Some(mut node) = to_node(word) else {
        // An array without nodes has at most one entry, at index 0.
        return if index == 0 { word } else { 0 };
    };
    // OVERFLOW: The shift of a node is less than the number of bits of an index.
    // SAFETY: The node was reached inside the section, so it is not freed before that ends. Its
    // shift was written before it could be reached, and does not change.
    let mut shift = unsafe { addr_of!((*node).shift).read() };
    if index.wrapping_shr(shift.into()) >= SLOTS {
        return 0;
    }
    loop {
        let slot = index.wrapping_shr(shift.into()) % SLOTS;
        // SAFETY: The node is not freed before the section ends, and `slot` is less than `SLOTS`.
        word = unsafe { slot_of(node, slot) };
        if let Some(first) = to_sibling(word) {
            // SAFETY: The node is not freed before the section ends, and the slot of a sibling
            // entry is less than `SLOTS`.
            word = unsafe { slot_of(node, first) };
            if shift != 0 && to_node(word).is_some() {
                // The entry is being split.
                return RETRY;
            }
        }
        match to_node(word) {
            // SAFETY: `below` was reached inside the section, so the same holds as for the first
            // node.
            Some(below) => (node, shift) = (below, unsafe { addr_of!((*below).shift).read() }),
            None => return word,
        }
    }
}

/// Returns the word in a slot of a node.
///
/// # Safety
///
/// `node` must be valid, and `slot` must be less than [`SLOTS`].
#[inline(always)]
unsafe fn slot_of(node: *const bindings::xa_node, slot: usize) -> usize {
    // SAFETY: The caller promises a valid node; only the address of a field is computed.
    let slots = unsafe { addr_of!((*node).slots) }.cast::<*mut c_void>();
    // SAFETY: The caller promises that the slot exists. It changes at any time, as a whole, so it
    // is read once.
    unsafe { slots.add(slot).read_volatile() as usize }
}
