// SPDX-License-Identifier: GPL-2.0

//! The vmstat counters of pins: `nr_foll_pin_acquired` and `nr_foll_pin_released` in
//! `/proc/vmstat`.
//!
//! Pages that follow each other are nearly always on one node, so all pages that one call pins or
//! unpins are one update. C makes one update per folio.
//!
//! A node's counter consists of a sum and of a small difference per CPU. While interrupts are off,
//! no other code changes the difference of this CPU, so a walk adds to it without a call as long as
//! it stays below the threshold: a call costs a pin of one page 3 % more instructions.
//!
//! The `unsafe` code here looks up a node's `struct pglist_data`, adds to the difference of this
//! CPU, and calls C.
//!
//! C header: [`include/linux/vmstat.h`](srctree/include/linux/vmstat.h)

use kernel::{bindings, interrupt::LocalInterruptDisabled, mm::page::PageRef};
#[cfg(all(CONFIG_NUMA, CONFIG_SMP))]
use {
    core::{mem::offset_of, ptr::addr_of},
    kernel::percpu,
};

/// Pages on one node that were pinned or unpinned, and are not yet in the vmstat counter. Drop adds
/// them.
pub(crate) struct FollPinStat<'irq> {
    item: bindings::node_stat_item,
    nid: usize,
    pages: usize,
    irq: Option<LocalInterruptDisabled<'irq>>,
}

impl<'irq> FollPinStat<'irq> {
    /// Creates a count of pins that are taken while interrupts are off. C: `NR_FOLL_PIN_ACQUIRED`.
    #[inline(always)]
    pub(crate) fn acquired(irq: LocalInterruptDisabled<'irq>) -> Self {
        Self {
            item: bindings::node_stat_item_NR_FOLL_PIN_ACQUIRED,
            nid: 0,
            pages: 0,
            irq: Some(irq),
        }
    }

    /// Creates a count of pins that are put. Any context. C: `NR_FOLL_PIN_RELEASED`.
    #[inline(always)]
    pub(crate) fn released() -> Self {
        Self {
            item: bindings::node_stat_item_NR_FOLL_PIN_RELEASED,
            nid: 0,
            pages: 0,
            irq: None,
        }
    }

    /// Counts `pages` pages on the node of `page`. C: `node_stat_mod_folio()`.
    #[doc(alias = "node_stat_mod_folio")]
    #[inline(always)]
    pub(crate) fn add(&mut self, page: PageRef<'_>, pages: usize) {
        let nid = page.nid();
        if nid != self.nid {
            update_cold(self.item, self.nid, self.pages, self.irq);
            (self.nid, self.pages) = (nid, 0);
        }
        self.pages = self.pages.wrapping_add(pages);
    }

    /// Counts `pages` pages on the same node as those before.
    #[inline(always)]
    pub(crate) fn add_same_node(&mut self, pages: usize) {
        self.pages = self.pages.wrapping_add(pages);
    }
}

impl Drop for FollPinStat<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.pages == 0 {
            return;
        }
        let is_added = match self.irq {
            Some(irq) => add_to_this_cpu(self.item, self.nid, self.pages, irq),
            None => false,
        };
        if !is_added {
            update_cold(self.item, self.nid, self.pages, self.irq);
        }
    }
}

/// Adds `pages` to this CPU's difference of a vmstat counter, unless the result would be above the
/// threshold. Returns whether it was added. C: the first half of `__mod_node_page_state()`.
#[cfg(all(CONFIG_NUMA, CONFIG_SMP))]
#[inline(always)]
fn add_to_this_cpu(
    item: bindings::node_stat_item,
    nid: usize,
    pages: usize,
    _irq: LocalInterruptDisabled<'_>,
) -> bool {
    // SAFETY: `node_data()` returns the data of a node that a page was found on, which is never
    // freed, and the field is written once, before the node's memory is used.
    let stat = unsafe { addr_of!((*node_data(nid)).per_cpu_nodestats).read() } as usize;
    let threshold = stat.wrapping_add(offset_of!(bindings::per_cpu_nodestat, stat_threshold));
    let diff = stat
        .wrapping_add(offset_of!(bindings::per_cpu_nodestat, vm_node_stat_diff))
        .wrapping_add(item as usize);
    // SAFETY: Both are the addresses of bytes of a per-CPU structure, as `item` is a node counter.
    // Interrupts are off, so no other code changes the difference between the read and the write.
    unsafe {
        let sum = pages.wrapping_add(percpu::read_byte(diff) as usize) as isize;
        if pages > i8::MAX as usize || sum > percpu::read_byte(threshold) as isize {
            return false;
        }
        percpu::write_byte(diff, sum as i8);
    }
    true
}

/// Returns `false`: without SMP or NUMA the counter of the node is updated by C.
#[cfg(not(all(CONFIG_NUMA, CONFIG_SMP)))]
#[inline(always)]
fn add_to_this_cpu(
    _item: bindings::node_stat_item,
    _nid: usize,
    _pages: usize,
    _irq: LocalInterruptDisabled<'_>,
) -> bool {
    false
}

/// Adds `pages` to a vmstat counter of a node. C: `mod_node_page_state()`, and with interrupts off
/// `__mod_node_page_state()`.
#[doc(alias = "mod_node_page_state")]
#[inline(always)]
fn update(
    item: bindings::node_stat_item,
    nid: usize,
    pages: usize,
    irq: Option<LocalInterruptDisabled<'_>>,
) {
    if pages == 0 {
        return;
    }
    let (pgdat, pages) = (node_data(nid), pages as isize);
    match irq {
        // SAFETY: `pgdat` is the data of a node that has pages, which is never freed, and `item`
        // is a node counter. Interrupts are off, as `__mod_node_page_state()` requires.
        Some(_) => unsafe { bindings::__mod_node_page_state(pgdat, item, pages) },
        // SAFETY: As for the call above, except that this function can be called in any context.
        None => unsafe { bindings::mod_node_page_state(pgdat, item, pages) },
    }
}

/// Calls [`update`] from where it is rarely needed.
// By value: the counts can stay in registers.
#[cold]
#[inline(never)]
fn update_cold(
    item: bindings::node_stat_item,
    nid: usize,
    pages: usize,
    irq: Option<LocalInterruptDisabled<'_>>,
) {
    update(item, nid, pages, irq);
}

/// Returns the data of a node that has pages. C: `NODE_DATA()`.
#[doc(alias = "NODE_DATA")]
#[cfg(CONFIG_NUMA)]
#[inline(always)]
fn node_data(nid: usize) -> *mut bindings::pglist_data {
    // SAFETY: `node_data` has an element for each node that pages can be on, which is written once,
    // at boot or before the node's memory is added. So a node that a page was found on has one.
    unsafe {
        core::ptr::addr_of!(bindings::node_data)
            .cast::<*mut bindings::pglist_data>()
            .add(nid)
            .read()
    }
}

/// Returns the data of the only node. C: `NODE_DATA()`.
#[doc(alias = "NODE_DATA")]
#[cfg(not(CONFIG_NUMA))]
#[inline(always)]
fn node_data(_nid: usize) -> *mut bindings::pglist_data {
    &raw mut bindings::contig_page_data
}
