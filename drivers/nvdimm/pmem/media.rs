// SPDX-License-Identifier: GPL-2.0-only
// Derived from `drivers/nvdimm/pmem.c`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! The memory behind a disk: its data, its bad sectors, and the region that makes it durable.
//!
//! Sectors, pages and bytes are all counted from the start of the data, and each conversion is
//! checked:
//!
//! ```text
//!  |<- data_offset ->|<------------- data ------------->|
//!  | info blocks, memmap |                               |
//!  mapped memory          sector 0, page 0 of the DAX device
//! ```
//!
//! A sector that is known to be bad fails reads. A write clears the error first, which takes three
//! steps: the device clears it ([`Media::clear_poison`]), the pages lose their poison flag, and the
//! sectors leave the list ([`Media::clear_badblocks`]).

use crate::access::PgmapOwner;
use kernel::{
    block::{
        badblocks::Badblocks,
        bio::{Source, Target, SECTOR_SIZE},
    },
    dev_dbg,
    mm::device_memory::DeviceMemory,
    nvdimm::{pmem::Memory, Region},
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, SetOnce},
    sysfs::Dirent,
};

/// Returns the offset of a sector in the data, in bytes. C: `to_offset()`.
#[inline]
fn offset_of(sector: u64) -> Result<u64> {
    sector.checked_mul(SECTOR_SIZE).ok_or(EIO)
}

/// The data of the operations of both the disk and the DAX device. C: `struct pmem_device`.
#[pin_data]
pub(crate) struct Media {
    /// The sysfs entry of the list of bad sectors, once the disk is added. C: `bb_state`.
    pub(crate) bb_dirent: SetOnce<Dirent>,
    /// The owner of the pgmap, which has the DAX device once that is made.
    pub(crate) owner: Arc<PgmapOwner>,
    region: Region,
    #[pin]
    pub(crate) memory: Memory<Arc<PgmapOwner>>,
}

impl Media {
    /// Creates the media of mapped memory, with the list of its bad sectors. Sleeps.
    pub(crate) fn new(
        memory: DeviceMemory<Arc<PgmapOwner>>,
        owner: Arc<PgmapOwner>,
        region: Region,
    ) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            try_pin_init!(Self {
                bb_dirent: SetOnce::new(),
                owner,
                region,
                memory <- Memory::new(memory),
            }),
            GFP_KERNEL,
        )?;
        this.populate_badblocks();
        Ok(this)
    }

    /// Returns the size of the data, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.memory.data().len()
    }

    /// Returns the region of the memory. C: `to_region()`.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Returns the list of bad sectors. C: `pmem->bb`.
    pub(crate) fn badblocks(&self) -> &Badblocks {
        self.memory.pmem_device().badblocks()
    }

    /// Returns the device that the driver is bound to. C: `to_dev()`.
    pub(crate) fn device(&self) -> &kernel::device::Device {
        self.memory.device()
    }

    /// Returns whether any of the sectors in `bytes` bytes from `sector` on is known to be bad.
    ///
    /// C: `is_bad_pmem()`.
    #[inline]
    pub(crate) fn is_bad(&self, sector: u64, bytes: usize) -> bool {
        let sectors = bytes as u64 / SECTOR_SIZE;
        self.badblocks().first_bad(sector, sectors).is_some()
    }

    /// Copies data from `sector` on. Any context.
    ///
    /// C: `pmem_do_read()`, `read_pmem()`.
    ///
    /// # Errors
    ///
    /// `EIO` if some of the data is known to be bad, raises a machine check, or is beyond the end.
    #[inline]
    pub(crate) fn read(&self, sector: u64, to: Target<'_>) -> Result {
        if self.is_bad(sector, to.len()) {
            return Err(EIO);
        }
        self.memory.read(offset_of(sector)?, to)
    }

    /// Copies data to the media, from `sector` on. Sleeps if it has to clear errors first.
    ///
    /// C: `pmem_do_write()`, `write_pmem()`.
    ///
    /// # Errors
    ///
    /// `EIO` if errors cannot be cleared, or beyond the end.
    #[inline]
    pub(crate) fn write(&self, sector: u64, from: Source<'_>) -> Result {
        if self.is_bad(sector, from.len()) {
            return self.write_over_bad(sector, from);
        }
        self.memory.write(offset_of(sector)?, from)
    }

    /// Writes page by page, because firmware does not clear more than a page reliably. Sleeps.
    #[cold]
    fn write_over_bad(&self, sector: u64, from: Source<'_>) -> Result {
        for (offset, part) in from.parts(PAGE_SIZE) {
            let sector = sector.checked_add(offset as u64 / SECTOR_SIZE).ok_or(EIO)?;
            if self.is_bad(sector, part.len()) {
                self.clear_errors(sector, part.len())?;
            }
            self.memory.write(offset_of(sector)?, part)?;
        }
        Ok(())
    }

    /// Clears all errors in `bytes` bytes from `sector` on, and removes the sectors from the list.
    ///
    /// C: `pmem_clear_poison()`.
    fn clear_errors(&self, sector: u64, bytes: usize) -> Result {
        let cleared = self.clear_poison(sector, bytes).map_err(|_| EIO)?;
        self.clear_badblocks(sector, cleared);
        if cleared < bytes {
            return Err(EIO);
        }
        Ok(())
    }

    /// Asks the device to clear the errors in `bytes` bytes from `sector` on, and returns how many
    /// bytes from there on are free of errors then. The sectors stay on the list. Sleeps.
    ///
    /// C: `__pmem_clear_poison()`, `pmem_to_phys()`.
    pub(crate) fn clear_poison(&self, sector: u64, bytes: usize) -> Result<usize> {
        let offset = offset_of(sector)?;
        let phys = self.memory.data().start().checked_add(offset).ok_or(EIO)?;
        let cleared = self.region.clear_poison(phys, bytes).inspect_err(|error| {
            dev_dbg!(
                self.device(),
                "poison: clearing {bytes} bytes at sector {sector} failed ({})\n",
                error.to_errno()
            );
        })?;
        if cleared != 0 {
            self.memory.mark_good(offset, cleared, bytes);
        }
        Ok(cleared)
    }

    /// Removes the sectors in `bytes` bytes from `sector` on from the list of bad ones, and wakes
    /// pollers of the list. C: `pmem_clear_bb()`.
    pub(crate) fn clear_badblocks(&self, sector: u64, bytes: usize) {
        let sectors = bytes as u64 / SECTOR_SIZE;
        if sectors != 0 {
            self.badblocks().clear(sector, sectors);
            self.notify_badblocks();
        }
    }

    /// Adds the bad sectors that the region knows to the list. May sleep.
    fn populate_badblocks(&self) {
        self.region
            .populate_badblocks(self.badblocks(), self.memory.data());
    }

    /// Updates the list of bad sectors from the region, and wakes pollers of the list. Sleeps.
    ///
    /// C: `pmem_revalidate_poison()`.
    pub(crate) fn revalidate_poison(&self) {
        self.populate_badblocks();
        self.notify_badblocks();
    }

    /// Wakes pollers of the list of bad sectors in sysfs. C: `sysfs_notify_dirent()`.
    fn notify_badblocks(&self) {
        if let Some(dirent) = self.bb_dirent.as_ref() {
            dirent.notify();
        }
    }
}
