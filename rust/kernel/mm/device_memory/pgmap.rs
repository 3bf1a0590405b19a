// SPDX-License-Identifier: GPL-2.0

//! The pgmap of device memory: its parameters, and the handler of its failures.

use crate::{
    bindings,
    error::{
        code::{EINVAL, EOPNOTSUPP},
        from_result, Result,
    },
    ffi::{c_int, c_ulong},
    mm::{
        memremap::Altmap,
        pfn::{Pfn, PfnRange, PhysRange},
    },
    prelude::*,
    sync::Arc,
    types::Opaque,
};
use core::ptr::addr_of;

/// The parameters of a pgmap that is not mapped yet. C: `struct dev_pagemap`.
///
/// # Invariants
///
/// Range, flags and altmap may be set, as in a pgmap before it is mapped; all other fields are
/// zero.
///
/// # Examples
///
/// ```
/// use kernel::mm::{device_memory::PgmapParams, pfn::PhysRange};
///
/// let range = PhysRange::with_len(0x1_0000_0000, 2 << 20).ok_or(EINVAL)?;
/// assert_eq!(PgmapParams::for_range(range)?.range(), Some(range));
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "dev_pagemap")]
pub struct PgmapParams(KBox<Opaque<bindings::dev_pagemap>>);

// SAFETY: The structure is plain data until it is mapped, so any thread may use it.
unsafe impl Send for PgmapParams {}

impl PgmapParams {
    /// Creates parameters without a range yet. Sleeps.
    #[inline]
    pub(crate) fn new() -> Result<Self> {
        let memory = KBox::<Opaque<bindings::dev_pagemap>>::new_uninit(GFP_KERNEL)?;
        // INVARIANT: All fields are zero.
        Ok(Self(memory.write(Opaque::new(
            // SAFETY: Zero is a valid value of every field of the structure.
            unsafe { core::mem::MaybeUninit::zeroed().assume_init() },
        ))))
    }

    /// Creates the parameters for pages of all of `range`, with the memmap in ordinary memory.
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub fn for_range(range: PhysRange) -> Result<Self> {
        let this = Self::new()?;
        let pgmap = this.as_raw();
        // SAFETY: The structure belongs to this value and is not mapped, and has room for one
        // range.
        unsafe {
            *(*pgmap).__bindgen_anon_1.range.as_mut() = range.as_raw();
            (*pgmap).nr_range = 1;
        }
        Ok(this)
    }

    /// Copies the parameters of a pgmap that other code has prepared: the range, and where the memmap
    /// lies. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pgmap does not have one range; `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `prepared` must point to a pgmap that is set up and not mapped, nor may it change meanwhile.
    #[cfg(CONFIG_RUST_DEV_DAX_FSDEV)]
    #[inline]
    pub(crate) unsafe fn from_prepared(prepared: *const bindings::dev_pagemap) -> Result<Self> {
        // SAFETY: The caller guarantees a valid pgmap that does not change.
        let (nr_range, raw, flags, altmap) = unsafe {
            (
                (*prepared).nr_range,
                *(*prepared).__bindgen_anon_1.range.as_ref(),
                (*prepared).flags & bindings::PGMAP_ALTMAP_VALID,
                addr_of!((*prepared).altmap).read(),
            )
        };
        if nr_range != 1 {
            return Err(EINVAL);
        }
        let this = Self::for_range(PhysRange::from_raw(raw).ok_or(EINVAL)?)?;
        // SAFETY: The structure belongs to the new value and is not mapped.
        unsafe {
            (*this.as_raw()).flags = flags;
            // What was allocated for an earlier mapping was freed with it.
            (*this.as_raw()).altmap = bindings::vmem_altmap {
                align: 0,
                alloc: 0,
                ..altmap
            };
        }
        Ok(this)
    }

    /// Returns the raw pointer, for C code that fills the structure in.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.0.get()
    }

    /// Returns the range, or `None` if there is none yet.
    #[inline]
    pub fn range(&self) -> Option<PhysRange> {
        // SAFETY: The structure belongs to this value. The range is initialised, at least to
        // zeroes.
        unsafe {
            let pgmap = self.as_raw();
            if (*pgmap).nr_range == 0 {
                return None;
            }
            PhysRange::from_raw(*(*pgmap).__bindgen_anon_1.range.as_ref())
        }
    }

    /// Returns the part of the range from byte `offset` on, or `None` if it is empty or contains
    /// page structures, which may lie in the first part of the memory itself.
    #[inline]
    pub(super) fn data(&self, offset: u64) -> Option<PhysRange> {
        let range = self.range()?;
        let data = PhysRange::new(range.start().checked_add(offset)?, range.end())?;
        let pgmap = self.as_raw();
        // SAFETY: The structure belongs to this value and is initialised.
        let (flags, altmap) = unsafe { ((*pgmap).flags, addr_of!((*pgmap).altmap).read()) };
        if flags & bindings::PGMAP_ALTMAP_VALID != 0 {
            let altmap = Altmap::from_raw(altmap);
            let first_data = altmap.base.checked_add(altmap.offset()?)?;
            if data.start() < first_data.phys()? {
                return None;
            }
        }
        Some(data)
    }
}

