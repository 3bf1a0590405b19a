// SPDX-License-Identifier: GPL-2.0

//! The books of pins: `nr_foll_pin_acquired` and `nr_foll_pin_released` in `/proc/vmstat`.
//!
//! Pages that follow each other are on one node nearly always, so what is pinned or given back in
//! one call is one update. C makes one for each folio. While interrupts are off nobody else changes
//! this CPU's share of the books, so a walk adds to that without a call, as long as it is small.
//!
//! C header: [`include/linux/vmstat.h`](srctree/include/linux/vmstat.h)

#[cfg(all(CONFIG_NUMA, CONFIG_SMP))]
use crate::percpu;
use crate::{bindings, irq::LocalInterruptDisabled, mm::page::PageRef};
#[cfg(all(CONFIG_NUMA, CONFIG_SMP))]
use core::{mem::offset_of, ptr::addr_of};

/// Counts pins that are taken or given back. Dropped, it writes them down.
pub struct PinStatistics<'irq> {
    item: bindings::node_stat_item,
    node: usize,
    pages: usize,
    irq: Option<LocalInterruptDisabled<'irq>>,
}

impl<'irq> PinStatistics<'irq> {
    /// Counts pins that are taken, until interrupts are on again.
    #[inline]
    pub fn acquired(irq: LocalInterruptDisabled<'irq>) -> Self {
        Self {
            item: bindings::node_stat_item_NR_FOLL_PIN_ACQUIRED,
            node: 0,
            pages: 0,
            irq: Some(irq),
        }
    }

    /// Counts pins that are given back. Any context.
    #[inline]
    pub fn released() -> Self {
        Self {
            item: bindings::node_stat_item_NR_FOLL_PIN_RELEASED,
            node: 0,
            pages: 0,
            irq: None,
        }
    }

    /// Counts `pages` on the node of `page`.
    #[inline(always)]
    pub(super) fn count(&mut self, page: PageRef<'_>, pages: usize) {
        let node = page.nid();
        if node != self.node {
            write_down(self.item, self.node, self.pages);
            (self.node, self.pages) = (node, 0);
        }
        self.pages = self.pages.wrapping_add(pages);
    }

    /// Counts `pages` on the same node as those before.
    #[inline(always)]
    pub(super) fn count_again(&mut self, pages: usize) {
        self.pages = self.pages.wrapping_add(pages);
    }
}

impl Drop for PinStatistics<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.pages == 0 {
            return;
        }
        let added = match self.irq {
            Some(irq) => add_to_this_cpu(self.item, self.node, self.pages, irq),
            None => false,
        };
        if !added {
            write_down(self.item, self.node, self.pages);
        }
    }
}

/// C: `mod_node_page_state()`. Any context.
#[inline(never)]
fn write_down(item: bindings::node_stat_item, node: usize, pages: usize) {
    if pages != 0 {
        // SAFETY: A node that a page was found on, and an item of its books.
        unsafe { bindings::gup_count_pins(node as _, item, pages as _) };
    }
}

/// Adds to this CPU's share, unless that gets so large that it has to go to the node's. C: the first
/// half of `__mod_node_page_state()`.
#[cfg(all(CONFIG_NUMA, CONFIG_SMP))]
#[inline(always)]
fn add_to_this_cpu(
    item: bindings::node_stat_item,
    node: usize,
    pages: usize,
    _irq: LocalInterruptDisabled<'_>,
) -> bool {
    // SAFETY: A page was found on the node, so that it has its data, which is never freed.
    let share = unsafe {
        let data = addr_of!(bindings::node_data)
            .cast::<*mut bindings::pglist_data>()
            .add(node)
            .read();
        addr_of!((*data).per_cpu_nodestats).read() as usize
    };
    let threshold = share.wrapping_add(offset_of!(bindings::per_cpu_nodestat, stat_threshold));
    let diff = share
        .wrapping_add(offset_of!(bindings::per_cpu_nodestat, vm_node_stat_diff))
        .wrapping_add(item as usize);
    // SAFETY: Offsets of bytes of this CPU's share. Interrupts are off, so that nothing comes between
    // the reads and the write.
    unsafe {
        let sum = pages.wrapping_add(percpu::read_byte(diff) as usize) as isize;
        if pages > i8::MAX as usize || sum > percpu::read_byte(threshold) as isize {
            return false;
        }
        percpu::write_byte(diff, sum as i8);
    }
    true
}

#[cfg(not(all(CONFIG_NUMA, CONFIG_SMP)))]
#[inline(always)]
fn add_to_this_cpu(
    _item: bindings::node_stat_item,
    _node: usize,
    _pages: usize,
    _irq: LocalInterruptDisabled<'_>,
) -> bool {
    false
}
