// SPDX-License-Identifier: GPL-2.0

//! Bios from the side of the driver that has to do what they ask for.
//!
//! A driver of a bio-based disk gets each [`Bio`] by value, and has to end it. It cannot end it
//! twice, and if it forgets one, the one who waits for it is told of an I/O error.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use crate::{bindings, error::code::EIO, error::Result, ffi::c_ulong, page::PAGE_SIZE};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{addr_of, addr_of_mut, NonNull},
};

/// I/O that the block layer has handed to a driver. C: `struct bio`.
///
/// # Invariants
///
/// The bio was submitted to a disk of the driver and not ended; it is the driver's alone, and its
/// segments are in the linear mapping.
///
/// # Examples
///
/// ```
/// use kernel::block::bio::Bio;
///
/// /// Takes what is written, and has nothing to read.
/// fn submit(bio: Bio) {
///     let result = if bio.is_write() { Ok(()) } else { Err(EIO) };
///     bio.end(result);
/// }
/// ```
#[doc(alias = "bio")]
pub struct Bio(NonNull<bindings::bio>);

// SAFETY: A bio has no thread of its own.
unsafe impl Send for Bio {}

/// `1 << bit`, for the flags of an operation.
#[inline]
const fn flag(bit: bindings::req_flag_bits) -> u32 {
    1 << bit
}

impl Bio {
    /// The bio that C code hands over.
    ///
    /// # Safety
    ///
    /// `bio` is as the invariant of the type says, and the caller does not end it.
    #[inline]
    pub(crate) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: The caller's promise.
        Self(bio)
    }

    /// Hands it to C code, which ends it.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut bindings::bio {
        ManuallyDrop::new(self).0.as_ptr()
    }

    #[inline]
    fn flags(&self) -> u32 {
        // SAFETY: By the invariant the bio is valid and ours.
        unsafe { (*self.0.as_ptr()).bi_opf }
    }

    /// Whether data goes to the device. C: `op_is_write()`.
    #[doc(alias = "op_is_write")]
    #[inline]
    pub fn is_write(&self) -> bool {
        self.flags() & 1 != 0
    }

    /// Whether what was written before shall be durable before this begins. C: `REQ_PREFLUSH`.
    #[doc(alias = "REQ_PREFLUSH")]
    #[inline]
    pub fn is_preflush(&self) -> bool {
        self.flags() & flag(bindings::req_flag_bits___REQ_PREFLUSH) != 0
    }

    /// Whether its own data shall be durable when it ends. C: `REQ_FUA`.
    #[doc(alias = "REQ_FUA")]
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.flags() & flag(bindings::req_flag_bits___REQ_FUA) != 0
    }

    /// Whether who submits it must not be put to sleep: `EAGAIN` is an answer then. C:
    /// `REQ_NOWAIT`.
    #[doc(alias = "REQ_NOWAIT")]
    #[inline]
    pub fn is_nowait(&self) -> bool {
        self.flags() & flag(bindings::req_flag_bits___REQ_NOWAIT) != 0
    }

    /// Begins to account for it, if the disk's I/O is accounted for. C: `bio_start_io_acct()`.
    #[doc(alias = "bio_start_io_acct")]
    #[inline]
    pub fn start_accounting(&self) -> Accounting<'_> {
        let bio = self.0.as_ptr();
        // SAFETY: By the invariant the bio is valid; so are its device, the disk of that and the
        // queue of that while the bio has not ended. The features are read once.
        let features = unsafe {
            let queue = (*(*(*bio).bi_bdev).bd_disk).queue;
            addr_of!((*queue).limits.features).read_volatile()
        };
        let start = if features & bindings::BLK_FEAT_IO_STAT != 0 {
            // SAFETY: The bio is valid and has not ended.
            Some(unsafe { bindings::bio_start_io_acct(bio) })
        } else {
            None
        };
        Accounting { bio: self, start }
    }

    /// What it consists of, by the way that its data goes. C: `bio_data_dir()`.
    #[doc(alias = "bio_data_dir")]
    #[inline]
    pub fn data(&self) -> Data<'_> {
        if self.is_write() {
            // SAFETY: Just seen.
            Data::Write(unsafe { self.segments() })
        } else {
            // SAFETY: Just seen.
            Data::Read(unsafe { self.segments() })
        }
    }

    /// Its segments.
    ///
    /// # Safety
    ///
    /// `WRITE` is whether it is a write.
    #[inline]
    unsafe fn segments<const WRITE: bool>(&self) -> Segments<'_, WRITE> {
        // SAFETY: By the invariant the bio is valid and ours; its position and its list do not
        // change before it ends.
        unsafe {
            let bio = self.0.as_ptr();
            // INVARIANT: As the bio has it, and the caller promises.
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

    /// Ends it. Any context. C: `bio_endio()`.
    #[doc(alias = "bio_endio")]
    #[inline]
    pub fn end(self, result: Result) {
        let bio = self.into_raw();
        if let Err(error) = result {
            // SAFETY: By the invariant the bio is valid and ours.
            unsafe {
                let status = bindings::errno_to_blk_status(error.to_errno());
                addr_of_mut!((*bio).bi_status).write(status);
            }
        }
        // SAFETY: By the invariant it has not ended, and it is not touched any more.
        unsafe { bindings::bio_endio(bio) };
    }
}

impl Drop for Bio {
    #[cold]
    fn drop(&mut self) {
        Self(self.0).end(Err(EIO));
    }
}

