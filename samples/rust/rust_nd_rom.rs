// SPDX-License-Identifier: GPL-2.0

//! A second driver for namespaces of persistent memory: a disk that can be read and not written.
//!
//! It is of use to whoever wants to look at a namespace before anything changes what is in it, and
//! it shows what a driver takes. Each line of `probe` below owns something, and gives it back when
//! the device goes or a later line fails; there is no clean-up to be written, and no `unsafe`.
//!
//! No device asks for this driver by itself. One without an info block (`ndctl`'s mode `raw`) is
//! given to it by hand:
//!
//! ```text
//! modprobe rust_nd_rom
//! echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind
//! echo namespace0.0 > /sys/bus/nd/drivers/rust_nd_rom/bind
//! ```

use core::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};
use kernel::{
    block::{
        bio::{Bio, Data, SECTOR_SIZE},
        disk::{self, Features, GenDisk, GenDiskBuilder, Limits},
    },
    c_str,
    mm::device_memory::DeviceMemory,
    nvdimm::{Claim, Context, Driver, DriverFlags, Event, Registration},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    sysfs,
};

module! {
    type: RomModule,
    name: "rust_nd_rom",
    author: "rust-dax developers",
    description: "Rust sample: a namespace of persistent memory as a disk to be read only",
    license: "GPL",
}

struct RomModule {
    _driver: Registration<RomDriver>,
}

impl kernel::Module for RomModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _driver: Registration::new(module)?,
        })
    }
}

struct RomDriver;

impl Driver for RomDriver {
    const NAME: &'static CStr = c_str!("rust_nd_rom");
    const FLAGS: DriverFlags = DriverFlags::NAMESPACE_IO.or(DriverFlags::NAMESPACE_PMEM);

    type Data = GenDisk<Rom>;

    fn probe(context: &Context<'_>) -> Result<GenDisk<Rom>> {
        let Claim::None = context.claim() else {
            // What claims a namespace has a driver already.
            return Err(ENODEV);
        };
        let namespace = context.namespace()?;
        let memory = DeviceMemory::map(namespace.reserve()?)?;
        let limits = Limits {
            logical_block_size: namespace.sector_size(),
            physical_block_size: PAGE_SIZE as u32,
            max_hw_sectors: u32::MAX,
            features: Features::SYNCHRONOUS | Features::NOWAIT,
        };
        let mut disk = GenDiskBuilder::alloc(&limits, context.node())?;
        namespace.name_disk(&mut disk);
        disk.set_capacity(memory.data().len());
        disk.set_read_only();
        let rom = Rom {
            memory,
            reads: AtomicU64::new(0),
        };
        disk.add(context.device(), Arc::new(rom, GFP_KERNEL)?)
    }

    fn remove(_context: &Context<'_>, _disk: GenDisk<Rom>) {}

    fn shutdown(_context: &Context<'_>, _disk: &GenDisk<Rom>) {}

    fn notify(_context: &Context<'_>, _disk: &GenDisk<Rom>, _event: Event) {}
}

/// What the disk works on.
struct Rom {
    memory: DeviceMemory<()>,
    /// How many bios were read.
    reads: AtomicU64,
}

impl disk::Operations for Rom {
    const MODULE: &'static ThisModule = &THIS_MODULE;

    type Attribute = Reads;

    fn submit(&self, bio: Bio) {
        let result = match bio.data() {
            Data::Read(mut segments) => segments.try_for_each(|(sector, to)| {
                let offset = sector.checked_mul(SECTOR_SIZE).ok_or(EIO)?;
                self.memory.read(offset, to)
            }),
            Data::Write(_) => Err(EIO),
        };
        if result.is_ok() {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        bio.end(result);
    }
}

/// `rom/reads`: how many bios were read.
struct Reads;

impl sysfs::Attribute<Rom> for Reads {
    const GROUP: &'static CStr = c_str!("rom");
    const NAME: &'static CStr = c_str!("reads");
    const MODE: u16 = 0o444;

    fn show(rom: &Rom, page: &mut sysfs::Buffer) -> Result {
        writeln!(page, "{}", rom.reads.load(Ordering::Relaxed)).map_err(Error::from)
    }
}
