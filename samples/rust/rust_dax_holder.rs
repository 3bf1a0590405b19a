// SPDX-License-Identifier: GPL-2.0

//! A holder of DAX devices: what a filesystem does with the memory that fsdev_dax serves, by ioctls.
//!
//! A program opens the device, and names a DAX device by the number of its node. The open file is the
//! holder of that until it is closed. Meanwhile it copies from and to the memory, by page, and counts the
//! failures that it hears of.
//!
//! ```text
//! modprobe fsdev_dax rust_dax_holder
//! # Bind dax0.0 to fsdev_dax: see drivers/dax/fsdev/fsdev.rs.
//! # Commands: see Command below, and tools/testing/guest/src/tests/fsdev.rs for a program.
//! ```
//!
//! A filesystem does more: it makes its files' mappings of the memory, through fs/dax. There is no
//! `unsafe`: the types know that the device has this holder and is alive while its memory is used.

use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{
    c_str,
    dax::{DeviceNumber, Held, HolderOperations, PageOffset, FLAG_REMOVED},
    ffi::c_int,
    ioctl::_IOWR,
    miscdevice::{MiscDevice, Registration},
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, Mutex},
    uaccess::UserSlice,
};

module! {
    type: HolderModule,
    name: "rust_dax_holder",
    author: "rust-dax developers",
    description: "Holder of DAX devices",
    license: "GPL",
}

/// The module: the device while it is loaded.
struct HolderModule {
    _device: Registration<DaxHolder>,
}

impl kernel::Module for HolderModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _device: Registration::new()?,
        })
    }
}

/// What a program passes: four numbers of 64 bits, some of which are answers.
///
/// ```text
/// struct { u64 a, b, c, d; };
/// ```
type Request = [u64; 4];

/// The size of a request, in bytes.
const REQUEST: usize = core::mem::size_of::<Request>();

/// The commands, by number. All take a [`Request`].
#[derive(Clone, Copy)]
enum Command {
    /// Become the holder of the device with major `a` and minor `b`.
    Hold = 1,
    /// Copy `c` bytes from byte `b` of page `a` on to the address `d`. (They may be in several pages.)
    Read = 2,
    /// Copy them from the address `d`, and make them durable.
    Write = 3,
    /// Fill page `a` with zeroes.
    Zero = 4,
    /// Answer with the number of failures in `a`, the bytes from `b`, `c` in number, of the last one, and
    /// in `d` how often the device was removed.
    Failures = 5,
    /// Write back what programs have stored in `c` bytes from byte `b` of page `a` on.
    Flush = 6,
    /// Answer with the number of contiguous pages from page `a` on in `b`, and the PFN of the first in
    /// `c`. `b` is how many are wanted.
    Look = 7,
}

impl Command {
    const ALL: [Self; 7] = [
        Self::Hold,
        Self::Read,
        Self::Write,
        Self::Zero,
        Self::Failures,
        Self::Flush,
        Self::Look,
    ];

    /// Returns the command of an ioctl's number.
    fn parse(number: u32) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|command| number == _IOWR::<Request>(b'H' as u32, *command as u32))
            .ok_or(ENOTTY)
    }
}

/// What a holder has heard of.
#[derive(Default)]
struct Heard {
    failures: AtomicU64,
    offset: AtomicU64,
    len: AtomicU64,
    removals: AtomicU64,
}

/// The operations of the holder, which lead to what it has heard of.
struct Listener(Arc<Heard>);

impl HolderOperations for Listener {
    fn notify_failure(&self, offset: u64, len: u64, flags: i32) -> Result {
        if flags & FLAG_REMOVED != 0 {
            self.0.removals.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.0.offset.store(offset, Ordering::Relaxed);
        self.0.len.store(len, Ordering::Relaxed);
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        // A filesystem would find its files there, and kill the tasks that map them. Here are none.
        Ok(())
    }
}

/// The device.
struct DaxHolder;

kernel::misc_device!(DaxHolder);

/// An open file.
struct File {
    held: Pin<KBox<Mutex<Option<Held<Listener>>>>>,
    heard: Arc<Heard>,
}

impl MiscDevice for DaxHolder {
    const NAME: &'static CStr = c_str!("rust_dax_holder");

    type File = File;

    fn open() -> Result<File> {
        Ok(File {
            held: KBox::pin_init(new_mutex!(None), GFP_KERNEL)?,
            heard: Arc::new(Heard::default(), GFP_KERNEL)?,
        })
    }

