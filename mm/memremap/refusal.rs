// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2015 Intel Corporation. All rights reserved.
// Derived from `mm/memremap.c`.

//! The reasons why a pgmap is not mapped.
//!
//! A driver gets an errno, and the errnos of mapping are few: `EINVAL` alone has eight causes. So each
//! refusal is also one line of the log at info level, with the device, the rule, and the number that
//! breaks it. Mistakes of a driver come with a warning as well, as in C.
//!
//! The `unsafe` code in this file encapsulates the question which addresses can be mapped.

use crate::{hotplug::RamOverlap, registry::InsertError};
use core::fmt;
use kernel::{
    bindings, dev_info,
    device::Device,
    error::{
        code::{EBUSY, EINVAL, ENOMEM, ENXIO},
        Error,
    },
    mm::{memremap::SUBSECTION_SIZE, pfn::PhysRange},
    prelude::*,
};

/// The rule that a pgmap breaks, with the numbers that break it.
pub(crate) enum Rule {
    /// The pgmap has at least one range.
    HasRanges,
    /// The driver has set up what the type of the pgmap needs; this is missing.
    Setup(&'static str),
    /// The count of references can be allocated.
    Counts,
    /// A range does not end before it starts, and its pages can be counted.
    HasPages,
    /// An altmap has the memmap of one range; this is a further one.
    OneAltmap(PhysRange),
    /// A range is no System RAM.
    NotRam(PhysRange, RamOverlap),
    /// No other pgmap has a part of a range.
    NotTaken(PhysRange, InsertError),
    /// The cache mode agrees with that of other mappings of a range.
    CacheMode(PhysRange),
    /// The architecture can address a range and, if `linear`, map it linearly.
    Addressable {
        /// The range.
        range: PhysRange,
        /// Whether the range gets a linear mapping.
        linear: bool,
    },
    /// The memory of a range can be added.
    Memory(PhysRange),
}

/// A pgmap that is not mapped: the rule that it breaks, and the errno for the driver.
pub(crate) struct Refusal {
    rule: Rule,
    error: Error,
}

impl Refusal {
    /// Returns the refusal because of a rule, with the errno that C returns for it.
    pub(crate) fn new(rule: Rule) -> Self {
        let error = match &rule {
            Rule::HasRanges
            | Rule::Setup(_)
            | Rule::HasPages
            | Rule::OneAltmap(_)
            | Rule::CacheMode(_)
            | Rule::Addressable { .. }
            | Rule::Memory(_) => EINVAL,
            Rule::NotRam(..) => ENXIO,
            Rule::Counts => ENOMEM,
            // C returns this errno, not EEXIST or EBUSY.
            Rule::NotTaken(_, InsertError::Conflict(_)) => ENOMEM,
            Rule::NotTaken(_, InsertError::Dying(_)) => EBUSY,
            Rule::NotTaken(_, InsertError::Store(error)) => *error,
        };
        Self { rule, error }
    }

    /// Returns the refusal because of a step that has failed with this errno.
    pub(crate) fn failed(rule: Rule, error: Error) -> Self {
        Self { rule, error }
    }

    /// Returns the errno for the driver.
    pub(crate) fn error(&self) -> Error {
        self.error
    }

    /// Logs the refusal, with the device if there is one.
    pub(crate) fn log(&self, device: Option<&Device>) {
        match device {
            Some(device) => dev_info!(device, "memremap: refused: {self}\n"),
            None => pr_info!("refused: {self}\n"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::HasRanges => f.write_str("the pgmap has 0 ranges"),
            Rule::Setup(missing) => f.write_str(missing),
            Rule::Counts => f.write_str("no memory for the count of references"),
            Rule::HasPages => f.write_str("a range ends before it starts, or has too many pages"),
            Rule::OneAltmap(range) => {
                write!(f, "[mem {range:?}] is a further range of a pgmap with an altmap")
            }
            Rule::NotRam(range, overlap) => {
                let part = match overlap {
                    RamOverlap::Mixed => "partly ",
                    RamOverlap::Ram | RamOverlap::Disjoint => "",
                };
                write!(f, "[mem {range:?}] is {part}System RAM (/proc/iomem)")
            }
            Rule::NotTaken(range, InsertError::Conflict(at)) => write!(
                f,
                "[mem {range:?}] overlaps a range that is mapped, at pfn {:#x}",
                at.nr()
            ),
            Rule::NotTaken(range, InsertError::Dying(at)) => write!(
                f,
                "[mem {range:?}] overlaps a range that is being unmapped, at pfn {:#x}: pages of an \
                 earlier use are still in use",
                at.nr()
            ),
            Rule::NotTaken(range, InsertError::Store(_)) => {
                write!(f, "[mem {range:?}]: no memory for its entry in the registry")
            }
            Rule::CacheMode(range) => write!(
                f,
                "[mem {range:?}] is mapped with another cache mode (x86/pat_memtype_list in debugfs)"
            ),
            Rule::Addressable { range, linear } => {
                // SAFETY: The function only computes with constants of the architecture.
                let limit = unsafe { bindings::mhp_get_pluggable_range(*linear) };
                write!(
                    f,
                    "[mem {range:?}] is not within {:#x}-{:#x}, which this kernel can map",
                    limit.start, limit.end
                )
            }
            Rule::Memory(range) => {
                let misaligned = [("start", range.start()), ("length", range.len())]
                    .into_iter()
                    .find(|(_, bytes)| bytes % SUBSECTION_SIZE != 0);
                match misaligned {
                    Some((which, bytes)) => write!(
                        f,
                        "[mem {range:?}]: {which} {bytes:#x} is not a multiple of {SUBSECTION_SIZE:#x}"
                    ),
                    None => write!(f, "[mem {range:?}]: its struct pages cannot be added"),
                }
            }
        }?;
        write!(f, ", errno {}", self.error.to_errno())
    }
}
