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
        if let Some(to) = self.bytes.lock().get_mut(of_slot(slot)) {
            to.copy_from_slice(page);
        }
    }

    fn read(&self, slot: usize, page: &mut PageBytes) {
        if let Some(from) = self.bytes.lock().get(of_slot(slot)) {
            page.copy_from_slice(from);
        }
    }
}

/// The device.
struct Migrate;

kernel::misc_device!(Migrate);

/// Four numbers of 64 bits.
type Bytes = [u8; 32];

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
        let mut words = bytes.chunks_exact_mut(8);
        let mut next = || words.next().ok_or(EINVAL);
        let (address, len) = (number(next()?), number(next()?));
        let moved = memory.migrate_current(address, len)?;
        next()?.copy_from_slice(&moved.to_ne_bytes());
        next()?.copy_from_slice(&memory.used().to_ne_bytes());
        writer.write_slice(&bytes)?;
        Ok(0)
    }
}

fn number(word: &[u8]) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(word);
    usize::from_ne_bytes(bytes)
}
