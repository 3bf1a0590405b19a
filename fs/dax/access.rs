// SPDX-License-Identifier: GPL-2.0-only

//! Memory for an entry.

use kernel::{
    dax::{
        counts::Reason,
        entry::Size,
        reader::{Direct, Reader},
        Mode,
    },
    error::{code::EINVAL, Error},
    iomap::Map,
};

/// Why memory does not do for an entry.
#[derive(Clone, Copy)]
pub(crate) enum Unfit {
    /// There is less of it in one piece.
    Short,
    /// It is not aligned as the entry is.
    Misaligned,
    /// It has no pages, without which only small entries can be mapped.
    NoMemmap,
    /// There is no access.
    Error(Error),
}

impl Unfit {
    /// What a small fault, which cannot do without, makes of it.
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Error(error) => error,
            _ => EINVAL,
        }
    }

    /// Why a huge fault falls back.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Short => Reason::Short,
            Self::Misaligned => Reason::Device,
            Self::NoMemmap => Reason::NoMemmap,
            Self::Error(_) => Reason::Other,
        }
    }
}

/// Access to the memory for the entry of this size that begins at `position` of the file.
#[inline]
pub(crate) fn for_entry<'r>(
    reader: &'r Reader,
    map: Map<'_>,
    position: i64,
    size: Size,
) -> Result<Direct<'r>, Unfit> {
    let direct = reader
        .access(map, position, size.bytes(), Mode::Normal)
        .map_err(Unfit::Error)?;
    if direct.pages() < size.pages() {
        return Err(Unfit::Short);
    }
    if direct.pfn().pfn().nr() & size.colour() != 0 {
        return Err(Unfit::Misaligned);
    }
    if direct.pages() > 1 && !direct.pfn().is_devmap() {
        return Err(Unfit::NoMemmap);
    }
    Ok(direct)
}
