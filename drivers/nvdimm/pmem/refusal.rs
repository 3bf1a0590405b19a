// SPDX-License-Identifier: GPL-2.0-only
// Derived from `drivers/nvdimm/pmem.c`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! The reasons why a device gets no disk, or a disk without DAX.
//!
//! `ndctl` shows an errno, such as "No such device or address", for any of them. So each attempt that
//! fails is one line of the log at info level, with the rule and the number that breaks it. A disk that
//! filesystems cannot use with DAX says so when it is attached.

use core::fmt;
use kernel::{
    dev_info,
    device::Device,
    error::Error,
    mm::{memremap::SUBSECTION_SIZE, pfn::PhysRange},
    nvdimm::{BrokenRule, Context, InfoBlock, Kind, Namespace, PfnSettings},
    page::PAGE_SHIFT,
    prelude::*,
};

/// The bytes for the info blocks at the start of a namespace, as a new block is laid out.
const INFO_BLOCKS: u64 = 8 << 10;
/// The bytes that a new block leaves for each page structure.
const PAGE_STRUCT: u64 = 64;

/// The rule that a namespace breaks, with the numbers that break it.
enum Rule {
    /// The info block keeps its rules; `None` for one that is not known here.
    Block(Kind, Option<BrokenRule>),
    /// The info block has the alignment and the mode of the device.
    Settings(PfnSettings),
    /// The memory of the info block is good.
    Readable,
    /// The device is configured: it has a UUID.
    Uuid,
    /// The device is configured: it has a mode.
    Mode,
    /// A new info block can be written.
    Writable,
    /// The namespace begins at a multiple of [`SUBSECTION_SIZE`].
    Start(u64),
    /// There is room for data behind the page structures.
    Room {
        /// The offset of the data, in bytes.
        data: u64,
        /// The size of the namespace, in bytes.
        size: u64,
        /// The alignment, in bytes.
        align: u64,
    },
    /// A step succeeds.
    Step(&'static str),
    /// The kernel has logged it.
    Logged,
}

/// A device that gets no disk.
pub(crate) struct Refusal {
    rule: Rule,
    error: Error,
}

impl Refusal {
    /// Returns the refusal that the errno alone explains, or that is none: another device takes the
    /// namespace, or there is none yet.
    pub(crate) fn logged(error: Error) -> Self {
        Self {
            rule: Rule::Logged,
            error,
        }
    }

    /// Returns the refusal because of a namespace that libnvdimm does not give to the driver.
    pub(crate) fn of_namespace(error: Error) -> Self {
        match error {
            EACCES => Self::of_step("its DIMM is locked", error),
            EBUSY => Self::of_step("the namespace is in use by another driver", error),
            // A device without a namespace, or the namespace of such a device.
            _ => Self::logged(error),
        }
    }

    /// Returns the refusal because of a step that has failed.
    pub(crate) fn of_step(step: &'static str, error: Error) -> Self {
        Self {
            rule: Rule::Step(step),
            error,
        }
    }

    /// Returns the refusal because of an info block that libnvdimm found and does not accept.
    pub(crate) fn of_block(namespace: &Namespace<'_>, block: &InfoBlock, error: Error) -> Self {
        let broken = namespace
            .range()
            .ok()
            .and_then(|range| block.broken_rule(namespace.uuid(), range));
        Self {
            rule: Rule::Block(block.kind, broken),
            error,
        }
    }

    /// Returns the refusal because of pages that could not be mapped.
    pub(crate) fn of_mapping(range: PhysRange, data_offset: u64, error: Error) -> Self {
        if data_offset >= range.len() {
            Self::of_step("its data begin behind its end", error)
        } else if cfg!(CONFIG_RUST_DEV_PAGEMAP) {
            Self::logged(error)
        } else {
            Self::of_step("its pages could not be mapped", error)
        }
    }

    /// Returns the refusal because of a device that cannot be set up as it is configured, or as its
    /// info block says.
    pub(crate) fn of_set_up(
        context: &Context<'_>,
        namespace: &Namespace<'_>,
        settings: PfnSettings,
        block: Result<Option<InfoBlock>>,
        error: Error,
    ) -> Self {
        let rule = match (block, namespace.range()) {
            _ if !settings.has_uuid => Rule::Uuid,
            (_, Err(_)) => Rule::Step("its range is not valid"),
            (Err(_), _) => Rule::Readable,
            (Ok(block), Ok(range)) => {
                let ours = block.filter(|block| block.kind == Kind::Fsdax);
                match ours.map(|block| block.broken_rule(namespace.uuid(), range)) {
                    // What is there counts as no block, so a new one is written.
                    None | Some(Some(BrokenRule::Checksum | BrokenRule::Parent)) => {
                        Rule::of_new_block(context, settings, range)
                    }
                    Some(None) => Rule::Settings(settings),
                    Some(broken) => Rule::Block(Kind::Fsdax, broken),
                }
            }
        };
        Self { rule, error }
    }