/// Time that goes to the books of the disk when it is dropped. C: `bio_end_io_acct()`.
#[must_use = "it ends the accounting when it is dropped"]
pub struct Accounting<'a> {
    bio: &'a Bio,
    start: Option<c_ulong>,
}

impl Drop for Accounting<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(start) = self.start {
            let bio = self.bio.0.as_ptr();
            // SAFETY: The bio is valid and has not ended; the accounting was started with it.
            unsafe { bindings::bio_end_io_acct_remapped(bio, start, (*bio).bi_bdev) };
        }
    }
}

/// The data of a bio.
pub enum Data<'a> {
    /// It is to be taken from the device.
    Read(Segments<'a, false>),
    /// It is to be brought to the device.
    Write(Segments<'a, true>),
}

/// The segments of a bio, in order: stretches of memory, each for consecutive sectors.
///
/// # Invariants
///
/// `left` bytes are left in the list that begins at `vec`, of whose first entry `skip` bytes are
/// done. They are in the linear mapping. `WRITE` is whether the bio is a write.
pub struct Segments<'a, const WRITE: bool> {
    vec: *const bindings::bio_vec,
    skip: u32,
    left: u32,
    sector: u64,
    _bio: PhantomData<&'a Bio>,
}

impl<'a, const WRITE: bool> Iterator for Segments<'a, WRITE> {
    type Item = (u64, Segment<'a, WRITE>);

    /// The next stretch of memory, and the sector of the disk that it begins with.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // SAFETY: By the invariant there is something left, so there is an entry.
        let vec = unsafe { self.vec.read() };
        let len = vec.bv_len.wrapping_sub(self.skip).min(self.left);
        // SAFETY: By the invariant the page is in the linear mapping.
        let start = unsafe { address_of(vec.bv_page) }
            // CAST: `u32` fits.
            .wrapping_add(vec.bv_offset as usize)
            .wrapping_add(self.skip as usize);
        let item = (self.sector, Segment::new(start, len as usize));
        // INVARIANT: The entry is done.
        self.vec = self.vec.wrapping_add(1);
        self.skip = 0;
        self.left = self.left.wrapping_sub(len);
        self.sector = self
            .sector
            .wrapping_add(u64::from(len) / super::SECTOR_SIZE);
        Some(item)
    }
}

/// Where a page is in the linear mapping. C: `page_to_virt()`.
///
/// # Safety
///
/// The page is in the linear mapping.
#[cfg(CONFIG_SPARSEMEM_VMEMMAP)]
#[inline]
unsafe fn address_of(page: *const bindings::page) -> *mut u8 {
    // SAFETY: The bases of the memmap and of the linear mapping are set at boot.
    let (memmap, linear) = unsafe { (bindings::vmemmap_base, bindings::page_offset_base) };
    // The memmap is one array, so this is the number of the page.
    let nr = (page as usize).wrapping_sub(memmap) / core::mem::size_of::<bindings::page>();
    linear.wrapping_add(nr.wrapping_mul(PAGE_SIZE)) as *mut u8
}

#[cfg(not(CONFIG_SPARSEMEM_VMEMMAP))]
unsafe fn address_of(page: *const bindings::page) -> *mut u8 {
    // SAFETY: The caller's promise.
    unsafe { bindings::page_to_virt(page.cast_mut()).cast() }
}

/// A stretch of memory that a bio has data in, or wants some in: a [`Source`] or a [`Target`].
///
/// Others may read and write it at the same time (user space can, with direct I/O), so its bytes
/// are not to be had as a slice: they are copied from or to where a driver keeps them.
///
/// # Invariants
///
/// `len` bytes from `start` on are in the linear mapping for `'a`. They may be read if `WRITE`, and
/// written if not.
#[derive(Clone, Copy)]
pub struct Segment<'a, const WRITE: bool> {
    start: *mut u8,
    len: usize,
    _bio: PhantomData<&'a Bio>,
}

/// Bytes that a write brings to the device. Who submitted it may only have lent them for reading.
pub type Source<'a> = Segment<'a, true>;

/// Room for the bytes that a read takes from the device.
pub type Target<'a> = Segment<'a, false>;

impl<'a, const WRITE: bool> Segment<'a, WRITE> {
    #[inline]
    const fn new(start: *mut u8, len: usize) -> Self {
        // INVARIANT: As `Segments` has it.
        Self {
            start,
            len,
            _bio: PhantomData,
        }
    }

    /// The number of bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// It in parts of at most `size` bytes, with the offset of each.
    pub fn parts(self, size: usize) -> impl Iterator<Item = (usize, Segment<'a, WRITE>)> {
        let size = size.max(1);
        let mut next = 0;
        core::iter::from_fn(move || {
            let offset = next;
            let len = size.min(self.len.checked_sub(offset)?);
            // OVERFLOW: Not beyond `self.len`, so this is inside.
            next = offset.wrapping_add(len);
            (len != 0).then(|| (offset, Self::new(self.start.wrapping_add(offset), len)))
        })
    }
}

impl Source<'_> {
    /// A zero page. C: `ZERO_PAGE()`.
    #[doc(alias = "ZERO_PAGE")]
    #[inline]
    pub fn zero_page() -> Source<'static> {
        // INVARIANT: The zero page is always there, and can be read.
        Segment::new(addr_of_mut!(bindings::empty_zero_page).cast(), PAGE_SIZE)
    }

    /// Where it begins.
    #[inline]
    pub(crate) const fn as_ptr(&self) -> *const u8 {
        self.start
    }
}

impl Target<'_> {
    /// Where it begins.
    #[inline]
    pub(crate) const fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }
}
