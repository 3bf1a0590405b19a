// SPDX-License-Identifier: GPL-2.0

//! A second driver for namespaces of persistent memory: it makes a read-only disk of a namespace.
//!
//! The disk allows to inspect a namespace before anything changes its contents. The driver shows
//! the parts of a driver as `rust/kernel/nvdimm.rs` lists them: each value that `probe` below
//! creates owns a resource, and releases it when the device is unbound or a later step fails. There
//! is no error path and no `unsafe`.
//!
//! No device is bound to this driver automatically. A namespace without an info block (mode `raw`
//! of `ndctl`) is bound by hand:
//!
//! ```text
//! modprobe rust_nd_rom
//! echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind
//! echo namespace0.0 > /sys/bus/nd/drivers/rust_nd_rom/bind
//! ```
//!
//! The device that claims a namespace in mode `sector` (`btt0.0`) is bound in the same way. Its disk,
//! which can be written to, is that of libnvdimm. A BTT has one disk, so attaching it twice is an
//! error, which the driver requires.

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
    nvdimm::{Btt, Claim, Context, Driver, DriverFlags, Event, Registration},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    sysfs,
};

module! {
    type: RomModule,
    name: "rust_nd_rom",
    author: "rust-dax developers",
    description: "Rust sample: read-only disks of persistent memory",
    license: "GPL",
}

/// The module: a registration of the driver while it is loaded.
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

/// The disk of a device.
enum Attached {
    /// The sectors of a BTT.
    Sectors(Btt),
    /// All bytes of a namespace.
    Rom(#[expect(dead_code, reason = "it is dropped")] GenDisk<Rom>),
}

/// The driver.
struct RomDriver;

impl Driver for RomDriver {
    const NAME: &'static CStr = c_str!("rust_nd_rom");
    const FLAGS: DriverFlags = DriverFlags::NAMESPACE_IO.or(DriverFlags::NAMESPACE_PMEM);

    type Data = Attached;

    /// Adds the disk of a namespace.
    fn probe(context: &Context<'_>) -> Result<Attached> {
        let namespace = match context.claim() {
            Claim::None => context.namespace()?,
            Claim::Btt(claim) => {
                let namespace = context.namespace()?;
                let btt = namespace.attach_btt(&claim)?;
                return match namespace.attach_btt(&claim) {
                    Err(EBUSY) => Ok(Attached::Sectors(btt)),
                    _ => Err(EINVAL),
                };
            }
            // This claim is for nd_pmem.
            Claim::Pfn(_) => return Err(ENODEV),
        };
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
            .map(Attached::Rom)
    }

    /// Removes the disk, by dropping it.
    fn remove(_context: &Context<'_>, _attached: Attached) {}

    fn shutdown(_context: &Context<'_>, _attached: &Attached) {}

    /// Makes the disk of a BTT read-only or writable, as the region is. The other is read-only for
    /// good.
    fn notify(_context: &Context<'_>, attached: &Attached, event: Event) {
        match (event, attached) {
            (Event::RevalidateRegion, Attached::Sectors(btt)) => btt.check_and_set_read_only(),
            (Event::RevalidatePoison, Attached::Sectors(btt)) => btt.revalidate_poison(),
            _ => (),
        }
    }
}

/// The data of the operations of the disk.
struct Rom {
    memory: DeviceMemory<()>,
    /// The number of bios that were read.
    reads: AtomicU64,
}

impl disk::Operations for Rom {
    const MODULE: &'static ThisModule = &THIS_MODULE;

    type Attribute = Reads;

    /// Copies from the memory for a read, and fails a write.
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

/// The attribute `rom/reads`: the number of bios that were read.
struct Reads;

impl sysfs::Attribute<Rom> for Reads {
    const GROUP: &'static CStr = c_str!("rom");
    const NAME: &'static CStr = c_str!("reads");
    const MODE: u16 = 0o444;

    fn show(rom: &Rom, buffer: &mut sysfs::Buffer) -> Result {
        writeln!(buffer, "{}", rom.reads.load(Ordering::Relaxed)).map_err(Error::from)
    }
}