    /// Logs the refusal, and returns the errno for the bus.
    pub(crate) fn log(self, device: &Device) -> Error {
        if !matches!(self.rule, Rule::Logged) {
            dev_info!(
                device,
                "refused: {}, errno {}\n",
                self.rule,
                self.error.to_errno()
            );
        }
        self.error
    }
}

impl Rule {
    /// Returns the rule that prevents a new info block.
    fn of_new_block(context: &Context<'_>, settings: PfnSettings, range: PhysRange) -> Self {
        let (start, size) = (range.start(), range.len());
        if context.region().is_read_only() {
            return Rule::Writable;
        }
        if start % SUBSECTION_SIZE != 0 {
            return Rule::Start(start);
        }
        let structs = match settings.mode {
            0 => return Rule::Mode,
            1 => 0,
            _ => (size.saturating_sub(INFO_BLOCKS) >> PAGE_SHIFT).saturating_mul(PAGE_STRUCT),
        };
        let align = settings.align.max(SUBSECTION_SIZE);
        let data = start
            .saturating_add(INFO_BLOCKS)
            .saturating_add(structs)
            .checked_next_multiple_of(align)
            .map(|first| first.saturating_sub(start));
        let end = range.end().wrapping_add(1);
        match (data, end.checked_rem(align)) {
            (Some(data), Some(rest)) if data >= size.saturating_sub(rest) => {
                Rule::Room { data, size, align }
            }
            _ => Rule::Step("no info block could be written"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Block(kind, Some(broken)) => {
                write!(f, "the {} info block: {broken}", kind.name())
            }
            Rule::Block(kind, None) => {
                write!(f, "the {} info block cannot be used", kind.name())
            }
            Rule::Settings(settings) => write!(
                f,
                "the info block has not the UUID, alignment {:#x} and mode {} of this device",
                settings.align, settings.mode
            ),
            Rule::Readable => f.write_str("the memory of the info block is bad"),
            Rule::Uuid => f.write_str("it is not configured: no uuid"),
            Rule::Mode => f.write_str("it is not configured: mode is none"),
            Rule::Writable => f.write_str("the region is read-only, so no info block can be written"),
            Rule::Start(start) => write!(
                f,
                "the namespace begins at {start:#x}, which is not a multiple of {SUBSECTION_SIZE:#x}"
            ),
            Rule::Room { data, size, align } => write!(
                f,
                "data would begin at offset {data:#x}, with alignment {align:#x}, and the namespace \
                 has {size:#x} bytes"
            ),
            Rule::Step(step) => f.write_str(step),
            Rule::Logged => Ok(()),
        }
    }
}

/// Adds the step to its error.
pub(crate) trait OrRefuse<T> {
    /// Returns the refusal because this step has failed.
    fn or_refuse(self, failure: &'static str) -> Result<T, Refusal>;
}

impl<T, E: Into<Error>> OrRefuse<T> for Result<T, E> {
    fn or_refuse(self, failure: &'static str) -> Result<T, Refusal> {
        self.map_err(|error| Refusal::of_step(failure, error.into()))
    }
}

/// Logs that the disk of a namespace without pages cannot be used for DAX, and why it has none.
///
/// `block` is the info block that is there and that libnvdimm did not take.
pub(crate) fn log_without_pages(
    device: &Device,
    namespace: &Namespace<'_>,
    block: Result<Option<InfoBlock>>,
) {
    match block {
        _ if namespace.is_forced_raw() => dev_info!(device, "raw, as force_raw asks: no DAX\n"),
        Ok(Some(block)) => dev_info!(
            device,
            "raw, and its data are not where they were: {}\n",
            Refusal::of_block(namespace, &block, ENXIO).rule
        ),
        Ok(None) => dev_info!(
            device,
            "raw: no DAX; ndctl create-namespace -f -m fsdax -e changes that, and erases it\n"
        ),
        Err(_) => dev_info!(device, "raw: {}\n", Rule::Readable),
    }
}
