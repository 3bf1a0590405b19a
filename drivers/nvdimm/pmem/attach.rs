// SPDX-License-Identifier: GPL-2.0-only

//! Putting a disk together. Each step owns what the one before has made, so wherever it fails, what
//! is there goes in the opposite order.

use crate::{access::PgmapOwner, media::Media};
use kernel::{
    block::disk::{Features, GenDisk, GenDiskBuilder, Limits},
    c_str, dax, dev_warn,
    mm::device_memory::{Blueprint, DeviceMemory},
    nvdimm::{Context, Flushing, Namespace, NdPfn},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
};

/// How the memory of a namespace is to be mapped.
pub(crate) struct Layout {
    /// The pages for it; `None`: without pages.
    pages: Option<Blueprint>,
    /// Where the data begins, from the start of what is mapped on, in bytes.
    data_offset: u64,
}

/// As the info block of a device with pages says. Sleeps.
pub(crate) fn layout_of_pfn(namespace: &Namespace<'_>, pfn: &NdPfn<'_>) -> Result<Layout> {
    let enabled = namespace.enable()?;
    let (pages, block) = pfn.set_up(enabled)?;
    Ok(Layout {
        pages: Some(pages),
        data_offset: block.data_offset,
    })
}

/// For a namespace without an info block.
pub(crate) fn raw_layout(context: &Context<'_>, namespace: &Namespace<'_>) -> Result<Layout> {
    let pages = if context.should_map_pages() {
        Some(Blueprint::for_range(namespace.range()?)?)
    } else {
        None
    };
    Ok(Layout {
        pages,
        data_offset: 0,
    })
}

/// A disk. The order of the fields is the order in which it goes:
///
/// 1. no filesystem finds the DAX device, its holder is told, new access fails, old is over;
/// 2. the disk: filesystems are shut down, bios are refused, those under way are over;
/// 3. the media, which was shared by both: memory unmapped, then its range given back.
pub(crate) struct Pmem {
    _dax: Option<dax::Registration<Media>>,
    disk: GenDisk<Media>,
}

impl Pmem {
    /// Makes a disk of the namespace. Sleeps.
    pub(crate) fn attach(
        context: &Context<'_>,
        namespace: &Namespace<'_>,
        layout: Layout,
    ) -> Result<Self> {
        let device = context.device();
        let range = namespace.range()?;
        let limits = limits(context, namespace, layout.pages.is_some());
        let reservation = namespace.reserve()?;
        let mut disk = GenDiskBuilder::alloc(&limits, context.node())?;

        let mapped = layout.pages.as_ref().and_then(Blueprint::range);
        let start = mapped.unwrap_or(range).start();
        let start = start.checked_add(layout.data_offset).ok_or(ENXIO)?;
        let owner = Arc::new(PgmapOwner::new(start), GFP_KERNEL)?;
        let memory = match layout.pages {
            Some(pages) => {
                DeviceMemory::map_pages(reservation, pages, layout.data_offset, owner.clone())?
            }
            None => DeviceMemory::map(reservation)?,
        };
        let media = Media::new(memory, owner, context.region())?;

        namespace.name_disk(&mut disk);
        disk.set_capacity(media.len());
        let dax = register_dax(&media, &disk)?;
        let disk = disk.add(device, media.clone())?;
        // Bios are coming in from here on.
        context.check_and_set_read_only(&disk);
        match disk.dirent(c_str!("badblocks")) {
            // No other code populates it, so this cannot fail.
            Some(entry) => {
                media.bad_entry.populate(entry);
            }
            None => dev_warn!(device, "'badblocks' notification disabled\n"),
        }
        Ok(Self { _dax: dax, disk })
    }

    pub(crate) fn disk(&self) -> &GenDisk<Media> {
        &self.disk
    }

    pub(crate) fn media(&self) -> &Media {
        self.disk.data()
    }
}

/// What the block layer may ask of the disk. Warns if data cannot be made durable.
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
    // Bytes are copied by the CPU. Only a flush that the host has to do takes time.
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

/// Makes the DAX device of a disk; `None` where there cannot be any.
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
    device.set_machine_checks();
    if media.region().is_synchronous() {
        device.set_synchronous();
    }
    device.set_write_cache(media.region().has_cache());
    media.owner.set_device(device.clone())?;
    dax.add_host(disk)?;
    Ok(Some(dax))
}
