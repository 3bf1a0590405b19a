// SPDX-License-Identifier: GPL-2.0

//! A device with memory that the CPU cannot address, to which a program moves its pages.
//!
//! Each open file has 1,024 pages of "device memory": memory of vmalloc, which stands for what a GPU has.
//! The program passes a range of its addresses by an ioctl; the anonymous pages there that nothing else
//! uses are copied to the device and freed. When the program touches one of them, it comes back; when the
//! file is closed, all do.
//!
//! ```text
//! struct { u64 address, length, moved, used; };    the last two are the answer, in pages
//! ioctl(fd, _IOWR('M', 1, ...), &request)
//! ```
//!
//! There is no `unsafe`: the driver copies pages, and the rest, which is migration, faults and the
//! ownership of slots, is that of `kernel::mm::migrate`.

use kernel::{
    c_str,
    ffi::c_int,
    ioctl::_IOWR,
    miscdevice::{MiscDevice, Registration},
    mm::migrate::{PageBytes, PrivateMemory, Store},
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, Mutex},
    uaccess::UserSlice,
};

module! {
    type: MigrateModule,
    name: "rust_migrate",
    author: "rust-dax developers",
    description: "Pages of programs in device-private memory",
    license: "GPL",
}

/// The pages of an open file.
const SLOTS: usize = 1024;

/// The module: the device while it is loaded.
struct MigrateModule {
    _device: Registration<Migrate>,
}

impl kernel::Module for MigrateModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _device: Registration::new()?,
        })
    }
}

/// The "device memory" of an open file.
#[pin_data]
struct Vram {
    #[pin]
    bytes: Mutex<VVec<u8>>,
}

impl Vram {
    fn new() -> Result<Arc<Self>> {
        let mut bytes = VVec::new();
        bytes.extend_with(SLOTS * PAGE_SIZE, 0, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                bytes <- new_mutex!(bytes),
            }),
            GFP_KERNEL,
        )
    }
}

/// Returns the bytes of a slot; the bounds come from [`SLOTS`].
fn of_slot(slot: usize) -> core::ops::Range<usize> {
    let start = slot.saturating_mul(PAGE_SIZE);
    start..start.saturating_add(PAGE_SIZE)
}

impl Store for Vram {
    fn write(&self, slot: usize, page: &PageBytes) {
        let mut bytes = self.bytes.lock();
        let to = bytes.get_mut(of_slot(slot)).map(<&mut PageBytes>::try_from);
        if let Some(Ok(to)) = to {
            *to = *page;
        }
    }

    fn read(&self, slot: usize, page: &mut PageBytes) {
        let bytes = self.bytes.lock();
        let from = bytes.get(of_slot(slot)).map(<&PageBytes>::try_from);
        if let Some(Ok(from)) = from {
            *page = *from;
        }
    }
}

/// The device.
struct Migrate;

kernel::misc_device!(Migrate);

/// Four numbers of 64 bits, and the offsets of the answer in bytes.
type Bytes = [u8; 32];
const MOVED: usize = 16;
const USED: usize = 24;

impl Migrate {
    /// The only command.
    const COMMAND: u32 = _IOWR::<Bytes>(b'M' as u32, 1);
}

impl MiscDevice for Migrate {
    const NAME: &'static CStr = c_str!("rust_migrate");

    type File = PrivateMemory<Vram>;

    fn open() -> Result<Self::File> {
        PrivateMemory::new(SLOTS, Vram::new()?)
    }

    fn ioctl(memory: &Self::File, command: u32, argument: usize) -> Result<c_int> {
        if command != Self::COMMAND {
            return Err(ENOTTY);
        }
        let mut bytes: Bytes = [0; 32];
        let (mut reader, mut writer) = UserSlice::new(argument, bytes.len()).reader_writer();
        reader.read_slice(&mut bytes)?;
        let number = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map(|word| usize::from_ne_bytes(*word)).ok_or(EINVAL)
        };
        let moved = memory.migrate_current(number(0)?, number(8)?)?;
        for (at, number) in [(MOVED, moved), (USED, memory.used())] {
            let rest = bytes.get_mut(at..).ok_or(EINVAL)?;
            *rest.first_chunk_mut().ok_or(EINVAL)? = number.to_ne_bytes();
        }
        writer.write_slice(&bytes)?;
        Ok(0)
    }
}
