// SPDX-License-Identifier: GPL-2.0-only

//! The DAX side: direct access, writing over bad memory, and what happens when memory turns bad.

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

/// Access to a page and what follows it. Bad memory is not among what it gives, but for those who
/// want to write over it.
fn direct_access(
    view: &PmemDevice,
    at: PageOffset,
    pages: usize,
    mode: AccessMode,
) -> Result<Access<'_>> {
    let access = view.access(at)?;
    let bad = view.badblocks();
    if bad.is_empty() {
        return Ok(access);
    }
    // What was not looked at may be bad, so no more than what was asked for.
    let access = access.at_most(pages);
    let sector = sector_of(at)?;
    let sectors = (access.pages() as u64).saturating_mul(PAGE_SIZE as u64 / SECTOR_SIZE);
    let Some(first_bad) = bad.first_bad(sector, sectors) else {
        return Ok(access);
    };
    match mode {
        AccessMode::Normal => Err(EHWPOISON),
        // The pages before the bad one, or that alone: firmware does not clear large ranges
        // reliably.
        AccessMode::Recovery => {
            let good = first_bad.saturating_sub(sector) / (PAGE_SIZE as u64 / SECTOR_SIZE);
            Ok(access.at_most(usize::try_from(good)?.max(1)))
        }
    }
}

fn sector_of(at: PageOffset) -> Result<u64> {
    at.bytes().map(|bytes| bytes / SECTOR_SIZE).ok_or(EINVAL)
}

impl dax::Operations for Media {
    #[inline]
    fn direct_access(&self, at: PageOffset, pages: usize, mode: AccessMode) -> Result<Access<'_>> {
        self.memory.view().direct_access(at, pages, mode)
    }

    fn zero_page(&self, at: PageOffset) -> Result {
        self.write(sector_of(at)?, Source::zero_page())
    }

    /// The order matters: the errors go first, then the data comes, and the pages leave the list of
    /// bad ones last. Until then readers are refused, who would read neither old nor new data.
    /// Other writers wait for the filesystem's lock.
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
                "poison cannot be written over by {} bytes at {offset} of a page\n",
                write.len()
            );
            return 0;
        }
        match self.clear_poison(sector, len) {
            // 0 is a device that has no errors to clear.
            Ok(cleared) if cleared == 0 || cleared >= len => {
                let copied = write.copy();
                self.forget_bad(sector, cleared);
                copied
            }
            Ok(cleared) => {
                dev_dbg!(
                    self.device(),
                    "poison cleared in {cleared} of {len} bytes\n"
                );
                0
            }
            Err(_) => 0,
        }
    }
}

/// Who is told of memory that turned bad: the filesystem that has the DAX device.
///
/// The pages are there before the DAX device is, and longer, so this may have nobody to tell, or a
/// device that is dead.
pub(crate) struct PgmapOwner {
    device: SetOnce<Arc<DaxDevice>>,
    /// Where the data begins, in physical memory.
    start: u64,
}

impl PgmapOwner {
    pub(crate) fn new(start: u64) -> Self {
        Self {
            device: SetOnce::new(),
            start,
        }
    }

    /// The device is there.
    pub(crate) fn set_device(&self, device: Arc<DaxDevice>) -> Result {
        self.device.populate(device).then_some(()).ok_or(EBUSY)
    }

    pub(crate) fn device(&self) -> Option<&DaxDevice> {
        self.device.as_ref().map(|device| &**device)
    }
}

impl FailureHandler for PgmapOwner {
    fn memory_failure(&self, frames: PfnRange, flags: i32) -> Result {
        let offset = frames
            .first()
            .phys()
            .and_then(|p| p.checked_sub(self.start));
        let len = (frames.len() as u64).checked_mul(PAGE_SIZE as u64);
        match (self.device(), offset, len) {
            (Some(device), Some(offset), Some(len)) => device.notify_failure(offset, len, flags),
            // Nobody has it yet, or it is no data.
            _ => Err(EOPNOTSUPP),
        }
    }
}
