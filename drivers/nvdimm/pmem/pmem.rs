// SPDX-License-Identifier: GPL-2.0-only
// Derived from `drivers/nvdimm/pmem.c`,
// Copyright (c) 2014-2015, Intel Corporation.
// Copyright (c) 2015, Christoph Hellwig <hch@lst.de>.
// Copyright (c) 2015, Boaz Harrosh <boaz@plexistor.com>.

//! nd_pmem, the driver for persistent memory. It makes a namespace available as a disk whose memory
//! filesystems can map.
//!
//! The bus offers a namespace to this driver first. The driver looks for an info block, and the
//! result decides between four cases:
//!
//! ```text
//!  probe(namespace) -- block of a BTT  --> -ENXIO; btt0.0 is offered --> probe: disk of atomic sectors
//!                   \- block of fsdax  --> -ENXIO; pfn0.0 is offered --> probe: disk with pages
//!                   \- block of devdax --> -ENXIO; dax0.0 is offered to another driver
//!                   \- none            --> raw: a disk without pages, or with, if the region
//!                                          wants pages for everything (e820, virtio)
//! ```
//!
//! The files of the driver:
//!
//! - `attach.rs`: [`Pmem`], the parts of a disk, how they are attached and in which order they are
//!   detached.
//! - `media.rs`: [`Media`](media::Media), the data and its bad sectors.
//! - `disk.rs`: the operations of the block device.
//! - `access.rs`: the operations of the DAX device.
//! - `refusal.rs`: why a device gets no disk.
//!
//! All of it is safe code. The abstractions that it uses are in `rust/kernel/nvdimm.rs`, `dax.rs`,
//! `block/disk.rs` and `mm/device_memory.rs`.
//!
//! Deliberate differences from `drivers/nvdimm/pmem.c` are listed in
//! `Documentation/driver-api/nvdimm/pmem-rust.rst`.

use kernel::{
    c_str,
    nvdimm::{Btt, Claim, Context, Driver, DriverFlags, EnabledNamespace, Event, Registration},
    prelude::*,
};

mod access;
mod attach;
mod disk;
mod media;
mod refusal;

use attach::{Layout, Pmem};
use refusal::{OrRefuse, Refusal};

module! {
    type: PmemModule,
    name: "nd_pmem",
    author: "rust-dax developers",
    description: "NVDIMM Persistent Memory Driver",
    license: "GPL v2",
    alias: ["pmem", "nd:t4*", "nd:t5*"],
}

/// The module: a registration of the driver while it is loaded.
struct PmemModule {
    _driver: Registration<PmemDriver>,
}

impl kernel::Module for PmemModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _driver: Registration::new(module)?,
        })
    }
}

/// The driver. C: `nd_pmem_driver`.
struct PmemDriver;

/// The disk that is attached to a device.
enum Attached {
    /// A disk of atomic sectors, with the operations of libnvdimm.
    Btt(Btt),
    /// A disk with the operations of this driver.
    Disk(Pmem),
}

impl Driver for PmemDriver {
    const NAME: &'static CStr = c_str!("nd_pmem");
    const FLAGS: DriverFlags = DriverFlags::NAMESPACE_IO.or(DriverFlags::NAMESPACE_PMEM);

    type Data = Attached;

    /// Attaches a disk to a device. C: `nd_pmem_probe()`.
    fn probe(context: &Context<'_>) -> Result<Attached> {
        attach(context).map_err(|refusal| refusal.log(context.device()))
    }

    /// Detaches the disk. C: `nd_pmem_remove()`.
    fn remove(context: &Context<'_>, data: Attached) {
        // Dropping it comes first, so that the last writes of filesystems are flushed as well.
        drop(data);
        context.flush_region();
    }

    /// Flushes the region. C: `nd_pmem_shutdown()`.
    fn shutdown(context: &Context<'_>, _data: &Attached) {
        context.flush_region();
    }

    /// Updates the list of bad sectors (C: `pmem_revalidate_poison()`) or the read-only state (C:
    /// `pmem_revalidate_region()`). C: `nd_pmem_notify()`.
    fn notify(context: &Context<'_>, data: &Attached, event: Event) {
        match (event, data) {
            (Event::RevalidatePoison, Attached::Btt(btt)) => btt.revalidate_poison(),
            (Event::RevalidatePoison, Attached::Disk(pmem)) => pmem.media().revalidate_poison(),
            (Event::RevalidateRegion, Attached::Btt(btt)) => btt.check_and_set_read_only(),
            (Event::RevalidateRegion, Attached::Disk(pmem)) => {
                context.check_and_set_read_only(pmem.disk());
            }
            (Event::Unknown(event), _) => {
                kernel::warn_once!("nd_pmem: notify: unknown event: {event}");
            }
        }
    }
}

/// Attaches a disk to a device, or returns why not.
fn attach(context: &Context<'_>) -> Result<Attached, Refusal> {
    let namespace = context.namespace().map_err(Refusal::of_namespace)?;
    let layout = match context.claim() {
        Claim::Btt(claim) => {
            return namespace
                .attach_btt(&claim)
                .map(Attached::Btt)
                .or_refuse("the BTT could not be attached")
        }
        Claim::Pfn(pfn) => Layout::from_info_block(context, &namespace, &pfn)?,
        Claim::None => {
            let enabled = attach::enable(&namespace)?;
            // The device that has claimed the namespace is offered to drivers separately.
            if enabled.probe_btt().is_ok() {
                return Err(Refusal::logged(ENXIO));
            }
            // One after the other: the second must not look at a namespace that the first has
            // claimed.
            for probe in [EnabledNamespace::probe_pfn, EnabledNamespace::probe_dax] {
                match probe(&enabled) {
                    Ok(()) => return Err(Refusal::logged(ENXIO)),
                    // There is an info block of that kind, but it cannot be used here.
                    Err(error) if error == EOPNOTSUPP => {
                        return Err(match enabled.info_block() {
                            Ok(Some(block)) => Refusal::of_block(&namespace, &block, error),
                            _ => Refusal::logged(error),
                        })
                    }
                    Err(_) => (),
                }
            }
            let block = enabled.info_block();
            drop(enabled);
            let layout = Layout::raw(context, &namespace)?;
            if !layout.has_pages() {
                refusal::log_without_pages(context.device(), &namespace, block);
            }
            layout
        }
    };
    Pmem::attach(context, &namespace, layout).map(Attached::Disk)
}
