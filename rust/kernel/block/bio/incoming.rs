// SPDX-License-Identifier: GPL-2.0

//! Bios as the driver of a bio-based disk sees them.
//!
//! The driver gets each [`Bio`] by value and must end it with [`Bio::end`]. The type makes sure
//! that a bio ends exactly once: `end` consumes it, and a bio that is dropped without it ends with
//! an I/O error, so that its submitter does not wait forever.
//!
//! ```text
//!  submit(bio) --> bio.data() --> Data::Read(segments)  --> fill each Target --+--> bio.end(result)
//!                            \--> Data::Write(segments) --> take each Source --/
//! ```
//!
//! This file encapsulates the fields of `struct bio` and the addresses of its pages.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use crate::{bindings, error::code::EIO, error::Result, ffi::c_ulong, mm::segment::Segment};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{addr_of, addr_of_mut, NonNull},
};

/// A bio that the block layer has submitted to a driver. C: `struct bio`.
///
/// # Invariants
///
/// The bio was submitted to a disk of the driver and has not ended. The driver owns it exclusively,
/// and its segments are in the linear mapping.
///
/// # Examples
///
/// ```
/// use kernel::block::bio::Bio;
///
/// /// Discards what is written, and fails reads.
/// fn submit(bio: Bio) {
///     let result = if bio.is_write() { Ok(()) } else { Err(EIO) };
///     bio.end(result);
/// }
/// ```
#[doc(alias = "bio")]
pub struct Bio(NonNull<bindings::bio>);

// SAFETY: A bio is not bound to the task that submitted it: drivers may end it in any context.
unsafe impl Send for Bio {}

/// Returns the flag of a request with the bit number `bit`.
#[inline]
const fn flag(bit: bindings::req_flag_bits) -> u32 {
    1 << bit
}

