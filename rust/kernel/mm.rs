// SPDX-License-Identifier: GPL-2.0

//! Memory management.
//!
//! The parts of `mm/` that more than one piece or a driver uses: page frame numbers ([`pfn`]) and
//! the `pfn_t` that a driver passes to the fault path ([`pfn_t`]), pages and folios ([`page`],
//! [`folio`]), pgmaps of device memory ([`memremap`]), VMAs, protections and page faults ([`virt`],
//! [`prot`], [`fault`]), device memory that a driver has mapped
//! ([`device_memory`]), and user memory that a driver has pinned ([`pin`]).
//!
//! A `struct page` is reached through a value that keeps it valid, such as a [`memremap::LiveRef`].
//! A [`page::PageRef`] gives the right to look at a page; types that dereference to it give more
//! rights.

#[cfg(CONFIG_ZONE_DEVICE)]
pub mod device_memory;
#[cfg(CONFIG_FS_DAX)]
pub mod fault;
#[cfg(CONFIG_SPARSEMEM_VMEMMAP)]
pub mod folio;
#[cfg(CONFIG_ZONE_DEVICE)]
pub mod memremap;
#[cfg(CONFIG_DEVICE_PRIVATE)]
pub mod migrate;
#[cfg(CONFIG_DEVICE_PRIVATE)]
pub(crate) mod mmap_lock;
#[cfg(any(CONFIG_BLOCK, CONFIG_ZONE_DEVICE))]
pub mod node;
#[cfg(CONFIG_SPARSEMEM_VMEMMAP)]
pub mod page;
pub mod pfn;
pub mod pfn_t;
#[cfg(all(CONFIG_MMU, CONFIG_SPARSEMEM_VMEMMAP, not(CONFIG_HIGHMEM)))]
pub mod pin;
pub mod prot;
pub mod segment;
#[cfg(CONFIG_MMU)]
pub mod virt;
