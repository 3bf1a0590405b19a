// SPDX-License-Identifier: GPL-2.0

//! Memory management.
//!
//! What lives here are the parts of `mm/` that code outside `mm/` may use: page frame numbers as
//! types ([`pfn`]), the `pfn_t` that a driver hands to the fault path ([`pfn_t`]), the registry of
//! device pgmaps ([`pgmap`]), memory that a driver has mapped ([`device_memory`]), and what
//! faults, GUP and page tables are made of.
//!
//! A page is not an object of its own here. `struct page` is reached through something that is
//! known to keep it alive, such as a [`memremap::LiveRef`]; a [`page::PageRef`] alone gives only the
//! right to look at it.

#[cfg(all(CONFIG_BLOCK, CONFIG_DAX, CONFIG_ZONE_DEVICE))]
pub mod device_memory;
#[cfg(CONFIG_FS_DAX)]
pub mod fault;
#[cfg(CONFIG_SPARSEMEM_VMEMMAP)]
pub mod folio;
#[cfg(CONFIG_ZONE_DEVICE)]
pub mod memremap;
#[cfg(any(CONFIG_BLOCK, CONFIG_ZONE_DEVICE))]
pub mod node;
#[cfg(CONFIG_SPARSEMEM_VMEMMAP)]
pub mod page;
pub mod pfn;
pub mod pfn_t;
pub mod prot;
pub mod segment;
#[cfg(CONFIG_FS_DAX)]
pub mod virt;