impl Bio {
    /// Takes over a bio from C.
    ///
    /// # Safety
    ///
    /// `bio` must have been submitted to a disk of the driver and not have ended, with its segments
    /// in the linear mapping, and the caller must not end or use it after this.
    #[inline]
    pub(crate) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: The caller guarantees that the bio has not ended and gives up its ownership.
        Self(bio)
    }

    /// Passes the ownership to C, which must end the bio.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut bindings::bio {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// Returns the operation and its flags. C: `bio->bi_opf`.
    #[inline]
    fn flags(&self) -> u32 {
        // SAFETY: By the type invariants the bio is valid and owned exclusively, so reading the
        // field is not a data race.
        unsafe { (*self.0.as_ptr()).bi_opf }
    }

    /// Returns whether data is transferred to the device. C: `op_is_write()`.
    #[doc(alias = "op_is_write")]
    #[inline]
    pub fn is_write(&self) -> bool {
        self.flags() & 1 != 0
    }

    /// Returns whether earlier writes must be durable before this bio begins. C: `REQ_PREFLUSH`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::block::bio::Bio;
    ///
    /// /// Honours both flags of durability: the cache is flushed before and after the transfer.
    /// fn submit(bio: Bio, flush: impl Fn() -> Result, transfer: impl Fn(&Bio) -> Result) {
    ///     let mut result = if bio.is_preflush() { flush() } else { Ok(()) };
    ///     if result.is_ok() {
    ///         result = transfer(&bio);
    ///     }
    ///     if result.is_ok() && bio.is_fua() {
    ///         result = flush();
    ///     }
    ///     bio.end(result);
    /// }
    /// ```
    #[doc(alias = "REQ_PREFLUSH")]
    #[inline]
    pub fn is_preflush(&self) -> bool {
        self.flags() & flag(bindings::req_flag_bits___REQ_PREFLUSH) != 0
    }

    /// Returns whether the data of this bio must be durable when it ends. C: `REQ_FUA`.
    #[doc(alias = "REQ_FUA")]
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.flags() & flag(bindings::req_flag_bits___REQ_FUA) != 0
    }

    /// Returns whether the submitter must not sleep. The driver then ends the bio with `EAGAIN`
    /// instead of sleeping. C: `REQ_NOWAIT`.
    #[doc(alias = "REQ_NOWAIT")]
    #[inline]
    pub fn is_nowait(&self) -> bool {
        self.flags() & flag(bindings::req_flag_bits___REQ_NOWAIT) != 0
    }

    /// Starts I/O accounting of this bio, if it is enabled for the disk. Dropping the value ends
    /// it. Any context.
    ///
    /// C: `bio_start_io_acct()`.
    #[doc(alias = "bio_start_io_acct")]
    #[inline]
    pub fn start_accounting(&self) -> Accounting<'_> {
        let bio = self.0.as_ptr();
        // SAFETY: By the type invariants the bio has not ended, so it, its block device, the disk
        // and the queue of that are valid. The features may change meanwhile, hence one volatile
        // read.
        let features = unsafe {
            let queue = (*(*(*bio).bi_bdev).bd_disk).queue;
            addr_of!((*queue).limits.features).read_volatile()
        };
        let start = if features & bindings::BLK_FEAT_IO_STAT != 0 {
            // SAFETY: By the type invariants the bio is valid and has not ended.
            Some(unsafe { bindings::bio_start_io_acct(bio) })
        } else {
            None
        };
        Accounting { bio: self, start }
    }

    /// Returns the segments of the bio, according to its direction. C: `bio_data_dir()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::block::bio::{Bio, Data};
    ///
    /// /// Returns the number of bytes that are transferred to the device.
    /// fn written(bio: &Bio) -> usize {
    ///     match bio.data() {
    ///         Data::Write(segments) => segments.map(|(_sector, source)| source.len()).sum(),
    ///         Data::Read(_) => 0,
    ///     }
    /// }
    /// ```
    #[doc(alias = "bio_data_dir")]
    #[inline]
    pub fn data(&self) -> Data<'_> {
        if self.is_write() {
            // SAFETY: The bio is a write, as the check has shown.
            Data::Write(unsafe { self.segments() })
        } else {
            // SAFETY: The bio is not a write, as the check has shown.
            Data::Read(unsafe { self.segments() })
        }
    }

    /// Returns an iterator over the segments. C: `bio_for_each_bvec()`.
    ///
    /// # Safety
    ///
    /// `WRITE` must be true if and only if the bio is a write.
    #[inline]
    unsafe fn segments<const WRITE: bool>(&self) -> Segments<'_, WRITE> {
        // SAFETY: By the type invariants the bio is valid and owned exclusively. Its position and
        // its list of segments do not change before it ends.
        unsafe {
            let bio = self.0.as_ptr();
            // INVARIANT: Position and list are those of the bio. By its invariants the segments are
            // in the linear mapping, and the caller guarantees that `WRITE` is its direction.
            Segments {
                vec: (*bio)
                    .bi_io_vec
                    .wrapping_add((*bio).bi_iter.bi_idx as usize),
                skip: (*bio).bi_iter.bi_bvec_done,
                left: (*bio).bi_iter.bi_size,
                sector: (*bio).bi_iter.bi_sector,
                _bio: PhantomData,
            }
        }
    }

    /// Ends the bio with `result`. Any context. C: `bio_endio()`.
    #[doc(alias = "bio_endio")]
    #[inline]
    pub fn end(self, result: Result) {
        let bio = self.into_raw();
        if let Err(error) = result {
            // SAFETY: By the type invariants the bio was valid and owned exclusively by `self`, so
            // nothing else accesses its status yet.
            unsafe {
                let status = bindings::errno_to_blk_status(error.to_errno());
                addr_of_mut!((*bio).bi_status).write(status);
            }
        }
        // SAFETY: By the type invariants the bio has not ended, and `self` was consumed, so it is
        // not used after this.
        unsafe { bindings::bio_endio(bio) };
    }
}

impl Drop for Bio {
    /// Ends a bio that the driver has forgotten with `EIO`.
    #[cold]
    fn drop(&mut self) {
        Self(self.0).end(Err(EIO));
    }
}

/// The running I/O accounting of a bio, which ends when this is dropped. C: `bio_end_io_acct()`.
#[doc(alias = "bio_end_io_acct")]
#[must_use = "the accounting ends when the value is dropped"]
pub struct Accounting<'a> {
    bio: &'a Bio,
    start: Option<c_ulong>,
}

