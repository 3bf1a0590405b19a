// SPDX-License-Identifier: GPL-2.0

//! The books of pins: `nr_foll_pin_acquired` and `nr_foll_pin_released` in `/proc/vmstat`.
//!
//! Pages that follow each other are on one node nearly always, so what is pinned or given back in
//! one call is one update. C makes one for each folio.

use crate::{bindings, mm::folio::MappedPage};

/// Counts pins that are taken or given back. Dropped, it writes them down.
pub struct PinStatistics {
    item: bindings::node_stat_item,
    node: usize,
    pages: usize,
}

impl PinStatistics {
    /// Counts pins that are taken.
    #[inline]
    pub fn acquired() -> Self {
        Self::new(bindings::node_stat_item_NR_FOLL_PIN_ACQUIRED)
    }

    /// Counts pins that are given back.
    #[inline]
    pub fn released() -> Self {
        Self::new(bindings::node_stat_item_NR_FOLL_PIN_RELEASED)
    }

    #[inline]
    const fn new(item: bindings::node_stat_item) -> Self {
        Self {
            item,
            node: 0,
            pages: 0,
        }
    }

    /// Counts `pages` on the node of `page`.
    #[inline(always)]
    pub(super) fn count(&mut self, page: MappedPage<'_>, pages: usize) {
        let node = page.node();
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

impl Drop for PinStatistics {
    #[inline(always)]
    fn drop(&mut self) {
        if self.pages != 0 {
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