    fn ioctl(file: &File, command: u32, argument: usize) -> Result<c_int> {
        let command = Command::parse(command)?;
        let mut bytes = [0; REQUEST];
        let (mut reader, mut writer) = UserSlice::new(argument, REQUEST).reader_writer();
        reader.read_slice(&mut bytes)?;
        let mut words = bytes.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_ne_bytes(bytes)
        });
        let mut request: Request = [0; 4];
        request.fill_with(|| words.next().unwrap_or(0));
        file.answer(command, &mut request)?;
        for (word, bytes) in request.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        writer.write_slice(&bytes)?;
        Ok(0)
    }
}

impl File {
    /// Does what a program asks for, and stores the answers.
    fn answer(&self, command: Command, request: &mut Request) -> Result {
        let [a, b, c, d] = request;
        match command {
            Command::Hold => self.hold(*a, *b),
            Command::Read => self.copy(*a, *b, *c, *d, false),
            Command::Write => self.copy(*a, *b, *c, *d, true),
            Command::Zero => self.with(|held| held.live()?.zero_page(PageOffset::new(*a))),
            Command::Failures => {
                *a = self.heard.failures.load(Ordering::Relaxed);
                *b = self.heard.offset.load(Ordering::Relaxed);
                *c = self.heard.len.load(Ordering::Relaxed);
                *d = self.heard.removals.load(Ordering::Relaxed);
                Ok(())
            }
            Command::Flush => self.with(|held| {
                let (at, len) = (usize::try_from(*b)?, usize::try_from(*c)?);
                let pages = at.saturating_add(len).div_ceil(PAGE_SIZE);
                held.live()?
                    .direct_access(PageOffset::new(*a), pages)?
                    .flush(at, len)
            }),
            Command::Look => self.with(|held| {
                let live = held.live()?;
                let memory = live.direct_access(PageOffset::new(*a), usize::try_from(*b)?)?;
                *b = (memory.len() / PAGE_SIZE) as u64;
                *c = memory.pfn().pfn().nr() as u64;
                Ok(())
            }),
        }
    }

    /// Becomes the holder of a device. A file holds one.
    fn hold(&self, major: u64, minor: u64) -> Result {
        let number = DeviceNumber::new(u32::try_from(major)?, u32::try_from(minor)?);
        let mut held = self.held.lock();
        if held.is_some() {
            return Err(EINVAL);
        }
        let listener = Listener(self.heard.clone());
        *held = Some(Held::new(number.ok_or(EINVAL)?, listener)?);
        Ok(())
    }

    /// Calls `f` with what the file holds.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it holds nothing.
    fn with<R>(&self, f: impl FnOnce(&Held<Listener>) -> Result<R>) -> Result<R> {
        f(self.held.lock().as_ref().ok_or(ENODEV)?)
    }

    /// Copies `len` bytes between byte `at` of a page on and a program's buffer, in pieces of a page.
    fn copy(&self, page: u64, at: u64, len: u64, address: u64, to_device: bool) -> Result {
        let (len, at) = (usize::try_from(len)?, usize::try_from(at)?);
        let address = usize::try_from(address)?;
        let mut buffer = KVec::new();
        buffer.extend_with(PAGE_SIZE, 0_u8, GFP_KERNEL)?;
        let mut done = 0_usize;
        while done < len {
            let at = at.checked_add(done).ok_or(EINVAL)?;
            let page = page.checked_add((at / PAGE_SIZE) as u64).ok_or(EINVAL)?;
            let in_page = at % PAGE_SIZE;
            let piece = len
                .saturating_sub(done)
                .min(PAGE_SIZE.saturating_sub(in_page));
            let bytes = buffer.get_mut(..piece).ok_or(EINVAL)?;
            let address = address.checked_add(done).ok_or(EFAULT)?;
            let (mut reader, mut writer) = UserSlice::new(address, piece).reader_writer();
            // The section is short: user memory, which may have to be read from a disk, is not touched
            // in it.
            if to_device {
                reader.read_slice(bytes)?;
            }
            self.with(|held| {
                let live = held.live()?;
                let memory = live.direct_access(PageOffset::new(page), 1)?;
                if to_device {
                    memory.write(in_page, bytes)
                } else {
                    memory.read(in_page, bytes)
                }
            })?;
            if !to_device {
                writer.write_slice(bytes)?;
            }
            done = done.saturating_add(piece);
        }
        Ok(())
    }
}
