// SPDX-License-Identifier: GPL-2.0-only

//! Memory for an entry.

use kernel::{
    dax::{
        counts::Reason,
        entry::Size,
        fit::{Fit, Unfit},
        reader::Reader,
        AccessMode,
    },
    error::{code::EINVAL, Error},
    iomap::Map,
};

/// Why there is no memory for an entry.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    /// It does not do.
    Unfit(Unfit),
    /// There is no access.
    Error(Error),
}

impl Refused {
    /// What a small fault, which cannot do without, makes of it.
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Unfit(_) => EINVAL,
        }
    }

    /// Why a huge fault falls back.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Unfit(Unfit::Short) => Reason::Short,
            Self::Unfit(Unfit::Misaligned) => Reason::Device,
            Self::Unfit(Unfit::NoMemmap) => Reason::NoMemmap,
            Self::Error(_) => Reason::Other,
        }
    }
}

/// The memory for the entry of this size that begins at `position` of the file.
#[inline]
pub(crate) fn for_entry<'r>(
    reader: &'r Reader,
    map: Map<'_>,
    position: i64,
    size: Size,
) -> Result<Fit<'r>, Refused> {
    let direct = reader
        .access(map, position, size.bytes(), AccessMode::Normal)
        .map_err(Refused::Error)?;
    Fit::new(direct, size).map_err(Refused::Unfit)
}
