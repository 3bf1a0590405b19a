// SPDX-License-Identifier: GPL-2.0

//! Memory that does for an entry, or why it does not.

use super::{entry::Size, reader::Direct};
use crate::mm::pfn_t::PfnT;

/// Why memory does not do for an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// There is less of it in one piece.
    Short,
    /// It is not aligned as the entry is.
    Misaligned,
    /// It has no pages, which entries count files and references in.
    NoMemmap,
}

/// Access to memory that does for an entry: what an entry is made of, and what is mapped to
/// programs.
///
/// # Invariants
///
/// `direct` has as many frames as an entry of `size`, the first of which is a multiple of that. They
/// have pages.
#[derive(Clone, Copy)]
pub struct Fit<'r> {
    direct: Direct<'r>,
    size: Size,
}

impl<'r> Fit<'r> {
    /// The first of this memory, if it does for an entry of `size`.
    ///
    /// # Errors
    ///
    /// Why it does not.
    #[inline(always)]
    pub fn new(direct: Direct<'r>, size: Size) -> Result<Self, Unfit> {
        if direct.pages() < size.pages() {
            return Err(Unfit::Short);
        }
        if direct.pfn().pfn().nr() & size.colour() != 0 {
            return Err(Unfit::Misaligned);
        }
        if !direct.pfn().is_devmap() {
            return Err(Unfit::NoMemmap);
        }
        // INVARIANT: Just looked at.
        Ok(Self { direct, size })
    }

    /// The access.
    #[inline(always)]
    pub fn direct(&self) -> Direct<'r> {
        self.direct
    }

    /// Of the entry.
    #[inline(always)]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The first frame.
    #[inline(always)]
    pub fn pfn(&self) -> PfnT {
        self.direct.pfn()
    }
}
