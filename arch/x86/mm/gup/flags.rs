// SPDX-License-Identifier: GPL-2.0
// Derived from `mm/gup.c`.

//! What a caller of GUP asks for: `gup_flags`.

use kernel::bindings;

/// How references are counted, and for how long they are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PinKind {
    /// To use the `struct page`. C: `FOLL_GET`.
    Get,
    /// To use what is in the page. C: `FOLL_PIN`.
    Pin,
    /// To use what is in the page for as long as user space likes. This forbids memory that the
    /// kernel must be able to move, and files that must know when a page is written. C:
    /// `FOLL_PIN | FOLL_LONGTERM`.
    LongTerm,
}

impl PinKind {
    /// Returns whether pins are counted, not plain references.
    #[inline]
    pub(crate) const fn is_pin(self) -> bool {
        !matches!(self, Self::Get)
    }
}

/// The flags of a call of GUP. C: `gup_flags`.
///
/// # Invariants
///
/// Exactly one of `FOLL_GET` and `FOLL_PIN` is set, and `FOLL_LONGTERM` only with the latter.
#[doc(alias = "gup_flags")]
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct GupFlags(u32);

impl GupFlags {
    /// Creates the flags from C's, if they ask for references in one of the three ways of
    /// [`PinKind`].
    #[inline]
    pub(crate) const fn new(flags: u32) -> Option<Self> {
        const KIND: u32 = bindings::FOLL_GET | bindings::FOLL_PIN;
        let kind = flags & KIND;
        let valid = match flags & bindings::FOLL_LONGTERM {
            0 => kind == bindings::FOLL_GET || kind == bindings::FOLL_PIN,
            _ => kind == bindings::FOLL_PIN,
        };
        match valid {
            // INVARIANT: Checked above.
            true => Some(Self(flags)),
            false => None,
        }
    }

    /// Returns how references are counted, and for how long they are held.
    #[inline]
    pub(crate) const fn kind(self) -> PinKind {
        match (
            self.0 & bindings::FOLL_PIN,
            self.0 & bindings::FOLL_LONGTERM,
        ) {
            (0, _) => PinKind::Get,
            (_, 0) => PinKind::Pin,
            _ => PinKind::LongTerm,
        }
    }

    /// Returns whether the pages are held for long. C: `FOLL_LONGTERM`.
    #[inline]
    pub(crate) const fn is_longterm(self) -> bool {
        self.0 & bindings::FOLL_LONGTERM != 0
    }

    /// Returns whether the pages will be written. C: `FOLL_WRITE`.
    #[inline]
    pub(crate) const fn is_write(self) -> bool {
        self.0 & bindings::FOLL_WRITE != 0
    }

    /// Returns whether the caller can use memory of PCI devices. C: `FOLL_PCI_P2PDMA`.
    #[inline]
    pub(crate) const fn allows_p2pdma(self) -> bool {
        self.0 & bindings::FOLL_PCI_P2PDMA != 0
    }
}

/// Returns what one reference, or one pin if `PIN`, adds to the count of a folio of one page.
#[inline(always)]
pub(crate) const fn refs_of_small_folio<const PIN: bool>() -> i32 {
    match PIN {
        true => bindings::GUP_PIN_COUNTING_BIAS as i32,
        false => 1,
    }
}
