// SPDX-License-Identifier: GPL-2.0

//! fsdev_dax: memory of the dax bus for a filesystem that needs no block device.
//!
//! device_dax gives all of `/dev/dax0.0` to programs that map it. A filesystem such as famfs wants to
//! place files there: its pages must be those of filesystem DAX, single and without an owner, and the
//! filesystem must be able to hold the device, find memory by page, and hear of memory that turns bad.
//! That is what this driver does. 6.12 has none in C; mainline has `drivers/dax/fsdev.c` since 2026.
//!
//! ```text
//!                    device_dax        kmem              fsdev_dax
//!  pages             generic           RAM               filesystem DAX
//!  used by           mmap() of         all programs      the holder: fs_dax_get(),
//!                    /dev/dax0.0                         dax_direct_access()
//! ```
//!
//! A device is bound by hand, as the mode `famfs` of newer versions of `daxctl` does it:
//!
//! ```text
//! modprobe fsdev_dax
//! echo dax0.0 > /sys/bus/dax/drivers/device_dax/unbind
//! echo dax0.0 > /sys/bus/dax/drivers/fsdev_dax/new_id
//! ```
//!
//! All of it is safe code. The abstractions are `rust/kernel/dax/bus.rs`, `dax.rs` and
//! `mm/device_memory.rs`; a holder in Rust, for tests and to start from, is
//! `samples/rust/rust_dax_holder.rs`. What differs from mainline's driver is listed in
//! `Documentation/driver-api/nvdimm/fsdev-rust.rst`.

use kernel::{
    c_str,
    dax::{
        bus::{Context, Driver, Memory, Part, Registration},
        Access, AccessMode, DaxDevice, Operations, PageOffset, RecoveryWrite,
    },
    dev_info,
    mm::{device_memory::FailureHandler, pfn::PfnRange},
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
};

module! {
    type: FsdevModule,
    name: "fsdev_dax",
    author: "rust-dax developers",
    description: "FSDEV DAX: device-dax memory for filesystems",
    license: "GPL",
}

/// The module: a registration of the driver while it is loaded.
struct FsdevModule {
    _driver: Registration<FsdevDriver>,
}

impl kernel::Module for FsdevModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _driver: Registration::new(module)?,
        })
    }
}

/// The driver.
struct FsdevDriver;

impl Driver for FsdevDriver {
    const NAME: &'static CStr = c_str!("fsdev_dax");

    type Data = Fsdev;

    /// Maps the memory of a device.
    fn probe(context: &Context<'_>) -> Result<Fsdev> {
        let device = context.dax_device()?;
        let memory = context.map_pages(|part| Owner {
            device: device.clone(),
            part: *part,
        })?;
        dev_info!(
            context.device(),
            "{} bytes for a filesystem\n",
            memory.len()
        );
        Ok(Fsdev { memory })
    }
}

/// A bound device.
struct Fsdev {
    memory: Memory<Owner>,
}

impl Operations for Fsdev {
    /// Returns access up to the end of the part that contains the page.
    fn direct_access(
        &self,
        at: PageOffset,
        _pages: usize,
        _mode: AccessMode,
    ) -> Result<Access<'_>> {
        self.memory.access(at)
    }

    fn zero_page(&self, at: PageOffset) -> Result {
        self.memory.zero_page(at)
    }

    /// Copies the data. The bus has no way to make a device clear its errors.
    fn recovery_write(&self, write: RecoveryWrite<'_>) -> usize {
        write.copy()
    }
}

/// The owner of the pages of a part: forwards memory failures to the holder of the device.
struct Owner {
    device: Arc<DaxDevice>,
    part: Part,
}

impl FailureHandler for Owner {
    fn memory_failure(&self, pfns: PfnRange, flags: i32) -> Result {
        let offset = self.part.offset_of(pfns.first()).ok_or(EINVAL)?;
        let len = (pfns.len() as u64).saturating_mul(PAGE_SIZE as u64);
        self.device.notify_failure(offset, len, flags)
    }
}
