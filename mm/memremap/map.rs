// SPDX-License-Identifier: GPL-2.0

//! Mapping a pgmap: what is checked, and the steps for each range.
//!
//! A range goes through four steps: an entry in the registry, the cache mode on record, the memory
//! added, its memmap initialised. Each step returns a value that undoes it when dropped, so an
//! error at any step, here with `?`, undoes exactly those before it, newest first. The same values
//! undo the range at teardown.

use crate::{
    hotplug::{
        is_range_allowed, linear_mapping_prot, ram_overlap, Memory, RamOverlap, TrackedPfns,
    },
    range::{MappedRange, RangeOf},
    registry::{Entry, InsertError},
    state::{Live, Mapping, Unmapped},
};
use kernel::{
    device::Device,
    error::code::{EBUSY, EINVAL, ENOMEM, ENXIO},
    ffi::c_void,
    mm::{
        memremap::{DevPagemap, MemoryType},
        node::Node,
    },
    prelude::*,
};

/// Maps all ranges, or none. Sleeps.
///
/// # Errors
///
/// `EINVAL` for a pgmap that makes no sense (with a warning that says why), `ENOMEM` for no
/// memory and for an overlap, `EBUSY` for an overlap with one that is being unmapped, `ENXIO` for
/// System RAM, and what the architecture answers.
pub(crate) fn map(unmapped: Unmapped, node: Node) -> Result<Live> {
    check(&unmapped)?;
    let mapping = unmapped.start()?;
    match map_ranges(&mapping, node) {
        Ok(()) => Ok(mapping.finish()),
        Err(error) => {
            let _ = mapping.abort().drain().wait_idle().unmap();
            Err(error)
        }
    }
}

/// Maps all ranges, near a device, until its driver is unbound, and returns where. Sleeps.
///
/// # Errors
///
/// As [`map`].
pub(crate) fn map_for(dev: &Device, unmapped: Unmapped) -> Result<*mut c_void> {
    let live = map(unmapped, Node::of(dev))?;
    let address = live.address();
    live.bind_to(dev)?;
    Ok(address)
}

fn map_ranges(mapping: &Mapping, node: Node) -> Result {
    while let Some(range) = mapping.next_range() {
        let mapped = map_range(range?, node)?;
        // SAFETY: It is the next range, for none was committed since.
        unsafe { mapping.commit(mapped) };
    }
    Ok(())
}

fn map_range(of: RangeOf<'_>, node: Node) -> Result<MappedRange<'_>> {
    let (pgmap, range) = (of.pgmap(), of.range());
    let is_private = pgmap.memory_type() == Some(MemoryType::Private);

    if pgmap.altmap().is_some() && of.index() > 0 {
        kernel::warn_once!("altmap not supported for multiple ranges");
        return Err(EINVAL);
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
            return Err(ENXIO);
        }
    }
    // SAFETY: It becomes part of what is returned, which is committed, or is dropped on the way.
    let entry = unsafe { Entry::insert(of) }.map_err(|error| match error {
        InsertError::Conflict => {
            kernel::warn!("Conflicting mapping in same section");
            // Not EEXIST or EBUSY: the errno is C's.
            ENOMEM
        }
        // Nobody has made a mistake.
        InsertError::Dying => EBUSY,
        InsertError::Store(error) => error,
    })?;
    let mut prot = linear_mapping_prot(pgmap.memory_type());
    // SAFETY: Who asks for a pgmap of the range has it.
    let tracking = unsafe { TrackedPfns::track(range, &mut prot) }?;
    if !is_range_allowed(range, !is_private) {
        return Err(EINVAL);
    }
    let memory = Memory::add(&entry, node.or_nearest(), prot)?;
    // SAFETY: The memory is that of the entry, which is of the range that is tracked.
    Ok(unsafe { MappedRange::new(entry, tracking, memory) })
}

/// What a driver must have set up, by type.
fn check(unmapped: &Unmapped) -> Result {
    let pgmap = unmapped.pgmap();
    if unmapped.nr_ranges() == 0 {
        kernel::warn_once!("nr_range must be specified");
        return Err(EINVAL);
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
            // C goes on here, and so do its callers' pages: as ordinary ones.
            kernel::warn!("Invalid pgmap type {}", pgmap.raw_memory_type());
            Ok(())
        }
    }
}

/// What the owner of pages that are allocated one by one must have set up.
fn check_allocated(pgmap: &DevPagemap) -> Result {
    if !pgmap.operations().frees_pages {
        return refuse("Missing page_free method");
    }
    if pgmap.owner().is_null() {
        return refuse("Missing owner");
    }
    Ok(())
}

fn refuse(why: &str) -> Result {
    kernel::warn!("{}", why);
    Err(EINVAL)
}