/// The handler of memory with pages that turns out to be bad. C: `dev_pagemap_ops::memory_failure`.
///
/// # Examples
///
/// ```
/// use core::sync::atomic::{AtomicUsize, Ordering};
/// use kernel::mm::{device_memory::FailureHandler, pfn::{Pfn, PfnRange}};
///
/// struct Counter(AtomicUsize);
///
/// impl FailureHandler for Counter {
///     fn memory_failure(&self, pfns: PfnRange, _flags: i32) -> Result {
///         self.0.fetch_add(pfns.len(), Ordering::Relaxed);
///         // The common handler kills the tasks that have the pages mapped.
///         Err(EOPNOTSUPP)
///     }
/// }
///
/// let counter = Counter(AtomicUsize::new(0));
/// let bad = PfnRange::new(Pfn::new(8), Pfn::new(9)).ok_or(EINVAL)?;
/// assert_eq!(counter.memory_failure(bad, 0), Err(EOPNOTSUPP));
/// assert_eq!(counter.0.load(Ordering::Relaxed), 2);
/// # Ok::<(), Error>(())
/// ```
pub trait FailureHandler: Send + Sync + 'static {
    /// Handles bad memory: stops all use of the pages of these PFNs. May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` leaves it to the common handler, which kills the tasks that have the pages
    /// mapped.
    fn memory_failure(&self, pfns: PfnRange, flags: i32) -> Result;
}

impl<H: FailureHandler> FailureHandler for Arc<H> {
    #[inline]
    fn memory_failure(&self, pfns: PfnRange, flags: i32) -> Result {
        (**self).memory_failure(pfns, flags)
    }
}

/// The handler for memory without pages, and for memory with failures that the common handler
/// handles.
impl FailureHandler for () {
    #[inline]
    fn memory_failure(&self, _pfns: PfnRange, _flags: i32) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// A pgmap with its operations and the handler of its failures.
///
/// The pgmap is the first field, so that the operations find the handler by the address of the
/// pgmap.
#[repr(C)]
pub(super) struct MappedPgmap<H> {
    pgmap: Opaque<bindings::dev_pagemap>,
    operations: bindings::dev_pagemap_ops,
    handler: H,
}

impl<H: FailureHandler> MappedPgmap<H> {
    /// Creates the pgmap of FS DAX memory that `params` describe. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(super) fn new(params: &PgmapParams, handler: H) -> Result<KBox<Self>> {
        // SAFETY: The structure belongs to `params` and is not mapped, so it can be copied.
        let pgmap = unsafe { params.as_raw().read() };
        let this = KBox::new(
            Self {
                pgmap: Opaque::new(pgmap),
                operations: bindings::dev_pagemap_ops {
                    page_free: None,
                    migrate_to_ram: None,
                    memory_failure: Some(Self::memory_failure),
                },
                handler,
            },
            GFP_KERNEL,
        )?;
        let pgmap = this.pgmap.get();
        // SAFETY: The structure belongs to this value and is not mapped yet. The operations are on
        // the heap, next to it, where they stay as long as the value.
        unsafe {
            (*pgmap).type_ = bindings::memory_type_MEMORY_DEVICE_FS_DAX;
            (*pgmap).ops = &this.operations;
            (*pgmap).owner = pgmap.cast();
        }
        Ok(this)
    }

    /// Returns the raw pointer to the pgmap.
    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.pgmap.get()
    }

    /// Calls [`FailureHandler::memory_failure`].
    ///
    /// # Safety
    ///
    /// `pgmap` must be the pgmap of a value of this type, and be mapped.
    unsafe extern "C" fn memory_failure(
        pgmap: *mut bindings::dev_pagemap,
        pfn: c_ulong,
        nr_pages: c_ulong,
        flags: c_int,
    ) -> c_int {
        let first = Pfn::new(pfn);
        let pfns = nr_pages
            .checked_sub(1)
            .and_then(|more| PfnRange::new(first, first.checked_add(more)?));
        // SAFETY: The pgmap is the first field of a value of this type, which stays valid as long
        // as the pgmap is mapped.
        let this = unsafe { &*pgmap.cast::<Self>() };
        from_result(|| {
            this.handler
                .memory_failure(pfns.ok_or(EINVAL)?, flags)
                .map(|()| 0)
        })
    }
}
