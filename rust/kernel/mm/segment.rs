// SPDX-License-Identifier: GPL-2.0

//! Segments of memory, with bytes that are copied and never borrowed.
//!
//! A bio describes its data by segments: contiguous memory in the kernel's linear mapping that
//! other tasks may access at the same time (with direct I/O, user space has the same pages mapped).
//! A Rust reference to such bytes would be undefined behaviour, so a [`Segment`] has only a length
//! and an address. [`DeviceMemory`](super::device_memory::DeviceMemory) copies from and to it.
//!
//! This file encapsulates the promise that a segment stays mapped: its constructor is `unsafe`.

use crate::{bindings, page::PAGE_SIZE};
use core::marker::PhantomData;

/// Contiguous memory that can be read ([`Source`]) or written ([`Target`]) during `'a`.
///
/// # Invariants
///
/// `len` bytes from `start` on are in the linear mapping during `'a`. They may be read if `WRITE`
/// is true (they are the data of a write), and written if it is false.
#[derive(Clone, Copy)]
pub struct Segment<'a, const WRITE: bool> {
    start: *mut u8,
    len: usize,
    _memory: PhantomData<&'a ()>,
}

/// The data of a write. The submitter may have granted read access only.
pub type Source<'a> = Segment<'a, true>;

/// The buffer that a read fills.
pub type Target<'a> = Segment<'a, false>;

impl<'a, const WRITE: bool> Segment<'a, WRITE> {
    /// Creates a segment of `len` bytes from `start` on.
    ///
    /// # Safety
    ///
    /// `len` bytes from `start` on must stay in the linear mapping during `'a`. They must be
    /// readable if `WRITE` is true, and writable if it is false.
    #[inline]
    pub(crate) const unsafe fn new(start: *mut u8, len: usize) -> Self {
        // INVARIANT: The caller guarantees that the memory stays mapped with that access right.
        Self {
            start,
            len,
            _memory: PhantomData,
        }
    }

    /// Returns the number of bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns an iterator over parts of at most `size` bytes, each with its offset in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{mm::segment::Source, page::PAGE_SIZE};
    ///
    /// let half = PAGE_SIZE / 2;
    /// let mut parts = Source::zero_page().parts(half);
    /// assert!(parts.next().is_some_and(|(offset, part)| (offset, part.len()) == (0, half)));
    /// assert!(parts.next().is_some_and(|(offset, part)| (offset, part.len()) == (half, half)));
    /// assert!(parts.next().is_none());
    /// ```
    pub fn parts(self, size: usize) -> impl Iterator<Item = (usize, Segment<'a, WRITE>)> {
        let size = size.max(1);
        let mut next = 0;
        core::iter::from_fn(move || {
            let offset = next;
            let len = size.min(self.len.checked_sub(offset)?);
            // OVERFLOW: Not beyond `self.len`, so this is inside.
            next = offset.wrapping_add(len);
            if len == 0 {
                return None;
            }
            // SAFETY: The part lies inside of this segment, which by the type invariants stays
            // mapped during `'a` with the access right of `WRITE`.
            let part = unsafe { Self::new(self.start.wrapping_add(offset), len) };
            Some((offset, part))
        })
    }
}

impl Source<'_> {
    /// Returns the zero page as a source. C: `ZERO_PAGE()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{mm::segment::Source, page::PAGE_SIZE};
    ///
    /// assert_eq!(Source::zero_page().len(), PAGE_SIZE);
    /// ```
    #[doc(alias = "ZERO_PAGE")]
    #[inline]
    pub fn zero_page() -> Source<'static> {
        #[cfg(not(CONFIG_UML))]
        let start = &raw mut bindings::empty_zero_page;
        // SAFETY: UML allocates the page and writes its address at boot, before this code can run.
        #[cfg(CONFIG_UML)]
        let start = unsafe { bindings::empty_zero_page };
        // SAFETY: The zero page is never freed: it is always mapped and readable.
        unsafe { Segment::new(start.cast(), PAGE_SIZE) }
    }

    /// Returns the address of the first byte.
    #[inline]
    pub const fn as_ptr(&self) -> *const u8 {
        self.start
    }
}

impl Target<'_> {
    /// Returns the address of the first byte.
    #[inline]
    pub const fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }
}
