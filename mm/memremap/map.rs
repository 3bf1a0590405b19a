// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! Mapping a pgmap: the checks, and the steps for each range.
//!
//! A range goes through three steps: its entry is inserted into the registry, its cache mode is
//! recorded, and its memory is added with an initialised memmap. Each step returns a value that
//! undoes the step when dropped, so an error at any step, here with `?`, undoes exactly the steps
//! before it, newest first. Teardown undoes a range in the same order ([`range::unmap`]).
//!
//! The `unsafe` code in this file encapsulates the order of the steps.
//!
//! [`range::unmap`]: crate::range::unmap

use crate::{
    hotplug::{is_range_allowed, ram_overlap, Memory, RamOverlap, TrackedPfns},
    range::{MappedRange, RangeOf},
    refusal::{Refusal, Rule},
    registry::{Entry, InsertError},
    state::{Live, Mapping, Unmapped},
};
use kernel::{
    device::Device,
    ffi::c_void,
    mm::{
        memremap::{DevPagemap, MemoryType},
        node::Node,
    },
    prelude::*,
};

/// Maps all ranges of a pgmap, or none. C: `memremap_pages()`. Sleeps.
///
/// # Errors
///
/// Each is logged ([`crate::refusal`]):
/// `EINVAL` for a pgmap that is not set up as its type needs (with a warning that says why),
/// `ENOMEM` if there is no memory and for an overlap, `EBUSY` for an overlap with a pgmap that is
/// being torn down, `ENXIO` for System RAM, and the errors of the architecture.
#[doc(alias = "memremap_pages")]
pub(crate) fn map(unmapped: Unmapped, node: Option<Node>) -> Result<Live> {
    map_logged(unmapped, node, None)
}

/// Maps all ranges of a pgmap, or none, and logs a refusal, with the device if there is one.
fn map_logged(unmapped: Unmapped, node: Option<Node>, device: Option<&Device>) -> Result<Live> {
    try_map(unmapped, node).map_err(|refusal| {
        refusal.log(device);
        refusal.error()
    })
}

/// Maps all ranges of a pgmap, or none.
fn try_map(unmapped: Unmapped, node: Option<Node>) -> Result<Live, Refusal> {
    check(&unmapped)?;
    let mapping = unmapped
        .start()
        .map_err(|error| Refusal::failed(Rule::Counts, error))?;
    match map_ranges(&mapping, node.unwrap_or_else(Node::nearest)) {
        Ok(()) => Ok(mapping.finish()),
        Err(refusal) => {
            let _ = mapping.abort().drain().wait_idle().unmap();
            Err(refusal)
        }
    }
}

/// Maps all ranges of a pgmap, on the node of a device, until its driver is unbound, and returns
/// the address of the first range. C: `devm_memremap_pages()`. Sleeps.
///
/// # Errors
///
/// Those of [`map`].
#[doc(alias = "devm_memremap_pages")]
pub(crate) fn map_for(dev: &Device, unmapped: Unmapped) -> Result<*mut c_void> {
    let live = map_logged(unmapped, Node::of(dev), Some(dev))?;
    let address = live.address();
    live.bind_to(dev)?;
    Ok(address)
}

/// Maps the ranges one by one. On an error the ranges before stay mapped.
fn map_ranges(mapping: &Mapping, node: Node) -> Result<(), Refusal> {
    while let Some(range) = mapping.next_range() {
        let range = range.map_err(|error| Refusal::failed(Rule::HasPages, error))?;
        let mapped = map_range(range, node)?;
        // SAFETY: `next_range` returned this range, and no other was committed since.
        unsafe { mapping.commit(mapped) };
    }
    Ok(())
}

/// Maps one range. C: `pagemap_range()`. Sleeps.
#[doc(alias = "pagemap_range")]
fn map_range(of: RangeOf<'_>, node: Node) -> Result<MappedRange<'_>, Refusal> {
    let (pgmap, range) = (of.pgmap(), of.range());
    let linear = pgmap.memory_type() != Some(MemoryType::Private);

    if pgmap.altmap().is_some() && of.index() > 0 {
        kernel::warn_once!("altmap not supported for multiple ranges");
        return Err(Refusal::new(Rule::OneAltmap(range)));
    }
    match ram_overlap(range) {
        RamOverlap::Disjoint => {}
        overlap => {
            let which = if overlap == RamOverlap::Mixed {
                "mixed"
            } else {
                "ram"
            };
            kernel::warn_once!("attempted on {} region {:?}", which, range);
            return Err(Refusal::new(Rule::NotRam(range, overlap)));
        }
    }
    // SAFETY: The pgmap stays valid as long as it is borrowed. The entry becomes part of the value
    // that is returned and committed, which teardown erases before the count is freed, or it is
    // dropped on an error.
    let entry = unsafe { Entry::insert(of) }.map_err(|error| {
        // The others are no mistake of a driver, so they come without a warning.
        if matches!(error, InsertError::Conflict(_)) {
            kernel::warn!("Conflicting mapping in same section");
        }
        Refusal::new(Rule::NotTaken(range, error))
    })?;
    // SAFETY: The driver that passed the pgmap owns the range, so it may be mapped for it.
    let tracking = unsafe { TrackedPfns::track(&entry) }
        .map_err(|error| Refusal::failed(Rule::CacheMode(range), error))?;
    if !is_range_allowed(range, linear) {
        return Err(Refusal::new(Rule::Addressable { range, linear }));
    }
    let memory = Memory::add(&entry, &tracking, node)
        .map_err(|error| Refusal::failed(Rule::Memory(range), error))?;
    // SAFETY: Entry, record and memory were created for the same range.
    Ok(unsafe { MappedRange::new(entry, tracking, memory) })
}

/// Checks that the driver has set up what the type of the pgmap needs.
///
/// # Errors
///
/// A refusal with `EINVAL`, and a warning.
fn check(unmapped: &Unmapped) -> Result<(), Refusal> {
    let pgmap = unmapped.pgmap();
    if unmapped.nr_ranges() == 0 {
        kernel::warn_once!("nr_range must be specified");
        return Err(Refusal::new(Rule::HasRanges));
    }
    match pgmap.memory_type() {
        Some(MemoryType::Private) => {
            if !cfg!(CONFIG_DEVICE_PRIVATE) {
                return refuse("Device private memory not supported");
            }
            if !pgmap.operations().migrates_to_ram {
                return refuse("Missing migrate_to_ram method");
            }
            check_allocated(pgmap)
        }
        Some(MemoryType::Coherent) => check_allocated(pgmap),
        Some(MemoryType::FsDax) if cfg!(CONFIG_FS_DAX_LIMITED) => {
            refuse("File system DAX not supported")
        }
        Some(MemoryType::FsDax | MemoryType::Generic | MemoryType::PciP2pdma) => Ok(()),
        None => {
            // C goes on here, and treats the pages as ordinary ones.
            kernel::warn!("Invalid pgmap type {}", pgmap.raw_memory_type());
            Ok(())
        }
    }
}

/// Checks the part of the setup that all owners of allocated pages need.
fn check_allocated(pgmap: &DevPagemap) -> Result<(), Refusal> {
    if !pgmap.operations().frees_pages {
        return refuse("Missing page_free method");
    }
    if pgmap.owner().is_null() {
        return refuse("Missing owner");
    }
    Ok(())
}

/// Warns and refuses.
fn refuse(missing: &'static str) -> Result<(), Refusal> {
    kernel::warn!("{}", missing);
    Err(Refusal::new(Rule::Setup(missing)))
}
