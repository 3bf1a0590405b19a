// SPDX-License-Identifier: GPL-2.0

//! The info block of a namespace with pages, and the rules that it has to keep.
//!
//! libnvdimm checks the block and answers with an errno, or takes the namespace for one without a
//! block. [`InfoBlock::broken_rule`] returns the rule that a block breaks, with its numbers, for a
//! driver that says why. The rules and their order are those of `nd_pfn_validate()` and
//! `__nvdimm_setup_pfn()`.
//!
//! The block comes from the medium: any value of any field is possible.
//!
//! This file encapsulates reading the block by the operation of an enabled namespace, and the layout
//! of `struct nd_pfn_sb`.
//!
//! C header: [`drivers/nvdimm/pfn.h`](srctree/drivers/nvdimm/pfn.h)

use super::namespace::EnabledNamespace;
use crate::{
    bindings,
    error::{code::EIO, Result},
    mm::{memremap::SUBSECTION_SIZE, pfn::PhysRange},
    page::PAGE_SIZE,
    prelude::*,
};
use core::{fmt, ptr::addr_of_mut};

/// The offset of the block from the start of the namespace, in bytes.
const OFFSET: u64 = 4 << 10;

/// The sizes of pages for which device-dax can map memory, in bytes.
const SUPPORTED_ALIGNMENTS: [u64; 3] = [4 << 10, 2 << 20, 1 << 30];

/// The mode in which an info block gives a namespace pages. C: `enum nvdimm_claim_class`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A disk for filesystems with DAX.
    Fsdax,
    /// A character device.
    Devdax,
}

impl Kind {
    /// Returns the kind whose blocks begin with these bytes.
    fn of(signature: &[u8; 16]) -> Option<Self> {
        match signature {
            b"NVDIMM_PFN_INFO\0" => Some(Self::Fsdax),
            b"NVDIMM_DAX_INFO\0" => Some(Self::Devdax),
            _ => None,
        }
    }

    /// Returns the name, as ndctl has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fsdax => "fsdax",
            Self::Devdax => "devdax",
        }
    }
}

/// An info block, as it is on the medium. C: `struct nd_pfn_sb`.
#[doc(alias = "nd_pfn_sb")]
#[derive(Clone, Copy, Debug)]
pub struct InfoBlock {
    /// The kind of device that the block asks for.
    pub kind: Kind,
    /// The offset of the data from the start of the mapped range, in bytes. C: `dataoff`.
    pub data_offset: u64,
    /// Whether the checksum is right.
    is_intact: bool,
    parent: [u8; 16],
    mode: u32,
    start_pad: u32,
    end_trunc: u32,
    align: u32,
    page_size: u32,
    page_struct_size: u16,
}

/// A rule that an info block breaks, with the numbers that break it. All are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokenRule {
    /// The checksum is right.
    Checksum,
    /// The block belongs to this namespace.
    Parent,
    /// The page structures are in ordinary memory (1) or in the namespace (2).
    Mode(u32),
    /// The pages for which there is room are no larger than those of this kernel.
    PageSize(u32),
    /// The room for a page structure is enough for this kernel.
    PageStructSize(u16),
    /// The alignment is a size of page that can be mapped.
    Supported(u64),
    /// The alignment is no larger than the namespace.
    Capacity {
        /// The alignment.
        align: u64,
        /// The size of the namespace.
        size: u64,
    },
    /// The data begin within the namespace.
    Offset {
        /// The offset of the data.
        offset: u64,
        /// The size of what is used of the namespace.
        size: u64,
    },
    /// The address of the data is a multiple of the alignment.
    DataAligned {
        /// The address of the data.
        address: u64,
        /// The alignment.
        align: u64,
    },
    /// What is mapped begins and ends at a multiple of [`SUBSECTION_SIZE`]; this address is none.
    Mapped(u64),
    /// The data begin behind the info blocks.
    Reserve(u64),
}

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Checksum => f.write_str("its checksum is wrong"),
            Self::Parent => f.write_str("it has the UUID of another namespace"),
            Self::Mode(mode) => write!(f, "its mode is {mode}, not 1 (mem) or 2 (dev)"),
            Self::PageSize(bytes) => write!(
                f,
                "it was made for pages of {bytes:#x} bytes, and this kernel has {PAGE_SIZE:#x}"
            ),
            Self::PageStructSize(bytes) => write!(
                f,
                "it has {bytes} bytes for a struct page, and this kernel needs {}",
                size_of::<bindings::page>()
            ),
            Self::Supported(align) => write!(
                f,
                "its alignment {align:#x} is not 0x1000, 0x200000 or 0x40000000"
            ),
            Self::Capacity { align, size } => write!(
                f,
                "its alignment {align:#x} is more than the size of the namespace, {size:#x}"
            ),
            Self::Offset { offset, size } => write!(
                f,
                "its data begin at offset {offset:#x}, behind the end of what is used, {size:#x}"
            ),
            Self::DataAligned { address, align } => write!(
                f,
                "its data begin at {address:#x}, which is not a multiple of {align:#x}"
            ),
            Self::Mapped(address) => write!(
                f,
                "{address:#x}, where what is mapped begins or ends, is not a multiple of \
                 {SUBSECTION_SIZE:#x}"
            ),
            Self::Reserve(offset) => write!(
                f,
                "its data begin at offset {offset:#x}, within the info blocks"
            ),
        }
    }
}

