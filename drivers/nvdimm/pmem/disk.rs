// SPDX-License-Identifier: GPL-2.0-only
// Derived from `drivers/nvdimm/pmem.c`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! The block device operations: bios, and the disk's attributes in sysfs.

use crate::{media::Media, THIS_MODULE};
use core::fmt::Write;
use kernel::{
    block::{
        badblocks::Badblocks,
        bio::{Bio, Data},
        disk,
    },
    c_str,
    prelude::*,
    sysfs,
};

impl disk::Operations for Media {
    const MODULE: &'static ThisModule = &THIS_MODULE;

    type Attribute = WriteCache;

    /// Carries out a bio. C: `pmem_submit_bio()`.
    #[inline]
    fn submit(&self, bio: Bio) {
        if bio.is_preflush() {
            if let Err(error) = self.region().flush() {
                return bio.end(Err(error));
            }
        }
        let result = self.transfer(&bio);
        if result.is_ok() && bio.is_fua() {
            self.region().flush_and_end(bio);
        } else {
            bio.end(result);
        }
    }

    fn badblocks(&self) -> Option<&Badblocks> {
        Some(Media::badblocks(self))
    }
}

impl Media {
    /// Copies the data of a bio. C: `pmem_do_read()`, `pmem_do_write()`.
    #[inline]
    fn transfer(&self, bio: &Bio) -> Result {
        let _accounting = bio.start_accounting();
        match bio.data() {
            Data::Write(mut segments) => segments.try_for_each(|(sector, from)| {
                // Clearing an error sleeps.
                if bio.is_nowait() && self.is_bad(sector, from.len()) {
                    return Err(EAGAIN);
                }
                self.write(sector, from)
            }),
            Data::Read(mut segments) => segments.try_for_each(|(sector, to)| self.read(sector, to)),
        }
    }
}

/// The attribute `dax/write_cache`: whether filesystems must write the CPU caches back.
pub(crate) struct WriteCache;

impl sysfs::Attribute<Media> for WriteCache {
    const GROUP: &'static CStr = c_str!("dax");
    const NAME: &'static CStr = c_str!("write_cache");

    /// Returns whether the attribute exists. C: `dax_visible()`.
    fn is_visible(media: &Media) -> bool {
        // Without instructions to write CPU caches back there is nothing to choose.
        cfg!(CONFIG_ARCH_HAS_PMEM_API) && media.owner.device().is_some()
    }

    /// Shows 1 or 0. C: `write_cache_show()`.
    fn show(media: &Media, page: &mut sysfs::Buffer) -> Result {
        let device = media.owner.device().ok_or(ENXIO)?;
        writeln!(page, "{}", u8::from(device.has_write_cache())).map_err(Error::from)
    }

    /// Parses a boolean and sets it. C: `write_cache_store()`.
    fn store(media: &Media, text: &CStr) -> Result {
        let device = media.owner.device().ok_or(ENXIO)?;
        device.set_write_cache(sysfs::kstrtobool(text)?);
        Ok(())
    }
}
