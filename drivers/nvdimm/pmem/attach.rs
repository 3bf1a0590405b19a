// SPDX-License-Identifier: GPL-2.0-only
// Derived from `drivers/nvdimm/pmem.c`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! Attaching a disk to a namespace, and detaching it.
//!
//! Each step owns the result of the step before, so an error at any step releases the results in
//! the opposite order. [`Pmem`] has the order in which a complete disk is detached.

use crate::{
    access::PgmapOwner,
    media::Media,
    refusal::{OrRefuse, Refusal},
};
use kernel::{
    block::disk::{Features, GenDisk, GenDiskBuilder, Limits},
    c_str, dax, dev_warn,
    mm::device_memory::{DeviceMemory, PgmapParams},
    nvdimm::{Context, EnabledNamespace, Flushing, Namespace, NdPfn},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
};

/// The layout of a namespace: which part of it gets pages, and where the data begins.
pub(crate) struct Layout {
    /// The parameters of the pages; `None` to map the memory without pages.
    pages: Option<PgmapParams>,
    /// The offset of the data from the start of the mapped range, in bytes.
    data_offset: u64,
}

impl Layout {
    /// Returns whether the namespace gets pages, which DAX needs.
    pub(crate) fn has_pages(&self) -> bool {
        self.pages.is_some()
    }

    /// Reads the layout of a namespace with pages from its info block. Sleeps.
    ///
    /// C: `nvdimm_setup_pfn()`.
    pub(crate) fn from_info_block(
        context: &Context<'_>,
        namespace: &Namespace<'_>,
        pfn: &NdPfn<'_>,
    ) -> Result<Self, Refusal> {
        let enabled = enable(namespace)?;
        let (settings, block) = (pfn.settings(), enabled.info_block());
        let (pages, data_offset) = pfn
            .set_up(enabled)
            .map_err(|error| Refusal::of_set_up(context, namespace, settings, block, error))?;
        Ok(Self {
            pages: Some(pages),
            data_offset,
        })
    }

    /// Returns the layout of a namespace without an info block: all of it is data.
    pub(crate) fn raw(context: &Context<'_>, namespace: &Namespace<'_>) -> Result<Self, Refusal> {
        let pages = if context.should_map_pages() {
            let range = namespace.range().or_refuse("its range is not valid")?;
            Some(PgmapParams::for_range(range).or_refuse("no memory")?)
        } else {
            None
        };
        Ok(Self {
            pages,
            data_offset: 0,
        })
    }
}

/// An attached disk. Dropping it detaches the disk, in the order of the fields:
///
/// 1. The DAX device: filesystems do not find it any more, its holder is notified, new accesses
///    fail, and accesses in progress end.
/// 2. The disk: filesystems are shut down, new bios fail, and bios in progress end.
/// 3. The media, which both share: the memory is unmapped, then its range is released.
///
/// C: `pmem_release_disk()`.
pub(crate) struct Pmem {
    _dax: Option<dax::Registration<Media>>,
    disk: GenDisk<Media>,
}

impl Pmem {
    /// Attaches a disk to the namespace. Sleeps. C: `pmem_attach_disk()`.
    pub(crate) fn attach(
        context: &Context<'_>,
        namespace: &Namespace<'_>,
        layout: Layout,
    ) -> Result<Self, Refusal> {
        let device = context.device();
        let range = namespace.range().or_refuse("its range is not valid")?;
        let limits = limits(context, namespace, layout.pages.is_some());
        // The log says which range.
        let reservation = namespace.reserve().map_err(Refusal::logged)?;
        let mut disk = GenDiskBuilder::alloc(&limits, context.node())
            .or_refuse("the disk could not be allocated")?;

        let mapped = layout.pages.as_ref().and_then(PgmapParams::range);
        let start = mapped.unwrap_or(range).start();
        let start = start
            .checked_add(layout.data_offset)
            .ok_or(ENXIO)
            .or_refuse("its data begin beyond all addresses")?;
        let owner = Arc::new(PgmapOwner::new(start), GFP_KERNEL).or_refuse("no memory")?;
        let memory = match layout.pages {
            Some(pages) => {
                DeviceMemory::map_pages(reservation, pages, layout.data_offset, owner.clone())
                    .map_err(|error| Refusal::of_mapping(range, layout.data_offset, error))?
            }
            None => DeviceMemory::map(reservation).or_refuse("the memory could not be mapped")?,
        };
        let media = Media::new(memory, owner, context.region()).or_refuse("no memory")?;

        namespace.name_disk(&mut disk);
        disk.set_capacity(media.len());
        let dax =
            register_dax(&media, &disk).or_refuse("the DAX device could not be registered")?;
        let disk = disk
            .add(device, media.clone())
            .or_refuse("the disk could not be added")?;
        // From here on bios are submitted.
        context.check_and_set_read_only(&disk);
        match disk.dirent(c_str!("badblocks")) {
            // This is the only place that populates it, and it runs once, so it cannot fail.
            Some(dirent) => {
                media.bb_dirent.populate(dirent);
            }
            None => dev_warn!(device, "'badblocks' notification disabled\n"),
        }
        Ok(Self { _dax: dax, disk })
    }

    /// Returns the disk.
    pub(crate) fn disk(&self) -> &GenDisk<Media> {
        &self.disk
    }

    /// Returns the media of the disk.
    pub(crate) fn media(&self) -> &Media {
        self.disk.data()
    }
}

/// Makes the info blocks of a namespace accessible.
pub(crate) fn enable<'a>(namespace: &'a Namespace<'_>) -> Result<EnabledNamespace<'a>, Refusal> {
    namespace
        .enable()
        .or_refuse("the memory of the info blocks could not be reserved and mapped")
}

/// Returns the limits and features of the disk. Warns if writes cannot be made durable.
fn limits(context: &Context<'_>, namespace: &Namespace<'_>, has_pages: bool) -> Limits {
    let mut features = Features::WRITE_CACHE | Features::SYNCHRONOUS;
    match context.region().flushing() {
        Flushing::Needed if cfg!(CONFIG_ARCH_HAS_UACCESS_FLUSHCACHE) => features |= Features::FUA,
        Flushing::NotNeeded if cfg!(CONFIG_ARCH_HAS_UACCESS_FLUSHCACHE) => (),
        _ => dev_warn!(
            context.device(),
            "unable to guarantee persistence of writes\n"
        ),
    }
    // The CPU copies the data. Only a flush by the host takes time.
    if context.region().is_synchronous() {
        features |= Features::NOWAIT;
    }
    if has_pages {
        features |= Features::DAX;
    }
    Limits {
        logical_block_size: namespace.sector_size(),
        physical_block_size: PAGE_SIZE as u32,
        max_hw_sectors: u32::MAX,
        features,
    }
}

/// Makes the DAX device of a disk, or returns `None` where DAX devices are not supported. Sleeps.
///
/// C: the `alloc_dax()` part of `pmem_attach_disk()`.
fn register_dax(
    media: &Arc<Media>,
    disk: &GenDiskBuilder<Media>,
) -> Result<Option<dax::Registration<Media>>> {
    let mut dax = match dax::Registration::new(media.clone()) {
        Ok(dax) => dax,
        Err(error) if error == EOPNOTSUPP => return Ok(None),
        Err(error) => return Err(error),
    };
    let device = dax.device();
    device.set_nocache();
    device.set_nomc();
    if media.region().is_synchronous() {
        device.set_synchronous();
    }
    device.set_write_cache(media.region().has_cache());
    media.owner.set_device(device.clone())?;
    dax.add_host(disk)?;
    Ok(Some(dax))
}