impl InfoBlock {
    /// Copies the fields of a block, or returns `None` if it is none with pages.
    pub(super) fn parse(raw: &bindings::nd_pfn_sb, checksum: u64) -> Option<Self> {
        let minor = u16::from_le(raw.version_minor);
        // A field is of no meaning in a block that is older than it.
        let since = |version, value: u32| {
            if minor < version {
                0
            } else {
                u32::from_le(value)
            }
        };
        Some(Self {
            kind: Kind::of(&raw.signature)?,
            data_offset: u64::from_le(raw.dataoff),
            is_intact: u64::from_le(raw.checksum) == checksum,
            parent: raw.parent_uuid,
            mode: u32::from_le(raw.mode),
            start_pad: since(1, raw.start_pad),
            end_trunc: since(1, raw.end_trunc),
            align: since(2, raw.align),
            page_size: since(4, raw.page_size),
            page_struct_size: if minor < 4 {
                u16::MAX
            } else {
                u16::from_le(raw.page_struct_size)
            },
        })
    }

    /// Returns the alignment of the data, in bytes: that of the block, or for old ones the alignment
    /// of the offset.
    fn align(&self) -> u64 {
        match self.align {
            0 => self.data_offset.checked_ilog2().map_or(0, |log| 1 << log),
            align => align.into(),
        }
    }

    /// Returns the first rule that the block breaks for the namespace with this UUID and this range.
    /// Any context.
    pub fn broken_rule(&self, uuid: Option<[u8; 16]>, range: PhysRange) -> Option<BrokenRule> {
        const MODE_DEV: u32 = bindings::nd_pfn_mode_PFN_MODE_PMEM;
        const MODE_MEM: u32 = bindings::nd_pfn_mode_PFN_MODE_RAM;

        if !self.is_intact {
            return Some(BrokenRule::Checksum);
        }
        if uuid.is_some_and(|uuid| uuid != self.parent) {
            return Some(BrokenRule::Parent);
        }
        match self.mode {
            MODE_MEM => (),
            MODE_DEV if self.page_size as usize > PAGE_SIZE => {
                return Some(BrokenRule::PageSize(self.page_size));
            }
            MODE_DEV if usize::from(self.page_struct_size) < size_of::<bindings::page>() => {
                return Some(BrokenRule::PageStructSize(self.page_struct_size));
            }
            MODE_DEV => (),
            mode => return Some(BrokenRule::Mode(mode)),
        }
        self.broken_layout(range)
    }

    /// Returns the first rule about offsets and alignments that the block breaks.
    fn broken_layout(&self, range: PhysRange) -> Option<BrokenRule> {
        let (align, offset, size) = (self.align(), self.data_offset, range.len());
        let (pad, trunc) = (u64::from(self.start_pad), u64::from(self.end_trunc));

        if self.kind == Kind::Devdax && !SUPPORTED_ALIGNMENTS.contains(&align) {
            return Some(BrokenRule::Supported(align));
        }
        if align > size {
            return Some(BrokenRule::Capacity { align, size });
        }
        if offset >= size {
            return Some(BrokenRule::Offset { offset, size });
        }
        // OVERFLOW: Three offsets below 2^32 or within the range, from an address of at most 52 bits.
        let start = range.start().wrapping_add(pad);
        let address = start.wrapping_add(offset);
        let is_multiple = |value: u64, of: u64| of == 0 || value % of == 0;
        if !is_multiple(address, align) {
            return Some(BrokenRule::DataAligned { address, align });
        }
        if !is_multiple(offset, PAGE_SIZE as u64) {
            let align = PAGE_SIZE as u64;
            return Some(BrokenRule::DataAligned { address, align });
        }
        let end = range.end().wrapping_add(1).wrapping_sub(trunc);
        if let Some(bad) = [start, end]
            .into_iter()
            .find(|address| address % SUBSECTION_SIZE != 0)
        {
            return Some(BrokenRule::Mapped(bad));
        }
        let size = size.saturating_sub(pad).saturating_sub(trunc);
        if offset >= size {
            return Some(BrokenRule::Offset { offset, size });
        }
        if offset < super::namespace::INFO_BLOCK_RESERVE {
            return Some(BrokenRule::Reserve(offset));
        }
        None
    }
}

impl EnabledNamespace<'_> {
    /// Reads the info block of a namespace with pages; `None` if there is none. May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if the memory there is bad; `ENOMEM`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::nvdimm::{EnabledNamespace, Kind};
    ///
    /// /// Returns whether the namespace has been given to device-dax.
    /// fn is_devdax(namespace: &EnabledNamespace<'_>) -> Result<bool> {
    ///     Ok(namespace.info_block()?.is_some_and(|block| block.kind == Kind::Devdax))
    /// }
    /// ```
    #[inline]
    pub fn info_block(&self) -> Result<Option<InfoBlock>> {
        let mut block = KBox::<bindings::nd_pfn_sb>::new_uninit(GFP_KERNEL)?;
        let namespace = self.namespace().as_raw();
        // SAFETY: By the type invariants the namespace is enabled, so its operation is set and may
        // read the 8 KiB of its info blocks. The buffer has the size of the second.
        let status = unsafe {
            match addr_of_mut!((*namespace).rw_bytes).read() {
                Some(read) => read(
                    namespace,
                    OFFSET,
                    block.as_mut_ptr().cast(),
                    size_of::<bindings::nd_pfn_sb>(),
                    bindings::READ as _,
                    0,
                ),
                None => EIO.to_errno(),
            }
        };
        if status != 0 {
            return Err(EIO);
        }
        // SAFETY: The block was read completely, and all its fields are integers.
        let mut block = unsafe { block.assume_init() };
        // SAFETY: A generic block has the same size, with the checksum at its end. The function
        // restores what it changes.
        let checksum = unsafe { bindings::nd_sb_checksum(core::ptr::from_mut(&mut *block).cast()) };
        Ok(InfoBlock::parse(&block, checksum))
    }
}
