// SPDX-License-Identifier: GPL-2.0-only

//! The memory behind a disk: its bytes, which of them are bad, and how they become durable.
//!
//! Sectors, pages and bytes are all counted from where the data begins, and each conversion is
//! checked:
//!
//! ```text
//!  |<- data_offset ->|<------------- data ------------->|
//!  | info blocks, memmap |                               |
//!  mapped memory          sector 0, page 0 of the DAX device
//! ```

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

/// Where a sector is in the data, in bytes.
#[inline]
fn offset_of(sector: u64) -> Result<u64> {
    sector.checked_mul(SECTOR_SIZE).ok_or(EIO)
}

/// What the operations of the disk and of the DAX device work on.
#[pin_data]
pub(crate) struct Media {
    /// Who polls the list of bad blocks, once the disk is there.
    pub(crate) bad_entry: SetOnce<Dirent>,
    /// The DAX device, once there is one.
    pub(crate) owner: Arc<PgmapOwner>,
    region: Region,
    #[pin]
    pub(crate) memory: Memory<Arc<PgmapOwner>>,
}

impl Media {
    /// The memory, with the list of what is bad in it. Sleeps.
    pub(crate) fn new(
        memory: DeviceMemory<Arc<PgmapOwner>>,
        owner: Arc<PgmapOwner>,
        region: Region,
    ) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            try_pin_init!(Self {
                bad_entry: SetOnce::new(),
                owner,
                region,
                memory <- Memory::new(memory),
            }),
            GFP_KERNEL,
        )?;
        this.region.populate(this.badblocks(), this.memory.data());
        Ok(this)
    }

    /// How many bytes of data there are.
    pub(crate) fn len(&self) -> u64 {
        self.memory.data().len()
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn badblocks(&self) -> &Badblocks {
        self.memory.view().badblocks()
    }

    pub(crate) fn device(&self) -> &kernel::device::Device {
        self.memory.device()
    }

    /// Whether some of these bytes are known to be bad.
    #[inline]
    pub(crate) fn is_bad(&self, sector: u64, bytes: usize) -> bool {
        let sectors = bytes as u64 / SECTOR_SIZE;
        self.badblocks().first_bad(sector, sectors).is_some()
    }

    /// Copies from the medium, if it is not known to be bad, and does not turn out to be.
    #[inline]
    pub(crate) fn read(&self, sector: u64, to: Target<'_>) -> Result {
        if self.is_bad(sector, to.len()) {
            return Err(EIO);
        }
        self.memory.read(offset_of(sector)?, to)
    }

    /// Copies to the medium. What is known to be bad is cleared before, which is what a write is
    /// good for; that sleeps.
    #[inline]
    pub(crate) fn write(&self, sector: u64, from: Source<'_>) -> Result {
        if self.is_bad(sector, from.len()) {
            return self.write_over_bad(sector, from);
        }
        self.memory.write(offset_of(sector)?, from)
    }

    /// A page at a time: firmware does not clear more than that reliably.
    #[cold]
    fn write_over_bad(&self, sector: u64, from: Source<'_>) -> Result {
        for (offset, part) in from.parts(PAGE_SIZE) {
            let sector = sector.checked_add(offset as u64 / SECTOR_SIZE).ok_or(EIO)?;
            if self.is_bad(sector, part.len()) {
                self.clear(sector, part.len())?;
            }
            self.memory.write(offset_of(sector)?, part)?;
        }
        Ok(())
    }

    /// Clears all errors in these bytes, and forgets that they were bad.
    fn clear(&self, sector: u64, bytes: usize) -> Result {
        let cleared = self.clear_poison(sector, bytes).map_err(|_| EIO)?;
        self.forget_bad(sector, cleared);
        if cleared < bytes {
            return Err(EIO);
        }
        Ok(())
    }

    /// Has the device clear errors, and returns how many bytes are good from the sector on. They
    /// stay on the list of bad ones.
    pub(crate) fn clear_poison(&self, sector: u64, bytes: usize) -> Result<usize> {
        let offset = offset_of(sector)?;
        let phys = self.memory.data().start().checked_add(offset).ok_or(EIO)?;
        let cleared = self.region.clear_poison(phys, bytes).inspect_err(|error| {
            dev_dbg!(
                self.device(),
                "poison of {bytes} bytes at sector {sector} not cleared: {}\n",
                error.to_errno()
            );
        })?;
        if cleared != 0 {
            self.memory.mark_good(offset, cleared, bytes);
        }
        Ok(cleared)
    }

    /// Takes bytes from the list of bad ones, and tells who polls it.
    pub(crate) fn forget_bad(&self, sector: u64, bytes: usize) {
        let sectors = bytes as u64 / SECTOR_SIZE;
        if sectors != 0 {
            self.badblocks().clear(sector, sectors);
            self.notify_bad();
        }
    }

    fn notify_bad(&self) {
        if let Some(entry) = self.bad_entry.as_ref() {
            entry.notify();
        }
    }

    /// Asks anew what is bad. Sleeps.
    pub(crate) fn revalidate_poison(&self) {
        self.region.populate(self.badblocks(), self.memory.data());
        self.notify_bad();
    }
}