impl Drop for Accounting<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(start) = self.start {
            let bio = self.bio.0.as_ptr();
            // SAFETY: The bio is borrowed, so it is valid and has not ended, and `start` is what
            // `bio_start_io_acct()` returned for it.
            unsafe { bindings::bio_end_io_acct_remapped(bio, start, (*bio).bi_bdev) };
        }
    }
}

/// The segments of a bio, by its direction.
pub enum Data<'a> {
    /// The buffers that a read fills from the device.
    Read(Segments<'a, false>),
    /// The data that a write transfers to the device.
    Write(Segments<'a, true>),
}

/// An iterator over the segments of a bio, each with its first sector. C: `struct bvec_iter`.
///
/// # Invariants
///
/// `left` bytes are left in the list of segments that begins at `vec`. `skip` bytes of the first of
/// these segments are already transferred. All of them are in the linear mapping. `WRITE` is true
/// if and only if the bio is a write.
#[doc(alias = "bvec_iter")]
pub struct Segments<'a, const WRITE: bool> {
    vec: *const bindings::bio_vec,
    skip: u32,
    left: u32,
    sector: u64,
    _bio: PhantomData<&'a Bio>,
}

impl<'a, const WRITE: bool> Iterator for Segments<'a, WRITE> {
    type Item = (u64, Segment<'a, WRITE>);

    /// Returns the next segment, and the sector of the disk at which it begins.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // SAFETY: By the type invariants bytes are left, so there is a segment at `vec`.
        let vec = unsafe { self.vec.read() };
        let len = vec.bv_len.wrapping_sub(self.skip).min(self.left);
        // SAFETY: By the type invariants the page is in the linear mapping.
        let start = unsafe { address_of(vec.bv_page) }
            // CAST: `u32` fits.
            .wrapping_add(vec.bv_offset as usize)
            .wrapping_add(self.skip as usize);
        // SAFETY: The bytes are part of the segment that the bio describes, so they stay in the
        // linear mapping until the bio ends, which is borrowed. By the type invariants `WRITE` is
        // its direction, so they may be read for a write, and written for a read.
        let item = (self.sector, unsafe { Segment::new(start, len as usize) });
        // INVARIANT: The first segment is consumed, so the list goes on with the next one.
        self.vec = self.vec.wrapping_add(1);
        self.skip = 0;
        self.left = self.left.wrapping_sub(len);
        self.sector = self
            .sector
            .wrapping_add(u64::from(len) / super::SECTOR_SIZE);
        Some(item)
    }
}

/// Returns the address of a page in the linear mapping. C: `page_to_virt()`.
///
/// # Safety
///
/// `page` must be the `struct page` of memory in the linear mapping.
// Only x86 has these variables, and only where KASLR or page tables of five levels move them.
#[cfg(all(CONFIG_SPARSEMEM_VMEMMAP, CONFIG_DYNAMIC_MEMORY_LAYOUT))]
#[doc(alias = "page_to_virt")]
#[inline]
unsafe fn address_of(page: *const bindings::page) -> *mut u8 {
    // SAFETY: Both variables are set at boot and constant from then on.
    let (memmap, linear) = unsafe { (bindings::vmemmap_base, bindings::page_offset_base) };
    // The memmap is one array, so the distance from its start is the PFN.
    let pfn = (page as usize).wrapping_sub(memmap) / core::mem::size_of::<bindings::page>();
    linear.wrapping_add(pfn.wrapping_mul(crate::page::PAGE_SIZE)) as *mut u8
}

/// Returns the address of a page in the linear mapping. C: `page_to_virt()`.
///
/// # Safety
///
/// `page` must be the `struct page` of memory in the linear mapping.
#[cfg(not(all(CONFIG_SPARSEMEM_VMEMMAP, CONFIG_DYNAMIC_MEMORY_LAYOUT)))]
unsafe fn address_of(page: *const bindings::page) -> *mut u8 {
    // SAFETY: The caller guarantees that the page is in the linear mapping, which is all that the
    // conversion requires.
    unsafe { bindings::page_to_virt(page.cast_mut()).cast() }
}
