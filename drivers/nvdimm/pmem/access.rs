// SPDX-License-Identifier: GPL-2.0-only
// Derived from `drivers/nvdimm/pmem.c`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! The DAX operations: direct access, recovery writes, and memory failures.

use crate::media::Media;
use kernel::{
    block::bio::{Source, SECTOR_SIZE},
    dax::{self, Access, AccessMode, DaxDevice, PageOffset, RecoveryWrite},
    dev_dbg,
    mm::{device_memory::FailureHandler, pfn::PfnRange},
    nvdimm::pmem::PmemDevice,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, SetOnce},
};

kernel::export_direct_access!(direct_access);

/// Returns access to memory from the page `at` on. Bad pages are excluded, unless the access is for
/// overwriting them.
///
/// C: `__pmem_direct_access()`.
fn direct_access(
    device: &PmemDevice,
    at: PageOffset,
    pages: usize,
    mode: AccessMode,
) -> Result<Access<'_>> {
    let access = device.access(at)?;
    let bad = device.badblocks();
    if bad.is_empty() {
        return Ok(access);
    }
    // Only the pages that the caller asked for are checked, so no more of them are returned.
    let access = access.at_most(pages);
    let sector = sector_of(at)?;
    let sectors = (access.pages() as u64).saturating_mul(PAGE_SIZE as u64 / SECTOR_SIZE);
    let Some(first_bad) = bad.first_bad(sector, sectors) else {
        return Ok(access);
    };
    match mode {
        AccessMode::Normal => Err(EHWPOISON),
        // Either the pages before the first bad one, or only that page: firmware does not clear
        // large ranges reliably.
        AccessMode::Recovery => {
            let good = first_bad.saturating_sub(sector) / (PAGE_SIZE as u64 / SECTOR_SIZE);
            Ok(access.at_most(usize::try_from(good)?.max(1)))
        }
    }
}

/// Returns the first sector of a page. C: `to_sect()`.
fn sector_of(at: PageOffset) -> Result<u64> {
    at.bytes().map(|bytes| bytes / SECTOR_SIZE).ok_or(EINVAL)
}

impl dax::Operations for Media {
    /// Returns access through `__pmem_direct_access()`, which the mock platform may replace. C:
    /// `pmem_dax_direct_access()`.
    #[inline]
    fn direct_access(&self, at: PageOffset, pages: usize, mode: AccessMode) -> Result<Access<'_>> {
        self.memory.pmem_device().direct_access(at, pages, mode)
    }

    /// Writes zeroes like data, which clears errors. C: `pmem_dax_zero_page_range()`.
    fn zero_page(&self, at: PageOffset) -> Result {
        self.write(sector_of(at)?, Source::zero_page())
    }

    /// Overwrites bad memory. C: `pmem_recovery_write()`.
    ///
    /// The order matters: the device clears the errors, then the data is copied, and the sectors
    /// leave the list of bad ones last. Until then reads are refused, because they would return
    /// neither the old nor the new data. The filesystem's lock excludes other writers.
    ///
    /// A page is overwritten as a whole or stays bad. In C a page of which only a part was copied
    /// becomes good, and the rest of it reads as whatever the device has left there.
    fn recovery_write(&self, write: RecoveryWrite<'_>) -> usize {
        let Ok(sector) = sector_of(write.at()) else {
            return 0;
        };
        let (offset, len) = (write.offset_in_page(), write.len());
        let Some(len) = offset
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
        else {
            return 0;
        };
        if !self.is_bad(sector, len) {
            return write.copy();
        }
        if offset != 0 || write.len() != len {
            dev_dbg!(
                self.device(),
                "poison: write of {} bytes at offset {offset} does not cover whole pages\n",
                write.len()
            );
            return 0;
        }
        // Clearing the errors destroys what the device still had.
        if !write.fault_in() {
            return 0;
        }
        match self.clear_poison(sector, len) {
            // 0: the device has no errors to clear.
            Ok(cleared) if cleared == 0 || cleared >= len => {
                let copied = write.copy_pages();
                self.clear_badblocks(sector, cleared.min(copied));
                copied
            }
            Ok(cleared) => {
                dev_dbg!(
                    self.device(),
                    "poison: cleared {cleared} of {len} bytes at sector {sector}\n"
                );
                0
            }
            Err(_) => 0,
        }
    }
}

/// The owner of the pgmap: forwards memory failures to the filesystem on the DAX device.
///
/// The pages exist before the DAX device is made and until after it was killed. So a failure may
/// find no device, or a dead one.
pub(crate) struct PgmapOwner {
    device: SetOnce<Arc<DaxDevice>>,
    /// The physical address of the data.
    start: u64,
}

impl PgmapOwner {
    /// Creates the owner of pages with data from the physical address `start` on.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            device: SetOnce::new(),
            start,
        }
    }

    /// Sets the DAX device that failures are forwarded to.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one already.
    pub(crate) fn set_device(&self, device: Arc<DaxDevice>) -> Result {
        self.device.populate(device).then_some(()).ok_or(EBUSY)
    }

    /// Returns the DAX device, alive or dead, if it was made.
    pub(crate) fn device(&self) -> Option<&DaxDevice> {
        self.device.as_ref().map(|device| &**device)
    }
}

impl FailureHandler for PgmapOwner {
    /// Notifies the filesystem of bad memory. C: `pmem_pagemap_memory_failure()`.
    fn memory_failure(&self, pfns: PfnRange, flags: i32) -> Result {
        let offset = pfns.first().phys().and_then(|p| p.checked_sub(self.start));
        let len = (pfns.len() as u64).checked_mul(PAGE_SIZE as u64);
        match (self.device(), offset, len) {
            (Some(device), Some(offset), Some(len)) => device.notify_failure(offset, len, flags),
            // There is no filesystem yet, or the memory is not part of the data.
            _ => Err(EOPNOTSUPP),
        }
    }
}
