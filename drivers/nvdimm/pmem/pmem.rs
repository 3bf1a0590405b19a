// SPDX-License-Identifier: GPL-2.0-only

//! The driver for persistent memory: a namespace becomes a disk that filesystems can map.
//!
//! A namespace is offered to this driver first. It looks for an info block, and depending on that
//! one of four things happens:
//!
//! ```text
//!  probe(namespace) -- block of a BTT  --> -ENXIO; btt0.0 is offered --> probe: disk of atomic sectors
//!                   \- block of fsdax  --> -ENXIO; pfn0.0 is offered --> probe: disk with pages
//!                   \- block of devdax --> -ENXIO; dax0.0 is offered to another driver
//!                   \- none            --> raw: a disk without pages, or with, if the region
//!                                          wants pages for everything (e820, virtio)
//! ```
//!
//! What a disk consists of, and in which order it goes, is [`Pmem`]. What holds the data is
//! [`Media`] (`media.rs`); `disk.rs` has the side of the block layer, `access.rs` that of DAX, and
//! `attach.rs` puts a disk together. All of it is safe code: the kernel crate's
//! abstractions are in `rust/kernel/nvdimm.rs`, `dax.rs`, `block/disk.rs` and `mm/device_memory.rs`.
//!
//! Where this differs from `drivers/nvdimm/pmem.c` on purpose, see
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

use attach::Pmem;

module! {
    type: PmemModule,
    name: "nd_pmem",
    author: "rust-dax developers",
    description: "NVDIMM Persistent Memory Driver",
    license: "GPL v2",
    alias: ["pmem", "nd:t4*", "nd:t5*"],
}

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

struct PmemDriver;

/// What a device was made into.
enum Attached {
    /// A disk of atomic sectors, which libnvdimm looks after.
    Btt(Btt),
    /// A disk of our own.
    Disk(Pmem),
}

impl Driver for PmemDriver {
    const NAME: &'static CStr = c_str!("nd_pmem");
    const FLAGS: DriverFlags = DriverFlags::NAMESPACE_IO.or(DriverFlags::NAMESPACE_PMEM);

    type Data = Attached;

    fn probe(context: &Context<'_>) -> Result<Attached> {
        let namespace = context.namespace()?;
        let layout = match context.claim() {
            Claim::Btt(claim) => return namespace.attach_btt(&claim).map(Attached::Btt),
            Claim::Pfn(pfn) => attach::layout_of_pfn(&namespace, &pfn)?,
            Claim::None => {
                let enabled = namespace.enable()?;
                // Whoever has claimed it is offered to drivers by itself.
                if enabled.probe_btt().is_ok() {
                    return Err(ENXIO);
                }
                // One after the other: what the first has claimed is not for the second to look at.
                for probe in [EnabledNamespace::probe_pfn, EnabledNamespace::probe_dax] {
                    match probe(&enabled) {
                        Ok(()) => return Err(ENXIO),
                        // It is meant for that, but cannot be it here.
                        Err(error) if error == EOPNOTSUPP => return Err(error),
                        Err(_) => (),
                    }
                }
                drop(enabled);
                attach::raw_layout(context, &namespace)?
            }
        };
        Pmem::attach(context, &namespace, layout).map(Attached::Disk)
    }

    fn remove(context: &Context<'_>, data: Attached) {
        // First, so that what the filesystems wrote at the very end is flushed as well.
        drop(data);
        context.flush_region();
    }

    fn shutdown(context: &Context<'_>, _data: &Attached) {
        context.flush_region();
    }

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
